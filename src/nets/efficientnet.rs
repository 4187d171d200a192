//! EfficientNet: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019), table 1 (B0)
//! and equation 3 (the larger ones).
//!
//! Training here has neither the stochastic depth nor the dropout of the paper's; a frozen network has none anyway.

use super::Architecture;
use super::inverted_residual::{InvertedResidualNet, Pad, Stage};
use super::layers::Nonlinearity;
use super::registry::{Args, Family, Form, Head, Shape, Transformers};
use super::widths::rounded;
use crate::Result;
use crate::weights::{Scheme, numbered};
use serde_json::{Map, Value, json};

/// The family, for the registry.
pub(super) const FAMILY: Family = Family {
    title: "EfficientNet",
    model_type: "efficientnet",
    form: Form::Timm,
    names: &[
        ("efficientnet_b0", || scaled(1.0, 1.0)),
        ("efficientnet_b1", || scaled(1.0, 1.1)),
        ("efficientnet_b2", || scaled(1.1, 1.2)),
        ("efficientnet_b3", || scaled(1.2, 1.4)),
        ("tf_efficientnet_b0", || tensorflow(1.0, 1.0)),
        ("tf_efficientnet_b1", || tensorflow(1.0, 1.1)),
        ("tf_efficientnet_b2", || tensorflow(1.1, 1.2)),
        ("tf_efficientnet_b3", || tensorflow(1.2, 1.4)),
    ],
    aliases: &[],
    variants: &[],
    pattern: None,
    summary: "efficientnet_b0|b1|b2|b3, tf_efficientnet_b0|b1|b2|b3",
    usual_input: [3, 224, 224],
    min_side: 8,
    student_rate: 0.05,
    first: "conv_stem",
    head: Head::Is("classifier"),
    averages: true,
    schemes: &[TORCHVISION, TRANSFORMERS_B0, TRANSFORMERS_B1, TRANSFORMERS_B3],
    transformers: Some(Transformers { model_type: "efficientnet", args: transformers }),
    build,
};

fn scaled(channel_multiplier: f64, depth_multiplier: f64) -> Value {
    json!({"channel_multiplier": channel_multiplier, "depth_multiplier": depth_multiplier})
}

/// With weights that were trained in TensorFlow.
fn tensorflow(channel_multiplier: f64, depth_multiplier: f64) -> Value {
    let mut args = scaled(channel_multiplier, depth_multiplier);
    args["bn_eps"] = json!(1e-3);
    args["pad_type"] = json!("same");
    args
}

/// What a transformers configuration says, as arguments of [`FAMILY`]. Its padding does not depend on the image: blocks that
/// see an odd side at the usual image size are listed.
fn transformers(args: &mut Args) -> Result<Map<String, Value>> {
    let width = args.number("width_coefficient", 0.1..=8.0, 2.0)?;
    let depth = args.number("depth_coefficient", 0.1..=8.0, 3.1)?;
    let eps = args.number("batch_norm_eps", 1e-12..=1.0, 1e-3)?;
    let symmetric = args.list("depthwise_padding", 0..=1000, &[])?;
    let features = args.count("hidden_dim", 8..=16_384, Some(2560))?;
    args.number("depth_divisor", 8.0..=8.0, 8.0)?;
    args.number("squeeze_expansion_ratio", 0.25..=0.25, 0.25)?;
    args.fixed("pooling_type", json!("mean"))?;
    // The library computes the number of layers, and the rest is for training.
    args.ignore(&["batch_norm_momentum", "drop_connect_rate", "image_size", "num_hidden_layers"]);
    for (key, of_stage) in [
        ("in_channels", [32, 16, 24, 40, 80, 112, 192]),
        ("out_channels", STAGES.map(|stage| stage.channels)),
        ("num_block_repeats", STAGES.map(|stage| stage.blocks)),
        ("expand_ratios", STAGES.map(|stage| stage.expansion)),
        ("kernel_sizes", STAGES.map(|stage| stage.kernel)),
        ("strides", STAGES.map(|stage| stage.stride)),
    ] {
        args.fixed(key, json!(of_stage))?;
    }
    let act = args.text("hidden_act", "swish")?;
    if !["swish", "silu"].contains(&act) {
        return Err(args.refuse("hidden_act", act, "it is swish"));
    }
    if features != rounded(1280.0 * width, 8) {
        return Err(args.refuse("hidden_dim", features, "it is 1280 times the width_coefficient"));
    }
    let Value::Object(mut found) = scaled(width, depth) else { unreachable!() };
    found.insert("bn_eps".into(), json!(eps));
    found.insert("pad_type".into(), json!("end"));
    found.insert("symmetric_blocks".into(), json!(symmetric));
    Ok(found)
}

