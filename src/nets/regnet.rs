//! RegNetX and RegNetY: Radosavovic et al., "Designing Network Design Spaces" (2020), section 3.3 and tables 2 to 4 with the
//! appendix's parameters; Y has squeeze-and-excitation (section 4). Tensors are called as timm calls them.

use super::layers::{Builder, Conv, Linear, Nonlinearity, Norm};
use super::registry::{Args, Family, Form, Head, Shape, Transformers};
use super::squeeze_excite::SqueezeExcite;
use super::widths::rounded;
use super::{Architecture, Body, Forward, Init};
use crate::Result;
use crate::ops::Activation;
use crate::ops::conv2d::Conv2dSpec;
use crate::tape::{self, Var};
use crate::weights::Scheme;
use serde_json::{Map, Value, json};

/// The family, for the registry.
pub(super) const FAMILY: Family = Family {
    title: "RegNet",
    model_type: "regnet",
    form: Form::Timm,
    names: &[
        ("regnetx_002", || x(13, 24, 36.44, 2.49, 8)),
        ("regnetx_004", || x(22, 24, 24.48, 2.54, 16)),
        ("regnetx_004_tv", || torchvision(x(22, 24, 24.48, 2.54, 16))),
        ("regnetx_006", || x(16, 48, 36.97, 2.24, 24)),
        ("regnetx_008", || x(16, 56, 35.73, 2.28, 16)),
        ("regnetx_016", || x(18, 80, 34.01, 2.25, 24)),
        ("regnetx_032", || x(25, 88, 26.31, 2.25, 48)),
        ("regnetx_040", || x(23, 96, 38.65, 2.43, 40)),
        ("regnetx_064", || x(17, 184, 60.83, 2.07, 56)),
        ("regnetx_080", || x(23, 80, 49.56, 2.88, 120)),
        ("regnetx_120", || x(19, 168, 73.36, 2.37, 112)),
        ("regnetx_160", || x(22, 216, 55.59, 2.1, 128)),
        ("regnetx_320", || x(23, 320, 69.86, 2.0, 168)),
        ("regnety_002", || y(13, 24, 36.44, 2.49, 8)),
        ("regnety_004", || y(16, 48, 27.89, 2.09, 8)),
        ("regnety_006", || y(15, 48, 32.54, 2.32, 16)),
        ("regnety_008", || y(14, 56, 38.84, 2.4, 16)),
        ("regnety_008_tv", || torchvision(y(14, 56, 38.84, 2.4, 16))),
        ("regnety_016", || y(27, 48, 20.71, 2.65, 24)),
        ("regnety_032", || y(21, 80, 42.63, 2.66, 24)),
        ("regnety_040", || y(22, 96, 31.41, 2.24, 64)),
        ("regnety_064", || y(25, 112, 33.22, 2.27, 72)),
        ("regnety_080", || y(17, 192, 76.82, 2.19, 56)),
        ("regnety_080_tv", || torchvision(y(17, 192, 76.82, 2.19, 56))),
        ("regnety_120", || y(19, 168, 73.36, 2.37, 112)),
        ("regnety_160", || y(18, 200, 106.23, 2.48, 112)),
        ("regnety_320", || y(20, 232, 115.89, 2.53, 232)),
    ],
    aliases: &[
        ("regnet_x_400mf", "regnetx_004_tv"),
        ("regnet_x_800mf", "regnetx_008"),
        ("regnet_x_1_6gf", "regnetx_016"),
        ("regnet_x_3_2gf", "regnetx_032"),
        ("regnet_x_8gf", "regnetx_080"),
        ("regnet_x_16gf", "regnetx_160"),
        ("regnet_x_32gf", "regnetx_320"),
        ("regnet_y_400mf", "regnety_004"),
        ("regnet_y_800mf", "regnety_008_tv"),
        ("regnet_y_1_6gf", "regnety_016"),
        ("regnet_y_3_2gf", "regnety_032"),
        ("regnet_y_8gf", "regnety_080_tv"),
        ("regnet_y_16gf", "regnety_160"),
        ("regnet_y_32gf", "regnety_320"),
    ],
    variants: &[],
    pattern: None,
    summary: "regnetx_002 to _320, regnety_002 to _320",
    usual_input: [3, 224, 224],
    min_side: 8,
    student_rate: 0.15,
    first: "stem.conv",
    head: Head::Is("head.fc"),
    averages: true,
    schemes: &[TORCHVISION, TRANSFORMERS],
    transformers: Some(Transformers { model_type: "regnet", args: transformers }),
    build,
};

