//! The vision transformer of transformers (`ViTForImageClassification`).

use super::encoder::{Encoder, Names, Reads};
use crate::Result;
use crate::nets::Architecture;
use crate::nets::registry::{Args, Family, Form, Head, Shape};

/// The family, for the registry. Its models are described by their configuration and have no names of their own.
pub(in crate::nets) const FAMILY: Family = Family {
    title: "ViT",
    model_type: "vit",
    form: Form::Ours,
    names: &[],
    aliases: &[],
    variants: &[],
    pattern: None,
    summary: "vit of transformers (by its config.json)",
    usual_input: [3, 224, 224],
    min_side: 1,
    student_rate: 0.0,
    first: "vit.embeddings.patch_embeddings.projection",
    head: Head::Is("classifier"),
    averages: false,
    schemes: &[],
    transformers: None,
    build,
};

const NAMES: Names = Names {
    patch: "vit.embeddings.patch_embeddings.projection",
    class_token: "vit.embeddings.cls_token",
    positions: "vit.embeddings.position_embeddings",
    mask_token: "vit.embeddings.mask_token",
    block: "vit.encoder.layer.",
    norms: ["layernorm_before", "layernorm_after"],
    qkv: &["attention.attention.query", "attention.attention.key", "attention.attention.value"],
    projection: "attention.output.dense",
    perceptron: ["intermediate.dense", "output.dense"],
    scales: ["", ""],
    norm: "vit.layernorm",
    head: "classifier",
};

fn build(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    let encoder = Encoder {
        native: args.sides("image_size")?.unwrap_or([224, 224]),
        resizes: false,
        patch: args.count("patch_size", 1..=1024, Some(16))?,
        width: args.count("hidden_size", 1..=8192, Some(768))?,
        depth: args.count("num_hidden_layers", 1..=256, Some(12))?,
        heads: args.count("num_attention_heads", 1..=256, Some(12))?,
        hidden: args.count("intermediate_size", 1..=65_536, Some(3072))?,
        qkv_bias: args.flag("qkv_bias", true)?,
        eps: args.number("layer_norm_eps", 1e-15..=1.0, 1e-12)?,
        layer_scale: false,
        mask_token: false,
        reads: Reads::Token,
    };
    args.fixed("hidden_act", "gelu".into())?;
    // Of masked pre-training, and of a pooler that the classifier does not have.
    args.ignore(&["encoder_stride", "pooler_act", "pooler_output_size"]);
    encoder.check(args, shape, ["image_size", "num_attention_heads"])?;
    Ok(Architecture::new(|b| encoder.build(b, &NAMES, shape)))
}
