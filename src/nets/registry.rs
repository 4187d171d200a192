//! The architectures that exist here: a table of families, each described in its own file, with its names, which people
//! type and configurations state, and its constructor.
//!
//! A name is resolved to a family and its arguments, and both ways end in the same constructor: whatever a name builds is
//! built again from the configuration that is saved with it. Adding an architecture is a file with a `Family` and a row of
//! `FAMILIES`: docs/ADDING_A_MODEL.md.

mod args;
mod family;
mod names;
#[cfg(test)]
mod tests;

use super::candle_models::{dinov2, timm_vit, vit};
use super::{
    Architecture, Kind, Task, convnext, deeplab, densenet, efficientnet, espnet, lenet, lraspp, mlperf_resnet8,
    mobilenet_v2, regnet, resnet, resnet_cifar, segformer, small_cnn, vgg, vgg_cifar, wide_resnet,
};
use crate::weights::{ModelConfig, PretrainedConfig, Scheme};
use crate::{Error, Result};
use serde_json::{Map, Value, json};

pub(super) use args::Args;
pub use family::Shape;
pub(super) use family::{Family, Form, Head, Transformers};
pub use names::{families, listed, supported};

/// All families, those of large images first: where a name does not say which of two is meant and no image size does, the
/// first is.
const FAMILIES: &[&Family] = &[
    &resnet::FAMILY,
    &vgg::FAMILY,
    &densenet::FAMILY,
    &mobilenet_v2::FAMILY,
    &efficientnet::FAMILY,
    &regnet::FAMILY,
    &resnet_cifar::FAMILY,
    &resnet_cifar::FOUR_GROUPS,
    &wide_resnet::FAMILY,
    &vgg_cifar::FIVE_POOLS,
    &vgg_cifar::AVERAGED,
    &densenet::CIFAR,
    &mobilenet_v2::CIFAR,
    &mlperf_resnet8::FAMILY,
    &lenet::FIVE,
    &lenet::CIFAR,
    &small_cnn::QUICK_GELU,
    &small_cnn::FASHION,
    &small_cnn::BURN,
    &timm_vit::FAMILY,
    &timm_vit::DINOV2,
    &convnext::FAMILY,
    &convnext::V2,
    &vit::FAMILY,
    &dinov2::FAMILY,
    &segformer::FAMILY,
    &segformer::PIXELS,
    &espnet::FAMILY,
    &espnet::ENCODER,
    &deeplab::RESNET,
    &deeplab::MOBILENET_V2,
    &deeplab::MOBILENET_V3,
    &lraspp::FAMILY,
];

/// A network as names and configurations describe it.
#[derive(Clone)]
struct Description {
    family: &'static Family,
    /// What `architecture` in `config.json` says.
    architecture: String,
    args: Map<String, Value>,
    /// Those of `args` that `architecture` does not imply.
    stated: Map<String, Value>,
}

/// What a configuration says of its network.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    pub architecture: String,
    /// Absent in timm's form, where the architecture's name says all.
    pub model_type: Option<String>,
    pub model_args: Map<String, Value>,
}

/// The architecture that a configuration describes.
///
/// # Errors
/// [`Error::Invalid`] for an architecture that is not here, arguments that it does not have or that are out of range, and an
/// input size that is too small for it.
pub fn from_config(config: &ModelConfig) -> Result<Architecture> {
    let [channels, height, width] = config.pretrained_cfg.input_size;
    let shape = Shape { channels, height, width, num_classes: config.num_classes };
    let named = config.pretrained_cfg.extra.get("classifier").and_then(Value::as_str);
    let description = described(config)?;
    let pooling = config.global_pool.as_deref().unwrap_or("avg");
    if description.family.form == Form::Timm && description.family.averages && pooling != "avg" {
        let found = format!("its last layer reads the pooling {pooling:?}");
        return Err(Error::invalid(
            format!("architecture {:?}", config.architecture),
            found,
            "only \"avg\" is supported",
        ));
    }
    let architecture = description.build(&shape, named)?;
    if Task::of(&config.task) == Some(Task::Segmentation) {
        let what = format!("task {:?}", config.task);
        let found = format!("the architecture {:?} answers once per image", config.architecture);
        if architecture.task != Task::Segmentation {
            return Err(Error::invalid(what, found, "correct the task, or the architecture"));
        }
    }
    Ok(architecture.blue_first(config.pretrained_cfg.is_bgr()))
}

