//! `synth networks`: what can be a teacher or a student.

use super::{Global, print};
use clap::Args;
use synth::Result;
use synth::nets::registry::{Shape, from_name, listed, supported, usual_input};

/// List the networks, with their sizes for 10 classes
#[derive(Args)]
pub struct Networks {}

impl Networks {
    pub fn run(&self, _: &Global) -> Result<()> {
        let mut text = format!("{:<16} {:>11} {:>11}  {}\n", "name", "parameters", "batch norms", "usual images");
        for name in listed() {
            let [channels, height, width] = usual_input(&name)?;
            let (net, ..) = from_name(&name, &Shape { channels, height, width, num_classes: 10 })?;
            let (parameters, norms) = (net.parameters(), net.norm_layers());
            text += &format!("{name:<16} {parameters:>11} {norms:>11}  {channels}x{height}x{width}\n");
        }
        print(&format!("{text}\nAll names: {}.\n", supported()))
    }
}
