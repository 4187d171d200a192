//! Small convolutional networks for 28x28 grey images, as three public code bases train them.

use super::layers::{Builder, Conv, Linear, Norm};
use super::registry::{Args, Family, Form, Head, Shape};
use super::{Architecture, Body, Forward};
use crate::Result;
use crate::ops::Activation;
use crate::ops::conv2d::Conv2dSpec;
use crate::tape::{self, Pool, PoolKind, UnaryOp, Var};
use serde_json::json;

/// The network of outlier exposure, for the registry.
pub(super) const QUICK_GELU: Family = Family {
    title: "small convolutional networks",
    model_type: "quickgelu_convnet",
    form: Form::Ours,
    names: &[("mnist-convnet", || json!({}))],
    aliases: &[],
    variants: &[],
    pattern: None,
    summary: "mnist-convnet",
    usual_input: [1, 28, 28],
    min_side: 16,
    student_rate: 0.05,
    first: "conv1",
    head: Head::Is("fc2"),
    averages: false,
    schemes: &[],
    transformers: None,
    build: quick_gelu,
};

/// The network for Fashion-MNIST, for the registry.
pub(super) const FASHION: Family = Family {
    model_type: "fashion_cnn",
    names: &[("fashion-cnn", || json!({}))],
    summary: "fashion-cnn",
    min_side: 4,
    build: fashion,
    ..QUICK_GELU
};

/// Burn's network with batch norms, for the registry.
pub(super) const BURN: Family = Family {
    model_type: "burn_mnist_cnn",
    names: &[("burn-mnist-cnn", || json!({}))],
    summary: "burn-mnist-cnn",
    min_side: 7,
    student_rate: 0.5,
    build: burn,
    ..QUICK_GELU
};

fn small(shape: &Shape) -> SmallCnn {
    SmallCnn { in_channels: shape.channels, size: shape.sides(), num_classes: shape.num_classes }
}

fn quick_gelu(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    args.fixed("batch_norm", json!(false))?;
    args.fixed("activation", json!("x*sigmoid(1.702x)"))?;
    args.fixed("activation_after_pool", json!(true))?;
    Ok(Architecture::new(|b| small(shape).quick_gelu(b)))
}

fn fashion(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    args.fixed("batch_norm", json!(false))?;
    Ok(Architecture::new(|b| small(shape).fashion(b)))
}

fn burn(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    args.fixed("head_batch_norm", json!(true))?;
    let eps = args.eps(1e-5)?;
    Ok(Architecture::new(|b| small(shape).burn(b, eps)))
}

const HALVE: Pool = Pool { kind: PoolKind::Max, kernel: 2, stride: 2, padding: 0 };

/// What the networks of this file read and answer.
#[derive(Clone, Debug, PartialEq)]
pub struct SmallCnn {
    pub in_channels: usize,
    /// Image height and width.
    pub size: [usize; 2],
    pub num_classes: usize,
}

struct QuickGelu {
    conv1: Conv,
    conv2: Conv,
    fc1: Linear,
    fc2: Linear,
}

struct Fashion {
    conv1: Conv,
    conv2: Conv,
    fc1: Linear,
    fc2: Linear,
}

struct Burn {
    convs: [Conv; 3],
    norm1: Norm,
    fc1: Linear,
    fc2: Linear,
    norm2: Norm,
}

impl SmallCnn {
    /// Pixels per channel that are left when every side has gone through `left`.
    fn pixels(&self, left: impl Fn(usize) -> usize) -> usize {
        self.size.iter().map(|side| left(*side)).product()
    }

    /// The MNIST network of Hendrycks et al., "Deep Anomaly Detection with Outlier Exposure" (2019): quick GELU after
    /// each max-pool (the order matters, the function is not monotonic). Sides of at least 16.
    pub fn quick_gelu(&self, b: &mut Builder) -> impl Body + use<> {
        let k5 = Conv2dSpec::new(5);
        QuickGelu {
            conv1: b.conv_bias("conv1", self.in_channels, 10, k5),
            conv2: b.conv_bias("conv2", 10, 20, k5),
            fc1: b.linear("fc1", 20 * self.pixels(|side| ((side - 4) / 2 - 4) / 2), 50),
            fc2: b.linear("fc2", 50, self.num_classes),
        }
    }

    /// Two padded 3x3 convolutions with ReLU and max-pool, two linear layers. Sides of at least 4.
    pub fn fashion(&self, b: &mut Builder) -> impl Body + use<> {
        let k3 = Conv2dSpec::new(3).padding(1);
        Fashion {
            conv1: b.conv_bias("conv1", self.in_channels, 32, k3),
            conv2: b.conv_bias("conv2", 32, 64, k3),
            fc1: b.linear("fc1", 64 * self.pixels(|side| side / 4), 128),
            fc2: b.linear("fc2", 128, self.num_classes),
        }
    }

    /// The example of Burn's weight import: three 3x3 convolutions without padding, a batch norm *after* the last ReLU,
    /// and one over the logits, which is 1-d and so is not matched in inversion. Sides of at least 7.
    pub fn burn(&self, b: &mut Builder, bn_eps: f64) -> impl Body + use<> {
        let k3 = Conv2dSpec::new(3);
        Burn {
            convs: [
                b.conv_bias("conv1", self.in_channels, 8, k3),
                b.conv_bias("conv2", 8, 16, k3),
                b.conv_bias("conv3", 16, 24, k3),
            ],
            norm1: b.norm("norm1", 24, bn_eps),
            fc1: b.linear("fc1", 24 * self.pixels(|side| side - 6), 32),
            fc2: b.linear("fc2", 32, self.num_classes),
            norm2: b.norm_1d("norm2", self.num_classes, bn_eps),
        }
    }
}

impl Body for QuickGelu {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let mut x = x;
        for conv in [&self.conv1, &self.conv2] {
            x = conv.forward(f, &x, None, Activation::IDENTITY)?;
            f.leaves_map(&x);
            x = tape::pool(f.tape, &x, HALVE)?;
            x = tape::unary(f.tape, &x, UnaryOp::QuickGelu)?;
        }
        let x = tape::flatten_chw(f.tape, &x)?;
        let x = self.fc1.forward(f, &x)?;
        let features = tape::unary(f.tape, &x, UnaryOp::QuickGelu)?;
        f.features = Some(features.clone());
        self.fc2.forward(f, &features)
    }
}

impl Body for Fashion {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let mut x = x;
        for conv in [&self.conv1, &self.conv2] {
            x = conv.forward(f, &x, None, Activation::RELU)?;
            f.leaves_map(&x);
            x = tape::pool(f.tape, &x, HALVE)?;
        }
        let x = tape::flatten_chw(f.tape, &x)?;
        let features = self.fc1.forward_act(f, &x, Activation::RELU)?;
        f.features = Some(features.clone());
        self.fc2.forward(f, &features)
    }
}

impl Body for Burn {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let mut x = x;
        for conv in &self.convs {
            x = conv.forward(f, &x, None, Activation::RELU)?;
            f.leaves_map(&x);
        }
        let x = self.norm1.forward(f, &x, None, None, Activation::IDENTITY)?;
        let x = tape::flatten_chw(f.tape, &x)?;
        let features = self.fc1.forward_act(f, &x, Activation::RELU)?;
        f.features = Some(features.clone());
        let x = self.fc2.forward(f, &features)?;
        self.norm2.forward(f, &x, None, None, Activation::IDENTITY)
    }
}
