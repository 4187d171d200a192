//! LR-ASPP on MobileNetV3-Large: Howard et al., "Searching for MobileNetV3" (2019), figure 10, with torchvision's names.
//! Answers at an eighth of the sides are enlarged bilinearly, half-pixel centres. As in torchvision, the gate reads the mean
//! over all pixels, where the paper has large windows.

use super::aspp::sides;
use super::layers::{Builder, Conv, Norm};
use super::mobile_trunk::{MobileTrunk, Plan};
use super::registry::{Args, Family, Form, Head, Shape};
use super::{Architecture, Body, Forward};
use crate::Result;
use crate::ops::Activation;
use crate::ops::conv2d::Conv2dSpec;
use crate::tape::{self, UnaryOp, Var};
use serde_json::json;

/// The family, for the registry.
pub(super) const FAMILY: Family = Family {
    title: "LR-ASPP",
    model_type: "lraspp_mobilenet_v3",
    form: Form::Ours,
    names: &[("lraspp_mobilenet_v3_large", || json!({}))],
    aliases: &[],
    variants: &[],
    pattern: None,
    summary: "lraspp_mobilenet_v3_large",
    usual_input: [3, 520, 520],
    min_side: 8,
    student_rate: 0.05,
    first: "backbone.0.0",
    head: Head::Is("classifier.low_classifier"),
    averages: true,
    schemes: &[],
    transformers: None,
    build,
};

/// The blocks in front of the finer maps, at an eighth of the sides.
const EARLY: usize = 4;
/// Channels of the coarser maps, at a sixteenth.
const WIDTH: usize = 128;

fn build(_: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    Ok(Architecture::new(|b| Net::build(b, shape)).for_pixels(1))
}

struct Net {
    backbone: MobileTrunk,
    reduce: (Conv, Norm),
    /// Of the mean over all pixels: one factor per channel of the reduced maps.
    gate: Conv,
    low: Conv,
    high: Conv,
}

impl Net {
    fn build(b: &mut Builder, shape: &Shape) -> Self {
        let plan = Plan::v3_large();
        let (features, k1) = (plan.features(), Conv2dSpec::new(1));
        let backbone = plan.build(b, shape.channels, 16);
        let reduce = b.conv_default("classifier.cbr.0", features, WIDTH, k1);
        Self {
            backbone,
            reduce: (reduce, b.norm("classifier.cbr.1", WIDTH, 1e-5)),
            gate: b.conv_default("classifier.scale.1", features, WIDTH, k1),
            low: b.conv_bias("classifier.low_classifier", plan.channels(EARLY), shape.num_classes, k1),
            high: b.conv_bias("classifier.high_classifier", WIDTH, shape.num_classes, k1),
        }
    }
}

impl Body for Net {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let [height, width] = sides(&x)?;
        let [fine, coarse] = self.backbone.levels(f, &x, EARLY)?;
        let mean = tape::global_mean(f.tape, &coarse)?;
        let gate = self.gate.forward_rows(f, &mean)?;
        let gate = tape::unary(f.tape, &gate, UnaryOp::Sigmoid)?;
        let (conv, norm) = &self.reduce;
        let reduced = conv.forward_norm(f, norm, &coarse, None, Activation::RELU)?;
        let gated = tape::gate(f.tape, &reduced, &gate)?;
        let [h, w] = sides(&fine)?;
        let gated = tape::bilinear(f.tape, &gated, h, w)?;
        let high = self.high.forward(f, &gated, None, Activation::IDENTITY)?;
        let logits = self.low.forward(f, &fine, Some(&high), Activation::IDENTITY)?;
        tape::bilinear(f.tape, &logits, height, width)
    }
}
