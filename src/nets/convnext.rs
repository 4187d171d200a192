//! ConvNeXt: Liu et al., "A ConvNet for the 2020s" (2022), figure 4; its second version: Woo et al., "ConvNeXt V2" (2023),
//! figure 5. As timm has them, with transformers' names.
//!
//! They only answer: layer norm, GELU and global response normalisation have no backward pass here. Convolutions are ours:
//! candle-transformers' ConvNeXt has fixed sizes and runs a depthwise convolution channel by channel.

use super::answering::in_pieces;
use super::layers::{Builder, Conv, LayerNorm, Linear};
use super::registry::{Args, Family, Form, Head, Shape, Transformers};
use super::{Architecture, Body, Forward, Init, Kind, SlotId};
use crate::ops::Activation;
use crate::ops::conv2d::Conv2dSpec;
use crate::tape::{self, Var};
use crate::weights::Scheme;
use crate::{Error, Result};
use candle_core::Tensor;
use serde_json::{Map, Value, json};

/// The first version, for the registry.
pub(super) const FAMILY: Family = Family {
    title: "ConvNeXt",
    model_type: "timm's convnext",
    form: Form::Timm,
    names: &[
        ("convnext_atto", || first(40, 2, 6, true)),
        ("convnext_femto", || first(48, 2, 6, true)),
        ("convnext_pico", || first(64, 2, 6, true)),
        ("convnext_nano", || first(80, 2, 8, true)),
        ("convnext_tiny", || first(96, 3, 9, false)),
        ("convnext_small", || first(96, 3, 27, false)),
        ("convnext_base", || first(128, 3, 27, false)),
        ("convnext_large", || first(192, 3, 27, false)),
    ],
    aliases: &[],
    variants: &[],
    pattern: None,
    summary: "convnext_atto|femto|pico|nano|tiny|small|base|large",
    usual_input: [3, 224, 224],
    min_side: 1,
    student_rate: 0.0,
    first: "stem.0",
    head: Head::Is("head.fc"),
    averages: true,
    schemes: &[TRANSFORMERS],
    transformers: Some(Transformers { model_type: "convnext", args: transformers }),
    build,
};

/// The second version, for the registry.
pub(super) const V2: Family = Family {
    names: &[
        ("convnextv2_atto", || second(40, 2, 6, true)),
        ("convnextv2_femto", || second(48, 2, 6, true)),
        ("convnextv2_pico", || second(64, 2, 6, true)),
        ("convnextv2_nano", || second(80, 2, 8, true)),
        ("convnextv2_tiny", || second(96, 3, 9, false)),
        ("convnextv2_base", || second(128, 3, 27, false)),
    ],
    summary: "convnextv2_atto|femto|pico|nano|tiny|base",
    schemes: &[TRANSFORMERS_V2],
    transformers: Some(Transformers { model_type: "convnextv2", args: transformers_v2 }),
    ..FAMILY
};

fn first(width: usize, outer: usize, third: usize, conv_mlp: bool) -> Value {
    let dims = [width, 2 * width, 4 * width, 8 * width];
    json!({"depths": [outer, outer, third, outer], "dims": dims, "conv_mlp": conv_mlp})
}

fn second(width: usize, outer: usize, third: usize, conv_mlp: bool) -> Value {
    let mut args = first(width, outer, third, conv_mlp);
    (args["use_grn"], args["ls_init_value"]) = (json!(true), Value::Null);
    args
}

/// What a transformers configuration says, as arguments of [`FAMILY`].
fn transformers(args: &mut Args) -> Result<Map<String, Value>> {
    let scale = args.number("layer_scale_init_value", 0.0..=1e6, 1e-6)?;
    let scale = if scale > 0.0 { json!(scale) } else { Value::Null };
    translated(args, json!({ "ls_init_value": scale }))
}

fn transformers_v2(args: &mut Args) -> Result<Map<String, Value>> {
    translated(args, json!({"ls_init_value": null, "use_grn": true, "grn_dims": 4}))
}

