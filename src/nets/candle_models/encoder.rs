//! The vision transformer that ViT, DeiT and DINOv2 share (Dosovitskiy et al., "An Image is Worth 16x16 Words", 2020,
//! figure 1), run by candle-transformers' ViT. DINOv2's layer scales (Touvron et al., "Going deeper with Image Transformers",
//! 2021) become part of the linear layers in front of them.

use super::positions::resized;
use super::{INIT, Layer, Tensors, channels_first};
use crate::nets::answering::in_pieces;
use crate::nets::layers::Builder;
use crate::nets::registry::{Args, Shape};
use crate::nets::{Body, Forward, Init, Kind, SlotId};
use crate::tape::Var;
use crate::{Error, Result};
use candle_core::{IndexOp, Module, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::vit;

/// Hyper-parameters.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    /// Height and width that the position embeddings are for.
    pub native: [usize; 2],
    /// Whether they are interpolated for images of another size.
    pub resizes: bool,
    pub patch: usize,
    pub width: usize,
    pub depth: usize,
    pub heads: usize,
    /// Width of the two-layer perceptrons.
    pub hidden: usize,
    pub qkv_bias: bool,
    pub eps: f64,
    /// Whether the outputs of attention and perceptron are scaled per channel.
    pub layer_scale: bool,
    /// Whether the file has the token that stands for hidden patches in pre-training.
    pub mask_token: bool,
    pub reads: Reads,
}

/// What the classifier reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    /// The class token.
    Token,
    /// The class token and the mean of the patches, side by side.
    TokenAndMean,
}

