//! `synth bench`: how long the real work takes here.

use super::options::Computing;
use super::{Global, print, print_json, table};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use std::sync::Arc;
use synth::Result;
use synth::bench::{Pass, StepBench, step};
use synth::nets::Network;
use synth::nets::registry::{Shape, from_name};
use synth::rng::Streams;

/// Time the real work
#[derive(Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Step(Step),
}

/// One step as the commands do it, on random images
#[derive(Args)]
struct Step {
    /// Network that trains (train, distill) or is the frozen teacher (infer, invert)
    #[arg(long, default_value = "resnet20")]
    net: String,
    /// Teacher of `--pass distill`
    #[arg(long, default_value = "resnet56")]
    teacher: String,
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    #[arg(long, value_enum, default_value_t = PassName::Train)]
    pass: PassName,
    /// Image side
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(4..=1024))]
    size: u16,
    /// Channels of the generator's small maps in `--pass invert` (the reference code's generator has 128)
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u16).range(2..=1024))]
    generator_width: u16,
    /// Timed seconds
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    #[command(flatten)]
    computing: Computing,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum PassName {
    Train,
    Infer,
    Invert,
    Distill,
}

impl Bench {
    pub fn run(&self, global: &Global) -> Result<()> {
        match &self.what {
            What::Step(s) => s.run(global.quiet || s.json),
        }
    }
}

impl Step {
    fn run(&self, quiet: bool) -> Result<()> {
        let compute = self.computing.open(quiet)?;
        let side = usize::from(self.size);
        let shape = Shape { channels: 3, height: side, width: side, num_classes: 10 };
        let net = |name: &str| -> Result<Network> {
            let (architecture, ..) = from_name(name, &shape)?;
            Network::init(Arc::new(architecture), &mut Streams::new(0).stream("bench/network", 0))?.to(&compute)
        };
        let pass = match self.pass {
            PassName::Train => Pass::Train,
            PassName::Infer => Pass::Infer,
            PassName::Invert => Pass::Invert,
            PassName::Distill => Pass::Distill,
        };
        let bench = StepBench {
            pass,
            generator_width: usize::from(self.generator_width),
            net: net(&self.net)?,
            teacher: (pass == Pass::Distill).then(|| net(&self.teacher)).transpose()?,
            batch: self.batch as usize,
            dims: [side, side, 3],
            classes: 10,
            seconds: self.seconds,
        };
        let found = step(&bench)?;
        let threads = rayon::current_num_threads();
        if self.json {
            return print_json(&json!({
                "net": self.net,
                "teacher": (pass == Pass::Distill).then_some(&self.teacher),
                "batch": self.batch,
                "pass": pass,
                "threads": threads,
                "device": compute.name(),
                "precision": compute.precision.name(),
                "instructions": synth::ops::simd::level().name(),
                "median_ms": found.median_ms,
                "min_ms": found.min_ms,
                "steps": found.steps,
                "page_faults_per_step": found.page_faults_per_step,
            }));
        }
        print(&table(&[
            ("median", format!("{:.2} ms", found.median_ms)),
            ("fastest", format!("{:.2} ms", found.min_ms)),
            ("steps", found.steps.to_string()),
            ("page faults", format!("{:.1} per step", found.page_faults_per_step)),
            ("threads", threads.to_string()),
            ("device", format!("{}, {}", compute.name(), compute.precision.name())),
        ]))
    }
}
