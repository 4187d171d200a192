//! Options that several subcommands share.

use super::{Global, tell};
use clap::{Args, ValueEnum};
use serde_json::Value;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use synth::checkpoint::{Begin, Unfinished};
use synth::jobs::{Access, SHIPPED, Session, clear_up, finished, open_model};
use synth::model::{Model, Overrides};
use synth::ops::{Compute, DeviceChoice, Precision};
use synth::report::Every;
use synth::{Error, Result};

/// Which model, and what a bare checkpoint file does not say of itself.
#[derive(Args)]
pub struct ModelOptions {
    /// Folder in Hub layout, name on the Hugging Face Hub (owner/name, owner/name@revision), or a .safetensors, .pth, .pt or .th
    /// file together with --arch
    #[arg(value_name = "MODEL")]
    pub path: PathBuf,
    #[command(flatten)]
    description: Description,
}

/// What a bare checkpoint file does not say of itself.
#[derive(Args)]
pub struct Description {
    /// Architecture, such as resnet20 or wrn-16-2 (replaces what config.json says)
    #[arg(long, value_name = "NAME")]
    arch: Option<String>,
    /// Number of classes
    #[arg(long, value_name = "K")]
    num_classes: Option<usize>,
    /// Images that the model reads: channels, height, width
    #[arg(long, value_name = "C,H,W", value_delimiter = ',')]
    input_size: Option<Vec<usize>>,
    /// Mean per channel that is subtracted, for pixels in 0..1
    #[arg(long, value_name = "M,..", value_delimiter = ',')]
    mean: Option<Vec<f64>>,
    /// Standard deviation per channel that is divided by, for pixels in 0..1
    #[arg(long, value_name = "S,..", value_delimiter = ',')]
    std: Option<Vec<f64>>,
    /// Licence of the weights, such as apache-2.0, for the cards of what is made from them [default: what the model's folder says]
    #[arg(long, value_name = "ID", value_parser = licence)]
    license: Option<String>,
}

/// Which teacher: the shipped one if none is named.
#[derive(Args)]
pub struct TeacherOptions {
    /// Folder in Hub layout, name on the Hugging Face Hub (owner/name, owner/name@revision), or a .safetensors, .pth, .pt or .th
    /// file together with --arch [default: the shipped ResNet-20]
    #[arg(value_name = "TEACHER")]
    path: Option<PathBuf>,
    #[command(flatten)]
    description: Description,
}

/// Which columns of parquet files to read.
#[derive(Args)]
pub struct Columns {
    /// Column with the pictures, if several could be meant
    #[arg(long, value_name = "NAME")]
    pub image_column: Option<String>,
    /// Column with the labels, if several could be meant
    #[arg(long, value_name = "NAME")]
    pub label_column: Option<String>,
}

/// What every command that makes something takes.
#[derive(Args)]
pub struct Common {
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Replace an existing result (no folder of anything else), and start anew where a run of the same output was interrupted
    #[arg(long)]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// How a long command survives what interrupts it.
#[derive(Args)]
pub struct Lasting {
    /// Go on where a run of the same output was interrupted; start if there is none, and do nothing if it is finished
    #[arg(long)]
    resume: bool,
    /// Time between two states from which the run can go on, such as 30s, 2m or 1h; `never` keeps one only at the end of a
    /// stage and when the run is interrupted
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = interval)]
    checkpoint_every: Interval,
    /// Stop at the first alarm, where it is only said otherwise; what was done is kept
    #[arg(long)]
    stop_on_alarm: bool,
}

/// For a curve of the student's accuracy over time, measured afterwards.
#[derive(Args)]
pub struct SnapshotOptions {
    /// Write the student's weights this many times, evenly over the run, into `snapshots/` of the result (with --minutes once less,
    /// where the last time is that of the result itself)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    snapshots: Option<u16>,
}

