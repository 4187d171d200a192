//! `synth networks`: what can be a teacher or a student.

use super::{Global, print};
use clap::Args;
use synth::Result;
use synth::nets::Task;
use synth::nets::registry::{Shape, from_name, listed, supported, usual_input};

/// List the networks, with their sizes for 10 classes
#[derive(Args)]
pub struct Networks {}

impl Networks {
    pub fn run(&self, _: &Global) -> Result<()> {
        let names = listed();
        let width = names.iter().map(String::len).max().unwrap_or(0);
        let mut text = format!(
            "{:<width$} {:>11} {:>11}  {:<14}  {:>4}  {}\n",
            "name", "parameters", "batch norms", "usual images", "rate", "role"
        );
        for name in names {
            let [channels, height, side] = usual_input(&name)?;
            let (net, ..) = from_name(&name, &Shape { channels, height, width: side, num_classes: 10 })?;
            let (parameters, norms) = (net.parameters(), net.norm_layers());
            let images = format!("{channels}x{height}x{side}");
            let (rate, role) = match (net.task, net.trains()) {
                (Task::Segmentation, true) => (net.student_rate.to_string(), "segmentation: teacher or student"),
                (Task::Segmentation, false) => (String::new(), "segmentation: teacher only"),
                (Task::Classification, true) => (net.student_rate.to_string(), "teacher or student"),
                (Task::Classification, false) => (String::new(), "teacher only"),
            };
            text += &format!("{name:<width$} {parameters:>11} {norms:>11}  {images:<14}  {rate:>4}  {role}\n");
        }
        print(&format!(
            "{text}\nAll names: {}.\nWith `cifar-` or `imagenet-` in front, a name means the form for small or for large images, whatever their size.\nThe rate is the learning rate of a student where its recipe leaves that open (student.lr = 0).\nNetworks that are teachers only have no gradients here: they answer for `collect`, `distill`, `eval` and `inspect`, on the CPU.\nThose for segmentation answer for every pixel.\n",
            supported()
        ))
    }
}
