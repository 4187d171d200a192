//! SegFormer: Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers" (2021), figure 2,
//! as transformers has and names it: with the perceptron decoder (`SegformerForSemanticSegmentation`), whose answers at a quarter
//! of the sides are enlarged bilinearly, half-pixel centres, or with a linear classifier of the last stage's mean
//! (`SegformerForImageClassification`). It only answers.
//!
//! candle-transformers has both, but its decoder takes the nearest pixel where transformers interpolates, and its classifier for
//! pixels has no bias.

use super::answering::in_pieces;
use super::layers::{Builder, Conv, LayerNorm, Linear, Norm};
use super::registry::{Args, Family, Form, Head, Shape};
use super::{Architecture, Body, Forward, Init};
use crate::ops::Activation;
use crate::ops::conv2d::Conv2dSpec;
use crate::tape::{self, Var};
use crate::{Error, Result};
use candle_core::Tensor;
use candle_nn::ops::softmax_last_dim;
use serde_json::json;

/// With the classifier, for the registry. Models are described by their configuration and have no names of their own.
pub(super) const FAMILY: Family = Family {
    title: "SegFormer",
    model_type: "segformer",
    form: Form::Ours,
    names: &[],
    aliases: &[],
    variants: &[],
    pattern: None,
    summary: "segformer of transformers (by its config.json)",
    usual_input: [3, 224, 224],
    min_side: 1,
    student_rate: 0.0,
    first: "segformer.encoder.patch_embeddings.0.proj",
    head: Head::Is("classifier"),
    averages: true,
    schemes: &[],
    transformers: None,
    build: classifier,
};

/// With the decoder, for the registry.
pub(super) const PIXELS: Family = Family {
    model_type: "segformer_semantic",
    summary: "segformer of transformers for pixels (by its config.json)",
    usual_input: [3, 512, 512],
    head: Head::Is("decode_head.classifier"),
    build: decoder,
    ..FAMILY
};

/// transformers gives its norms PyTorch's epsilon, whatever `layer_norm_eps` says.
const EPS: f64 = 1e-5;

fn classifier(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    let config = Config::read(args, shape)?;
    args.ignore(&["decoder_hidden_size"]);
    Ok(Architecture::new(|b| Classifier::build(b, &config, shape)))
}

fn decoder(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    let config = Config::read(args, shape)?;
    let width = args.count("decoder_hidden_size", 1..=8192, Some(256))?;
    Ok(Architecture::new(|b| Decoder::build(b, &config, width, shape)).for_pixels(1))
}

/// Of the encoder, one value per stage.
struct Config {
    depths: Vec<usize>,
    /// How many times fewer rows and columns of keys and values there are.
    ratios: Vec<usize>,
    widths: Vec<usize>,
    patches: Vec<usize>,
    strides: Vec<usize>,
    heads: Vec<usize>,
    /// How many times wider the perceptrons are inside.
    expansions: Vec<usize>,
}

impl Config {
    fn read(args: &mut Args, shape: &Shape) -> Result<Self> {
        let stages = args.count("num_encoder_blocks", 1..=8, Some(4))?;
        let config = Self {
            depths: args.list("depths", 1..=64, &[2, 2, 2, 2])?,
            ratios: args.list("sr_ratios", 1..=64, &[8, 4, 2, 1])?,
            widths: args.list("hidden_sizes", 1..=8192, &[32, 64, 160, 256])?,
            patches: args.list("patch_sizes", 1..=64, &[7, 3, 3, 3])?,
            strides: args.list("strides", 1..=64, &[4, 2, 2, 2])?,
            heads: args.list("num_attention_heads", 1..=256, &[1, 2, 5, 8])?,
            expansions: args.list("mlp_ratios", 1..=16, &[4, 4, 4, 4])?,
        };
        args.fixed("hidden_act", json!("gelu"))?;
        // Of older versions, and what transformers itself does not read.
        args.ignore(&["downsampling_rates", "layer_norm_eps", "image_size"]);
        config.check(args, stages, shape)?;
        Ok(config)
    }

    fn check(&self, args: &Args, stages: usize, shape: &Shape) -> Result<()> {
        let lists = [
            ("depths", &self.depths),
            ("sr_ratios", &self.ratios),
            ("hidden_sizes", &self.widths),
            ("patch_sizes", &self.patches),
            ("strides", &self.strides),
            ("num_attention_heads", &self.heads),
            ("mlp_ratios", &self.expansions),
        ];
        if let Some((key, list)) = lists.into_iter().find(|(_, list)| list.len() != stages) {
            return Err(args.refuse(key, format!("{list:?}"), &format!("num_encoder_blocks asks for {stages} values")));
        }
        let mut sides = shape.sides();
        for i in 0..stages {
            let (width, heads) = (self.widths[i], self.heads[i]);
            if !width.is_multiple_of(heads) {
                let hint = format!("heads divide the width, here {width}");
                return Err(args.refuse("num_attention_heads", heads, &hint));
            }
            let (patch, stride, ratio) = (self.patches[i], self.strides[i], self.ratios[i]);
            sides = sides.map(|side| ((side + patch / 2 * 2).saturating_sub(patch) / stride) + 1);
            if sides.iter().any(|side| *side < ratio) {
                let found = format!("{:?}, which leaves {sides:?} pixels to stage {i}", shape.sides());
                return Err(args.refuse("input_size", found, &format!("sr_ratios asks for {ratio} or more")));
            }
        }
        Ok(())
    }

