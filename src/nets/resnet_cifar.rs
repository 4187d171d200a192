//! Residual networks for small images: He et al., "Deep Residual Learning for Image Recognition" (2015), section 4.2
//! (three groups, widths 16/32/64), and the four-group ResNet-18/34 with a 3x3 stem and no max-pool.

use super::layers::{Builder, Conv, Linear, Norm};
use super::{Body, Forward};
use crate::Result;
use crate::ops::Activation;
use crate::ops::conv2d::Conv2dSpec;
use crate::tape::{self, Var};

/// How a block that changes the width passes its input on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortcut {
    /// Every second pixel, zero channels on both sides; no parameters.
    A,
    /// 1x1 convolution and batch norm.
    B,
}

/// Hyper-parameters of the family.
#[derive(Clone, Debug, PartialEq)]
pub struct ResNetCifar {
    /// Blocks per group.
    pub blocks: Vec<usize>,
    /// Width of each group; the stem has the first. One more than `blocks` gives the stem its own, in front.
    pub widths: Vec<usize>,
    pub shortcut: Shortcut,
    pub in_channels: usize,
    pub num_classes: usize,
    pub bn_eps: f64,
    /// Name of the linear layer in files: `linear` or `fc`.
    pub head: &'static str,
}

struct Block {
    conv1: Conv,
    bn1: Norm,
    conv2: Conv,
    bn2: Norm,
    stride: usize,
    c_out: usize,
    shortcut: Option<BlockShortcut>,
}

enum BlockShortcut {
    Pad,
    Project(Conv, Norm),
}

struct Net {
    conv1: Conv,
    bn1: Norm,
    blocks: Vec<Block>,
    head: Linear,
}

impl ResNetCifar {
    /// Registers the layers.
    pub fn build(&self, b: &mut Builder) -> impl Body + use<> {
        let k3 = Conv2dSpec::new(3).padding(1);
        let conv1 = b.conv("conv1", self.in_channels, self.widths[0], k3);
        let bn1 = b.norm("bn1", self.widths[0], self.bn_eps);
        let mut blocks = Vec::new();
        let mut c_in = self.widths[0];
        let groups = &self.widths[self.widths.len().saturating_sub(self.blocks.len())..];
        for (g, (&count, &c_out)) in self.blocks.iter().zip(groups).enumerate() {
            for i in 0..count {
                let stride = if g > 0 && i == 0 { 2 } else { 1 };
                let name = |part: &str| format!("layer{}.{i}.{part}", g + 1);
                blocks.push(Block {
                    conv1: b.conv(&name("conv1"), c_in, c_out, k3.stride(stride)),
                    bn1: b.norm(&name("bn1"), c_out, self.bn_eps),
                    conv2: b.conv(&name("conv2"), c_out, c_out, k3),
                    bn2: b.norm(&name("bn2"), c_out, self.bn_eps),
                    stride,
                    c_out,
                    shortcut: match self.shortcut {
                        _ if stride == 1 && c_in == c_out => None,
                        Shortcut::A => Some(BlockShortcut::Pad),
                        Shortcut::B => Some(BlockShortcut::Project(
                            b.conv(&name("downsample.0"), c_in, c_out, Conv2dSpec::new(1).stride(stride)),
                            b.norm(&name("downsample.1"), c_out, self.bn_eps),
                        )),
                    },
                });
                c_in = c_out;
            }
        }
        Net { conv1, bn1, blocks, head: b.linear(self.head, c_in, self.num_classes) }
    }
}

impl Body for Net {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let mut x = self.conv1.forward_norm(f, &self.bn1, &x, None, Activation::RELU)?.dense()?;
        for block in &self.blocks {
            x = block.forward(f, &x)?;
        }
        let features = tape::global_mean(f.tape, &x)?;
        f.features = Some(features.clone());
        self.head.forward(f, &features)
    }
}

impl Block {
    fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let h = self.conv1.forward_norm(f, &self.bn1, x, None, Activation::RELU)?;
        let shortcut = match &self.shortcut {
            None => x.clone(),
            Some(BlockShortcut::Pad) => tape::subsample_pad(f.tape, x, self.stride, self.c_out)?,
            Some(BlockShortcut::Project(conv, bn)) => {
                conv.forward_norm(f, bn, x, None, Activation::IDENTITY)?.dense()?
            }
        };
        self.conv2.forward_norm(f, &self.bn2, &h, Some(&shortcut), Activation::RELU)
    }
}
