//! `synth inspect`: what a model, or a synthetic set, is made of.

use super::options::ModelOptions;
use super::{Global, print, print_json, table};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use synth::data::Framing;
use synth::files::{prepare_file, write_atomic};
use synth::hub::{HubName, Kind as Repository};
use synth::jobs::{Access, answered_by, open_model};
use synth::model::{Model, Overrides};
use synth::nets::{Architecture, Kind, Slot, Task};
use synth::report::{Description, describe_set};
use synth::set::SyntheticSet;
use synth::teacher::Teacher;
use synth::{Error, Result};

/// What a model, or a synthetic set, is made of
#[derive(Args)]
pub struct Inspect {
    #[command(flatten)]
    target: ModelOptions,
    /// Of a set: its teacher, to measure the distance from its batch-norm statistics, the diversity of its features and the
    /// distance of images from its borders; or another one, of which all answers are then
    #[arg(long, value_name = "MODEL")]
    teacher: Option<PathBuf>,
    /// Of a set: write a page with plots and images, which needs nothing beside itself
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// With --html: replace the file, which ends in .html
    #[arg(long, requires = "html")]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub fn run(&self, global: &Global) -> Result<()> {
        if let Some(file) = &self.html {
            prepare_file(file, "html", self.force)?;
        }
        let access = global.access();
        let (json, text) = match self.target(&access)? {
            Target::Set(folder) => {
                if self.target.is_described() {
                    let hint = "leave out --arch, --mean, --std and so on";
                    return Err(Error::invalid("inspect", "this is a set, and they describe a model", hint));
                }
                let open = |path| open_model(path, None, &Overrides::default(), &access);
                let model = self.teacher.as_deref().map(open).transpose()?;
                let mut set = SyntheticSet::read(&folder)?;
                let teacher = model.as_ref().map(|model| frozen(model, &set)).transpose()?;
                if let (Some(model), Some(teacher)) = (&model, &teacher)
                    && let Some(answered) = answered_by(&set, model, teacher)?
                {
                    tracing::warn!("{} is another teacher than the set's: all answers are its own", model.source);
                    set = answered;
                }
                let Description { text, json, html } = describe_set(&set, teacher.as_ref())?;
                if let Some(file) = &self.html {
                    write_atomic(file, html.as_bytes())?;
                }
                (json, text)
            }
            Target::Model(_) if self.html.is_some() => {
                return Err(Error::invalid("--html", "this is a model", "only sets have a page"));
            }
            Target::Model(_) if self.teacher.is_some() => {
                return Err(Error::invalid("--teacher", "this is a model", "only sets have a teacher"));
            }
            Target::Model(model) => of_model(&model),
        };
        if self.json { print_json(&json) } else { print(&text) }
    }

    /// A set is known by its files, or by `datasets/` in front of its name on the Hub; a plain name is that of a model if there
    /// is one.
    fn target(&self, access: &Access) -> Result<Target> {
        let path = &self.target.path;
        if is_set(path) {
            return Ok(Target::Set(path.clone()));
        }
        let of_dataset = HubName::of_path(path, Repository::Dataset)?.is_some();
        let says_so = ["datasets/", "hf://datasets/"].iter().any(|prefix| path.to_string_lossy().starts_with(prefix));
        if of_dataset && says_so {
            return Ok(Target::Set(access.set(path)?.0));
        }
        match self.target.load(access) {
            Ok(model) => Ok(Target::Model(Box::new(model))),
            Err(no_model @ Error::Hub { .. }) if of_dataset && !self.target.is_described() => match access.set(path) {
                Ok((folder, _)) => Ok(Target::Set(folder)),
                Err(Error::Hub { absent: true, .. }) => Err(no_model),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }
}

enum Target {
    Set(PathBuf),
    Model(Box<Model>),
}

/// The teacher for the images of a set: one that answers for pixels takes them whatever their size is.
fn frozen(teacher: &Model, set: &SyntheticSet) -> Result<Teacher> {
    let frozen = Teacher::of(teacher);
    match teacher.network.arch.task {
        Task::Segmentation => frozen.at([set.images.height, set.images.width]),
        Task::Classification => Ok(frozen),
    }
}

/// A set keeps its images in `data/` and its provenance beside them.
pub fn is_set(path: &Path) -> bool {
    path.join("synth.json").is_file() && path.join("data").is_dir()
}

/// Tensors whose names differ in the last part only.
struct Layer<'a> {
    name: &'a str,
    kind: &'static str,
    /// Of the weight, as in files.
    shape: Vec<usize>,
    parameters: usize,
}

