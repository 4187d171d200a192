//! The architectures that exist here, as two tables: families, which `config.json` speaks of (`model_type` and
//! `model_args`), and names, which people type.
//!
//! A name is resolved to a family and its arguments, and both ways end in the same constructor: whatever a name builds is
//! built again from the configuration that is saved with it.

mod args;
mod names;
#[cfg(test)]
mod tests;

use super::lenet::{LeNet5, LeNetCifar};
use super::mlperf_resnet8::MlperfResNet8;
use super::small_cnn::SmallCnn;
use super::{Architecture, ResNetCifar, Shortcut, WideResNet};
use crate::weights::{ModelConfig, PretrainedConfig};
use crate::{Error, Result};
use args::Args;
use serde_json::{Map, Value, json};

pub use names::{listed, supported};

/// What a network reads and how many logits it answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub num_classes: usize,
}

impl Shape {
    fn sides(&self) -> [usize; 2] {
        [self.height, self.width]
    }
}

/// A kind of network.
struct Family {
    /// `model_type` in `config.json`.
    model_type: &'static str,
    /// The smallest image side that leaves a pixel to the last layer.
    min_side: usize,
    /// Name of the last layer in files; `None`: as [`head_of`] says.
    head: Option<&'static str>,
    /// Whether it averages over all pixels before the last layer (else it flattens them).
    averages: bool,
    build: fn(&mut Args, &Shape, head: &'static str) -> Result<Architecture>,
}

const FAMILIES: &[Family] = &[
    Family { model_type: "cifar_resnet", min_side: 8, head: None, averages: true, build: cifar_resnet },
    Family { model_type: "resnet_cifar_form", min_side: 8, head: None, averages: true, build: resnet_cifar_form },
    Family { model_type: "wide_resnet", min_side: 8, head: Some("fc"), averages: true, build: wide_resnet },
    Family { model_type: "mlperf_tiny_resnet8", min_side: 8, head: Some("fc"), averages: true, build: mlperf_resnet8 },
    Family { model_type: "lenet5", min_side: 28, head: Some("fc2"), averages: false, build: lenet5 },
    Family { model_type: "lenet_cifar", min_side: 16, head: Some("fc3"), averages: false, build: lenet_cifar },
    Family { model_type: "quickgelu_convnet", min_side: 16, head: Some("fc2"), averages: false, build: quick_gelu },
    Family { model_type: "fashion_cnn", min_side: 4, head: Some("fc2"), averages: false, build: fashion },
    Family { model_type: "burn_mnist_cnn", min_side: 7, head: Some("fc2"), averages: false, build: burn },
];

/// The architecture that a configuration describes.
///
/// # Errors
/// [`Error::Invalid`] for a `model_type` that is not here, arguments that it does not have or that are out of range, and
/// an input size that is too small for it.
pub fn from_config(config: &ModelConfig) -> Result<Architecture> {
    let Some(model_type) = config.model_type.as_deref() else {
        return Err(Error::invalid(
            format!("architecture {:?}", config.architecture),
            "config.json has no `model_type` and `model_args`, and the name alone does not fix the network",
            format!("name one of ours (--arch NAME): {}", supported()),
        ));
    };
    let [channels, height, width] = config.pretrained_cfg.input_size;
    let shape = Shape { channels, height, width, num_classes: config.num_classes };
    let named = config.pretrained_cfg.extra.get("classifier").and_then(Value::as_str);
    build(model_type, &config.model_args, &shape, named)
}

/// The architecture called `name` for images and classes of `shape`, with the `model_type` and the `model_args` from which
/// [`from_config`] builds the same.
///
/// # Errors
/// [`Error::Invalid`] for an unknown name (with the nearest known one and the list), or a shape that it cannot take.
pub fn from_name(name: &str, shape: &Shape) -> Result<(Architecture, String, Map<String, Value>)> {
    let (model_type, args) = names::resolve(name)?;
    let architecture = build(model_type, &args, shape, None)?;
    Ok((architecture, model_type.to_string(), args))
}

/// The images that a model called `name` is usually trained on: `[channels, height, width]`.
///
/// # Errors
/// [`Error::Invalid`] for an unknown name.
pub fn usual_input(name: &str) -> Result<[usize; 3]> {
    Ok(match names::resolve(name)?.0 {
        "quickgelu_convnet" | "fashion_cnn" | "burn_mnist_cnn" => [1, 28, 28],
        "lenet5" => [1, 32, 32],
        _ => [3, 32, 32],
    })
}

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
    let (architecture, model_type, model_args) = from_name(name, shape)?;
    let lengths = [(mean.len(), shape.channels, "mean"), (std.len(), shape.channels, "std")];
    let labels = label_names.as_ref().map(|names| (names.len(), shape.num_classes, "label_names"));
    if let Some((found, expected, what)) =
        lengths.into_iter().chain(labels).find(|(found, expected, _)| found != expected)
    {
        let hint = format!("expected {expected}, for {} channels and {} classes", shape.channels, shape.num_classes);
        return Err(Error::invalid(what, format!("{found} values"), hint));
    }
    let family = family(&model_type)?;
    let head = family.head.unwrap_or(head_of(&model_args));
    let ends = [("first_conv", "conv1"), ("classifier", head)];
    let config = ModelConfig {
        architecture: name.to_string(),
        model_type: Some(model_type),
        model_args,
        num_classes: shape.num_classes,
        num_features: features(&architecture),
        global_pool: family.averages.then(|| "avg".to_string()),
        label_names,
        pretrained_cfg: PretrainedConfig {
            tag: None,
            input_size: [shape.channels, shape.height, shape.width],
            fixed_input_size: true,
            mean: mean.to_vec(),
            std: std.to_vec(),
            channel_order: None,
            ignore_index: None,
            size_divisor: None,
            license: None,
            extra: ends.into_iter().map(|(key, name)| (key.to_string(), json!(name))).collect(),
        },
        eval_datasets: None,
        task: "image-classification".to_string(),
        extra: Map::new(),
    };
    Ok((architecture, config))
}