    /// Positions after the first stage's stride.
    fn positions(&self, [height, width]: [usize; 2]) -> usize {
        (height * width).div_ceil(self.strides[0].pow(2))
    }
}

/// A linear layer as transformers starts it.
fn linear(b: &mut Builder, name: &str, c_in: usize, c_out: usize) -> Linear {
    b.linear_init(name, c_in, c_out, [Init::Normal(0.02), Init::Constant(0.0)])
}

/// Attention of few keys, and the perceptron with a convolution in it.
struct Block {
    norms: [LayerNorm; 2],
    query: Linear,
    key: Linear,
    value: Linear,
    /// In front of keys and values.
    shrink: Option<(Conv, LayerNorm)>,
    output: Linear,
    up: Linear,
    depthwise: Conv,
    down: Linear,
    heads: usize,
}

impl Block {
    /// Layer `j` of stage `i`.
    fn build(b: &mut Builder, c: &Config, i: usize, j: usize) -> Self {
        let (width, ratio, hidden) = (c.widths[i], c.ratios[i], c.widths[i] * c.expansions[i]);
        let at = |part: &str| format!("segformer.encoder.block.{i}.{j}.{part}");
        let square = |b: &mut Builder, part: &str| linear(b, &at(part), width, width);
        let first = b.layer_norm(&at("layer_norm_1"), width, EPS);
        let [query, key, value] = ["query", "key", "value"].map(|part| square(b, &format!("attention.self.{part}")));
        let shrink = (ratio > 1).then(|| {
            let spec = Conv2dSpec::new(ratio).stride(ratio);
            let conv = b.conv_bias(&at("attention.self.sr"), width, width, spec);
            (conv, b.layer_norm(&at("attention.self.layer_norm"), width, EPS))
        });
        let output = square(b, "attention.output.dense");
        let second = b.layer_norm(&at("layer_norm_2"), width, EPS);
        let up = linear(b, &at("mlp.dense1"), width, hidden);
        let spec = Conv2dSpec::new(3).padding(1).groups(hidden);
        let depthwise = b.conv_bias(&at("mlp.dwconv.dwconv"), hidden, hidden, spec);
        let down = linear(b, &at("mlp.dense2"), hidden, width);
        Self { norms: [first, second], query, key, value, shrink, output, up, depthwise, down, heads: c.heads[i] }
    }

    fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let normed = self.norms[0].forward(f, x)?;
        let attended = self.attend(f, &normed)?;
        let x = tape::add(f.tape, &self.output.forward_pixels(f, &attended)?, x, Activation::IDENTITY)?;
        let h = self.norms[1].forward(f, &x)?;
        let h = self.up.forward_pixels(f, &h)?;
        let h = self.depthwise.forward(f, &h, None, Activation::IDENTITY)?;
        let h = Var::constant(h.tensor()?.gelu_erf()?);
        tape::add(f.tape, &self.down.forward_pixels(f, &h)?, &x, Activation::IDENTITY)
    }

    /// softmax(Q·Kᵀ/√d)·V, head by head, for `x [N, H, W, C]`.
    fn attend(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let context = match &self.shrink {
            None => x.clone(),
            Some((conv, norm)) => {
                let few = conv.forward(f, x, None, Activation::IDENTITY)?;
                norm.forward(f, &few)?
            }
        };
        let query = self.per_head(&self.query.forward_pixels(f, x)?)?;
        let key = self.per_head(&self.key.forward_pixels(f, &context)?)?;
        let value = self.per_head(&self.value.forward_pixels(f, &context)?)?;
        let scale = 1.0 / (query.dim(3)? as f64).sqrt();
        let scores = (query * scale)?.matmul(&key.t()?)?;
        let mixed = softmax_last_dim(&scores)?.matmul(&value)?;
        Ok(Var::constant(mixed.transpose(1, 2)?.contiguous()?.reshape(x.dims())?))
    }

    /// `[N, H, W, C]` → `[N, heads, H·W, C/heads]`
    fn per_head(&self, x: &Var) -> Result<Tensor> {
        let (n, h, w, c) = x.tensor()?.dims4()?;
        let split = x.tensor()?.reshape((n, h * w, self.heads, c / self.heads))?;
        Ok(split.transpose(1, 2)?.contiguous()?)
    }
}

struct Stage {
    /// Overlapping patches.
    patches: (Conv, LayerNorm),
    blocks: Vec<Block>,
    norm: LayerNorm,
}