fn translated(args: &mut Args, mut more: Value) -> Result<Map<String, Value>> {
    more["depths"] = json!(args.list("depths", 1..=64, &[3, 3, 9, 3])?);
    more["dims"] = json!(args.list("hidden_sizes", 1..=8192, &[96, 192, 384, 768])?);
    more["patch_size"] = json!(args.count("patch_size", 1..=64, Some(4))?);
    // The other layer norms have 1e-6, whatever the configuration says.
    more["head_eps"] = json!(args.number("layer_norm_eps", 1e-15..=1.0, 1e-12)?);
    args.fixed("hidden_act", json!("gelu"))?;
    args.ignore(&["num_stages", "image_size"]);
    args.finish()?;
    let Value::Object(map) = more else { unreachable!() };
    Ok(map)
}

fn build(args: &mut Args, shape: &Shape, head: &'static str) -> Result<Architecture> {
    let eps = args.number("norm_eps", 1e-15..=1.0, 1e-6)?;
    let net = ConvNeXt {
        depths: args.list("depths", 1..=64, &[3, 3, 9, 3])?,
        dims: args.list("dims", 1..=8192, &[96, 192, 384, 768])?,
        patch: args.count("patch_size", 1..=64, Some(4))?,
        conv_mlp: args.flag("conv_mlp", false)?,
        layer_scale: args.stated("ls_init_value", true),
        grn: args.flag("use_grn", false)?.then_some(args.count("grn_dims", 1..=4, Some(1))?),
        eps,
        head_eps: args.number("head_eps", 1e-15..=1.0, eps)?,
        in_channels: shape.channels,
        num_classes: shape.num_classes,
        size: shape.sides(),
        head,
    };
    args.fixed("kernel_sizes", json!(7))?;
    args.fixed("stem_type", json!("patch"))?;
    args.fixed("output_stride", json!(32))?;
    args.fixed("conv_bias", json!(true))?;
    args.fixed("head_norm_first", json!(false))?;
    args.ignore(&["head_init_scale"]);
    net.check(args)?;
    Ok(Architecture::new(|b| net.build(b)))
}

/// Hyper-parameters of the family.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvNeXt {
    /// Blocks per stage.
    pub depths: Vec<usize>,
    /// Width per stage.
    pub dims: Vec<usize>,
    /// Side of the patches that the stem reads.
    pub patch: usize,
    /// Whether files have the perceptron's layers as 1x1 convolutions (the same numbers under another shape).
    pub conv_mlp: bool,
    /// Whether the outputs of blocks are scaled per channel.
    pub layer_scale: bool,
    /// Global response normalisation in the perceptron: the number of dimensions that files give its tensors.
    pub grn: Option<usize>,
    pub eps: f64,
    /// Of the classifier's layer norm.
    pub head_eps: f64,
    pub in_channels: usize,
    pub num_classes: usize,
    /// Height and width.
    pub size: [usize; 2],
    /// Name of the linear layer in files.
    pub head: &'static str,
}

enum Dense {
    Linear(Linear),
    Conv(Conv),
}

struct Block {
    conv: Conv,
    norm: LayerNorm,
    up: Dense,
    grn: Option<[SlotId; 2]>,
    down: Dense,
    scale: Option<SlotId>,
}

struct Net {
    stem: (Conv, LayerNorm),
    /// The layers before the blocks (none in the first stage), and the blocks.
    stages: Vec<(Option<(LayerNorm, Conv)>, Vec<Block>)>,
    norm: LayerNorm,
    head: Linear,
    /// After the stem.
    positions: usize,
}

impl ConvNeXt {
    fn check(&self, args: &Args) -> Result<()> {
        if self.depths.len() != self.dims.len() || self.dims.is_empty() {
            let found = format!("{:?}, and {:?} as widths", self.depths, self.dims);
            return Err(args.refuse("depths", found, "every stage has a depth and a width"));
        }
        if self.patch == 2 && self.head_eps == self.eps {
            return Err(args.refuse("patch_size", 2, "timm moves a stride then, which is not supported"));
        }
        let least = self.patch << (self.dims.len() - 1).min(16);
        if self.size.iter().any(|side| *side < least) {
            let hint = format!("its stem and stages need sides of at least {least}");
            return Err(args.refuse("input_size", format!("{:?}", self.size), &hint));
        }
        Ok(())
    }

