//! Wide residual networks with pre-activation: Zagoruyko and Komodakis, "Wide Residual Networks" (2016).
//!
//! Half of the batch norms sit on the residual stream; they are read through the next convolution's prologue and never
//! written to memory.

use super::layers::{Builder, Conv, Linear, Norm};
use super::registry::{Args, Family, Form, Head, Shape};
use super::resnet_cifar::KUANGLIU;
use super::{Architecture, Body, Forward};
use crate::Result;
use crate::ops::Activation;
use crate::ops::conv2d::{Conv2dSpec, Sums};
use crate::tape::{self, Var};
use serde_json::{Value, json};

/// The family, for the registry.
pub(super) const FAMILY: Family = Family {
    title: "WRN",
    model_type: "wide_resnet",
    form: Form::Ours,
    names: &[
        ("wrn-16-1", || named(16, 1)),
        ("wrn-16-2", || named(16, 2)),
        ("wrn-28-10", || named(28, 10)),
        ("wrn-40-1", || named(40, 1)),
        ("wrn-40-2", || named(40, 2)),
    ],
    aliases: &[],
    variants: &[],
    pattern: Some(pattern),
    summary: "wrn-DEPTH-WIDTH",
    usual_input: [3, 32, 32],
    min_side: 8,
    student_rate: 0.5,
    first: "conv1",
    head: Head::Is("fc"),
    averages: true,
    schemes: &[KUANGLIU],
    transformers: None,
    build,
};

fn named(depth: usize, widen_factor: usize) -> Value {
    json!({"depth": depth, "widen_factor": widen_factor, "bn_eps": 1e-5})
}

/// `wrn-16-2` or `wrn16-2`.
fn pattern(name: &str) -> Option<Value> {
    let number = |text: &str| text.parse().ok().filter(|number: &usize| number.to_string() == text);
    let (depth, widen) = name.strip_prefix("wrn")?.trim_start_matches('-').split_once('-')?;
    Some(named(number(depth)?, number(widen)?))
}

fn build(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    let depth = args.count("depth", 10..=1000, None)?;
    if depth % 6 != 4 {
        return Err(args.refuse("depth", depth, "it is 6n + 4, such as 16, 28 or 40"));
    }
    let net = WideResNet {
        depth,
        widen_factor: args.count("widen_factor", 1..=64, None)?,
        in_channels: shape.channels,
        num_classes: shape.num_classes,
        bn_eps: args.eps(1e-5)?,
    };
    Ok(Architecture::new(|b| net.build(b)))
}

/// Hyper-parameters: WRN-`depth`-`widen_factor`; `depth` is 6n + 4.
#[derive(Clone, Debug, PartialEq)]
pub struct WideResNet {
    pub depth: usize,
    pub widen_factor: usize,
    pub in_channels: usize,
    pub num_classes: usize,
    pub bn_eps: f64,
}

struct Block {
    bn1: Norm,
    conv1: Conv,
    bn2: Norm,
    conv2: Conv,
    /// Where the width changes: a 1x1 convolution of the activated input.
    shortcut: Option<Conv>,
}

struct Net {
    conv1: Conv,
    blocks: Vec<Block>,
    bn1: Norm,
    fc: Linear,
}

/// The residual stream and the sums of its values, as the convolution that wrote it took them.
struct Residual {
    x: Var,
    sums: Option<Sums>,
}

impl WideResNet {
    /// Registers the layers.
    pub fn build(&self, b: &mut Builder) -> impl Body + use<> {
        let k3 = Conv2dSpec::new(3).padding(1);
        let widths = [16, 16 * self.widen_factor, 32 * self.widen_factor, 64 * self.widen_factor];
        let conv1 = b.conv("conv1", self.in_channels, widths[0], k3);
        let mut blocks = Vec::new();
        let mut c_in = widths[0];
        for (g, &c_out) in widths.iter().enumerate().skip(1) {
            for i in 0..(self.depth - 4) / 6 {
                let stride = if g > 1 && i == 0 { 2 } else { 1 };
                let name = |part: &str| format!("block{g}.layer.{i}.{part}");
                blocks.push(Block {
                    bn1: b.norm(&name("bn1"), c_in, self.bn_eps),
                    conv1: b.conv(&name("conv1"), c_in, c_out, k3.stride(stride)),
                    bn2: b.norm(&name("bn2"), c_out, self.bn_eps),
                    conv2: b.conv(&name("conv2"), c_out, c_out, k3),
                    shortcut: (c_in != c_out)
                        .then(|| b.conv(&name("convShortcut"), c_in, c_out, Conv2dSpec::new(1).stride(stride))),
                });
                c_in = c_out;
            }
        }
        Net { conv1, blocks, bn1: b.norm("bn1", c_in, self.bn_eps), fc: b.linear("fc", c_in, self.num_classes) }
    }
}

impl Body for Net {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let (x, sums) = self.conv1.forward_summed(f, &x, None)?;
        let mut stream = Residual { x, sums };
        for block in &self.blocks {
            stream = block.forward(f, stream)?;
            f.leaves_map(&stream.x);
        }
        let y = self.bn1.forward(f, &stream.x, stream.sums, None, Activation::RELU)?;
        let features = tape::global_mean(f.tape, &y)?;
        f.features = Some(features.clone());
        self.fc.forward(f, &features)
    }
}

impl Block {
    fn forward(&self, f: &mut Forward, stream: Residual) -> Result<Residual> {
        let a = self.bn1.forward(f, &stream.x, stream.sums, None, Activation::RELU)?;
        let h = self.conv1.forward_norm(f, &self.bn2, &a, None, Activation::RELU)?;
        let residual = match &self.shortcut {
            None => stream.x,
            Some(conv) => conv.forward(f, &a, None, Activation::IDENTITY)?,
        };
        let (x, sums) = self.conv2.forward_summed(f, &h, Some(&residual))?;
        Ok(Residual { x, sums })
    }
}
