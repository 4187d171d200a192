//! Options that several subcommands share.

use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use std::time::Duration;
use synth::events::Observer;
use synth::jobs::{Access, SHIPPED, open_teacher};
use synth::model::{Model, Overrides};
use synth::ops::{Compute, DeviceChoice, Precision};
use synth::report::{Every, Reporter, Snapshots};
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
    #[arg(long, value_name = "M,..", value_delimiter = ',', allow_negative_numbers = true)]
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

/// What every command that makes something takes.
#[derive(Args)]
pub struct Common {
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Replace an existing result
    #[arg(long)]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// For a curve of the student's accuracy over time, measured afterwards.
#[derive(Args)]
pub struct SnapshotOptions {
    /// Write the student's weights this many times, evenly over the run, into `snapshots/` of the result
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    snapshots: Option<u16>,
}

impl SnapshotOptions {
    /// `reporter`, and snapshots of the student (the network of `stages`) below `folder` where they are asked for: evenly within
    /// `limit`, or within `updates`.
    pub fn watch(
        &self,
        reporter: Reporter,
        folder: &Path,
        stages: &'static [&'static str],
        limit: Option<Duration>,
        updates: usize,
    ) -> Result<Box<dyn Observer>> {
        let Some(count) = self.snapshots else { return Ok(Box::new(reporter)) };
        let every = Every::of(count.into(), limit, updates);
        Ok(Box::new(Snapshots::new(reporter, &folder.join("snapshots"), stages, every)?))
    }
}

/// Where to compute.
#[derive(Args)]
pub struct Computing {
    /// auto, cpu, cuda or cuda:N; auto takes a CUDA card if this program was built for it and one answers, else the CPU
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// Precision of images and maps inside networks; weights and sums are f32 always [default: bf16 on CUDA, f32 on the CPU]
    #[arg(long, value_enum)]
    precision: Option<PrecisionName>,
    /// Record training steps as CUDA graphs: less work for the host, for small networks on a card
    #[arg(long)]
    cuda_graphs: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionName {
    F32,
    Bf16,
}

impl Computing {
    /// These options for a process that this one starts.
    pub fn arguments(&self) -> Vec<String> {
        let mut words = vec!["--device".to_string(), self.device.to_string()];
        if let Some(precision) = self.precision.and_then(|name| name.to_possible_value()) {
            words.extend(["--precision".into(), precision.get_name().into()]);
        }
        words.extend(self.cuda_graphs.then(|| "--cuda-graphs".into()));
        words
    }

    /// The device; a program that knows CUDA says on stderr what it took.
    pub fn open(&self, quiet: bool) -> Result<Compute> {
        let precision = self.precision.map(|name| match name {
            PrecisionName::F32 => Precision::F32,
            PrecisionName::Bf16 => Precision::Bf16,
        });
        let (compute, why) = Compute::choose(self.device, precision)?;
        if cfg!(feature = "cuda") && !quiet {
            eprintln!("computing on {why}");
        }
        Ok(Compute { graphs: self.cuda_graphs, ..compute })
    }
}

/// Parses a time in minutes.
pub fn minutes(text: &str) -> std::result::Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(m) if m > 0.0 && m <= 1e6 => Ok(Duration::from_secs_f64(60.0 * m)),
        _ => Err("give minutes above 0, such as 20 or 0.5".into()),
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
    /// Loads the teacher.
    pub fn load(&self, access: &Access) -> Result<Model> {
        let path = self.path.clone().unwrap_or(SHIPPED.into());
        open_teacher(&path, self.description.arch.as_deref(), &self.description.overrides()?, access)
    }
}

impl ModelOptions {
    /// Loads the model.
    pub fn load(&self, access: &Access) -> Result<Model> {
        open_teacher(&self.path, self.description.arch.as_deref(), &self.description.overrides()?, access)
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
