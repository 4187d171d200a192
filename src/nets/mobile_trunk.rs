//! MobileNets without their classifiers, as segmentation networks read them: Sandler et al., "MobileNetV2" (2018), table 2,
//! and Howard et al., "Searching for MobileNetV3" (2019), table 1. Tensors are called as in torchvision. Where a stride would
//! make the maps smaller than a given part of the image, that layer and those behind it dilate their depthwise convolutions
//! instead, as torchvision's dilated MobileNetV3 does.

use super::layers::{Builder, Conv, Nonlinearity, Norm};
use super::squeeze_excite::SqueezeExcite;
use super::widths::rounded;
use super::{Forward, mobilenet_v2};
use crate::Result;
use crate::ops::Activation;
use crate::ops::conv2d::Conv2dSpec;
use crate::tape::Var;

const RELU: Nonlinearity = Nonlinearity::Piecewise(Activation::RELU);
const RELU6: Nonlinearity = Nonlinearity::Piecewise(Activation::RELU6);

/// An inverted residual block.
#[derive(Clone, Copy)]
struct Inverted {
    kernel: usize,
    /// Channels inside; without an expanding convolution where they are those of the input.
    inner: usize,
    channels: usize,
    squeeze: bool,
    act: Nonlinearity,
    stride: usize,
}

/// A whole trunk.
pub(super) struct Plan {
    stem: (usize, Nonlinearity),
    blocks: Vec<Inverted>,
    /// A last 1x1 convolution, to as many channels.
    last: Option<usize>,
    /// The sequence inside a block.
    inside: &'static str,
    /// Whether the projection's convolution and norm stand in that sequence, not in one of their own.
    flat: bool,
    eps: f64,
}

impl Plan {
    /// MobileNetV2 of a width, up to the last block: the paper's section 6.3 reads its 320 channels, and leaves the 1,280
    /// of the classifier out.
    pub fn v2(width: f64) -> Self {
        let scaled = |channels: usize| rounded(channels as f64 * width, 8);
        let mut blocks = Vec::new();
        let mut c_in = scaled(32);
        for (expansion, channels, count, stride) in mobilenet_v2::STAGES {
            for i in 0..count {
                let stride = if i == 0 { stride } else { 1 };
                let (inner, channels) = (c_in * expansion, scaled(channels));
                blocks.push(Inverted { kernel: 3, inner, channels, squeeze: false, act: RELU6, stride });
                c_in = channels;
            }
        }
        Self { stem: (scaled(32), RELU6), blocks, last: None, inside: "conv", flat: true, eps: 1e-5 }
    }

    /// MobileNetV3-Large.
    pub fn v3_large() -> Self {
        let hard = Nonlinearity::HardSwish;
        let blocks = [
            (3, 16, 16, false, RELU, 1),
            (3, 64, 24, false, RELU, 2),
            (3, 72, 24, false, RELU, 1),
            (5, 72, 40, true, RELU, 2),
            (5, 120, 40, true, RELU, 1),
            (5, 120, 40, true, RELU, 1),
            (3, 240, 80, false, hard, 2),
            (3, 200, 80, false, hard, 1),
            (3, 184, 80, false, hard, 1),
            (3, 184, 80, false, hard, 1),
            (3, 480, 112, true, hard, 1),
            (3, 672, 112, true, hard, 1),
            (5, 672, 160, true, hard, 2),
            (5, 960, 160, true, hard, 1),
            (5, 960, 160, true, hard, 1),
        ];
        let block = |(kernel, inner, channels, squeeze, act, stride)| Inverted {
            kernel,
            inner,
            channels,
            squeeze,
            act,
            stride,
        };
        let blocks = blocks.map(block).to_vec();
        Self { stem: (16, hard), blocks, last: Some(960), inside: "block", flat: false, eps: 1e-3 }
    }

    /// Channels of the maps after `blocks` blocks.
    pub fn channels(&self, blocks: usize) -> usize {
        let block = blocks.checked_sub(1).and_then(|i| self.blocks.get(i));
        block.map_or(self.stem.0, |block| block.channels)
    }

    /// Channels of the last maps.
    pub fn features(&self) -> usize {
        self.last.unwrap_or_else(|| self.channels(self.blocks.len()))
    }