/// Names of a library's tensors; those of a block follow its number.
pub(super) struct Names {
    pub patch: &'static str,
    pub class_token: &'static str,
    pub positions: &'static str,
    pub mask_token: &'static str,
    pub block: &'static str,
    pub norms: [&'static str; 2],
    /// One layer for queries, keys and values, or three.
    pub qkv: &'static [&'static str],
    pub projection: &'static str,
    pub perceptron: [&'static str; 2],
    pub scales: [&'static str; 2],
    pub norm: &'static str,
    pub head: &'static str,
}

struct Block {
    norms: [Layer; 2],
    qkv: Vec<Layer>,
    projection: Layer,
    perceptron: [Layer; 2],
    scales: Option<[SlotId; 2]>,
}

pub(super) struct Net {
    config: vit::Config,
    /// Patches along a side that the position embeddings are for.
    native: usize,
    reads: Reads,
    classes: usize,
    patch: Layer,
    class_token: SlotId,
    positions: SlotId,
    blocks: Vec<Block>,
    norm: Layer,
    head: Layer,
}

impl Encoder {
    /// # Errors
    /// [`Error::Invalid`] for images that are not square, that patches do not fill, or that the position embeddings are not
    /// for; for heads that do not divide the width. `size` and `heads` are the names of those arguments.
    pub fn check(&self, args: &Args, shape: &Shape, [size, heads]: [&str; 2]) -> Result<()> {
        let sides = shape.sides();
        let fits = |[height, width]: [usize; 2]| height == width && height.is_multiple_of(self.patch) && height > 0;
        if !fits(sides) {
            let hint = format!("images are square, with a multiple of {} as their side; see --input-size", self.patch);
            return Err(args.refuse("input_size", format!("{sides:?}"), &hint));
        }
        if !fits(self.native) || (self.native != sides && !self.resizes) {
            let [height, width] = sides;
            let hint = format!("position embeddings are for square images of one size, and these are {height}x{width}");
            return Err(args.refuse(size, format!("{:?}", self.native), &hint));
        }
        if !self.width.is_multiple_of(self.heads) {
            return Err(args.refuse(heads, self.heads, &format!("heads divide the width {}", self.width)));
        }
        Ok(())
    }

    /// Registers the tensors under a library's names.
    pub fn build(&self, b: &mut Builder, names: &Names, shape: &Shape) -> Net {
        let side = self.native[0] / self.patch;
        let patch = Layer::conv(b, names.patch, self.patch, shape.channels, self.width);
        let mut plain = |name: &str, shape: &[usize], init| b.slot(name.to_string(), Kind::Plain, shape, init);
        let class_token = plain(names.class_token, &[1, 1, self.width], INIT);
        if self.mask_token {
            plain(names.mask_token, &[1, self.width], Init::Constant(0.0));
        }
        let positions = plain(names.positions, &[1, side * side + 1, self.width], INIT);
        let blocks = (0..self.depth).map(|i| self.block(b, names, i)).collect();
        let norm = Layer::norm(b, names.norm, self.width);
        let features = if self.reads == Reads::Token { self.width } else { 2 * self.width };
        let head = Layer::linear(b, names.head, features, shape.num_classes);
        let config = vit::Config {
            hidden_size: self.width,
            num_hidden_layers: self.depth,
            num_attention_heads: self.heads,
            intermediate_size: self.hidden,
            hidden_act: candle_nn::Activation::Gelu,
            layer_norm_eps: self.eps,
            image_size: shape.height,
            patch_size: self.patch,
            num_channels: shape.channels,
            qkv_bias: self.qkv_bias,
        };
        let (reads, classes) = (self.reads, shape.num_classes);
        Net { config, native: side, reads, classes, patch, class_token, positions, blocks, norm, head }
    }

    fn block(&self, b: &mut Builder, names: &Names, i: usize) -> Block {
        let at = |name: &str| format!("{}{i}.{name}", names.block);
        let outputs = 3 * self.width / names.qkv.len();
        let first = Layer::norm(b, &at(names.norms[0]), self.width);
        let matrix = [self.width, outputs];
        let qkv = names.qkv.iter().map(|name| Layer::new(b, &at(name), Kind::LinearWeight, &matrix, self.qkv_bias));
        let qkv = qkv.collect();
        let projection = Layer::linear(b, &at(names.projection), self.width, self.width);
        let second = Layer::norm(b, &at(names.norms[1]), self.width);
        let up = Layer::linear(b, &at(names.perceptron[0]), self.width, self.hidden);
        let down = Layer::linear(b, &at(names.perceptron[1]), self.hidden, self.width);
        let mut scale = |name| b.slot(at(name), Kind::Plain, &[self.width], Init::Constant(1.0));
        let scales = self.layer_scale.then(|| names.scales.map(&mut scale));
        Block { norms: [first, second], qkv, projection, perceptron: [up, down], scales }
    }
}

impl Block {
    /// Under the names of candle's module.
    fn put(&self, to: &mut Tensors, name: &str, width: usize) -> Result<()> {
        to.layer(&format!("{name}.layernorm_before"), self.norms[0])?;
        to.layer(&format!("{name}.layernorm_after"), self.norms[1])?;
        for (i, part) in ["query", "key", "value"].into_iter().enumerate() {
            let name = format!("{name}.attention.attention.{part}");
            match self.qkv[..] {
                [fused] => to.part(&name, fused, i, width)?,
                _ => to.layer(&name, self.qkv[i])?,
            }
        }
        to.layer(&format!("{name}.intermediate.dense"), self.perceptron[0])?;
        let ends = [("attention.output.dense", self.projection), ("output.dense", self.perceptron[1])];
        for (i, (end, layer)) in ends.into_iter().enumerate() {
            let name = format!("{name}.{end}");
            match self.scales {
                Some(scales) => to.scaled(&name, layer, scales[i])?,
                None => to.layer(&name, layer)?,
            }
        }
        Ok(())
    }
}

impl Net {
    fn tensors(&self, f: &Forward) -> Result<VarBuilder<'static>> {
        let mut to = Tensors::new(f);
        to.layer("embeddings.patch_embeddings.projection", self.patch)?;
        to.put("embeddings.cls_token", self.class_token)?;
        let (positions, side) = (f.buffer(self.positions), self.config.image_size / self.config.patch_size);
        let positions = if side == self.native { positions } else { resized(&positions, self.native, side)? };
        to.named.insert("embeddings.position_embeddings".into(), positions);
        for (i, block) in self.blocks.iter().enumerate() {
            block.put(&mut to, &format!("encoder.layer.{i}"), self.config.hidden_size)?;
        }
        to.layer("layernorm", self.norm)?;
        to.layer("classifier", self.head)?;
        Ok(to.builder())
    }
}

impl Body for Net {
    fn trains(&self) -> bool {
        false
    }

    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let c = &self.config;
        let tensors = self.tensors(f)?;
        let embeddings = vit::Embeddings::new(c, false, tensors.pp("embeddings"))?;
        let encoder = vit::Encoder::new(c, tensors.pp("encoder"))?;
        let norm = candle_nn::layer_norm(c.hidden_size, c.layer_norm_eps, tensors.pp("layernorm"))?;
        let features = if self.reads == Reads::Token { c.hidden_size } else { 2 * c.hidden_size };
        let head = candle_nn::linear(features, self.classes, tensors.pp("classifier"))?;
        let patches = (c.image_size / c.patch_size).pow(2);
        in_pieces(f, &x, patches + 1, |_, x| {
            let tokens = encoder.forward(&embeddings.forward(&channels_first(&x)?, None, false)?)?;
            let read = match self.reads {
                Reads::Token => norm.forward(&tokens.i((.., 0))?.contiguous()?)?,
                Reads::TokenAndMean => token_and_mean(&norm.forward(&tokens)?)?,
            };
            Ok::<_, Error>(head.forward(&read)?)
        })
    }
}

/// `[N, 1 + patches, C]` to `[N, 2C]`.
fn token_and_mean(tokens: &Tensor) -> candle_core::Result<Tensor> {
    Tensor::cat(&[tokens.i((.., 0))?, tokens.i((.., 1..))?.mean(1)?], 1)
}