fn layers(slots: &[Slot]) -> Vec<Layer<'_>> {
    let mut layers: Vec<Layer> = Vec::new();
    for slot in slots {
        let name = slot.name.rsplit_once('.').map_or(slot.name.as_str(), |(layer, _)| layer);
        if layers.last().is_none_or(|last| last.name != name) {
            layers.push(Layer { name, kind: "bias", shape: slot.file_shape(), parameters: 0 });
        }
        let Some(layer) = layers.last_mut() else { continue };
        layer.parameters += if slot.kind.trainable() { slot.len() } else { 0 };
        match slot.kind {
            Kind::ConvWeight => layer.kind = "convolution",
            Kind::LinearWeight => layer.kind = "linear",
            Kind::NormWeight => layer.kind = "layer norm", // until running statistics follow
            Kind::Plain if slot.name.ends_with("act.weight") => layer.kind = "prelu",
            Kind::Plain => layer.kind = "parameter",
            Kind::RunningMean { spatial: true } => layer.kind = "batch norm 2d",
            Kind::RunningMean { spatial: false } => layer.kind = "batch norm 1d",
            _ => {}
        }
    }
    layers
}

/// What it can be used for.
fn role(arch: &Architecture) -> &'static str {
    match (arch.trains(), arch.norm_layers()) {
        (true, _) if arch.task == Task::Segmentation => "teacher or student, whose answers are for every pixel",
        (false, _) => "it only answers: a teacher of `distill`, not of `invert` and `run`",
        (true, 0) => "teacher or student; recipes of `invert` that match batch norms refuse it",
        _ => "teacher or student",
    }
}

fn of_model(model: &Model) -> (Value, String) {
    let (config, arch) = (&model.config, &model.network.arch);
    let images = &config.pretrained_cfg;
    // Those that answer for pixels take pictures whole.
    let framing = Framing::known(images).filter(|_| arch.task == Task::Classification);
    let layers = layers(&arch.slots);
    let row = |layer: &Layer| json!({"name": layer.name, "kind": layer.kind, "shape": layer.shape, "parameters": layer.parameters});
    let json = json!({
        "kind": "model", "source": model.source, "sha256": model.sha256,
        "architecture": config.architecture, "model_type": config.model_type, "model_args": config.model_args,
        "num_classes": config.num_classes, "label_names": config.label_names,
        "task": arch.task.name(), "channel_order": if images.is_bgr() { "bgr" } else { "rgb" },
        "size_divisor": arch.size_divisor, "ignore_index": images.ignore_index,
        "input_size": images.input_size, "mean": images.mean, "std": images.std, "framing": framing,
        "parameters": arch.parameters(), "trains": arch.trains(), "batch_norm_layers": arch.norm_layers(),
        "layers": layers.iter().map(row).collect::<Vec<_>>(),
    });
    let [channels, height, width] = images.input_size;
    let args: Vec<String> = config.model_args.iter().map(|(key, value)| format!("{key} {value}")).collect();
    let kind = config.model_type.as_ref().map(|kind| format!(": {kind} ({})", args.join(", ")));
    let order = if images.is_bgr() { " (BGR)" } else { "" };
    let sides = match arch.size_divisor {
        1 => String::new(),
        divisor => format!(", sides in multiples of {divisor}"),
    };
    let mut rows = vec![
        ("model", model.source.clone()),
        ("sha256", model.sha256.clone()),
        ("architecture", format!("{}{}", config.architecture, kind.unwrap_or_default())),
        ("input", format!("{channels}x{height}x{width}{order}{sides}, mean {:?}, std {:?}", images.mean, images.std)),
    ];
    rows.extend(framing.map(|framing| ("pictures", framing.to_string())));
    rows.extend([
        ("task", arch.task.name().to_string()),
        ("classes", config.num_classes.to_string()),
        ("parameters", arch.parameters().to_string()),
        ("batch norms", format!("{} (2-d, whose statistics can be matched)", arch.norm_layers())),
        ("role", role(arch).to_string()),
    ]);
    let mut text = table(&rows);
    let widest = layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0);
    text += &format!("\n{:<widest$}  {:<13}  {:>10}  shape\n", "layer", "kind", "parameters");
    for Layer { name, kind, shape, parameters } in &layers {
        text += &format!("{name:<widest$}  {kind:<13}  {parameters:>10}  {shape:?}\n");
    }
    (json, text)
}