    /// Registers the layers.
    pub fn build(&self, b: &mut Builder) -> impl Body + use<> {
        let square = |side: usize| Conv2dSpec::new(side).stride(side);
        let stem = b.conv_bias("stem.0", self.in_channels, self.dims[0], square(self.patch));
        let stem = (stem, b.layer_norm("stem.1", self.dims[0], self.eps));
        let mut stages = Vec::new();
        let mut c_in = self.dims[0];
        for (stage, (&depth, &width)) in self.depths.iter().zip(&self.dims).enumerate() {
            let shrink = (stage > 0).then(|| {
                let norm = b.layer_norm(&format!("stages.{stage}.downsample.0"), c_in, self.eps);
                (norm, b.conv_bias(&format!("stages.{stage}.downsample.1"), c_in, width, square(2)))
            });
            let blocks = (0..depth).map(|i| self.block(b, &format!("stages.{stage}.blocks.{i}"), width)).collect();
            stages.push((shrink, blocks));
            c_in = width;
        }
        let norm = b.layer_norm("head.norm", c_in, self.head_eps);
        let head = b.linear(self.head, c_in, self.num_classes);
        let [height, width] = self.size.map(|side| side / self.patch);
        Net { stem, stages, norm, head, positions: height * width }
    }

    fn block(&self, b: &mut Builder, name: &str, width: usize) -> Block {
        let at = |part: &str| format!("{name}.{part}");
        let scale = self.layer_scale.then(|| b.slot(at("gamma"), Kind::Plain, &[width], Init::Constant(1e-6)));
        let conv = b.conv_bias(&at("conv_dw"), width, width, Conv2dSpec::new(7).padding(3).groups(width));
        let norm = b.layer_norm(&at("norm"), width, self.eps);
        let up = self.dense(b, &at("mlp.fc1"), width, 4 * width);
        let grn = self.grn.map(|dims| {
            let shape = [vec![1; dims - 1], vec![4 * width]].concat();
            ["weight", "bias"]
                .map(|part| b.slot(at(&format!("mlp.grn.{part}")), Kind::Plain, &shape, Init::Constant(0.0)))
        });
        let down = self.dense(b, &at("mlp.fc2"), 4 * width, width);
        Block { conv, norm, up, grn, down, scale }
    }

    fn dense(&self, b: &mut Builder, name: &str, c_in: usize, c_out: usize) -> Dense {
        match self.conv_mlp {
            true => Dense::Conv(b.conv_bias(name, c_in, c_out, Conv2dSpec::new(1))),
            false => Dense::Linear(b.linear(name, c_in, c_out)),
        }
    }
}

impl Body for Net {
    fn trains(&self) -> bool {
        false
    }

    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        in_pieces(f, &x, self.positions, |f, x| self.answer(f, Var::constant(x)))
    }
}

impl Net {
    fn answer(&self, f: &mut Forward, x: Var) -> Result<Tensor> {
        let x = self.stem.0.forward(f, &x, None, Activation::IDENTITY)?;
        let mut x = self.stem.1.forward(f, &x)?;
        for (shrink, blocks) in &self.stages {
            if let Some((norm, conv)) = shrink {
                let normed = norm.forward(f, &x)?;
                x = conv.forward(f, &normed, None, Activation::IDENTITY)?;
            }
            for block in blocks {
                x = block.forward(f, &x)?;
            }
        }
        let features = self.norm.forward(f, &tape::global_mean(f.tape, &x)?)?;
        self.head.forward(f, &features)?.tensor()
    }
}

