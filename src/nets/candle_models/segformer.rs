//! SegFormer's encoder with a linear classifier (`SegformerForImageClassification` of transformers): Xie et al., "SegFormer"
//! (2021), sections 3.1 and A.

use super::{Layer, Tensors, channels_first};
use crate::nets::answering::in_pieces;
use crate::nets::layers::Builder;
use crate::nets::registry::{Args, Family, Shape};
use crate::nets::{Architecture, Body, Forward};
use crate::tape::Var;
use crate::{Error, Result};
use candle_core::Module;
use candle_transformers::models::segformer::{Config, ImageClassificationModel};
use serde_json::json;
use std::collections::HashMap;

/// The family, for the registry.
pub(in crate::nets) const FAMILY: Family = Family {
    title: "SegFormer",
    model_type: "segformer",
    summary: "segformer of transformers (by its config.json)",
    first: "segformer.encoder.patch_embeddings.0.proj",
    averages: true,
    build,
    ..super::vit::FAMILY
};

/// transformers gives its layer norms PyTorch's epsilon, whatever `layer_norm_eps` says.
const EPS: f64 = 1e-5;

fn build(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    let stages = args.count("num_encoder_blocks", 1..=8, Some(4))?;
    let config = Config {
        id2label: HashMap::new(),
        num_channels: shape.channels,
        num_encoder_blocks: stages,
        depths: args.list("depths", 1..=64, &[2, 2, 2, 2])?,
        sr_ratios: args.list("sr_ratios", 1..=64, &[8, 4, 2, 1])?,
        hidden_sizes: args.list("hidden_sizes", 1..=8192, &[32, 64, 160, 256])?,
        patch_sizes: args.list("patch_sizes", 1..=64, &[7, 3, 3, 3])?,
        strides: args.list("strides", 1..=64, &[4, 2, 2, 2])?,
        num_attention_heads: args.list("num_attention_heads", 1..=256, &[1, 2, 5, 8])?,
        mlp_ratios: args.list("mlp_ratios", 1..=16, &[4, 4, 4, 4])?,
        hidden_act: candle_nn::Activation::Gelu,
        layer_norm_eps: EPS,
        // candle reads the classifier's width here.
        decoder_hidden_size: 0,
    };
    args.fixed("hidden_act", json!("gelu"))?;
    // Of the decoder for segmentation, of older versions, and what transformers itself does not read.
    args.ignore(&["decoder_hidden_size", "downsampling_rates", "layer_norm_eps", "image_size"]);
    check(args, &config, shape)?;
    let config = Config { decoder_hidden_size: config.hidden_sizes[stages - 1], ..config };
    Ok(Architecture::new(|b| Net::build(b, config, shape)))
}

fn check(args: &Args, c: &Config, shape: &Shape) -> Result<()> {
    let lists = [
        ("depths", &c.depths),
        ("sr_ratios", &c.sr_ratios),
        ("hidden_sizes", &c.hidden_sizes),
        ("patch_sizes", &c.patch_sizes),
        ("strides", &c.strides),
        ("num_attention_heads", &c.num_attention_heads),
        ("mlp_ratios", &c.mlp_ratios),
    ];
    let stages = c.num_encoder_blocks;
    if let Some((key, list)) = lists.into_iter().find(|(_, list)| list.len() != stages) {
        return Err(args.refuse(key, format!("{list:?}"), &format!("num_encoder_blocks asks for {stages} values")));
    }
    let mut sides = shape.sides();
    for i in 0..stages {
        let (width, heads) = (c.hidden_sizes[i], c.num_attention_heads[i]);
        if !width.is_multiple_of(heads) {
            return Err(args.refuse("num_attention_heads", heads, &format!("heads divide the width, here {width}")));
        }
        let (patch, stride, ratio) = (c.patch_sizes[i], c.strides[i], c.sr_ratios[i]);
        sides = sides.map(|side| ((side + patch / 2 * 2).saturating_sub(patch) / stride) + 1);
        if sides.iter().any(|side| *side < ratio) {
            let found = format!("{:?}, which leaves {sides:?} pixels to stage {i}", shape.sides());
            return Err(args.refuse("input_size", found, &format!("sr_ratios asks for {ratio} or more")));
        }
    }
    Ok(())
}