/// The paper's five parameters, equations 2 to 4: depth, w_0, w_a, w_m, g.
fn x(depth: usize, w_0: usize, w_a: f64, w_m: f64, group_width: usize) -> Value {
    json!({"depth": depth, "w_0": w_0, "w_a": w_a, "w_m": w_m, "group_width": group_width})
}

fn y(depth: usize, w_0: usize, w_a: f64, w_m: f64, group_width: usize) -> Value {
    let mut args = x(depth, w_0, w_a, w_m, group_width);
    args["squeeze"] = json!(true);
    args
}

/// torchvision does not round widths down by more than a tenth to make groups fit.
fn torchvision(mut args: Value) -> Value {
    args["round_up"] = json!(true);
    args
}

/// What a transformers configuration says, as arguments of [`FAMILY`].
fn transformers(args: &mut Args) -> Result<Map<String, Value>> {
    let widths = args.list("hidden_sizes", 1..=16_384, &[128, 192, 512, 1088])?;
    let depths = args.list("depths", 1..=64, &[2, 6, 12, 2])?;
    let group_width = args.count("groups_width", 1..=16_384, Some(64))?;
    let stem = args.count("embedding_size", 1..=4096, Some(32))?;
    let squeeze = match args.text("layer_type", "y")? {
        "x" => false,
        "y" => true,
        other => return Err(args.refuse("layer_type", other, "it is x or y")),
    };
    args.fixed("hidden_act", json!("relu"))?;
    args.fixed("downsample_in_first_stage", json!(true))?;
    args.ignore(&["image_size"]);
    let found = json!({
        "widths": widths, "depths": depths, "group_width": group_width, "stem_width": stem, "squeeze": squeeze,
    });
    let Value::Object(map) = found else { unreachable!() };
    Ok(map)
}

/// Widths and depths of the stages, by the paper's equations 2 to 4: widths grow by `w_a` from block to block, are moved to
/// the nearest of `w_0·w_m^k` for a whole k, rounded to multiples of 8, and blocks of one width are a stage.
fn quantised(depth: usize, w_0: f64, w_a: f64, w_m: f64) -> Vec<(usize, usize)> {
    let mut stages: Vec<(usize, usize)> = Vec::new();
    for block in 0..depth {
        let k = ((w_0 + w_a * block as f64) / w_0).log(w_m).round_ties_even();
        let width = 8 * (w_0 * w_m.powf(k) / 8.0).round_ties_even() as usize;
        match stages.last_mut() {
            Some((last, count)) if *last == width => *count += 1,
            _ => stages.push((width, 1)),
        }
    }
    stages
}

/// The stages' widths and depths as the arguments state them, or as the paper's parameters give them.
fn stages(args: &mut Args, group_width: usize) -> Result<Vec<(usize, usize)>> {
    let widths = args.list("widths", 1..=16_384, &[])?;
    let depths = args.list("depths", 1..=64, &[])?;
    if !widths.is_empty() || !depths.is_empty() {
        if widths.len() != 4 || depths.len() != 4 {
            let found = format!("{} widths and {} depths", widths.len(), depths.len());
            return Err(args.refuse("widths", found, "there are four stages, each with a width and a depth"));
        }
        return Ok(widths.into_iter().zip(depths).collect());
    }
    let depth = args.count("depth", 4..=256, None)?;
    let w_0 = args.count("w_0", 8..=4096, None)?;
    let w_a = args.number("w_a", 0.0..=1000.0, 0.0)?;
    let w_m = args.number("w_m", 1.01..=16.0, 2.0)?;
    let up = args.flag("round_up", false)?;
    let mut stages = quantised(depth, w_0 as f64, w_a, w_m);
    if stages.len() != 4 {
        return Err(args.refuse("w_a", w_a, &format!("there are four stages, and this makes {}", stages.len())));
    }
    for (width, _) in &mut stages {
        let unit = group_width.min(*width);
        *width = match up {
            true => rounded(*width as f64, unit),
            false => unit * (*width as f64 / unit as f64).round_ties_even() as usize,
        };
    }
    Ok(stages)
}