/// Inputs of the last linear layer.
fn features(architecture: &Architecture) -> Option<usize> {
    let linear = architecture.slots.iter().rev().find(|slot| slot.kind == super::Kind::LinearWeight);
    linear.and_then(|slot| slot.shape.first().copied())
}

fn family(model_type: &str) -> Result<&'static Family> {
    FAMILIES.iter().find(|family| family.model_type == model_type).ok_or_else(|| {
        let known: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
        let found = "there is no such kind of network here";
        Error::invalid(format!("model_type {model_type:?}"), found, format!("supported are {}", known.join(", ")))
    })
}

fn build(model_type: &str, args: &Map<String, Value>, shape: &Shape, head: Option<&str>) -> Result<Architecture> {
    let family = family(model_type)?;
    let least = family.min_side;
    if shape.height.min(shape.width) < least || shape.channels == 0 || shape.num_classes == 0 {
        let Shape { channels, height, width, num_classes } = shape;
        let found = format!("{channels} channels of {height}x{width} pixels and {num_classes} classes");
        return Err(Error::invalid(
            model_type,
            found,
            format!("it needs sides of at least {least}, and nothing may be 0"),
        ));
    }
    let head = match head {
        Some("linear") => "linear",
        Some("fc") => "fc",
        _ => head_of(args),
    };
    let mut args = Args::new(model_type, args);
    let architecture = (family.build)(&mut args, shape, head)?;
    args.finish()?;
    Ok(architecture)
}

/// What residual networks call their last layer when the configuration does not say: as the best-known code with the
/// same shortcuts does.
fn head_of(args: &Map<String, Value>) -> &'static str {
    if args.get("shortcut").and_then(Value::as_str) == Some("A") { "linear" } else { "fc" }
}