struct Net {
    config: Config,
    classes: usize,
    /// Positions after the first stage's stride.
    positions: usize,
    /// Layers by name: candle's module takes the names of transformers as they are.
    layers: Vec<(String, Layer)>,
}

impl Net {
    fn build(b: &mut Builder, config: Config, shape: &Shape) -> Self {
        let mut layers = Vec::new();
        let mut c_in = shape.channels;
        for i in 0..config.num_encoder_blocks {
            let width = config.hidden_sizes[i];
            let at = |name: &str| format!("segformer.encoder.patch_embeddings.{i}.{name}");
            layers.push((at("proj"), Layer::conv(b, &at("proj"), config.patch_sizes[i], c_in, width)));
            layers.push((at("layer_norm"), Layer::norm(b, &at("layer_norm"), width)));
            for j in 0..config.depths[i] {
                block(b, &mut layers, &format!("segformer.encoder.block.{i}.{j}"), &config, i);
            }
            c_in = width;
        }
        for (i, width) in config.hidden_sizes.iter().enumerate() {
            let name = format!("segformer.encoder.layer_norm.{i}");
            layers.push((name.clone(), Layer::norm(b, &name, *width)));
        }
        layers.push(("classifier".into(), Layer::linear(b, "classifier", c_in, shape.num_classes)));
        let positions = (shape.height * shape.width).div_ceil(config.strides[0].pow(2));
        Self { config, classes: shape.num_classes, positions, layers }
    }
}

/// A layer of stage `i`: attention with fewer keys and values, and the perceptron with a convolution in it.
fn block(b: &mut Builder, layers: &mut Vec<(String, Layer)>, name: &str, c: &Config, i: usize) {
    let (width, ratio) = (c.hidden_sizes[i], c.sr_ratios[i]);
    let hidden = width * c.mlp_ratios[i];
    let at = |part: &str| format!("{name}.{part}");
    layers.push((at("layer_norm_1"), Layer::norm(b, &at("layer_norm_1"), width)));
    for part in ["attention.self.query", "attention.self.key", "attention.self.value"] {
        layers.push((at(part), Layer::linear(b, &at(part), width, width)));
    }
    if ratio > 1 {
        let (conv, norm) = (at("attention.self.sr"), at("attention.self.layer_norm"));
        layers.push((conv.clone(), Layer::conv(b, &conv, ratio, width, width)));
        layers.push((norm.clone(), Layer::norm(b, &norm, width)));
    }
    layers.push((at("attention.output.dense"), Layer::linear(b, &at("attention.output.dense"), width, width)));
    layers.push((at("layer_norm_2"), Layer::norm(b, &at("layer_norm_2"), width)));
    layers.push((at("mlp.dense1"), Layer::linear(b, &at("mlp.dense1"), width, hidden)));
    layers.push((at("mlp.dwconv.dwconv"), Layer::conv(b, &at("mlp.dwconv.dwconv"), 3, 1, hidden)));
    layers.push((at("mlp.dense2"), Layer::linear(b, &at("mlp.dense2"), hidden, width)));
}

impl Body for Net {
    fn trains(&self) -> bool {
        false
    }

    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let mut tensors = Tensors::new(f);
        for (name, layer) in &self.layers {
            tensors.layer(name, *layer)?;
        }
        let module = ImageClassificationModel::new(&self.config, self.classes, tensors.builder())?;
        in_pieces(f, &x, self.positions, |_, x| Ok::<_, Error>(module.forward(&channels_first(&x)?)?))
    }
}