fn build(args: &mut Args, shape: &Shape, head: &'static str) -> Result<Architecture> {
    let group_width = args.count("group_width", 1..=16_384, None)?;
    let stages = stages(args, group_width)?;
    let stem = args.count("stem_width", 1..=4096, Some(32))?;
    let squeeze = args.flag("squeeze", false)?;
    if let Some((width, _)) = stages.iter().find(|(width, _)| width % group_width.min(*width) != 0) {
        return Err(args.refuse(
            "group_width",
            group_width,
            &format!("a stage has {width} channels, which it must divide"),
        ));
    }
    let net = RegNet {
        stem,
        stages,
        group_width,
        squeeze,
        in_channels: shape.channels,
        num_classes: shape.num_classes,
        bn_eps: 1e-5,
        head,
    };
    Ok(Architecture::new(|b| net.build(b)))
}

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct RegNet {
    /// Width of the first convolution.
    pub stem: usize,
    /// Width and number of blocks of every stage.
    pub stages: Vec<(usize, usize)>,
    /// Channels of one group of the 3x3 convolutions, or all of a narrower stage.
    pub group_width: usize,
    /// Whether blocks have squeeze-and-excitation, to a quarter of their input's channels (Y).
    pub squeeze: bool,
    pub in_channels: usize,
    pub num_classes: usize,
    pub bn_eps: f64,
    /// Name of the linear layer in files.
    pub head: &'static str,
}

struct Layer {
    conv: Conv,
    bn: Norm,
}

struct Block {
    conv1: Layer,
    conv2: Layer,
    squeeze: Option<SqueezeExcite>,
    conv3: Layer,
    shortcut: Option<Layer>,
}

struct Net {
    stem: Layer,
    blocks: Vec<Block>,
    head: Linear,
}

const RELU: Nonlinearity = Nonlinearity::Piecewise(Activation::RELU);

impl RegNet {
    /// Registers the layers; they start as timm starts them, every block as the identity of its shortcut.
    pub fn build(&self, b: &mut Builder) -> impl Body + use<> {
        let k3 = Conv2dSpec::new(3).padding(1).stride(2);
        let stem = self.layer(b, "stem", [self.in_channels, self.stem], k3, Builder::norm);
        let mut blocks = Vec::new();
        let mut c_in = self.stem;
        for (s, &(width, depth)) in self.stages.iter().enumerate() {
            for i in 0..depth {
                let stride = if i == 0 { 2 } else { 1 };
                blocks.push(self.block(b, &format!("s{}.b{}", s + 1, i + 1), [c_in, width], stride));
                c_in = width;
            }
        }
        let start = [Init::Normal(0.01), Init::Constant(0.0)];
        Net { stem, blocks, head: b.linear_init(self.head, c_in, self.num_classes, start) }
    }

    fn layer(
        &self,
        b: &mut Builder,
        name: &str,
        [c_in, c_out]: [usize; 2],
        spec: Conv2dSpec,
        norm: fn(&mut Builder, &str, usize, f64) -> Norm,
    ) -> Layer {
        let conv = b.conv(&format!("{name}.conv"), c_in, c_out, spec);
        Layer { conv, bn: norm(b, &format!("{name}.bn"), c_out, self.bn_eps) }
    }

    fn block(&self, b: &mut Builder, name: &str, [c_in, width]: [usize; 2], stride: usize) -> Block {
        let named = |part: &str| format!("{name}.{part}");
        let (k1, k3) = (Conv2dSpec::new(1), Conv2dSpec::new(3).padding(1).stride(stride));
        let grouped = k3.groups(width / self.group_width.min(width));
        Block {
            conv1: self.layer(b, &named("conv1"), [c_in, width], k1, Builder::norm),
            conv2: self.layer(b, &named("conv2"), [width, width], grouped, Builder::norm),
            squeeze: self.squeeze.then(|| {
                let inner = (c_in as f64 / 4.0).round_ties_even().max(1.0) as usize;
                SqueezeExcite::new(b, [&named("se.fc1"), &named("se.fc2")], width, inner, RELU)
            }),
            conv3: self.layer(b, &named("conv3"), [width, width], k1, Builder::norm_zero),
            shortcut: (stride > 1 || c_in != width)
                .then(|| self.layer(b, &named("downsample"), [c_in, width], k1.stride(stride), Builder::norm)),
        }
    }
}

