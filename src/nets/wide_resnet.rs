//! Wide residual networks with pre-activation: Zagoruyko and Komodakis, "Wide Residual Networks" (2016).
//!
//! Half of the batch norms sit on the residual stream; they are read through the next convolution's prologue and never
//! written to memory.

use super::layers::{Builder, Conv, Linear, Norm};
use super::{Body, Forward};
use crate::Result;
use crate::ops::Activation;
use crate::ops::conv2d::{Conv2dSpec, Sums};
use crate::tape::{self, Var};

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
