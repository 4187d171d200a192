//! Residual networks for small images: He et al., "Deep Residual Learning for Image Recognition" (2015), section 4.2
//! (three groups, widths 16/32/64), and the four-group ResNet-18/34 with a 3x3 stem and no max-pool.

use super::layers::{Builder, Conv, Linear, Norm};
use super::registry::{Args, Family, Form, Head, Shape};
use super::{Architecture, Body, Forward};
use crate::Result;
use crate::ops::Activation;
use crate::ops::conv2d::Conv2dSpec;
use crate::tape::{self, Var};
use crate::weights::Scheme;
use serde_json::{Value, json};

/// Three groups, for the registry.
pub(super) const FAMILY: Family = Family {
    title: "ResNet",
    model_type: "cifar_resnet",
    form: Form::Ours,
    names: &[
        ("resnet8", || named(8)),
        ("resnet14", || named(14)),
        ("resnet20", || named(20)),
        ("resnet32", || named(32)),
        ("resnet44", || named(44)),
        ("resnet56", || named(56)),
        ("resnet110", || named(110)),
    ],
    aliases: &[],
    variants: &[],
    pattern: Some(pattern),
    summary: "resnet8|14|20|32|44|56|110 (padded shortcuts; with `-b` projected ones, with `x4` four times as wide)",
    usual_input: [3, 32, 32],
    min_side: 8,
    student_rate: 0.5,
    first: "conv1",
    head: Head::OfShortcut,
    averages: true,
    schemes: &[KUANGLIU, LINEAR_HEAD],
    transformers: None,
    build: three_groups,
};

/// Four groups, for the registry.
pub(super) const FOUR_GROUPS: Family = Family {
    model_type: "resnet_cifar_form",
    names: &[("resnet18", || json!({"depth": 18})), ("resnet34", || json!({"depth": 34}))],
    pattern: None,
    summary: "cifar-resnet18|34 (a 3x3 stem without pooling; what resnet18|34 are on images of up to 84 pixels)",
    build: four_groups,
    ..FAMILY
};

fn named(depth: usize) -> Value {
    json!({"depth": depth, "shortcut": "A", "widths": [16, 32, 64], "bn_eps": 1e-5})
}

/// `resnet20-b` or `resnet8x4`, of the depths that have a name.
fn pattern(name: &str) -> Option<Value> {
    let (depth, shortcut, widths) = if let Some(depth) = name.strip_suffix("x4") {
        (depth, "B", json!([32, 64, 128, 256]))
    } else if let Some(depth) = name.strip_suffix("-b") {
        (depth, "B", json!([16, 32, 64]))
    } else {
        (name.strip_suffix("-a")?, "A", json!([16, 32, 64]))
    };
    let (_, args) = FAMILY.names.iter().find(|(known, _)| *known == depth)?;
    Some(json!({"depth": args()["depth"], "shortcut": shortcut, "widths": widths, "bn_eps": 1e-5}))
}

fn three_groups(args: &mut Args, shape: &Shape, head: &'static str) -> Result<Architecture> {
    let depth = args.count("depth", 8..=1202, None)?;
    if depth % 6 != 2 {
        return Err(args.refuse("depth", depth, "it is 6n + 2, such as 8, 20, 32 or 56"));
    }
    let shortcut = match args.text("shortcut", "A")? {
        "A" => Shortcut::A,
        "B" => Shortcut::B,
        other => return Err(args.refuse("shortcut", other, "it is A (padded) or B (projected)")),
    };
    let widths = args.list("widths", 1..=4096, &[16, 32, 64])?;
    if !matches!(widths.len(), 3 | 4) || (shortcut == Shortcut::A && !widths.is_sorted()) {
        let hint = "there are three, four if the stem has its own, and with padded shortcuts they do not shrink";
        return Err(args.refuse("widths", format!("{widths:?}"), hint));
    }
    ResNetCifar::build_with(vec![(depth - 2) / 6; 3], widths, shortcut, args, shape, head)
}

fn four_groups(args: &mut Args, shape: &Shape, head: &'static str) -> Result<Architecture> {
    let blocks = match args.count("depth", 18..=34, None)? {
        18 => vec![2, 2, 2, 2],
        34 => vec![3, 4, 6, 3],
        depth => return Err(args.refuse("depth", depth, "it is 18 or 34")),
    };
    let widths = args.list("widths", 1..=4096, &[64, 128, 256, 512])?;
    if widths.len() != 4 {
        return Err(args.refuse("widths", format!("{widths:?}"), "there are four"));
    }
    ResNetCifar::build_with(blocks, widths, Shortcut::B, args, shape, head)
}

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
    fn build_with(
        blocks: Vec<usize>,
        widths: Vec<usize>,
        shortcut: Shortcut,
        args: &mut Args,
        shape: &Shape,
        head: &'static str,
    ) -> Result<Architecture> {
        let net = Self {
            blocks,
            widths,
            shortcut,
            in_channels: shape.channels,
            num_classes: shape.num_classes,
            bn_eps: args.eps(1e-5)?,
            head,
        };
        Ok(Architecture::new(|b| net.build(b)))
    }

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
            f.leaves_map(&x);
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

/// kuangliu/pytorch-cifar and the data-free distillation code that descends from it.
pub(super) const KUANGLIU: Scheme =
    Scheme { name: "kuangliu", renames: &[("*.*.shortcut.*.*", "*.*.downsample.*.*"), ("linear.*", "fc.*")] };

/// A torchvision-like CIFAR ResNet for a network whose head is `linear`.
pub(super) const LINEAR_HEAD: Scheme = Scheme { name: "fc head", renames: &[("fc.*", "linear.*")] };
