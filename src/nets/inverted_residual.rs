//! Networks of inverted residual blocks: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (2018),
//! figures 3 and 4, with squeeze-and-excitation as Tan and Le, "EfficientNet" (2019), have it. Tensors are called as timm
//! calls them.

use super::layers::{Builder, Conv, Linear, Nonlinearity, Norm};
use super::registry::Args;
use super::squeeze_excite::SqueezeExcite;
use super::{Body, Forward, Init};
use crate::Result;
use crate::ops::Activation;
use crate::ops::conv2d::{Conv2dSpec, Padding};
use crate::tape::{self, Var};

/// Where the zeros around a k×k convolution lie. With stride 1 all three are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pad {
    /// `(k − 1) / 2` on every side, as in PyTorch.
    Symmetric,
    /// TensorFlow's "same", which depends on the image.
    Same,
    /// What "same" is for an even side, whatever the side is: `k/2 − 1` before and `k/2` after.
    End,
}

impl Pad {
    /// The argument `pad_type`: nothing for symmetric zeros, `same` as in timm, or `end`.
    pub(super) fn read(args: &mut Args) -> Result<Self> {
        match args.text("pad_type", "")? {
            "" => Ok(Self::Symmetric),
            "same" => Ok(Self::Same),
            "end" => Ok(Self::End),
            other => Err(args.refuse("pad_type", other, "it is empty, same or end")),
        }
    }

    fn zeros(self, kernel: usize, stride: usize, input: [usize; 2]) -> Padding {
        match self {
            Self::Same => Padding::tensorflow([kernel; 2], [stride; 2], input),
            Self::End if stride > 1 => {
                Padding { top: kernel / 2 - 1, left: kernel / 2 - 1, bottom: kernel / 2, right: kernel / 2 }
            }
            _ => Padding::same((kernel - 1) / 2),
        }
    }
}

/// Blocks of one width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// How many times wider a block is inside; 1: there is no expanding convolution.
    pub expansion: usize,
    /// Side of the depthwise kernels.
    pub kernel: usize,
    pub channels: usize,
    pub blocks: usize,
    /// Of the first block.
    pub stride: usize,
}

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct InvertedResidualNet {
    /// Width and stride of the first convolution.
    pub stem: (usize, usize),
    pub stages: Vec<Stage>,
    /// Width of the last convolution.
    pub features: usize,
    pub act: Nonlinearity,
    /// Whether blocks have squeeze-and-excitation, to a quarter of their input's channels.
    pub squeeze: bool,
    pub pad: Pad,
    /// Blocks, counted over all stages, whose padding is symmetric whatever `pad` says.
    pub symmetric: Vec<usize>,
    pub in_channels: usize,
    pub num_classes: usize,
    pub bn_eps: f64,
    /// Name of the linear layer in files.
    pub head: &'static str,
}

/// A convolution with its norm.
struct Layer {
    conv: Conv,
    norm: Norm,
    kernel: usize,
    stride: usize,
    pad: Pad,
}

struct Block {
    expand: Option<Layer>,
    depthwise: Layer,
    squeeze: Option<SqueezeExcite>,
    project: Layer,
    skip: bool,
}

struct Net {
    stem: Layer,
    blocks: Vec<Block>,
    last: Layer,
    classifier: Linear,
    act: Nonlinearity,
}

impl InvertedResidualNet {
    /// Registers the layers; they start as timm starts them, but for the last one, which starts as torchvision's MobileNetV2
    /// starts it: timm's bound of `1/√classes` is for a thousand classes, and makes logits of a dozen with ten.
    pub fn build(&self, b: &mut Builder) -> impl Body + use<> {
        let (stem_width, stem_stride) = self.stem;
        let stem = self.layer(b, ["conv_stem", "bn1"], [self.in_channels, stem_width], [3, stem_stride], 1, self.pad);
        let mut blocks = Vec::new();
        let mut c_in = stem_width;
        for (s, stage) in self.stages.iter().enumerate() {
            for i in 0..stage.blocks {
                let stride = if i == 0 { stage.stride } else { 1 };
                let pad = if self.symmetric.contains(&blocks.len()) { Pad::Symmetric } else { self.pad };
                blocks.push(self.block(b, &format!("blocks.{s}.{i}"), c_in, stage, stride, pad));
                c_in = stage.channels;
            }
        }
        let last = self.layer(b, ["conv_head", "bn2"], [c_in, self.features], [1, 1], 1, self.pad);
        let classifier =
            b.linear_init(self.head, self.features, self.num_classes, [Init::Normal(0.01), Init::Constant(0.0)]);
        Net { stem, blocks, last, classifier, act: self.act }
    }