    /// Registers the layers, `backbone.0` to the last, of which none leaves less than 1/`output_stride` of a side.
    pub fn build(&self, b: &mut Builder, in_channels: usize, output_stride: usize) -> MobileTrunk {
        let (width, act) = self.stem;
        let spec = Conv2dSpec::new(3).stride(2).padding(1);
        let stem = Layer::build(b, "backbone.0", [in_channels, width], spec, act, self.eps);
        let (mut c_in, mut reached, mut dilation) = (width, 2, 1);
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (i, block) in self.blocks.iter().enumerate() {
            let stride = if reached * block.stride > output_stride { 1 } else { block.stride };
            dilation *= block.stride / stride;
            reached *= stride;
            let name = format!("backbone.{}.{}", i + 1, self.inside);
            blocks.push(self.block(b, &name, c_in, block, [stride, dilation]));
            c_in = block.channels;
        }
        let name = format!("backbone.{}", blocks.len() + 1);
        let last = self.last.map(|width| Layer::build(b, &name, [c_in, width], Conv2dSpec::new(1), act, self.eps));
        MobileTrunk { stem, blocks, last }
    }

    fn block(
        &self,
        b: &mut Builder,
        name: &str,
        c_in: usize,
        block: &Inverted,
        [stride, dilation]: [usize; 2],
    ) -> Block {
        let &Inverted { kernel, inner, channels, act, .. } = block;
        let k1 = Conv2dSpec::new(1);
        let mut parts = 0;
        let mut next = || {
            parts += 1;
            format!("{name}.{}", parts - 1)
        };
        let expand = (inner != c_in).then(|| Layer::build(b, &next(), [c_in, inner], k1, act, self.eps));
        let padding = (kernel - 1) / 2 * dilation;
        let spec = Conv2dSpec::new(kernel).stride(stride).padding(padding).dilation(dilation).groups(inner);
        let depthwise = Layer::build(b, &next(), [inner, inner], spec, act, self.eps);
        let squeeze = block.squeeze.then(|| {
            let [reduce, widen] = {
                let at = next();
                ["fc1", "fc2"].map(|layer| format!("{at}.{layer}"))
            };
            SqueezeExcite::new(b, [&reduce, &widen], inner, rounded((inner / 4) as f64, 8), RELU).hard()
        });
        let at = next();
        let names = if self.flat { [at, next()] } else { [0, 1].map(|part| format!("{at}.{part}")) };
        let project = (b.conv(&names[0], inner, channels, k1), b.norm(&names[1], channels, self.eps));
        Block { expand, depthwise, squeeze, project, skip: block.stride == 1 && c_in == channels }
    }
}

/// A convolution with its norm, `NAME.0` and `NAME.1`, and an activation.
struct Layer {
    conv: Conv,
    norm: Norm,
    act: Nonlinearity,
}

impl Layer {
    fn build(
        b: &mut Builder,
        name: &str,
        [c_in, c_out]: [usize; 2],
        spec: Conv2dSpec,
        act: Nonlinearity,
        eps: f64,
    ) -> Self {
        let conv = b.conv(&format!("{name}.0"), c_in, c_out, spec);
        Self { conv, norm: b.norm(&format!("{name}.1"), c_out, eps), act }
    }

    fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        self.conv.forward_activated(f, &self.norm, x, self.act)
    }
}

struct Block {
    expand: Option<Layer>,
    depthwise: Layer,
    squeeze: Option<SqueezeExcite>,
    project: (Conv, Norm),
    skip: bool,
}

impl Block {
    fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        // A norm's result that two read is written out once.
        let x = if self.skip { x.dense()? } else { x.clone() };
        let mut h = match &self.expand {
            Some(expand) => expand.forward(f, &x)?,
            None => x.clone(),
        };
        h = self.depthwise.forward(f, &h)?;
        if let Some(squeeze) = &self.squeeze {
            h = squeeze.forward(f, &h)?;
        }
        let (conv, norm) = &self.project;
        conv.forward_norm(f, norm, &h, self.skip.then_some(&x), Activation::IDENTITY)
    }
}

/// The layers of a [`Plan`].
pub(super) struct MobileTrunk {
    stem: Layer,
    blocks: Vec<Block>,
    last: Option<Layer>,
}

impl MobileTrunk {
    /// The maps after `early` blocks, and the last ones.
    pub fn levels(&self, f: &mut Forward, x: &Var, early: usize) -> Result<[Var; 2]> {
        let mut x = self.stem.forward(f, x)?;
        let mut kept = x.clone();
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(f, &x)?;
            if i + 1 == early {
                x = x.dense()?;
                kept = x.clone();
            }
        }
        match &self.last {
            Some(last) => Ok([kept, last.forward(f, &x)?]),
            None => Ok([kept, x]),
        }
    }

    /// The last maps.
    pub fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        self.levels(f, x, 0).map(|[_, last]| last)
    }
}