impl Block {
    fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let h = self.conv.forward(f, x, None, Activation::IDENTITY)?;
        let h = self.norm.forward(f, &h)?;
        let mut h = self.up.forward(f, &h)?.tensor()?.gelu_erf()?;
        if let Some(grn) = self.grn {
            h = response_norm(&h, &f.buffer(grn[0]), &f.buffer(grn[1]))?;
        }
        let mut h = self.down.forward(f, &Var::constant(h))?;
        if let Some(scale) = self.scale {
            h = Var::constant(h.tensor()?.broadcast_mul(&f.buffer(scale))?);
        }
        tape::add(f.tape, &h, x, Activation::IDENTITY)
    }
}

impl Dense {
    /// For every pixel of `x [N, H, W, C]`.
    fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let linear = match self {
            Self::Conv(conv) => return conv.forward(f, x, None, Activation::IDENTITY),
            Self::Linear(linear) => linear,
        };
        let &[n, h, w, c] = x.dims() else { return Err(Error::shape("convnext", format!("input {:?}", x.dims()))) };
        let rows = Var::constant(x.tensor()?.reshape((n * h * w, c))?);
        let y = linear.forward(f, &rows)?.tensor()?;
        Ok(Var::constant(y.reshape((n, h, w, ()))?))
    }
}

/// Global response normalisation (ConvNeXt V2, algorithm 1) of `x [N, H, W, C]`.
fn response_norm(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let response = x.sqr()?.sum_keepdim((1, 2))?.sqrt()?;
    let relative = response.broadcast_div(&(response.mean_keepdim(3)? + 1e-6)?)?;
    // x + weight·(x·relative) + bias, with one factor per image and channel.
    let factor = (relative.broadcast_mul(weight)? + 1.0)?;
    Ok(x.broadcast_mul(&factor)?.broadcast_add(bias)?)
}

/// `ConvNextForImageClassification` of transformers, to timm.
const TRANSFORMERS: Scheme = Scheme {
    name: "transformers ConvNeXt",
    renames: &[
        ("convnext.embeddings.patch_embeddings.*", "stem.0.*"),
        ("convnext.embeddings.layernorm.*", "stem.1.*"),
        ("convnext.layernorm.*", "head.norm.*"),
        ("convnext.encoder.stages.**", "stages.**"),
        ("classifier.*", "head.fc.*"),
        ("stages.*.downsampling_layer.*.*", "stages.*.downsample.*.*"),
        ("stages.*.layers.*.dwconv.*", "stages.*.blocks.*.conv_dw.*"),
        ("stages.*.layers.*.layernorm.*", "stages.*.blocks.*.norm.*"),
        ("stages.*.layers.*.pwconv1.*", "stages.*.blocks.*.mlp.fc1.*"),
        ("stages.*.layers.*.pwconv2.*", "stages.*.blocks.*.mlp.fc2.*"),
        ("stages.*.layers.*.grn.*", "stages.*.blocks.*.mlp.grn.*"),
        ("stages.*.layers.*.layer_scale_parameter", "stages.*.blocks.*.gamma"),
    ],
};

/// `ConvNextV2ForImageClassification` of transformers, to timm.
const TRANSFORMERS_V2: Scheme = Scheme {
    name: "transformers ConvNeXt V2",
    renames: &[
        ("convnextv2.embeddings.patch_embeddings.*", "stem.0.*"),
        ("convnextv2.embeddings.layernorm.*", "stem.1.*"),
        ("convnextv2.layernorm.*", "head.norm.*"),
        ("convnextv2.encoder.stages.**", "stages.**"),
        ("classifier.*", "head.fc.*"),
        ("stages.*.downsampling_layer.*.*", "stages.*.downsample.*.*"),
        ("stages.*.layers.*.dwconv.*", "stages.*.blocks.*.conv_dw.*"),
        ("stages.*.layers.*.layernorm.*", "stages.*.blocks.*.norm.*"),
        ("stages.*.layers.*.pwconv1.*", "stages.*.blocks.*.mlp.fc1.*"),
        ("stages.*.layers.*.pwconv2.*", "stages.*.blocks.*.mlp.fc2.*"),
        ("stages.*.layers.*.grn.*", "stages.*.blocks.*.mlp.grn.*"),
    ],
};