/// How other code bases name the tensors of the network that a configuration describes.
///
/// # Errors
/// [`Error::Invalid`] for an architecture that is not here.
pub fn schemes(config: &ModelConfig) -> Result<&'static [Scheme]> {
    Ok(described(config)?.family.schemes)
}

/// The architecture called `name` for images and classes of `shape`, with what a configuration says of it, from which
/// [`from_config`] builds the same.
///
/// # Errors
/// [`Error::Invalid`] for an unknown name (with the nearest known one and the families), or a shape that it cannot take.
pub fn from_name(name: &str, shape: &Shape) -> Result<(Architecture, Identity)> {
    let description = names::resolve(name, Some(shape.sides()))?;
    Ok((description.build(shape, None)?, description.identity(shape)))
}

/// The images that a model called `name` is usually trained on: `[channels, height, width]`.
///
/// # Errors
/// [`Error::Invalid`] for an unknown name.
pub fn usual_input(name: &str) -> Result<[usize; 3]> {
    Ok(names::resolve(name, None)?.family.usual_input)
}

/// The name under which there is another network for small images, where `name` for images of `sides` (else for its usual ones)
/// means one for large images.
pub fn small_twin(name: &str, sides: Option<[usize; 2]>) -> Option<String> {
    let twin = format!("cifar-{name}");
    let (meant, other) = (names::resolve(name, sides).ok()?, names::resolve(&twin, None).ok()?);
    (meant.family.model_type != other.family.model_type).then_some(twin)
}

/// What networks called `name` answer for.
///
/// # Errors
/// As [`from_name`].
pub fn task(name: &str) -> Result<Task> {
    let [channels, height, width] = usual_input(name)?;
    Ok(from_name(name, &Shape { channels, height, width, num_classes: ANY_CLASSES })?.0.task)
}

/// A number of classes that every network can have.
pub(crate) const ANY_CLASSES: usize = 16;

/// The architecture called `name`, and the configuration to save with a model of it: images are
/// `(pixel / 255 - mean) / std` of `shape`, classes are called `label_names`.
///
/// # Errors
/// As [`from_name`]; `mean`, `std` or `label_names` of another length than the shape says.
pub fn new_model(
    name: &str,
    shape: &Shape,
    label_names: Option<Vec<String>>,
    mean: &[f64],
    std: &[f64],
) -> Result<(Architecture, ModelConfig)> {
    let description = names::resolve(name, Some(shape.sides()))?;
    let architecture = description.build(shape, None)?;
    let lengths = [(mean.len(), shape.channels, "mean"), (std.len(), shape.channels, "std")];
    let labels = label_names.as_ref().map(|names| (names.len(), shape.num_classes, "label_names"));
    if let Some((found, expected, what)) =
        lengths.into_iter().chain(labels).find(|(found, expected, _)| found != expected)
    {
        let hint = format!("expected {expected}, for {} channels and {} classes", shape.channels, shape.num_classes);
        return Err(Error::invalid(what, format!("{found} values"), hint));
    }
    let family = description.family;
    let ends = [("first_conv", family.first), ("classifier", family.head.name(&description.args, None))];
    let Identity { architecture: called, model_type, model_args } = description.identity(shape);
    let config = ModelConfig {
        architecture: called,
        model_type,
        model_args,
        num_classes: shape.num_classes,
        num_features: features(&architecture),
        global_pool: (family.averages && architecture.task == Task::Classification).then(|| "avg".to_string()),
        label_names,
        pretrained_cfg: PretrainedConfig {
            tag: None,
            input_size: [shape.channels, shape.height, shape.width],
            fixed_input_size: !family.averages,
            mean: mean.to_vec(),
            std: std.to_vec(),
            channel_order: None,
            ignore_index: None,
            size_divisor: (architecture.size_divisor > 1).then_some(architecture.size_divisor),
            first_label: None,
            crop_pct: None,
            crop_mode: None,
            interpolation: None,
            license: None,
            extra: ends.into_iter().map(|(key, name)| (key.to_string(), json!(name))).collect(),
        },
        eval_datasets: None,
        task: architecture.task.name().to_string(),
        extra: Map::new(),
    };
    Ok((architecture, config))
}

