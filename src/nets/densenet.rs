//! Densely connected networks with bottlenecks and compression: Huang et al., "Densely Connected Convolutional Networks"
//! (2017), table 1 for large images and section 3 (DenseNet-BC) for small ones.
//!
//! Every layer reads all maps before it, which are copied side by side once per layer. The norm in front of a layer is never
//! written to memory, and its sums are those that the convolutions took when they wrote their maps: nothing is read twice.

use super::layers::{Builder, Conv, Linear, Norm};
use super::registry::{Args, Family, Form, Head, Shape};
use super::{Architecture, Body, Forward, Init};
use crate::Result;
use crate::ops::conv2d::{Conv2dSpec, Sums};
use crate::ops::{Activation, norm};
use crate::tape::{self, Pool, PoolKind, Var};
use crate::weights::Scheme;
use serde_json::{Value, json};

/// For large images, for the registry.
pub(super) const FAMILY: Family = Family {
    title: "DenseNet",
    model_type: "densenet",
    form: Form::Timm,
    names: &[
        ("densenet121", || json!({"block_config": [6, 12, 24, 16], "growth_rate": 32})),
        ("densenet161", || json!({"block_config": [6, 12, 36, 24], "growth_rate": 48})),
        ("densenet169", || json!({"block_config": [6, 12, 32, 32], "growth_rate": 32})),
        ("densenet201", || json!({"block_config": [6, 12, 48, 32], "growth_rate": 32})),
    ],
    aliases: &[],
    variants: &[],
    pattern: None,
    summary: "densenet121|161|169|201",
    usual_input: [3, 224, 224],
    min_side: 29,
    student_rate: 0.5,
    first: "features.conv0",
    head: Head::Is("classifier"),
    averages: true,
    schemes: &[PUBLISHED],
    transformers: None,
    build: large,
};

/// For small images, for the registry.
pub(super) const CIFAR: Family = Family {
    model_type: "cifar_densenet_bc",
    form: Form::Ours,
    names: &[
        ("densenet-bc-40-12", || named(40, 12)),
        ("densenet-bc-100-12", || named(100, 12)),
        ("densenet-bc-190-40", || named(190, 40)),
    ],
    pattern: Some(pattern),
    summary: "densenet-bc-DEPTH-GROWTH",
    usual_input: [3, 32, 32],
    min_side: 8,
    build: small,
    ..FAMILY
};

fn named(depth: usize, growth: usize) -> Value {
    json!({"depth": depth, "growth_rate": growth})
}

/// `densenet-bc-100-12`
fn pattern(name: &str) -> Option<Value> {
    let number = |text: &str| text.parse().ok().filter(|number: &usize| number.to_string() == text);
    let (depth, growth) = name.strip_prefix("densenet-bc-")?.split_once('-')?;
    Some(named(number(depth)?, number(growth)?))
}

fn large(args: &mut Args, shape: &Shape, head: &'static str) -> Result<Architecture> {
    let blocks = args.list("block_config", 1..=128, &[6, 12, 24, 16])?;
    if blocks.len() != 4 {
        return Err(args.refuse("block_config", format!("{blocks:?}"), "there are four blocks"));
    }
    let growth = args.count("growth_rate", 1..=256, Some(32))?;
    DenseNet { blocks, growth, bottleneck: 4, large_stem: true, last_norm: "features.norm5", head }.architecture(shape)
}

fn small(args: &mut Args, shape: &Shape, head: &'static str) -> Result<Architecture> {
    let depth = args.count("depth", 10..=400, None)?;
    if depth % 6 != 4 {
        return Err(args.refuse("depth", depth, "it is 6n + 4, such as 40, 100 or 190"));
    }
    let (blocks, growth) = (vec![(depth - 4) / 6; 3], args.count("growth_rate", 1..=256, None)?);
    DenseNet { blocks, growth, bottleneck: 4, large_stem: false, last_norm: "features.norm_final", head }
        .architecture(shape)
}

/// Hyper-parameters; a transition keeps half of the channels.
#[derive(Clone, Debug, PartialEq)]
pub struct DenseNet {
    /// Layers of each block.
    pub blocks: Vec<usize>,
    /// Channels that a layer adds; the stem has twice as many.
    pub growth: usize,
    /// Width of a layer's 1x1 convolution, in units of `growth`.
    pub bottleneck: usize,
    /// A 7x7 convolution of stride 2 with norm and max-pool, instead of a plain 3x3 convolution.
    pub large_stem: bool,
    /// Names in files of the last norm and of the linear layer.
    pub last_norm: &'static str,
    pub head: &'static str,
}

struct Layer {
    norm1: Norm,
    conv1: Conv,
    norm2: Norm,
    conv2: Conv,
}

struct Block {
    layers: Vec<Layer>,
    /// To half of the channels and of the sides.
    transition: Option<(Norm, Conv)>,
}

struct Net {
    conv0: Conv,
    /// Followed by a max-pool.
    norm0: Option<Norm>,
    blocks: Vec<Block>,
    norm: Norm,
    head: Linear,
}

/// All maps of a block so far, and the sums of their values where this pass wants them.
struct Maps {
    x: Var,
    sums: Option<Sums>,
}

const BN_EPS: f64 = 1e-5;
const STEM_POOL: Pool = Pool { kind: PoolKind::Max, kernel: 3, stride: 2, padding: 1 };
const HALVE: Pool = Pool { kind: PoolKind::Average { count_padding: true }, kernel: 2, stride: 2, padding: 0 };