struct Encoder {
    stages: Vec<Stage>,
}

impl Encoder {
    fn build(b: &mut Builder, c: &Config, channels: usize) -> Self {
        let mut stages = Vec::with_capacity(c.widths.len());
        let mut c_in = channels;
        for (i, &width) in c.widths.iter().enumerate() {
            let at = |part: &str| format!("segformer.encoder.patch_embeddings.{i}.{part}");
            let spec = Conv2dSpec::new(c.patches[i]).stride(c.strides[i]).padding(c.patches[i] / 2);
            let patches = b.conv_bias(&at("proj"), c_in, width, spec);
            let patches = (patches, b.layer_norm(&at("layer_norm"), width, EPS));
            let blocks = (0..c.depths[i]).map(|j| Block::build(b, c, i, j)).collect();
            let norm = b.layer_norm(&format!("segformer.encoder.layer_norm.{i}"), width, EPS);
            stages.push(Stage { patches, blocks, norm });
            c_in = width;
        }
        Self { stages }
    }

    /// The maps of every stage.
    fn forward(&self, f: &mut Forward, x: Tensor) -> Result<Vec<Var>> {
        let mut x = Var::constant(x);
        let mut maps = Vec::with_capacity(self.stages.len());
        for Stage { patches: (conv, first), blocks, norm } in &self.stages {
            let patches = conv.forward(f, &x, None, Activation::IDENTITY)?;
            x = first.forward(f, &patches)?;
            for block in blocks {
                x = block.forward(f, &x)?;
            }
            x = norm.forward(f, &x)?;
            maps.push(x.clone());
        }
        Ok(maps)
    }
}

struct Classifier {
    encoder: Encoder,
    head: Linear,
    positions: usize,
}

impl Classifier {
    fn build(b: &mut Builder, c: &Config, shape: &Shape) -> Self {
        let encoder = Encoder::build(b, c, shape.channels);
        let features = c.widths.last().copied().unwrap_or(0);
        let head = linear(b, "classifier", features, shape.num_classes);
        Self { encoder, head, positions: c.positions(shape.sides()) }
    }
}

impl Body for Classifier {
    fn trains(&self) -> bool {
        false
    }

    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        in_pieces(f, &x, self.positions, |f, x| {
            let maps = self.encoder.forward(f, x)?;
            let last = maps.last().ok_or_else(|| Error::shape("segformer", "no stages"))?;
            let mean = tape::global_mean(f.tape, last)?;
            self.head.forward(f, &mean)?.tensor()
        })
    }
}

struct Decoder {
    encoder: Encoder,
    /// Of every stage, to one width.
    projections: Vec<Linear>,
    fuse: (Conv, Norm),
    classifier: Conv,
    stride: usize,
}

impl Decoder {
    fn build(b: &mut Builder, c: &Config, width: usize, shape: &Shape) -> Self {
        let encoder = Encoder::build(b, c, shape.channels);
        let (k1, stages) = (Conv2dSpec::new(1), c.widths.len());
        let project = |(i, &from): (usize, &usize)| linear(b, &format!("decode_head.linear_c.{i}.proj"), from, width);
        let projections = c.widths.iter().enumerate().map(project).collect();
        let fuse = b.conv("decode_head.linear_fuse", stages * width, width, k1);
        let fuse = (fuse, b.norm("decode_head.batch_norm", width, EPS));
        let classifier = b.conv_bias("decode_head.classifier", width, shape.num_classes, k1);
        Self { encoder, projections, fuse, classifier, stride: c.strides[0] }
    }

    fn answer(&self, f: &mut Forward, x: Tensor) -> Result<Tensor> {
        let (_, height, width, _) = x.dims4()?;
        let maps = self.encoder.forward(f, x)?;
        let (_, h, w, _) = maps[0].tensor()?.dims4()?;
        let mut parts = Vec::with_capacity(maps.len());
        // The coarsest maps come first.
        for (map, projection) in maps.iter().zip(&self.projections).rev() {
            let part = projection.forward_pixels(f, map)?;
            parts.push(if part.dims()[1..3] == [h, w] { part } else { tape::bilinear(f.tape, &part, h, w)? });
        }
        let joined = tape::concat(f.tape, &parts.iter().collect::<Vec<_>>())?;
        let (conv, norm) = &self.fuse;
        let y = conv.forward_norm(f, norm, &joined, None, Activation::RELU)?;
        let logits = self.classifier.forward(f, &y, None, Activation::IDENTITY)?;
        tape::bilinear(f.tape, &logits, height, width)?.tensor()
    }
}

impl Body for Decoder {
    fn trains(&self) -> bool {
        false
    }

    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let positions = match x.dims() {
            &[_, h, w, _] => (h * w).div_ceil(self.stride * self.stride),
            _ => 1,
        };
        in_pieces(f, &x, positions, |f, x| self.answer(f, x))
    }
}