const fn stage(expansion: usize, kernel: usize, channels: usize, blocks: usize, stride: usize) -> Stage {
    Stage { expansion, kernel, channels, blocks, stride }
}

/// The paper's table 1.
const STAGES: [Stage; 7] = [
    stage(1, 3, 16, 1, 1),
    stage(6, 3, 24, 2, 2),
    stage(6, 5, 40, 2, 2),
    stage(6, 3, 80, 3, 2),
    stage(6, 5, 112, 3, 1),
    stage(6, 5, 192, 4, 2),
    stage(6, 3, 320, 1, 1),
];

fn build(args: &mut Args, shape: &Shape, head: &'static str) -> Result<Architecture> {
    let width = args.number("channel_multiplier", 0.1..=8.0, 1.0)?;
    let depth = args.number("depth_multiplier", 0.1..=8.0, 1.0)?;
    let symmetric = args.list("symmetric_blocks", 0..=1000, &[])?;
    let bn_eps = args.eps(1e-5)?;
    let pad = Pad::read(args)?;
    let scaled = |channels: usize| rounded(channels as f64 * width, 8);
    let deep = |blocks: usize| (blocks as f64 * depth).ceil() as usize;
    let stages = STAGES.map(|s| Stage { channels: scaled(s.channels), blocks: deep(s.blocks), ..s });
    let net = InvertedResidualNet {
        stem: (scaled(32), 2),
        stages: stages.to_vec(),
        features: scaled(1280),
        act: Nonlinearity::Silu,
        squeeze: true,
        pad,
        symmetric,
        in_channels: shape.channels,
        num_classes: shape.num_classes,
        bn_eps,
        head,
    };
    Ok(Architecture::new(|b| net.build(b)))
}

/// torchvision's `efficientnet_b0`, ..., to timm.
const TORCHVISION: Scheme = Scheme {
    name: "torchvision EfficientNet",
    renames: &[
        ("features.0.0.*", "conv_stem.*"),
        ("features.0.1.*", "bn1.*"),
        // The blocks of the first stage have no expansion.
        ("features.1.*.block.0.0.*", "blocks.0.*.conv_dw.*"),
        ("features.1.*.block.0.1.*", "blocks.0.*.bn1.*"),
        ("features.1.*.block.1.fc1.*", "blocks.0.*.se.conv_reduce.*"),
        ("features.1.*.block.1.fc2.*", "blocks.0.*.se.conv_expand.*"),
        ("features.1.*.block.2.0.*", "blocks.0.*.conv_pw.*"),
        ("features.1.*.block.2.1.*", "blocks.0.*.bn2.*"),
        ("features.2.**", "blocks.1.**"),
        ("features.3.**", "blocks.2.**"),
        ("features.4.**", "blocks.3.**"),
        ("features.5.**", "blocks.4.**"),
        ("features.6.**", "blocks.5.**"),
        ("features.7.**", "blocks.6.**"),
        ("blocks.*.*.block.0.0.*", "blocks.*.*.conv_pw.*"),
        ("blocks.*.*.block.0.1.*", "blocks.*.*.bn1.*"),
        ("blocks.*.*.block.1.0.*", "blocks.*.*.conv_dw.*"),
        ("blocks.*.*.block.1.1.*", "blocks.*.*.bn2.*"),
        ("blocks.*.*.block.2.fc1.*", "blocks.*.*.se.conv_reduce.*"),
        ("blocks.*.*.block.2.fc2.*", "blocks.*.*.se.conv_expand.*"),
        ("blocks.*.*.block.3.0.*", "blocks.*.*.conv_pwl.*"),
        ("blocks.*.*.block.3.1.*", "blocks.*.*.bn3.*"),
        ("features.8.0.*", "conv_head.*"),
        ("features.8.1.*", "bn2.*"),
        ("classifier.1.*", "classifier.*"),
    ],
};

