//! DINOv2 with a linear classifier, as transformers has it (`Dinov2ForImageClassification`): Oquab et al., "DINOv2: Learning
//! Robust Visual Features without Supervision" (2023), section 7.1.
//!
//! candle-transformers' own DINOv2 is not used: it has one image size, one number of classes, the tanh form of GELU and
//! another epsilon. Its ViT has none of that fixed, and a layer scale is part of the linear layer before it.

use super::encoder::{Encoder, Names, Reads};
use crate::Result;
use crate::nets::Architecture;
use crate::nets::registry::{Args, Family, Shape};
use serde_json::json;

/// The family, for the registry.
pub(in crate::nets) const FAMILY: Family = Family {
    title: "DINOv2",
    model_type: "dinov2",
    summary: "dinov2 of transformers (by its config.json)",
    first: "dinov2.embeddings.patch_embeddings.projection",
    build,
    ..super::vit::FAMILY
};

const NAMES: Names = Names {
    patch: "dinov2.embeddings.patch_embeddings.projection",
    class_token: "dinov2.embeddings.cls_token",
    positions: "dinov2.embeddings.position_embeddings",
    mask_token: "dinov2.embeddings.mask_token",
    block: "dinov2.encoder.layer.",
    norms: ["norm1", "norm2"],
    qkv: &["attention.attention.query", "attention.attention.key", "attention.attention.value"],
    projection: "attention.output.dense",
    perceptron: ["mlp.fc1", "mlp.fc2"],
    scales: ["layer_scale1.lambda1", "layer_scale2.lambda1"],
    norm: "dinov2.layernorm",
    head: "classifier",
};

fn build(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    let width = args.count("hidden_size", 1..=8192, Some(768))?;
    let encoder = Encoder {
        native: args.sides("image_size")?.unwrap_or([224, 224]),
        resizes: true,
        patch: args.count("patch_size", 1..=1024, Some(14))?,
        width,
        depth: args.count("num_hidden_layers", 1..=256, Some(12))?,
        heads: args.count("num_attention_heads", 1..=256, Some(12))?,
        hidden: width * args.count("mlp_ratio", 1..=16, Some(4))?,
        qkv_bias: args.flag("qkv_bias", true)?,
        eps: args.number("layer_norm_eps", 1e-15..=1.0, 1e-6)?,
        layer_scale: true,
        mask_token: args.flag("use_mask_token", true)?,
        reads: Reads::TokenAndMean,
    };
    args.fixed("hidden_act", json!("gelu"))?;
    args.fixed("use_swiglu_ffn", json!(false))?;
    // What the scales started from, and of the backbone of other tasks.
    args.ignore(&["layerscale_value", "apply_layernorm", "reshape_hidden_states"]);
    encoder.check(args, shape, ["image_size", "num_attention_heads"])?;
    Ok(Architecture::new(|b| encoder.build(b, &NAMES, shape)))
}
