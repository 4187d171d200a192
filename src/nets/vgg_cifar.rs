//! VGG with batch norms and one linear layer, for small images, in the two forms in use; the stages are those of Simonyan
//! and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2015), table 1.
//!
//! kuangliu's code halves the map after each of the five stages, so that 32x32 pixels end as one. RepDistiller's, from which
//! the code of data-free distillation descends, pools after the first three, after the fourth too if images are exactly 64
//! pixels high (neither smaller nor larger ones, as there), and averages over what is left.

use super::layers::{Builder, Conv, Linear, Norm};
use super::registry::{Args, Family, Form, Head, Shape};
use super::{Architecture, Body, Forward, Init};
use crate::Result;
use crate::ops::Activation;
use crate::ops::conv2d::Conv2dSpec;
use crate::tape::{self, Pool, PoolKind, Var};
use serde_json::json;

/// kuangliu's form, for the registry.
pub(super) const FIVE_POOLS: Family = Family {
    title: "VGG",
    model_type: "cifar_vgg",
    form: Form::Ours,
    names: &[
        ("vgg11_bn", || json!({"depth": 11})),
        ("vgg13_bn", || json!({"depth": 13})),
        ("vgg16_bn", || json!({"depth": 16})),
        ("vgg19_bn", || json!({"depth": 19})),
    ],
    aliases: &[],
    variants: &[],
    pattern: None,
    summary: "cifar-vgg11_bn|13|16|19 (one linear layer; what vgg11_bn and so on are on images of up to 84 pixels)",
    usual_input: [3, 32, 32],
    min_side: 32,
    student_rate: 0.5,
    first: "features.0",
    head: Head::Is("classifier"),
    averages: true,
    schemes: &[],
    transformers: None,
    build: five_pools,
};

/// RepDistiller's form, for the registry.
pub(super) const AVERAGED: Family = Family {
    model_type: "cifar_vgg_averaged",
    names: &[
        ("vgg8_bn-avg", || json!({"depth": 8})),
        ("vgg11_bn-avg", || json!({"depth": 11})),
        ("vgg13_bn-avg", || json!({"depth": 13})),
        ("vgg16_bn-avg", || json!({"depth": 16})),
        ("vgg19_bn-avg", || json!({"depth": 19})),
    ],
    summary: "vgg8_bn-avg|11|13|16|19 (as in RepDistiller: fewer pools, then a mean)",
    min_side: 8,
    first: "block0.0",
    build: averaged,
    ..FIVE_POOLS
};

/// Widths of the five stages.
const WIDTHS: [usize; 5] = [64, 128, 256, 512, FEATURES];
/// Width of the last stage.
pub(super) const FEATURES: usize = 512;
/// The pooling between stages.
pub(super) const HALVE: Pool = Pool { kind: PoolKind::Max, kernel: 2, stride: 2, padding: 0 };
/// The only image height at which the averaged form pools after its fourth stage.
const LARGE: usize = 64;

/// Convolutions per stage, by the `depth` among the arguments.
pub(super) fn convs_per_stage(args: &mut Args) -> Result<[usize; 5]> {
    Ok(match args.count("depth", 8..=19, None)? {
        8 => [1, 1, 1, 1, 1],
        11 => [1, 1, 2, 2, 2],
        13 => [2, 2, 2, 2, 2],
        16 => [2, 2, 3, 3, 3],
        19 => [2, 2, 4, 4, 4],
        depth => return Err(args.refuse("depth", depth, "it is 8, 11, 13, 16 or 19")),
    })
}

fn five_pools(args: &mut Args, shape: &Shape, head: &'static str) -> Result<Architecture> {
    build(args, shape, head, false)
}

fn averaged(args: &mut Args, shape: &Shape, head: &'static str) -> Result<Architecture> {
    build(args, shape, head, true)
}

fn build(args: &mut Args, shape: &Shape, head: &'static str, averaged: bool) -> Result<Architecture> {
    let net = VggCifar {
        convs: convs_per_stage(args)?,
        averaged,
        in_channels: shape.channels,
        num_classes: shape.num_classes,
        head,
    };
    Ok(Architecture::new(|b| net.build(b)))
}