/// `EfficientNetForImageClassification` of transformers, which numbers all blocks through, to timm.
macro_rules! transformers {
    ($name:literal, $numbers:tt) => {
        numbered!(
            $name,
            "efficientnet.encoder.blocks." $numbers,
            ("efficientnet.embeddings.convolution.*", "conv_stem.*"),
            ("efficientnet.embeddings.batchnorm.*", "bn1.*"),
            // The blocks of the first stage have no expansion.
            ("blocks.0.*.depthwise_conv.depthwise_conv.*", "blocks.0.*.conv_dw.*"),
            ("blocks.0.*.depthwise_conv.depthwise_norm.*", "blocks.0.*.bn1.*"),
            ("blocks.0.*.projection.project_conv.*", "blocks.0.*.conv_pw.*"),
            ("blocks.0.*.projection.project_bn.*", "blocks.0.*.bn2.*"),
            ("blocks.*.*.expansion.expand_conv.*", "blocks.*.*.conv_pw.*"),
            ("blocks.*.*.expansion.expand_bn.*", "blocks.*.*.bn1.*"),
            ("blocks.*.*.depthwise_conv.depthwise_conv.*", "blocks.*.*.conv_dw.*"),
            ("blocks.*.*.depthwise_conv.depthwise_norm.*", "blocks.*.*.bn2.*"),
            ("blocks.*.*.squeeze_excite.reduce.*", "blocks.*.*.se.conv_reduce.*"),
            ("blocks.*.*.squeeze_excite.expand.*", "blocks.*.*.se.conv_expand.*"),
            ("blocks.*.*.projection.project_conv.*", "blocks.*.*.conv_pwl.*"),
            ("blocks.*.*.projection.project_bn.*", "blocks.*.*.bn3.*"),
            ("efficientnet.encoder.top_conv.*", "conv_head.*"),
            ("efficientnet.encoder.top_bn.*", "bn2.*"),
        )
    };
}

const TRANSFORMERS_B0: Scheme = transformers!(
    "transformers EfficientNet-B0",
    [
        "0" => "0.0", "1" => "1.0", "2" => "1.1", "3" => "2.0", "4" => "2.1", "5" => "3.0", "6" => "3.1", "7" => "3.2",
        "8" => "4.0", "9" => "4.1", "10" => "4.2", "11" => "5.0", "12" => "5.1", "13" => "5.2", "14" => "5.3",
        "15" => "6.0",
    ]
);

/// B1 and B2 are equally deep.
const TRANSFORMERS_B1: Scheme = transformers!(
    "transformers EfficientNet-B1",
    [
        "0" => "0.0", "1" => "0.1", "2" => "1.0", "3" => "1.1", "4" => "1.2", "5" => "2.0", "6" => "2.1", "7" => "2.2",
        "8" => "3.0", "9" => "3.1", "10" => "3.2", "11" => "3.3", "12" => "4.0", "13" => "4.1", "14" => "4.2",
        "15" => "4.3", "16" => "5.0", "17" => "5.1", "18" => "5.2", "19" => "5.3", "20" => "5.4", "21" => "6.0",
        "22" => "6.1",
    ]
);

const TRANSFORMERS_B3: Scheme = transformers!(
    "transformers EfficientNet-B3",
    [
        "0" => "0.0", "1" => "0.1", "2" => "1.0", "3" => "1.1", "4" => "1.2", "5" => "2.0", "6" => "2.1", "7" => "2.2",
        "8" => "3.0", "9" => "3.1", "10" => "3.2", "11" => "3.3", "12" => "3.4", "13" => "4.0", "14" => "4.1",
        "15" => "4.2", "16" => "4.3", "17" => "4.4", "18" => "5.0", "19" => "5.1", "20" => "5.2", "21" => "5.3",
        "22" => "5.4", "23" => "5.5", "24" => "6.0", "25" => "6.1",
    ]
);
