//! Vision transformers of timm: ViT, DeiT (Touvron et al., "Training data-efficient image transformers", 2020; without the
//! distillation token the same network) and DINOv2 with a classifier on its class token.

use super::encoder::{Encoder, Names, Reads};
use crate::Result;
use crate::nets::Architecture;
use crate::nets::registry::{Args, Family, Form, Head, Shape};
use serde_json::{Value, json};

/// ViT and DeiT, for the registry.
pub(in crate::nets) const FAMILY: Family = Family {
    title: "ViT",
    model_type: "timm's vision transformer",
    form: Form::Timm,
    names: &[
        ("vit_tiny_patch16_224", || json!({"embed_dim": 192, "num_heads": 3})),
        ("vit_small_patch16_224", || json!({"embed_dim": 384, "num_heads": 6})),
        ("vit_base_patch16_224", || json!({})),
        ("deit_tiny_patch16_224", || json!({"embed_dim": 192, "num_heads": 3})),
        ("deit_small_patch16_224", || json!({"embed_dim": 384, "num_heads": 6})),
        ("deit_base_patch16_224", || json!({})),
    ],
    aliases: &[],
    variants: &[],
    pattern: Some(pattern),
    summary: "vit_tiny|small|base|large_patchP_SIDE, deit_tiny|small|base_patch16_224",
    usual_input: [3, 224, 224],
    min_side: 1,
    student_rate: 0.0,
    first: "patch_embed.proj",
    head: Head::Is("head"),
    averages: false,
    schemes: &[],
    transformers: None,
    build,
};

/// DINOv2, for the registry.
pub(in crate::nets) const DINOV2: Family = Family {
    names: &[
        (
            "vit_small_patch14_dinov2",
            || json!({"patch_size": 14, "embed_dim": 384, "num_heads": 6, "init_values": 1e-5}),
        ),
        ("vit_base_patch14_dinov2", || json!({"patch_size": 14, "init_values": 1e-5})),
    ],
    pattern: None,
    summary: "vit_small|base_patch14_dinov2",
    usual_input: [3, 518, 518],
    ..FAMILY
};

/// `vit-small-patch32-384` and its like.
fn pattern(name: &str) -> Option<Value> {
    let (size, rest) = name.strip_prefix("vit-")?.split_once("-patch")?;
    let (patch, side) = rest.split_once('-')?;
    let number = |text: &str| text.parse::<usize>().ok().filter(|number| number.to_string() == text);
    let (patch, _) = (number(patch)?, number(side)?);
    let (width, depth, heads) = match size {
        "tiny" => (192, 12, 3),
        "small" => (384, 12, 6),
        "base" => (768, 12, 12),
        "large" => (1024, 24, 16),
        _ => return None,
    };
    Some(json!({"patch_size": patch, "embed_dim": width, "depth": depth, "num_heads": heads}))
}

const NAMES: Names = Names {
    patch: "patch_embed.proj",
    class_token: "cls_token",
    positions: "pos_embed",
    mask_token: "",
    block: "blocks.",
    norms: ["norm1", "norm2"],
    qkv: &["attn.qkv"],
    projection: "attn.proj",
    perceptron: ["mlp.fc1", "mlp.fc2"],
    scales: ["ls1.gamma", "ls2.gamma"],
    norm: "norm",
    head: "head",
};

fn build(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    let width = args.count("embed_dim", 1..=8192, Some(768))?;
    let encoder = Encoder {
        native: args.sides("img_size")?.unwrap_or(shape.sides()),
        resizes: false,
        patch: args.count("patch_size", 1..=1024, Some(16))?,
        width,
        depth: args.count("depth", 1..=256, Some(12))?,
        heads: args.count("num_heads", 1..=256, Some(12))?,
        hidden: (width as f64 * args.number("mlp_ratio", 0.1..=16.0, 4.0)?) as usize,
        qkv_bias: args.flag("qkv_bias", true)?,
        eps: 1e-6,
        layer_scale: args.stated("init_values", false),
        mask_token: false,
        reads: Reads::Token,
    };
    args.fixed("class_token", json!(true))?;
    args.fixed("reg_tokens", json!(0))?;
    for key in ["no_embed_class", "pre_norm", "qk_norm", "scale_attn_norm", "scale_mlp_norm"] {
        args.fixed(key, json!(false))?;
    }
    args.ignore(&["pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate"]);
    encoder.check(args, shape, ["img_size", "num_heads"])?;
    Ok(Architecture::new(|b| encoder.build(b, &NAMES, shape)))
}
