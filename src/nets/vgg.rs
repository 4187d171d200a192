//! VGG with batch norms, for large images: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
//! Recognition" (2015), table 1, columns A, B, D and E.
//!
//! As in timm, the first two layers of the head are convolutions, 7x7 and 1x1, and what several places of a large image
//! say is averaged (torchvision, whose linear layers are the same numbers, pools the map to 7x7 first; up to 255 pixels it
//! is the same). Smaller maps are pooled up to 7x7, as both do. Dropout is left out: a student of a frozen teacher does not overfit its answers.

use super::layers::{Builder, Conv, Linear};
use super::registry::{Args, Family, Form, Head, Shape};
use super::vgg_cifar::{self, Stage};
use super::{Architecture, Body, Forward, Init};
use crate::Result;
use crate::ops::Activation;
use crate::ops::conv2d::Conv2dSpec;
use crate::tape::{self, Var};
use crate::weights::Scheme;
use serde_json::json;

/// The family, for the registry.
pub(super) const FAMILY: Family = Family {
    title: "VGG",
    model_type: "vgg",
    form: Form::Timm,
    names: &[
        ("vgg11_bn", || json!({"depth": 11})),
        ("vgg13_bn", || json!({"depth": 13})),
        ("vgg16_bn", || json!({"depth": 16})),
        ("vgg19_bn", || json!({"depth": 19})),
    ],
    aliases: &[],
    variants: &[],
    pattern: None,
    summary: "vgg11_bn|13|16|19",
    usual_input: [3, 224, 224],
    min_side: 32,
    student_rate: 0.5,
    first: "features.0",
    head: Head::Is("head.fc"),
    averages: true,
    schemes: &[TORCHVISION],
    transformers: None,
    build,
};

fn build(args: &mut Args, shape: &Shape, head: &'static str) -> Result<Architecture> {
    let net = Vgg {
        convs: vgg_cifar::convs_per_stage(args)?,
        hidden: 4096,
        in_channels: shape.channels,
        num_classes: shape.num_classes,
        head,
    };
    Ok(Architecture::new(|b| net.build(b)))
}

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Vgg {
    /// Convolutions of each of the five stages.
    pub convs: [usize; 5],
    /// Width of the two layers before the last: 4096 in the paper.
    pub hidden: usize,
    pub in_channels: usize,
    pub num_classes: usize,
    /// Name of the linear layer in files.
    pub head: &'static str,
}

struct Net {
    stages: Vec<Stage>,
    /// Over 7x7 pixels, and pixel by pixel.
    hidden: [Conv; 2],
    head: Linear,
}

/// Side of the map that the head reads.
const MAP: usize = 7;

impl Vgg {
    /// Registers the layers.
    pub fn build(&self, b: &mut Builder) -> impl Body + use<> {
        let stages = Stage::sequence(b, &self.convs, self.in_channels);
        let init = [Init::Normal(0.01), Init::Constant(0.0)];
        let hidden = [
            b.conv_bias_init("pre_logits.fc1", vgg_cifar::FEATURES, self.hidden, Conv2dSpec::new(MAP), init),
            b.conv_bias_init("pre_logits.fc2", self.hidden, self.hidden, Conv2dSpec::new(1), init),
        ];
        Net { stages, hidden, head: b.linear_init(self.head, self.hidden, self.num_classes, init) }
    }
}

impl Body for Net {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let mut x = x;
        for stage in &self.stages {
            x = stage.forward(f, &x)?;
            f.leaves_map(&x);
            x = tape::pool(f.tape, &x, vgg_cifar::HALVE)?;
        }
        let sides = [x.dims()[1].max(MAP), x.dims()[2].max(MAP)];
        x = tape::adaptive_mean(f.tape, &x, sides)?;
        for conv in &self.hidden {
            x = conv.forward(f, &x, None, Activation::RELU)?;
        }
        let features = tape::global_mean(f.tape, &x)?;
        f.features = Some(features.clone());
        self.head.forward(f, &features)
    }
}

/// torchvision flattens the 7x7 map and has linear layers, numbered with the ReLUs and dropouts between them.
const TORCHVISION: Scheme = Scheme {
    name: "torchvision VGG",
    renames: &[
        ("classifier.0.*", "pre_logits.fc1.*"),
        ("classifier.3.*", "pre_logits.fc2.*"),
        ("classifier.6.*", "head.fc.*"),
    ],
};