fn cifar_resnet(args: &mut Args, shape: &Shape, head: &'static str) -> Result<Architecture> {
    let depth = args.count("depth", 8..=1202, None)?;
    if depth % 6 != 2 {
        return Err(args.refuse("depth", depth, "it is 6n + 2, such as 8, 20, 32 or 56"));
    }
    let shortcut = match args.text("shortcut", "A")? {
        "A" => Shortcut::A,
        "B" => Shortcut::B,
        other => return Err(args.refuse("shortcut", other, "it is A (padded) or B (projected)")),
    };
    let widths = args.list("widths", 1..=4096, &[16, 32, 64])?;
    if !matches!(widths.len(), 3 | 4) || (shortcut == Shortcut::A && !widths.is_sorted()) {
        let hint = "there are three, four if the stem has its own, and with padded shortcuts they do not shrink";
        return Err(args.refuse("widths", format!("{widths:?}"), hint));
    }
    let net = ResNetCifar {
        blocks: vec![(depth - 2) / 6; 3],
        widths,
        shortcut,
        in_channels: shape.channels,
        num_classes: shape.num_classes,
        bn_eps: args.eps(1e-5)?,
        head,
    };
    Ok(Architecture::new(|b| net.build(b)))
}

fn resnet_cifar_form(args: &mut Args, shape: &Shape, head: &'static str) -> Result<Architecture> {
    let blocks = match args.count("depth", 18..=34, None)? {
        18 => vec![2, 2, 2, 2],
        34 => vec![3, 4, 6, 3],
        depth => return Err(args.refuse("depth", depth, "it is 18 or 34")),
    };
    let widths = args.list("widths", 1..=4096, &[64, 128, 256, 512])?;
    if widths.len() != 4 {
        return Err(args.refuse("widths", format!("{widths:?}"), "there are four"));
    }
    let net = ResNetCifar {
        blocks,
        widths,
        shortcut: Shortcut::B,
        in_channels: shape.channels,
        num_classes: shape.num_classes,
        bn_eps: args.eps(1e-5)?,
        head,
    };
    Ok(Architecture::new(|b| net.build(b)))
}

fn wide_resnet(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    let depth = args.count("depth", 10..=1000, None)?;
    if depth % 6 != 4 {
        return Err(args.refuse("depth", depth, "it is 6n + 4, such as 16, 28 or 40"));
    }
    let net = WideResNet {
        depth,
        widen_factor: args.count("widen_factor", 1..=64, None)?,
        in_channels: shape.channels,
        num_classes: shape.num_classes,
        bn_eps: args.eps(1e-5)?,
    };
    Ok(Architecture::new(|b| net.build(b)))
}

fn mlperf_resnet8(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    let widths = args.list("widths", 1..=4096, &[16, 32, 64])?;
    let Ok(widths) = <[usize; 3]>::try_from(widths.as_slice()) else {
        return Err(args.refuse("widths", format!("{widths:?}"), "there are three"));
    };
    args.fixed("conv_bias", json!(true))?;
    args.fixed("padding", json!("tensorflow-same"))?;
    args.fixed("shortcut", json!("1x1 conv with bias, no BN"))?;
    let bn_eps = args.eps(1e-3)?;
    let net = MlperfResNet8 { widths, bn_eps, in_channels: shape.channels, num_classes: shape.num_classes };
    Ok(Architecture::new(|b| net.build(b)))
}

fn lenet5(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    args.fixed("batch_norm", json!(false))?;
    let half = args.flag("half", false)?;
    let net = LeNet5 { half, in_channels: shape.channels, size: shape.sides(), num_classes: shape.num_classes };
    Ok(Architecture::new(|b| net.build(b)))
}

fn lenet_cifar(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    args.fixed("batch_norm", json!(false))?;
    let net = LeNetCifar { in_channels: shape.channels, size: shape.sides(), num_classes: shape.num_classes };
    Ok(Architecture::new(|b| net.build(b)))
}

fn small(shape: &Shape) -> SmallCnn {
    SmallCnn { in_channels: shape.channels, size: shape.sides(), num_classes: shape.num_classes }
}

fn quick_gelu(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    args.fixed("batch_norm", json!(false))?;
    args.fixed("activation", json!("x*sigmoid(1.702x)"))?;
    args.fixed("activation_after_pool", json!(true))?;
    Ok(Architecture::new(|b| small(shape).quick_gelu(b)))
}

fn fashion(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    args.fixed("batch_norm", json!(false))?;
    Ok(Architecture::new(|b| small(shape).fashion(b)))
}

fn burn(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    args.fixed("head_batch_norm", json!(true))?;
    let eps = args.eps(1e-5)?;
    Ok(Architecture::new(|b| small(shape).burn(b, eps)))
}