    fn layer(
        &self,
        b: &mut Builder,
        [conv, norm]: [&str; 2],
        [c_in, c_out]: [usize; 2],
        [kernel, stride]: [usize; 2],
        groups: usize,
        pad: Pad,
    ) -> Layer {
        let spec = Conv2dSpec::new(kernel).stride(stride).groups(groups);
        let conv = b.conv(conv, c_in, c_out, spec);
        Layer { conv, norm: b.norm(norm, c_out, self.bn_eps), kernel, stride, pad }
    }

    fn block(&self, b: &mut Builder, name: &str, c_in: usize, stage: &Stage, stride: usize, pad: Pad) -> Block {
        let named = |part: &str| format!("{name}.{part}");
        let inner = c_in * stage.expansion;
        let expands = stage.expansion > 1;
        let [bn_depthwise, conv_project, bn_project] =
            if expands { ["bn2", "conv_pwl", "bn3"] } else { ["bn1", "conv_pw", "bn2"] };
        let layer = |b: &mut Builder, conv: &str, norm: &str, channels, spatial, groups| {
            self.layer(b, [&named(conv), &named(norm)], channels, spatial, groups, pad)
        };
        Block {
            expand: expands.then(|| layer(b, "conv_pw", "bn1", [c_in, inner], [1, 1], 1)),
            depthwise: layer(b, "conv_dw", bn_depthwise, [inner, inner], [stage.kernel, stride], inner),
            squeeze: self.squeeze.then(|| {
                let names = [named("se.conv_reduce"), named("se.conv_expand")];
                SqueezeExcite::new(b, [&names[0], &names[1]], inner, (c_in / 4).max(1), self.act)
            }),
            project: layer(b, conv_project, bn_project, [inner, stage.channels], [1, 1], 1),
            skip: stride == 1 && c_in == stage.channels,
        }
    }
}

impl Body for Net {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let mut x = self.stem.forward(f, &x, self.act)?;
        for block in &self.blocks {
            x = block.forward(f, &x, self.act)?;
            f.leaves_map(&x);
        }
        let x = self.last.forward(f, &x, self.act)?;
        let features = tape::global_mean(f.tape, &x)?;
        f.features = Some(features.clone());
        self.classifier.forward(f, &features)
    }
}

impl Layer {
    fn padded(&self, x: &Var) -> Conv {
        match x.dims() {
            &[_, h, w, _] => self.conv.padded(self.pad.zeros(self.kernel, self.stride, [h, w])),
            _ => self.conv,
        }
    }

    fn forward(&self, f: &mut Forward, x: &Var, act: Nonlinearity) -> Result<Var> {
        self.padded(x).forward_activated(f, &self.norm, x, act)
    }
}

impl Block {
    fn forward(&self, f: &mut Forward, x: &Var, act: Nonlinearity) -> Result<Var> {
        // A norm's result that two read is written out once.
        let x = if self.skip { x.dense()? } else { x.clone() };
        let mut h = match &self.expand {
            Some(expand) => expand.forward(f, &x, act)?,
            None => x.clone(),
        };
        h = self.depthwise.forward(f, &h, act)?;
        if let Some(squeeze) = &self.squeeze {
            h = squeeze.forward(f, &h)?;
        }
        let Layer { conv, norm, .. } = &self.project;
        conv.forward_norm(f, norm, &h, self.skip.then_some(&x), Activation::IDENTITY)
    }
}