impl SnapshotOptions {
    /// Lets `session` take snapshots where they are asked for, of the network of `stages`, evenly within `limit` or, without one,
    /// within `updates`.
    pub fn begin(
        &self,
        session: &mut Session,
        stages: &'static [&'static str],
        limit: Option<Duration>,
        updates: usize,
    ) -> Result<()> {
        let Some(count) = self.snapshots else { return Ok(()) };
        session.take_snapshots(stages, Every::of(count.into(), limit, updates))
    }
}

/// A time, or none.
#[derive(Clone, Copy, Debug)]
struct Interval(Option<Duration>);

/// Parses the time between two states.
fn interval(text: &str) -> std::result::Result<Interval, String> {
    if text == "never" {
        return Ok(Interval(None));
    }
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    match text[..text.len() - unit.len()].parse::<f64>().map(|n| n * seconds) {
        Ok(time) if (0.0..=1e7).contains(&time) => Ok(Interval(Some(Duration::from_secs_f64(time)))),
        _ => Err("give a time with its unit, such as 30s, 2m or 1h, or never".into()),
    }
}

impl Lasting {
    /// Takes hold of the place of a result that is made of what is read from `inputs`, paths or not.
    ///
    /// # Errors
    /// A result that is there, unless it may be replaced; one that is, or holds, something that is read.
    pub fn open(&self, output: &Path, common: &Common, inputs: &[&Path]) -> Result<Unfinished> {
        inputs.iter().try_for_each(|input| spare(common.force, input, output))?;
        Unfinished::open(output, Begin { force: common.force, resume: self.resume })
    }

    /// The run in that place; or, if it is finished already, what the `synth.json` below its `part` says.
    pub fn session(
        &self,
        place: Unfinished,
        part: &str,
        fingerprint: Value,
        compute: &Compute,
        global: &Global,
    ) -> Result<Either> {
        if place.is_finished() {
            let provenance = finished(&place.target().join(part), &fingerprint)?;
            if !global.quiet {
                tell(&format!("{} is finished already", place.target().display()));
            }
            clear_up(place, &fingerprint)?;
            return Ok(Either::Finished(provenance));
        }
        let every = self.checkpoint_every.0;
        let session = Session::open(place, fingerprint, compute, every, self.stop_on_alarm, global.quiet)?;
        Ok(Either::Running(Box::new(session)))
    }
}

/// A parser of sizes in pixels such as 160x120, width first, or of one number for both sides. It gives height and width, each within
/// `bounds`.
pub fn sides(bounds: RangeInclusive<usize>) -> impl Fn(&str) -> std::result::Result<[usize; 2], String> + Clone {
    move |text| {
        let side = |text: &str| text.parse().ok().filter(|side| bounds.contains(side));
        let (width, height) = text.split_once('x').unwrap_or((text, text));
        let found = side(height).zip(side(width)).map(<[usize; 2]>::from);
        let (least, most) = (bounds.start(), bounds.end());
        found.ok_or_else(|| format!("give width and height of {least} to {most} pixels, such as 160x120"))
    }
}

/// Refuses to replace what is read.
pub fn spare(force: bool, input: &Path, output: &Path) -> Result<()> {
    match (input.canonicalize(), output.canonicalize()) {
        (Ok(input), Ok(output)) if force && input.starts_with(&output) => {
            let found = format!("{} is read, and --force would replace it", input.display());
            Err(Error::invalid(format!("output {}", output.display()), found, "choose another folder"))
        }
        _ => Ok(()),
    }
}

/// A run, or its result.
pub enum Either {
    Running(Box<Session>),
    Finished(Value),
}

/// Where to compute.
#[derive(Args)]
pub struct Computing {
    /// auto, cpu, cuda or cuda:N; auto takes a CUDA card if this program was built for it and one answers, else the CPU
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// Precision of what convolutions multiply, on a card also of the maps between them; weights and sums are f32 always. bf16 needs a card, or Linux on a processor with AMX [default: bf16 where it can be had, else f32]
    #[arg(long, value_enum)]
    precision: Option<PrecisionName>,
    /// On a card, queue every step call by call instead of recording it once as a CUDA graph: slower, to find faults
    #[arg(long)]
    no_cuda_graphs: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum PrecisionName {
    F32,
    Bf16,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::F32 => Self::F32,
            PrecisionName::Bf16 => Self::Bf16,
        }
    }
}