/// Hyper-parameters of both forms.
#[derive(Clone, Debug, PartialEq)]
pub struct VggCifar {
    /// Convolutions of each of the five stages.
    pub convs: [usize; 5],
    /// RepDistiller's form instead of kuangliu's.
    pub averaged: bool,
    pub in_channels: usize,
    pub num_classes: usize,
    /// Name of the linear layer in files.
    pub head: &'static str,
}

/// Convolutions over maps of one size, each with batch norm and ReLU.
pub(super) struct Stage {
    layers: Vec<(Conv, Norm)>,
}

impl Stage {
    /// Five stages, the layers of all numbered through with the pools between them: `features.0`, ...
    pub fn sequence(b: &mut Builder, convs: &[usize; 5], in_channels: usize) -> Vec<Self> {
        let start = |stage: usize| convs[..stage].iter().map(|count| 3 * count + 1).sum::<usize>();
        Self::stages(b, convs, in_channels, |stage, layer| format!("features.{}", start(stage) + layer))
    }

    /// Five stages, the layers of each numbered anew: `block0.0`, ...
    fn blocks(b: &mut Builder, convs: &[usize; 5], in_channels: usize) -> Vec<Self> {
        Self::stages(b, convs, in_channels, |stage, layer| format!("block{stage}.{layer}"))
    }

    /// `name(stage, layer)`, where convolution, norm and ReLU count as layers.
    fn stages(
        b: &mut Builder,
        convs: &[usize; 5],
        in_channels: usize,
        name: impl Fn(usize, usize) -> String,
    ) -> Vec<Self> {
        let mut c_in = in_channels;
        let mut layer = |stage: usize, i: usize| {
            let width = WIDTHS[stage];
            let init = [Init::Normal((2.0 / (9 * width) as f32).sqrt()), Init::Constant(0.0)];
            let conv = b.conv_bias_init(&name(stage, 3 * i), c_in, width, Conv2dSpec::new(3).padding(1), init);
            c_in = width;
            (conv, b.norm(&name(stage, 3 * i + 1), width, 1e-5))
        };
        let stage = |(stage, count): (usize, &usize)| Self { layers: (0..*count).map(|i| layer(stage, i)).collect() };
        convs.iter().enumerate().map(stage).collect()
    }

    /// The last map of the stage.
    pub fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let mut x = x.clone();
        for (conv, norm) in &self.layers {
            x = conv.forward_norm(f, norm, &x, None, Activation::RELU)?;
        }
        Ok(x)
    }
}

struct Net {
    stages: Vec<Stage>,
    averaged: bool,
    head: Linear,
}

impl VggCifar {
    /// Registers the layers.
    pub fn build(&self, b: &mut Builder) -> impl Body + use<> {
        let stages = match self.averaged {
            false => Stage::sequence(b, &self.convs, self.in_channels),
            true => Stage::blocks(b, &self.convs, self.in_channels),
        };
        let init = [Init::Normal(0.01), Init::Constant(0.0)];
        Net { stages, averaged: self.averaged, head: b.linear_init(self.head, FEATURES, self.num_classes, init) }
    }
}

/// How many stages are followed by a pooling, for images of this height.
fn pools(averaged: bool, height: usize) -> usize {
    match (averaged, height == LARGE) {
        (false, _) => 5,
        (true, true) => 4,
        (true, false) => 3,
    }
}

impl Body for Net {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let pools = pools(self.averaged, x.dims()[1]);
        let mut x = x;
        for (i, stage) in self.stages.iter().enumerate() {
            x = stage.forward(f, &x)?;
            f.leaves_map(&x);
            if i < pools {
                x = tape::pool(f.tape, &x, HALVE)?;
            }
        }
        let features = tape::global_mean(f.tape, &x)?;
        f.features = Some(features.clone());
        self.head.forward(f, &features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_averaged_form_pools_a_fourth_time_at_one_height() {
        assert_eq!([32, 63, 64, 65, 128].map(|height| pools(true, height)), [3, 3, 4, 3, 3]);
        assert_eq!([32, 64].map(|height| pools(false, height)), [5, 5]);
    }
}
