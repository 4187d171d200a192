//! MobileNetV2: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (2018), table 2, at any width; the
//! deeper `d` forms are timm's.
//!
//! The 1,280 features make the last layer sensitive: students learn at a rate of 0.05, where ResNets stand 0.5.

use super::Architecture;
use super::inverted_residual::{InvertedResidualNet, Pad, Stage};
use super::layers::Nonlinearity;
use super::registry::{Args, Family, Form, Head, Shape, Transformers};
use super::widths::rounded;
use crate::Result;
use crate::ops::Activation;
use crate::weights::{Scheme, numbered};
use serde_json::{Map, Value, json};

/// For large images.
pub(super) const FAMILY: Family = Family {
    title: "MobileNetV2",
    model_type: "mobilenetv2",
    form: Form::Timm,
    names: &[
        ("mobilenetv2_035", || json!({"channel_multiplier": 0.35})),
        ("mobilenetv2_050", || json!({"channel_multiplier": 0.5})),
        ("mobilenetv2_075", || json!({"channel_multiplier": 0.75})),
        ("mobilenetv2_100", || json!({"channel_multiplier": 1.0})),
        ("mobilenetv2_110d", || json!({"channel_multiplier": 1.1, "depth_multiplier": 1.2, "fix_stem_head": true})),
        ("mobilenetv2_120d", || json!({"channel_multiplier": 1.2, "depth_multiplier": 1.4, "fix_stem_head": true})),
        ("mobilenetv2_140", || json!({"channel_multiplier": 1.4})),
    ],
    aliases: &[("mobilenet_v2", "mobilenetv2_100")],
    variants: &[],
    pattern: None,
    summary: "mobilenetv2_035|050|075|100|110d|120d|140",
    usual_input: [3, 224, 224],
    min_side: 8,
    student_rate: 0.05,
    first: "conv_stem",
    head: Head::Is("classifier"),
    averages: true,
    schemes: &[TORCHVISION, FLAT, TRANSFORMERS],
    transformers: Some(Transformers { model_type: "mobilenet_v2", args: transformers }),
    build,
};

/// For small images: the first convolution and the second stage keep the resolution, so that 8 of 32 pixels are one in the
/// end. Where they do is kuangliu's choice; his projected shortcuts are not there.
pub(super) const CIFAR: Family = Family {
    model_type: "cifar_mobilenetv2",
    form: Form::Ours,
    names: &[
        ("mobilenetv2_035", || small(0.35)),
        ("mobilenetv2_050", || small(0.5)),
        ("mobilenetv2_075", || small(0.75)),
        ("mobilenetv2_100", || small(1.0)),
        ("mobilenetv2_140", || small(1.4)),
    ],
    summary: "cifar-mobilenetv2_035|050|075|100|140",
    usual_input: [3, 32, 32],
    schemes: &[],
    transformers: None,
    ..FAMILY
};

fn small(channel_multiplier: f64) -> Value {
    json!({"channel_multiplier": channel_multiplier, "strides": [1, 1, 1, 2, 2, 1, 2, 1]})
}

/// What a transformers configuration says, as arguments of [`FAMILY`].
fn transformers(args: &mut Args) -> Result<Map<String, Value>> {
    // Called depth there, after the depth of a layer's output.
    let multiplier = args.number("depth_multiplier", 0.05..=8.0, 1.0)?;
    let fine = args.flag("finegrained_output", true)?;
    let same = args.flag("tf_padding", true)?;
    let eps = args.number("layer_norm_eps", 1e-12..=1.0, 1e-3)?;
    args.number("expand_ratio", 6.0..=6.0, 6.0)?;
    args.number("depth_divisible_by", 8.0..=8.0, 8.0)?;
    args.number("min_depth", 8.0..=8.0, 8.0)?;
    args.number("output_stride", 32.0..=32.0, 32.0)?;
    args.fixed("first_layer_is_expansion", json!(true))?;
    args.fixed("hidden_act", json!("relu6"))?;
    args.ignore(&["image_size"]);
    let mut found = Map::new();
    found.insert("channel_multiplier".into(), json!(multiplier));
    found.insert("bn_eps".into(), json!(eps));
    found.insert("pad_type".into(), json!(if same { "same" } else { "" }));
    found.insert("whole_widths".into(), json!(true));
    if !fine && multiplier < 1.0 {
        found.insert("num_features".into(), json!(rounded((1280.0 * multiplier).round_ties_even(), 8)));
    }
    Ok(found)
}