/// Inputs of the last linear layer.
fn features(architecture: &Architecture) -> Option<usize> {
    let linear = architecture.slots.iter().rev().find(|slot| slot.kind == Kind::LinearWeight);
    linear.and_then(|slot| slot.shape.first().copied())
}

/// What a configuration describes: in timm's form its name says all, in ours and in that of transformers the `model_type`
/// with its arguments.
fn described(config: &ModelConfig) -> Result<Description> {
    let architecture = config.architecture.clone();
    let Some(model_type) = config.model_type.as_deref() else {
        let Some((family, mut args)) = names::of_timm(&architecture) else {
            return Err(Error::invalid(
                format!("architecture {architecture:?}"),
                "config.json names no network that is here, and has no `model_type` and `model_args` that describe one",
                format!("name one with --arch NAME: {}", families()),
            ));
        };
        args.extend(config.model_args.clone());
        return Ok(Description { family, architecture, args, stated: config.model_args.clone() });
    };
    let ours = |family: &&&Family| family.form == Form::Ours && family.model_type == model_type;
    if let Some(family) = FAMILIES.iter().find(ours) {
        return Ok(Description::in_full(family, architecture, config.model_args.clone()));
    }
    for family in FAMILIES {
        if let Some(there) = family.transformers.filter(|there| there.model_type == model_type) {
            let mut args = Args::new(model_type, &config.model_args);
            let described = (there.args)(&mut args)?;
            args.finish()?;
            return Ok(Description::in_full(family, architecture, described));
        }
    }
    Err(Error::invalid(format!("model_type {model_type:?}"), "there is no such kind of network here", families()))
}

impl Description {
    /// Of a network whose arguments say all.
    fn in_full(family: &'static Family, architecture: String, args: Map<String, Value>) -> Self {
        Self { family, architecture, stated: args.clone(), args }
    }

    fn build(&self, shape: &Shape, head: Option<&str>) -> Result<Architecture> {
        let family = self.family;
        let least = family.min_side;
        if shape.height.min(shape.width) < least || shape.channels == 0 || shape.num_classes == 0 {
            let Shape { channels, height, width, num_classes } = shape;
            let found = format!("{channels} channels of {height}x{width} pixels and {num_classes} classes");
            return Err(Error::invalid(
                family.model_type,
                found,
                format!("it needs sides of at least {least}, and nothing may be 0"),
            ));
        }
        let mut args = Args::new(family.model_type, &self.args);
        if family.form == Form::Timm {
            args.of_timm(shape, if family.averages { "avg" } else { "token" })?;
        }
        let architecture = (family.build)(&mut args, shape, family.head.name(&self.args, head))?;
        args.finish()?;
        if let Some(slot) = architecture.slots.iter().find(|slot| slot.shape.contains(&0)) {
            let (name, shape) = (&slot.name, slot.file_shape());
            let found = format!("they leave nothing of the tensor {name}, whose shape is {shape:?}");
            return Err(Error::invalid(format!("model_args of {}", family.model_type), found, "take larger widths"));
        }
        architecture.takes(shape.sides())?;
        Ok(architecture.with_student_rate(family.student_rate))
    }

    fn identity(&self, shape: &Shape) -> Identity {
        let architecture = self.architecture.clone();
        if self.family.form == Form::Ours {
            let model_type = Some(self.family.model_type.to_string());
            return Identity { architecture, model_type, model_args: self.args.clone() };
        }
        let mut model_args = self.stated.clone();
        model_args.extend((shape.channels != 3).then(|| ("in_chans".to_string(), json!(shape.channels))));
        Identity { architecture, model_type: None, model_args }
    }
}
