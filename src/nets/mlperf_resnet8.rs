//! The ResNet-8 of MLPerf Tiny (Banbury et al., 2021), a Keras network: every convolution has a bias, batch norms have
//! ε = 10⁻³, shortcuts are a 1x1 convolution without batch norm, and padding follows TensorFlow's "same".

use super::layers::{Builder, Conv, Linear, Norm};
use super::registry::{Args, Family, Form, Head, Shape};
use super::{Architecture, Body, Forward};
use crate::Result;
use crate::ops::Activation;
use crate::ops::conv2d::{Conv2dSpec, Padding};
use crate::tape::{self, Var};
use serde_json::json;

/// The family, for the registry.
pub(super) const FAMILY: Family = Family {
    title: "ResNet",
    model_type: "mlperf_tiny_resnet8",
    form: Form::Ours,
    names: &[("mlperf-resnet8", || json!({}))],
    aliases: &[],
    variants: &[],
    pattern: None,
    summary: "mlperf-resnet8",
    usual_input: [3, 32, 32],
    min_side: 8,
    student_rate: 0.5,
    first: "conv1",
    head: Head::Is("fc"),
    averages: true,
    schemes: &[],
    transformers: None,
    build,
};

fn build(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    let widths = args.list("widths", 1..=4096, &[16, 32, 64])?;
    let Ok(widths) = <[usize; 3]>::try_from(widths.as_slice()) else {
        return Err(args.refuse("widths", format!("{widths:?}"), "there are three"));
    };
    args.fixed("conv_bias", json!(true))?;
    args.fixed("padding", json!("tensorflow-same"))?;
    args.fixed("shortcut", json!("1x1 conv with bias, no BN"))?;
    let bn_eps = args.eps(1e-3)?;
    let net = MlperfResNet8 { widths, bn_eps, in_channels: shape.channels, num_classes: shape.num_classes };
    Ok(Architecture::new(|b| net.build(b)))
}

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct MlperfResNet8 {
    /// Widths of the three groups of one block.
    pub widths: [usize; 3],
    pub bn_eps: f64,
    pub in_channels: usize,
    pub num_classes: usize,
}

struct Block {
    conv1: Conv,
    bn1: Norm,
    conv2: Conv,
    bn2: Norm,
    stride: usize,
    shortcut: Option<Conv>,
}

struct Net {
    conv1: Conv,
    bn1: Norm,
    blocks: Vec<Block>,
    fc: Linear,
}

impl MlperfResNet8 {
    /// Registers the layers.
    pub fn build(&self, b: &mut Builder) -> impl Body + use<> {
        let k3 = Conv2dSpec::new(3).padding(1);
        let conv1 = b.conv_bias("conv1", self.in_channels, self.widths[0], k3);
        let bn1 = b.norm("bn1", self.widths[0], self.bn_eps);
        let mut blocks = Vec::new();
        let mut c_in = self.widths[0];
        for (g, &c_out) in self.widths.iter().enumerate() {
            let stride = if g == 0 { 1 } else { 2 };
            let name = |part: &str| format!("layer{}.0.{part}", g + 1);
            blocks.push(Block {
                conv1: b.conv_bias(&name("conv1"), c_in, c_out, k3.stride(stride)),
                bn1: b.norm(&name("bn1"), c_out, self.bn_eps),
                conv2: b.conv_bias(&name("conv2"), c_out, c_out, k3),
                bn2: b.norm(&name("bn2"), c_out, self.bn_eps),
                stride,
                shortcut: (g > 0)
                    .then(|| b.conv_bias(&name("downsample.0"), c_in, c_out, Conv2dSpec::new(1).stride(stride))),
            });
            c_in = c_out;
        }
        Net { conv1, bn1, blocks, fc: b.linear("fc", c_in, self.num_classes) }
    }
}

impl Body for Net {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let mut x = self.conv1.forward_norm(f, &self.bn1, &x, None, Activation::RELU)?.dense()?;
        for block in &self.blocks {
            x = block.forward(f, &x)?;
            f.leaves_map(&x);
        }
        let features = tape::global_mean(f.tape, &x)?;
        f.features = Some(features.clone());
        self.fc.forward(f, &features)
    }
}

impl Block {
    fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let conv1 = match x.dims() {
            &[_, h, w, _] if self.stride == 2 => self.conv1.padded(Padding::tensorflow([3, 3], [2, 2], [h, w])),
            _ => self.conv1,
        };
        let h = conv1.forward_norm(f, &self.bn1, x, None, Activation::RELU)?;
        let shortcut = match &self.shortcut {
            None => x.clone(),
            Some(conv) => conv.forward(f, x, None, Activation::IDENTITY)?,
        };
        self.conv2.forward_norm(f, &self.bn2, &h, Some(&shortcut), Activation::RELU)
    }
}