/// Expansion, channels, blocks and stride of the paper's table 2.
pub(super) const STAGES: [(usize, usize, usize, usize); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

fn build(args: &mut Args, shape: &Shape, head: &'static str) -> Result<Architecture> {
    let width = args.number("channel_multiplier", 0.05..=8.0, 1.0)?;
    let depth = args.number("depth_multiplier", 0.1..=8.0, 1.0)?;
    let fixed_ends = args.flag("fix_stem_head", false)?;
    // Whether widths are whole numbers before they are rounded to multiples of 8.
    let whole = args.flag("whole_widths", false)?;
    let strides = args.list("strides", 1..=2, &[2, 1, 2, 2, 2, 1, 2, 1])?;
    let bn_eps = args.eps(1e-5)?;
    let pad = Pad::read(args)?;
    let scaled = |channels: usize| {
        let exact = channels as f64 * width;
        rounded(if whole { exact.round_ties_even() } else { exact }, 8)
    };
    let usual = if fixed_ends { 1280 } else { scaled(1280).max(1280) };
    let features = args.count("num_features", 8..=16_384, Some(usual))?;
    if strides.len() != STAGES.len() + 1 {
        return Err(args.refuse(
            "strides",
            format!("{strides:?}"),
            "there are eight: the stem's and those of seven stages",
        ));
    }
    let stage = |(i, (expansion, channels, blocks, _)): (usize, (usize, usize, usize, usize))| {
        let ends = fixed_ends && (i == 0 || i + 1 == STAGES.len());
        let blocks = if ends { blocks } else { (blocks as f64 * depth).ceil() as usize };
        Stage { expansion, kernel: 3, channels: scaled(channels), blocks, stride: strides[i + 1] }
    };
    let net = InvertedResidualNet {
        stem: (if fixed_ends { 32 } else { scaled(32) }, strides[0]),
        stages: STAGES.into_iter().enumerate().map(stage).collect(),
        features,
        act: Nonlinearity::Piecewise(Activation::RELU6),
        squeeze: false,
        pad,
        symmetric: Vec::new(),
        in_channels: shape.channels,
        num_classes: shape.num_classes,
        bn_eps,
        head,
    };
    Ok(Architecture::new(|b| net.build(b)))
}

/// A scheme that numbers all layers through as `features.N`, with what else it renames.
macro_rules! features {
    ($name:literal, $($row:expr),* $(,)?) => {
        numbered!(
            $name,
            "features." [
                "1" => "0.0", "2" => "1.0", "3" => "1.1", "4" => "2.0", "5" => "2.1", "6" => "2.2", "7" => "3.0",
                "8" => "3.1", "9" => "3.2", "10" => "3.3", "11" => "4.0", "12" => "4.1", "13" => "4.2", "14" => "5.0",
                "15" => "5.1", "16" => "5.2", "17" => "6.0",
            ],
            $($row,)*
            ("features.0.0.*", "conv_stem.*"),
            ("features.0.1.*", "bn1.*"),
            ("features.18.0.*", "conv_head.*"),
            ("features.18.1.*", "bn2.*"),
            ("classifier.1.*", "classifier.*"),
        )
    };
}

/// torchvision's `mobilenet_v2`, to timm.
const TORCHVISION: Scheme = features!(
    "torchvision MobileNetV2",
    // The first block has no expansion.
    ("blocks.0.0.conv.0.0.*", "blocks.0.0.conv_dw.*"),
    ("blocks.0.0.conv.0.1.*", "blocks.0.0.bn1.*"),
    ("blocks.0.0.conv.1.*", "blocks.0.0.conv_pw.*"),
    ("blocks.0.0.conv.2.*", "blocks.0.0.bn2.*"),
    ("blocks.*.*.conv.0.0.*", "blocks.*.*.conv_pw.*"),
    ("blocks.*.*.conv.0.1.*", "blocks.*.*.bn1.*"),
    ("blocks.*.*.conv.1.0.*", "blocks.*.*.conv_dw.*"),
    ("blocks.*.*.conv.1.1.*", "blocks.*.*.bn2.*"),
    ("blocks.*.*.conv.2.*", "blocks.*.*.conv_pwl.*"),
    ("blocks.*.*.conv.3.*", "blocks.*.*.bn3.*"),
);

/// One flat sequence per block (convolution 0, norm 1, ReLU6 2, ...), as in torchvision's first releases, to timm.
const FLAT: Scheme = features!(
    "flat MobileNetV2",
    ("blocks.0.0.conv.0.*", "blocks.0.0.conv_dw.*"),
    ("blocks.0.0.conv.1.*", "blocks.0.0.bn1.*"),
    ("blocks.0.0.conv.3.*", "blocks.0.0.conv_pw.*"),
    ("blocks.0.0.conv.4.*", "blocks.0.0.bn2.*"),
    ("blocks.*.*.conv.0.*", "blocks.*.*.conv_pw.*"),
    ("blocks.*.*.conv.1.*", "blocks.*.*.bn1.*"),
    ("blocks.*.*.conv.3.*", "blocks.*.*.conv_dw.*"),
    ("blocks.*.*.conv.4.*", "blocks.*.*.bn2.*"),
    ("blocks.*.*.conv.6.*", "blocks.*.*.conv_pwl.*"),
    ("blocks.*.*.conv.7.*", "blocks.*.*.bn3.*"),
);

/// `MobileNetV2ForImageClassification` of transformers, to timm.
const TRANSFORMERS: Scheme = numbered!(
    "transformers MobileNetV2",
    "mobilenet_v2.layer." [
        "0" => "1.0", "1" => "1.1", "2" => "2.0", "3" => "2.1", "4" => "2.2", "5" => "3.0", "6" => "3.1", "7" => "3.2",
        "8" => "3.3", "9" => "4.0", "10" => "4.1", "11" => "4.2", "12" => "5.0", "13" => "5.1", "14" => "5.2",
        "15" => "6.0",
    ],
    ("mobilenet_v2.conv_stem.first_conv.convolution.*", "conv_stem.*"),
    ("mobilenet_v2.conv_stem.first_conv.normalization.*", "bn1.*"),
    ("mobilenet_v2.conv_stem.conv_3x3.convolution.*", "blocks.0.0.conv_dw.*"),
    ("mobilenet_v2.conv_stem.conv_3x3.normalization.*", "blocks.0.0.bn1.*"),
    ("mobilenet_v2.conv_stem.reduce_1x1.convolution.*", "blocks.0.0.conv_pw.*"),
    ("mobilenet_v2.conv_stem.reduce_1x1.normalization.*", "blocks.0.0.bn2.*"),
    ("blocks.*.*.expand_1x1.convolution.*", "blocks.*.*.conv_pw.*"),
    ("blocks.*.*.expand_1x1.normalization.*", "blocks.*.*.bn1.*"),
    ("blocks.*.*.conv_3x3.convolution.*", "blocks.*.*.conv_dw.*"),
    ("blocks.*.*.conv_3x3.normalization.*", "blocks.*.*.bn2.*"),
    ("blocks.*.*.reduce_1x1.convolution.*", "blocks.*.*.conv_pwl.*"),
    ("blocks.*.*.reduce_1x1.normalization.*", "blocks.*.*.bn3.*"),
    ("mobilenet_v2.conv_1x1.convolution.*", "conv_head.*"),
    ("mobilenet_v2.conv_1x1.normalization.*", "bn2.*"),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_those_of_timm() {
        for (scheme, name, canonical) in [
            (TORCHVISION, "features.1.conv.1.weight", "blocks.0.0.conv_pw.weight"),
            (TORCHVISION, "features.10.conv.2.weight", "blocks.3.3.conv_pwl.weight"),
            (TORCHVISION, "features.17.conv.0.1.weight", "blocks.6.0.bn1.weight"),
            (TORCHVISION, "features.0.1.weight", "bn1.weight"),
            (TORCHVISION, "classifier.1.weight", "classifier.weight"),
            (FLAT, "features.1.conv.1.bias", "blocks.0.0.bn1.bias"),
            (FLAT, "features.1.conv.3.weight", "blocks.0.0.conv_pw.weight"),
            (FLAT, "features.5.conv.4.bias", "blocks.2.1.bn2.bias"),
            (FLAT, "features.5.conv.7.bias", "blocks.2.1.bn3.bias"),
            (FLAT, "features.18.0.weight", "conv_head.weight"),
            (TRANSFORMERS, "mobilenet_v2.layer.15.reduce_1x1.normalization.bias", "blocks.6.0.bn3.bias"),
        ] {
            assert_eq!(scheme.rename(name), canonical, "{}", scheme.name);
        }
    }
}
