//! LeNets: LeCun et al., "Gradient-Based Learning Applied to Document Recognition" (1998), in the two forms that are in
//! use today. Neither has batch norms.

use super::layers::{Builder, Conv, Linear};
use super::registry::{Args, Family, Form, Head, Shape};
use super::{Architecture, Body, Forward};
use crate::Result;
use crate::ops::Activation;
use crate::ops::conv2d::Conv2dSpec;
use crate::tape::{self, Pool, PoolKind, Var};
use serde_json::json;

/// LeNet-5, for the registry.
pub(super) const FIVE: Family = Family {
    title: "LeNet",
    model_type: "lenet5",
    form: Form::Ours,
    names: &[("lenet5", || json!({"half": false})), ("lenet5-half", || json!({"half": true}))],
    aliases: &[],
    variants: &[],
    pattern: None,
    summary: "lenet5, lenet5-half",
    usual_input: [1, 32, 32],
    min_side: 28,
    student_rate: 0.05,
    first: "conv1",
    head: Head::Is("fc2"),
    averages: false,
    schemes: &[],
    transformers: None,
    build: five,
};

/// The LeNet for colour images, for the registry.
pub(super) const CIFAR: Family = Family {
    model_type: "lenet_cifar",
    names: &[("lenet-cifar", || json!({}))],
    summary: "lenet-cifar",
    usual_input: [3, 32, 32],
    min_side: 16,
    head: Head::Is("fc3"),
    build: cifar,
    ..FIVE
};

fn five(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    args.fixed("batch_norm", json!(false))?;
    let half = args.flag("half", false)?;
    let net = LeNet5 { half, in_channels: shape.channels, size: shape.sides(), num_classes: shape.num_classes };
    Ok(Architecture::new(|b| net.build(b)))
}

fn cifar(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    args.fixed("batch_norm", json!(false))?;
    let net = LeNetCifar { in_channels: shape.channels, size: shape.sides(), num_classes: shape.num_classes };
    Ok(Architecture::new(|b| net.build(b)))
}

const HALVE: Pool = Pool { kind: PoolKind::Max, kernel: 2, stride: 2, padding: 0 };

/// LeNet-5 with a third convolution, as DAFL's teacher for MNIST (61,706 parameters), or half as wide (15,738).
#[derive(Clone, Debug, PartialEq)]
pub struct LeNet5 {
    /// Widths 3, 8, 60 and 42 instead of 6, 16, 120 and 84.
    pub half: bool,
    pub in_channels: usize,
    /// Image height and width, at least 28. If a side is below 32 the image is framed by two pixels of zeros, so that
    /// 28x28 becomes 32x32.
    pub size: [usize; 2],
    pub num_classes: usize,
}

struct FiveNet {
    convs: [Conv; 3],
    fc1: Linear,
    fc2: Linear,
}

impl LeNet5 {
    /// Registers the layers.
    pub fn build(&self, b: &mut Builder) -> impl Body + use<> {
        let [c1, c2, c3, hidden] = if self.half { [3, 8, 60, 42] } else { [6, 16, 120, 84] };
        let frame = if self.size[0].min(self.size[1]) < 32 { 2 } else { 0 };
        let k5 = Conv2dSpec::new(5);
        let last = |side: usize| ((side + 2 * frame - 4) / 2 - 4) / 2 - 4;
        FiveNet {
            convs: [
                b.conv_bias("conv1", self.in_channels, c1, k5.padding(frame)),
                b.conv_bias("conv2", c1, c2, k5),
                b.conv_bias("conv3", c2, c3, k5),
            ],
            fc1: b.linear("fc1", c3 * last(self.size[0]) * last(self.size[1]), hidden),
            fc2: b.linear("fc2", hidden, self.num_classes),
        }
    }
}

impl Body for FiveNet {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let [conv1, conv2, conv3] = &self.convs;
        let x = conv1.forward(f, &x, None, Activation::RELU)?;
        f.leaves_map(&x);
        let x = tape::pool(f.tape, &x, HALVE)?;
        let x = conv2.forward(f, &x, None, Activation::RELU)?;
        f.leaves_map(&x);
        let x = tape::pool(f.tape, &x, HALVE)?;
        let x = conv3.forward(f, &x, None, Activation::RELU)?;
        f.leaves_map(&x);
        let x = tape::flatten_chw(f.tape, &x)?;
        let features = self.fc1.forward_act(f, &x, Activation::RELU)?;
        f.features = Some(features.clone());
        self.fc2.forward(f, &features)
    }
}

/// The network of PyTorch's CIFAR-10 tutorial, which Captum ships trained: two 5x5 convolutions, three linear layers.
#[derive(Clone, Debug, PartialEq)]
pub struct LeNetCifar {
    pub in_channels: usize,
    /// Image height and width, at least 16: one pixel is then left before the linear layers.
    pub size: [usize; 2],
    pub num_classes: usize,
}

struct CifarNet {
    conv1: Conv,
    conv2: Conv,
    fc1: Linear,
    fc2: Linear,
    fc3: Linear,
}

impl LeNetCifar {
    /// Registers the layers.
    pub fn build(&self, b: &mut Builder) -> impl Body + use<> {
        let k5 = Conv2dSpec::new(5);
        let last = |side: usize| ((side - 4) / 2 - 4) / 2;
        CifarNet {
            conv1: b.conv_bias("conv1", self.in_channels, 6, k5),
            conv2: b.conv_bias("conv2", 6, 16, k5),
            fc1: b.linear("fc1", 16 * last(self.size[0]) * last(self.size[1]), 120),
            fc2: b.linear("fc2", 120, 84),
            fc3: b.linear("fc3", 84, self.num_classes),
        }
    }
}

impl Body for CifarNet {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let x = self.conv1.forward(f, &x, None, Activation::RELU)?;
        f.leaves_map(&x);
        let x = tape::pool(f.tape, &x, HALVE)?;
        let x = self.conv2.forward(f, &x, None, Activation::RELU)?;
        f.leaves_map(&x);
        let x = tape::pool(f.tape, &x, HALVE)?;
        let x = tape::flatten_chw(f.tape, &x)?;
        let x = self.fc1.forward_act(f, &x, Activation::RELU)?;
        let features = self.fc2.forward_act(f, &x, Activation::RELU)?;
        f.features = Some(features.clone());
        self.fc3.forward(f, &features)
    }
}