/// A convolution without bias; He initialisation over the fan-in, as the paper's code and torchvision have it.
fn conv(b: &mut Builder, name: &str, c_in: usize, c_out: usize, spec: Conv2dSpec) -> Conv {
    let fan_in = (spec.kernel[0] * spec.kernel[1] * c_in) as f32;
    b.conv_init(name, c_in, c_out, spec, Init::Normal((2.0 / fan_in).sqrt()))
}

impl DenseNet {
    fn architecture(&self, shape: &Shape) -> Result<Architecture> {
        Ok(Architecture::new(|b| self.build(b, shape.channels, shape.num_classes)))
    }

    /// Registers the layers for images of `in_channels`.
    pub fn build(&self, b: &mut Builder, in_channels: usize, num_classes: usize) -> impl Body + use<> {
        let stem = match self.large_stem {
            true => Conv2dSpec::new(7).stride(2).padding(3),
            false => Conv2dSpec::new(3).padding(1),
        };
        let mut channels = 2 * self.growth;
        let conv0 = conv(b, "features.conv0", in_channels, channels, stem);
        let norm0 = self.large_stem.then(|| b.norm("features.norm0", channels, BN_EPS));
        let mut blocks = Vec::new();
        for (i, &count) in self.blocks.iter().enumerate() {
            let layer = |j: usize| {
                let name = format!("features.denseblock{}.denselayer{}", i + 1, j + 1);
                self.layer(b, &name, channels + j * self.growth)
            };
            let layers = (0..count).map(layer).collect();
            channels += count * self.growth;
            let transition = (i + 1 < self.blocks.len()).then(|| {
                let name = format!("features.transition{}", i + 1);
                let norm = b.norm(&format!("{name}.norm"), channels, BN_EPS);
                (norm, conv(b, &format!("{name}.conv"), channels, channels / 2, Conv2dSpec::new(1)))
            });
            if transition.is_some() {
                channels /= 2;
            }
            blocks.push(Block { layers, transition });
        }
        let norm = b.norm(self.last_norm, channels, BN_EPS);
        Net { conv0, norm0, blocks, norm, head: b.linear(self.head, channels, num_classes) }
    }

    fn layer(&self, b: &mut Builder, name: &str, c_in: usize) -> Layer {
        let inner = self.bottleneck * self.growth;
        Layer {
            norm1: b.norm(&format!("{name}.norm1"), c_in, BN_EPS),
            conv1: conv(b, &format!("{name}.conv1"), c_in, inner, Conv2dSpec::new(1)),
            norm2: b.norm(&format!("{name}.norm2"), inner, BN_EPS),
            conv2: conv(b, &format!("{name}.conv2"), inner, self.growth, Conv2dSpec::new(3).padding(1)),
        }
    }
}

impl Body for Net {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let mut maps = match &self.norm0 {
            Some(norm) => {
                let x = self.conv0.forward_norm(f, norm, &x, None, Activation::RELU)?;
                Maps::read(f, tape::pool(f.tape, &x, STEM_POOL)?)?
            }
            None => {
                let (x, sums) = self.conv0.forward_summed(f, &x, None)?;
                Maps { x, sums }
            }
        };
        for block in &self.blocks {
            for layer in &block.layers {
                maps = layer.forward(f, maps)?;
            }
            f.leaves_map(&maps.x);
            if let Some((norm, conv)) = &block.transition {
                let a = norm.forward(f, &maps.x, maps.sums, None, Activation::RELU)?;
                let x = conv.forward(f, &a, None, Activation::IDENTITY)?;
                maps = Maps::read(f, tape::pool(f.tape, &x, HALVE)?)?;
            }
        }
        let y = self.norm.forward(f, &maps.x, maps.sums, None, Activation::RELU)?;
        let features = tape::global_mean(f.tape, &y)?;
        f.features = Some(features.clone());
        self.head.forward(f, &features)
    }
}

impl Layer {
    fn forward(&self, f: &mut Forward, maps: Maps) -> Result<Maps> {
        let a = self.norm1.forward(f, &maps.x, maps.sums.clone(), None, Activation::RELU)?;
        let h = self.conv1.forward_norm(f, &self.norm2, &a, None, Activation::RELU)?;
        let (new, sums) = self.conv2.forward_summed(f, &h, None)?;
        let x = tape::concat(f.tape, &[&maps.x, &new])?;
        Ok(Maps { x, sums: maps.sums.zip(sums).map(|(before, new)| joined(before, &new)) })
    }
}

impl Maps {
    /// What a pooling wrote, with its sums for all the norms that will read it.
    fn read(f: &Forward, x: Var) -> Result<Self> {
        let sums = match f.sums_ahead() {
            false => None,
            true => Some(norm::sums(&x.tensor()?)?),
        };
        Ok(Self { x, sums })
    }
}

/// The sums of maps side by side.
fn joined(mut before: Sums, new: &Sums) -> Sums {
    before.sum.extend(&new.sum);
    before.sum_sq.extend(&new.sum_sq);
    before
}

/// Published files of torchvision, from before names could not have a dot inside, and the CIFAR code that follows them.
const PUBLISHED: Scheme = Scheme {
    name: "published DenseNet",
    renames: &[
        ("features.denseblock*.denselayer*.norm.1.*", "features.denseblock*.denselayer*.norm1.*"),
        ("features.denseblock*.denselayer*.norm.2.*", "features.denseblock*.denselayer*.norm2.*"),
        ("features.denseblock*.denselayer*.conv.1.*", "features.denseblock*.denselayer*.conv1.*"),
        ("features.denseblock*.denselayer*.conv.2.*", "features.denseblock*.denselayer*.conv2.*"),
    ],
};
