//! DeepLabV3: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation" (2017), figure 5, on a ResNet with
//! bottlenecks (output stride 8) or on a MobileNet (16), with torchvision's names. Answers are enlarged bilinearly,
//! half-pixel centres.
//!
//! torchvision has no such network on MobileNetV2: it is the same head on `features` without the last convolution, as the
//! paper of MobileNetV2 has it. The auxiliary classifier of published weights, which only training reads, is left out.

use super::aspp::{Aspp, sides};
use super::layers::Builder;
use super::mobile_trunk::{MobileTrunk, Plan};
use super::registry::{Args, Family, Form, Head, Shape};
use super::resnet::{ResNet, Trunk};
use super::{Architecture, Body, Forward};
use crate::Result;
use crate::tape::{self, Var};
use crate::weights::Scheme;
use serde_json::{Value, json};

/// On a ResNet, for the registry.
pub(super) const RESNET: Family = Family {
    title: "DeepLabV3",
    model_type: "deeplabv3_resnet",
    form: Form::Ours,
    names: &[
        ("deeplabv3_resnet50", || json!({"layers": [3, 4, 6, 3]})),
        ("deeplabv3_resnet101", || json!({"layers": [3, 4, 23, 3]})),
    ],
    aliases: &[],
    variants: &[],
    pattern: None,
    summary: "deeplabv3_resnet50|101",
    usual_input: [3, 520, 520],
    min_side: 8,
    student_rate: 0.1,
    first: "backbone.conv1",
    head: Head::Is("classifier.4"),
    averages: true,
    schemes: &[WITHOUT_AUXILIARY],
    transformers: None,
    build: on_resnet,
};

/// On MobileNetV2, for the registry.
pub(super) const MOBILENET_V2: Family = Family {
    model_type: "deeplabv3_mobilenet_v2",
    names: &[
        ("deeplabv3_mobilenet_v2", || width(1.0)),
        ("deeplabv3_mobilenet_v2_050", || width(0.5)),
        ("deeplabv3_mobilenet_v2_035", || width(0.35)),
    ],
    summary: "deeplabv3_mobilenet_v2[_050|_035]",
    student_rate: 0.05,
    first: "backbone.0.0",
    build: on_mobilenet_v2,
    ..RESNET
};

/// On MobileNetV3-Large, for the registry.
pub(super) const MOBILENET_V3: Family = Family {
    model_type: "deeplabv3_mobilenet_v3",
    names: &[("deeplabv3_mobilenet_v3_large", || json!({}))],
    summary: "deeplabv3_mobilenet_v3_large",
    build: on_mobilenet_v3,
    ..MOBILENET_V2
};

/// torchvision's weights as published.
const WITHOUT_AUXILIARY: Scheme =
    Scheme { name: "torchvision with an auxiliary classifier", renames: &[("aux_classifier.**", "")] };

fn width(channel_multiplier: f64) -> Value {
    json!({"channel_multiplier": channel_multiplier})
}

fn on_resnet(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    let layers = args.list("layers", 1..=64, &[3, 4, 6, 3])?;
    if layers.len() != 4 {
        return Err(args.refuse("layers", format!("{layers:?}"), "there are four stages"));
    }
    let resnet = ResNet {
        bottleneck: true,
        layers,
        channels: vec![64, 128, 256, 512],
        base_width: 64,
        in_channels: shape.channels,
        num_classes: shape.num_classes,
        bn_eps: 1e-5,
        head: "",
    };
    Ok(network(shape, resnet.features(), |b| Backbone::ResNet(resnet.trunk(b, "backbone.", true))))
}

fn on_mobilenet_v2(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    let plan = Plan::v2(args.number("channel_multiplier", 0.05..=8.0, 1.0)?);
    let output_stride = args.count("output_stride", 8..=32, Some(16))?;
    if !output_stride.is_power_of_two() {
        return Err(args.refuse("output_stride", output_stride, "it is 8, 16 or 32"));
    }
    Ok(on_mobile(shape, &plan, output_stride))
}

fn on_mobilenet_v3(_: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    Ok(on_mobile(shape, &Plan::v3_large(), 16))
}

fn on_mobile(shape: &Shape, plan: &Plan, output_stride: usize) -> Architecture {
    network(shape, plan.features(), |b| Backbone::Mobile(Box::new(plan.build(b, shape.channels, output_stride))))
}

fn network(shape: &Shape, features: usize, backbone: impl FnOnce(&mut Builder) -> Backbone) -> Architecture {
    let build = |b: &mut Builder| Net { backbone: backbone(b), head: Aspp::build(b, features, shape.num_classes) };
    Architecture::new(build).for_pixels(1)
}

enum Backbone {
    ResNet(Trunk),
    Mobile(Box<MobileTrunk>),
}

struct Net {
    backbone: Backbone,
    head: Aspp,
}

impl Body for Net {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let [h, w] = sides(&x)?;
        let maps = match &self.backbone {
            Backbone::ResNet(trunk) => trunk.forward(f, &x)?,
            Backbone::Mobile(trunk) => trunk.forward(f, &x)?,
        };
        let logits = self.head.forward(f, &maps)?;
        tape::bilinear(f.tape, &logits, h, w)
    }
}