impl Body for Net {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let mut x = self.stem.forward(f, &x, None, Activation::RELU)?.dense()?;
        for block in &self.blocks {
            x = block.forward(f, &x)?;
            f.leaves_map(&x);
        }
        let features = tape::global_mean(f.tape, &x)?;
        f.features = Some(features.clone());
        self.head.forward(f, &features)
    }
}

impl Layer {
    fn forward(&self, f: &mut Forward, x: &Var, residual: Option<&Var>, act: Activation) -> Result<Var> {
        self.conv.forward_norm(f, &self.bn, x, residual, act)
    }
}

impl Block {
    fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let shortcut = match &self.shortcut {
            None => x.clone(),
            Some(layer) => layer.forward(f, x, None, Activation::IDENTITY)?.dense()?,
        };
        let h = self.conv1.forward(f, x, None, Activation::RELU)?;
        let mut h = self.conv2.forward(f, &h, None, Activation::RELU)?;
        if let Some(squeeze) = &self.squeeze {
            h = squeeze.forward(f, &h)?;
        }
        self.conv3.forward(f, &h, Some(&shortcut), Activation::RELU)
    }
}

/// torchvision's `regnet_y_400mf`, ..., to timm, which counts blocks from 1.
const TORCHVISION: Scheme = Scheme {
    name: "torchvision RegNet",
    renames: &[
        ("stem.0.*", "stem.conv.*"),
        ("stem.1.*", "stem.bn.*"),
        ("trunk_output.block1.block1-*.**", "s1.b#.**"),
        ("trunk_output.block2.block2-*.**", "s2.b#.**"),
        ("trunk_output.block3.block3-*.**", "s3.b#.**"),
        ("trunk_output.block4.block4-*.**", "s4.b#.**"),
        ("*.*.f.a.0.*", "*.*.conv1.conv.*"),
        ("*.*.f.a.1.*", "*.*.conv1.bn.*"),
        ("*.*.f.b.0.*", "*.*.conv2.conv.*"),
        ("*.*.f.b.1.*", "*.*.conv2.bn.*"),
        ("*.*.f.se.**", "*.*.se.**"),
        ("*.*.f.c.0.*", "*.*.conv3.conv.*"),
        ("*.*.f.c.1.*", "*.*.conv3.bn.*"),
        ("*.*.proj.0.*", "*.*.downsample.conv.*"),
        ("*.*.proj.1.*", "*.*.downsample.bn.*"),
        ("fc.*", "head.fc.*"),
    ],
};

/// `RegNetForImageClassification` of transformers, to timm.
const TRANSFORMERS: Scheme = Scheme {
    name: "transformers RegNet",
    renames: &[
        ("regnet.embedder.embedder.convolution.*", "stem.conv.*"),
        ("regnet.embedder.embedder.normalization.*", "stem.bn.*"),
        ("regnet.encoder.stages.*.layers.*.**", "s#.b#.**"),
        ("*.*.layer.0.convolution.*", "*.*.conv1.conv.*"),
        ("*.*.layer.0.normalization.*", "*.*.conv1.bn.*"),
        ("*.*.layer.1.convolution.*", "*.*.conv2.conv.*"),
        ("*.*.layer.1.normalization.*", "*.*.conv2.bn.*"),
        ("*.*.layer.2.attention.0.*", "*.*.se.fc1.*"),
        ("*.*.layer.2.attention.2.*", "*.*.se.fc2.*"),
        // The third convolution stands behind the squeeze of Y.
        ("*.*.layer.2.convolution.*", "*.*.conv3.conv.*"),
        ("*.*.layer.2.normalization.*", "*.*.conv3.bn.*"),
        ("*.*.layer.3.convolution.*", "*.*.conv3.conv.*"),
        ("*.*.layer.3.normalization.*", "*.*.conv3.bn.*"),
        ("*.*.shortcut.convolution.*", "*.*.downsample.conv.*"),
        ("*.*.shortcut.normalization.*", "*.*.downsample.bn.*"),
        ("classifier.1.*", "head.fc.*"),
    ],
};
