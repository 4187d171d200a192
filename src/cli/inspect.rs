//! `synth inspect`: what a model, or a synthetic set, is made of.

use super::options::ModelOptions;
use super::{Global, print, print_json, table};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use synth::Result;
use synth::jobs::open_teacher;
use synth::model::{Model, Overrides};
use synth::nets::{Architecture, Kind, Slot};
use synth::report::describe_set;
use synth::set::SyntheticSet;
use synth::teacher::Teacher;

/// What a model, or a synthetic set, is made of
#[derive(Args)]
pub struct Inspect {
    #[command(flatten)]
    target: ModelOptions,
    /// Of a set: its teacher, to measure the distance from its batch-norm statistics
    #[arg(long, value_name = "MODEL")]
    teacher: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub fn run(&self, global: &Global) -> Result<()> {
        let (json, text) = match is_set(&self.target.path) {
            true => {
                let overrides = Overrides::default();
                let teacher = self
                    .teacher
                    .as_ref()
                    .map(|path| open_teacher(path, None, &overrides, &global.access()))
                    .transpose()?;
                of_set(&self.target.path, teacher.as_ref())?
            }
            false => of_model(&self.target.load(&global.access())?),
        };
        if self.json { print_json(&json) } else { print(&text) }
    }
}

/// A set keeps its images in `data/` and its provenance beside them.
pub fn is_set(path: &Path) -> bool {
    path.join("synth.json").is_file() && path.join("data").is_dir()
}

fn of_set(path: &Path, teacher: Option<&Model>) -> Result<(Value, String)> {
    let set = SyntheticSet::read(path)?;
    let (text, json) = describe_set(&set, teacher.map(Teacher::of).as_ref())?;
    Ok((json, text))
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
        (false, _) => "it only answers: a teacher of `distill`, not of `invert` and `run`",
        (true, 0) => "teacher or student; recipes of `invert` that match batch norms refuse it",
        _ => "teacher or student",
    }
}

fn of_model(model: &Model) -> (Value, String) {
    let (config, arch) = (&model.config, &model.network.arch);
    let images = &config.pretrained_cfg;
    let layers = layers(&arch.slots);
    let row = |layer: &Layer| json!({"name": layer.name, "kind": layer.kind, "shape": layer.shape, "parameters": layer.parameters});
    let json = json!({
        "kind": "model", "source": model.source, "sha256": model.sha256,
        "architecture": config.architecture, "model_type": config.model_type, "model_args": config.model_args,
        "num_classes": config.num_classes, "label_names": config.label_names,
        "input_size": images.input_size, "mean": images.mean, "std": images.std,
        "parameters": arch.parameters(), "trains": arch.trains(), "batch_norm_layers": arch.norm_layers(),
        "layers": layers.iter().map(row).collect::<Vec<_>>(),
    });
    let [channels, height, width] = images.input_size;
    let args: Vec<String> = config.model_args.iter().map(|(key, value)| format!("{key} {value}")).collect();
    let kind = config.model_type.as_deref().unwrap_or("?");
    let mut text = table(&[
        ("model", model.source.clone()),
        ("sha256", model.sha256.clone()),
        ("architecture", format!("{}: {kind} ({})", config.architecture, args.join(", "))),
        ("input", format!("{channels}x{height}x{width}, mean {:?}, std {:?}", images.mean, images.std)),
        ("classes", config.num_classes.to_string()),
        ("parameters", arch.parameters().to_string()),
        ("batch norms", format!("{} (2-d, whose statistics can be matched)", arch.norm_layers())),
        ("role", role(arch).to_string()),
    ]);
    let widest = layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0);
    text += &format!("\n{:<widest$}  {:<13}  {:>10}  shape\n", "layer", "kind", "parameters");
    for Layer { name, kind, shape, parameters } in &layers {
        text += &format!("{name:<widest$}  {kind:<13}  {parameters:>10}  {shape:?}\n");
    }
    (json, text)
}