impl Computing {
    /// These options for a process that this one starts.
    pub fn arguments(&self) -> Vec<String> {
        let mut words = vec!["--device".to_string(), self.device.to_string()];
        if let Some(precision) = self.precision.and_then(|name| name.to_possible_value()) {
            words.extend(["--precision".into(), precision.get_name().into()]);
        }
        words.extend(self.no_cuda_graphs.then(|| "--no-cuda-graphs".into()));
        words
    }

    /// The device; a program that knows CUDA says on stderr what it took.
    pub fn open(&self, quiet: bool) -> Result<Compute> {
        let (compute, why) = Compute::choose(self.device, self.precision.map(Precision::from))?;
        if cfg!(feature = "cuda") && !quiet {
            tell(&format!("computing on {why}"));
        }
        Ok(Compute { graphs: compute.graphs && !self.no_cuda_graphs, ..compute })
    }
}

/// Parses a time in minutes.
pub fn minutes(text: &str) -> std::result::Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(m) if m > 0.0 && m <= 1e6 => Ok(Duration::from_secs_f64(60.0 * m)),
        _ => Err("give minutes above 0, such as 20 or 0.5".into()),
    }
}

/// Says so where a job took clearly longer than the time that it was given.
pub fn compare_time(limit: Option<Duration>, provenance: &Value) {
    let wall = &provenance["wall_seconds"];
    let took = wall["total"].as_f64().or(wall["distillation"].as_f64()).unwrap_or_default();
    // More than the start of a process and the drift of a machine's speed make of it.
    if let Some(limit) = limit.map(|limit| limit.as_secs_f64()).filter(|limit| took > 1.1 * limit + 2.0) {
        tracing::warn!(
            "it took {took:.0} s where --minutes gives {limit:.0}: what a run makes at the least (a batch of each phase, one round, the \
             last look at the student) takes longer, or the machine became slower"
        );
    }
}

/// Parses a licence's name on the Hub.
pub fn licence(text: &str) -> std::result::Result<String, String> {
    match synth::weights::licence::is_identifier(text) {
        true => Ok(text.to_lowercase()),
        false => Err("give the licence as the Hub calls it, such as apache-2.0, mit or other".into()),
    }
}

impl TeacherOptions {
    pub fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(SHIPPED))
    }

    /// Loads the teacher.
    pub fn load(&self, access: &Access) -> Result<Model> {
        open_model(self.path(), self.description.arch.as_deref(), &self.description.overrides()?, access)
    }
}

impl ModelOptions {
    /// The licence that was stated.
    pub fn license(&self) -> Option<&str> {
        self.description.license.as_deref()
    }

    /// Loads the model.
    pub fn load(&self, access: &Access) -> Result<Model> {
        open_model(&self.path, self.description.arch.as_deref(), &self.description.overrides()?, access)
    }

    /// Whether anything was said about the model beside its path.
    pub fn is_described(&self) -> bool {
        let Description { arch, num_classes, input_size, mean, std, license } = &self.description;
        let numbers = num_classes.is_some() || input_size.is_some() || mean.is_some() || std.is_some();
        arch.is_some() || license.is_some() || numbers
    }
}

impl Description {
    fn overrides(&self) -> Result<Overrides> {
        let triple = |list: &Vec<usize>| {
            <[usize; 3]>::try_from(list.as_slice()).map_err(|_| {
                let found = format!("{} numbers", list.len());
                Error::invalid("--input-size", found, "give channels, height and width, such as 3,32,32")
            })
        };
        Ok(Overrides {
            num_classes: self.num_classes,
            input_size: self.input_size.as_ref().map(triple).transpose()?,
            mean: self.mean.clone(),
            std: self.std.clone(),
            license: self.license.clone(),
        })
    }
}
