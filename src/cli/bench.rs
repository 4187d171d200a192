//! `synth bench`: how long the real work takes here, and how well methods do.

use super::options::{Computing, PrecisionName, sides};
use super::suite::SuiteRun;
use super::{Global, print, print_json, table};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use std::sync::Arc;
use synth::bench::{OpResult, Pass, StepBench, need, ops, step};
use synth::nets::Network;
use synth::nets::registry::{Shape, from_name};
use synth::ops::{Compute, DeviceChoice, Precision, peak};
use synth::rng::Streams;
use synth::{Error, Result};

/// Compare methods as a suite says, or time the real work
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Bench {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    suite: SuiteRun,
}

#[derive(Subcommand)]
enum What {
    Step(Step),
    Ops(Ops),
}

/// One step as the commands do it, on random images
#[derive(Args)]
struct Step {
    /// Network that trains (train, distill) or is the frozen teacher (infer, answers, invert)
    #[arg(long, default_value = "resnet20")]
    net: String,
    /// Teacher of `--pass distill` [default: resnet56]
    #[arg(long)]
    teacher: Option<String>,
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// `answers` is what `collect` asks of its teacher, 8-bit images to answers, in turns with `infer`
    #[arg(long, value_enum, default_value_t = PassName::Train)]
    pass: PassName,
    /// Size of the images, such as 320x240; one number is both sides
    #[arg(long, default_value = "32", value_name = "WIDTHxHEIGHT", value_parser = sides(4..=1024))]
    size: [usize; 2],
    /// Channels of the generator's small maps in `--pass invert` [default: 128, as the reference code's generator has]
    #[arg(long, value_parser = clap::value_parser!(u16).range(2..=1024))]
    generator_width: Option<u16>,
    /// In the passes `train` and `distill`: update the convolutions by Muon, as students of `distill`, `ssd` and `synth` do, and not by SGD
    #[arg(long)]
    muon: bool,
    /// Timed seconds
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
    /// Measure the machine as well, and say how fast the step could be: its multiplications at 85 % of the peak in the precision of
    /// convolutions, and the bytes that it cannot avoid at the speed of a copy
    #[arg(long)]
    bound: bool,
    #[command(flatten)]
    computing: Computing,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Every operation alone, beside what the machine can do in the same moment
#[derive(Args)]
struct Ops {
    /// Images per call
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Timed seconds per operation and shape
    #[arg(long, default_value_t = 0.5, value_parser = seconds)]
    seconds: f64,
    /// What convolutions multiply in, where they can; bf16 needs Linux on a processor with AMX [default: bf16 where it can be had, else f32]
    #[arg(long, value_enum)]
    precision: Option<PrecisionName>,
    /// Only rows with all of these words in their operation and shape, as in `--only "forward 3x3/1 64->64"`
    #[arg(long, default_value = "")]
    only: String,
    /// Print one JSON object per row
    #[arg(long)]
    json: bool,
}

/// A time that a clock can add up.
fn seconds(text: &str) -> std::result::Result<f64, String> {
    let found: f64 = text.parse().map_err(|_| "expected a number of seconds")?;
    if (0.0..=86_400.0).contains(&found) { Ok(found) } else { Err("expected 0 to 86400 seconds".into()) }
}

#[derive(Clone, Copy, ValueEnum)]
enum PassName {
    Train,
    Infer,
    Answers,
    Invert,
    Distill,
}

impl Bench {
    pub fn run(&self, global: &Global) -> Result<()> {
        match &self.what {
            Some(What::Step(s)) => s.run(global.quiet || s.json),
            Some(What::Ops(o)) => o.run(),
            None => self.suite.run(global),
        }
    }
}

impl Step {
    fn run(&self, quiet: bool) -> Result<()> {
        let compute = self.computing.open(quiet)?;
        let [height, width] = self.size;
        let shape = Shape { channels: 3, height, width, num_classes: 10 };
        let net = |name: &str| -> Result<Network> {
            let (architecture, ..) = from_name(name, &shape)?;
            Network::init(Arc::new(architecture), &mut Streams::new(0).stream("bench/network", 0))?.to(&compute)
        };
        let pass = match self.pass {
            PassName::Train => Pass::Train,
            PassName::Infer => Pass::Infer,
            PassName::Answers => Pass::Answers,
            PassName::Invert => Pass::Invert,
            PassName::Distill => Pass::Distill,
        };
        for (option, given, of) in [
            ("--teacher", self.teacher.is_some(), (Pass::Distill, "distill")),
            ("--generator-width", self.generator_width.is_some(), (Pass::Invert, "invert")),
        ] {
            if given && pass != of.0 {
                return Err(Error::invalid(
                    option,
                    "this pass has none",
                    format!("leave it out, or take --pass {}", of.1),
                ));
            }
        }
        let teacher = (pass == Pass::Distill).then(|| self.teacher.as_deref().unwrap_or("resnet56"));
        let bench = StepBench {
            pass,
            generator_width: usize::from(self.generator_width.unwrap_or(128)),
            net: net(&self.net)?,
            teacher: teacher.map(net).transpose()?,
            batch: self.batch as usize,
            dims: [height, width, 3],
            classes: 10,
            seconds: self.seconds,
            muon: self.muon,
        };
        let learns = matches!(pass, Pass::Train | Pass::Distill);
        if self.muon && !learns {
            let fix = "leave it out, or take --pass train or distill";
            return Err(Error::invalid("--muon", "this pass trains no student", fix));
        }
        if self.bound && !compute.is_cpu() {
            let fix = "leave it out, or say --device cpu";
            return Err(Error::invalid("--bound", "it measures the processor, not a card", fix));
        }
        let found = step(&bench)?;
        let threads = rayon::current_num_threads();
        let bound = self.bound.then(|| bound(&bench, compute.precision)).transpose()?;
        if self.json {
            return print_json(&json!({
                "net": self.net,
                "teacher": teacher,
                "batch": self.batch,
                "pass": pass,
                "muon": learns.then_some(self.muon),
                "threads": threads,
                "device": compute.name(),
                "precision": compute.precision.name(),
                "instructions": synth::ops::simd::level().name(),
                "median_ms": found.median_ms,
                "min_ms": found.min_ms,
                "infer_ms": found.infer_ms,
                "steps": found.steps,
                "page_faults_per_step": found.page_faults_per_step,
                "bound_ms": bound.as_ref().map(|b| b.milliseconds),
                "gflop": bound.as_ref().map(|b| b.gflop),
                "gbytes": bound.as_ref().map(|b| b.gbytes),
                "peak_gflops": bound.as_ref().map(|b| b.peak / 1e9),
                "copy_gbytes_per_s": bound.as_ref().map(|b| b.copy / 1e9),
            }));
        }
        let bound = bound.map(|b| {
            let work = format!("{:.1} GFLOP, {:.2} GB", b.gflop, b.gbytes);
            (
                "bound",
                format!(
                    "{:.2} ms ({work}, here {:.0} GFLOP/s, {:.0} GB/s)",
                    b.milliseconds,
                    b.peak / 1e9,
                    b.copy / 1e9
                ),
            )
        });
        let rows = [
            ("median", format!("{:.2} ms", found.median_ms)),
            ("fastest", format!("{:.2} ms", found.min_ms)),
            ("steps", found.steps.to_string()),
            ("page faults", format!("{:.1} per step", found.page_faults_per_step)),
            ("threads", threads.to_string()),
            ("device", compute.to_string()),
        ];
        let infer = found.infer_ms.map(|infer| {
            let (ratio, batch) = (found.median_ms / infer, self.batch);
            (
                "beside infer",
                format!("{ratio:.3} of {infer:.2} ms, which the frozen pass alone takes for {batch} images"),
            )
        });
        print(&table(&rows.into_iter().chain(infer).chain(bound).collect::<Vec<_>>()))
    }
}

/// How fast a step could be on this machine.
struct Bound {
    milliseconds: f64,
    /// Of the whole batch.
    gflop: f64,
    gbytes: f64,
    /// FLOP/s and bytes/s of the machine, now.
    peak: f64,
    copy: f64,
}

fn bound(bench: &StepBench, precision: Precision) -> Result<Bound> {
    let need = need(bench)?;
    let (peak, copy) = (peak::multiply_add_rate(precision), peak::copy_rate());
    let batch = bench.batch as f64;
    Ok(Bound {
        milliseconds: need.milliseconds(bench.batch, peak, copy),
        gflop: need.flop * batch / 1e9,
        gbytes: need.bytes * batch / 1e9,
        peak,
        copy,
    })
}

impl Ops {
    fn run(&self) -> Result<()> {
        let level = synth::ops::simd::level().name();
        let threads = rayon::current_num_threads();
        let (Compute { precision, .. }, _) = Compute::choose(DeviceChoice::Cpu, self.precision.map(Precision::from))?;
        if !self.json {
            print(&format!(
                "{threads} threads, {level}: {:.0} GFLOP/s of multiply-adds in {}, copies move {:.1} GB/s; batch {}\n\n\
                 | operation | shape | products | ms | GFLOP/s | of peak | GB/s | of copy | of bound |\n\
                 |---|---|---|---:|---:|---:|---:|---:|---:|\n",
                peak::multiply_add_rate(precision) / 1e9,
                precision.name(),
                peak::copy_rate() / 1e9,
                self.batch
            ))?;
        }
        ops(self.batch as usize, precision, self.seconds, &self.only, |r| {
            let seconds = r.median_ms / 1e3;
            let (rate, moved) = (r.flop / seconds / 1e9, r.bytes / seconds / 1e9);
            if self.json {
                return print_json(&json!({
                    "op": r.op, "shape": r.shape, "batch": self.batch, "threads": threads, "instructions": level,
                    "precision": r.precision.name(),
                    "median_ms": r.median_ms, "min_ms": r.min_ms, "gflops": rate, "of_peak": r.of_peak,
                    "gbytes_per_s": moved, "of_copy": r.of_copy, "of_bound": r.of_bound(),
                }));
            }
            print(&format!("{}\n", row(&r, rate, moved)))
        })
    }
}

/// A row of the table, with GFLOP/s and GB/s.
fn row(r: &OpResult, rate: f64, moved: f64) -> String {
    let (products, arithmetic) = match r.flop > 0.0 {
        true => (r.precision.name(), format!("{rate:.0} | {:.0} %", 100.0 * r.of_peak)),
        false => ("", "| ".into()),
    };
    let OpResult { op, shape, median_ms, .. } = r;
    let [copy, bound] = [r.of_copy, r.of_bound()].map(|share| format!("{:.0} %", 100.0 * share));
    format!("| {op} | {shape} | {products} | {median_ms:.2} | {arithmetic} | {moved:.1} | {copy} | {bound} |")
}
