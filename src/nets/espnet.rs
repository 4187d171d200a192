//! ESPNet: Mehta et al., "ESPNet: Efficient Spatial Pyramid of Dilated Convolutions for Semantic Segmentation" (2018),
//! figures 1 and 4, with the tensor names of the authors' checkpoints. ESPNet-C is its encoder, whose answers, at an eighth
//! of the image's sides, are enlarged bilinearly.
//!
//! `p` and `q` are the numbers of ESP modules at a quarter and at an eighth of the sides. The last convolution of the decoder
//! reads the *activated* join of the first level, as the published weights ask for.

use super::layers::{Builder, Conv, Norm};
use super::pixel_layers::{ConvTranspose, Rectified};
use super::registry::{Args, Family, Form, Head, Shape};
use super::{Architecture, Body, Forward};
use crate::ops::Activation;
use crate::ops::conv_transpose::ConvTransposeSpec;
use crate::ops::conv2d::Conv2dSpec;
use crate::tape::{self, Pool, PoolKind, Var};
use crate::{Error, Result};
use serde_json::{Value, json};

/// With the decoder, for the registry.
pub(super) const FAMILY: Family = Family {
    title: "ESPNet",
    model_type: "espnet",
    form: Form::Ours,
    names: &[("espnet-p2-q3", || named(2, 3)), ("espnet-p2-q5", || named(2, 5)), ("espnet-p2-q8", || named(2, 8))],
    aliases: &[],
    variants: &[],
    pattern: Some(|name| pattern(name.strip_prefix("espnet-")?)),
    summary: "espnet-pP-qQ",
    usual_input: [3, 360, 480],
    min_side: 8,
    student_rate: 0.1,
    first: "encoder.level1.conv",
    head: Head::Is("classifier"),
    averages: true,
    schemes: &[],
    transformers: None,
    build: with_decoder,
};

/// The encoder alone, for the registry.
pub(super) const ENCODER: Family = Family {
    title: "ESPNet",
    model_type: "espnet_c",
    names: &[
        ("espnet-c-p2-q3", || named(2, 3)),
        ("espnet-c-p2-q5", || named(2, 5)),
        ("espnet-c-p2-q8", || named(2, 8)),
    ],
    pattern: Some(|name| pattern(name.strip_prefix("espnet-c-")?)),
    summary: "espnet-c-pP-qQ",
    first: "level1.conv",
    head: Head::Is("classifier.conv"),
    build: encoder_alone,
    ..FAMILY
};

/// Sides of images are multiples of this: three layers halve the maps, and three double them.
const DIVISOR: usize = 8;
/// The rates of an ESP module's branches.
const DILATIONS: [usize; 5] = [1, 2, 4, 8, 16];
/// The image on a smaller scale, for the joins of the encoder.
const HALVE: Pool = Pool { kind: PoolKind::Average { count_padding: true }, kernel: 3, stride: 2, padding: 1 };
const DOUBLE: ConvTransposeSpec = ConvTransposeSpec::new(2, 2);
const BN_EPS: f64 = 1e-3;

fn named(p: usize, q: usize) -> Value {
    json!({"p": p, "q": q})
}

/// `p2-q8`
fn pattern(rest: &str) -> Option<Value> {
    let number = |text: &str| text.parse().ok().filter(|number: &usize| number.to_string() == text);
    let (p, q) = rest.strip_prefix('p')?.split_once("-q")?;
    Some(named(number(p)?, number(q)?))
}

fn with_decoder(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    let config = Config::read(args, shape)?;
    if shape.num_classes < DILATIONS.len() {
        let hint = "its decoder shares them out over five branches, so there are at least 5";
        return Err(args.refuse("num_classes", shape.num_classes, hint));
    }
    Ok(Architecture::new(|b| Net::build(b, &config)).for_pixels(DIVISOR))
}

fn encoder_alone(args: &mut Args, shape: &Shape, _: &'static str) -> Result<Architecture> {
    let config = Config::read(args, shape)?;
    Ok(Architecture::new(|b| Encoder::build(b, "", &config)).for_pixels(DIVISOR))
}

struct Config {
    p: usize,
    q: usize,
    eps: f64,
    channels: usize,
    classes: usize,
}

impl Config {
    fn read(args: &mut Args, shape: &Shape) -> Result<Self> {
        args.fixed("activation", json!("PReLU per channel"))?;
        Ok(Self {
            p: args.count("p", 1..=64, None)?,
            q: args.count("q", 1..=64, None)?,
            eps: args.eps(BN_EPS)?,
            channels: shape.channels,
            classes: shape.num_classes,
        })
    }
}

/// A 3x3 convolution with batch norm and PReLU.
struct Block {
    conv: Conv,
    after: Rectified,
}

impl Block {
    fn build(b: &mut Builder, name: &str, c_in: usize, c_out: usize, stride: usize, eps: f64) -> Self {
        let spec = Conv2dSpec::new(3).padding(1).stride(stride);
        Self { conv: b.conv_default(&format!("{name}.conv"), c_in, c_out, spec), after: b.rectified(name, c_out, eps) }
    }

    fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let z = self.conv.forward_norm(f, &self.after.norm, x, None, Activation::IDENTITY)?;
        self.after.act.forward(f, &z)
    }
}

/// An ESP module: reduce, a pyramid of dilated convolutions, and a join with hierarchical feature fusion.
struct Esp {
    reduce: Conv,
    branches: Vec<Conv>,
    after: Rectified,
    residual: bool,
}

impl Esp {
    /// The name of norm and PReLU is `name` itself in modules that halve the map, and `name.bn` in the others.
    fn build(
        b: &mut Builder,
        name: &str,
        [c_in, c_out]: [usize; 2],
        reduce: Conv2dSpec,
        residual: bool,
        eps: f64,
    ) -> Self {
        let narrow = c_out / DILATIONS.len();
        let first = c_out - (DILATIONS.len() - 1) * narrow;
        let reduce_conv = b.conv_default(&format!("{name}.c1.conv"), c_in, narrow, reduce);
        let branch = |&dilation: &usize| {
            let width = if dilation == 1 { first } else { narrow };
            let spec = Conv2dSpec::new(3).padding(dilation).dilation(dilation);
            b.conv_default(&format!("{name}.d{dilation}.conv"), narrow, width, spec)
        };
        let branches = DILATIONS.iter().map(branch).collect();
        let after = match reduce.stride {
            [1, 1] => b.rectified(&format!("{name}.bn"), c_out, eps),
            _ => b.rectified(name, c_out, eps),
        };
        Self { reduce: reduce_conv, branches, after, residual }
    }

    /// At half of the sides.
    fn halving(b: &mut Builder, name: &str, channels: [usize; 2], eps: f64) -> Self {
        Self::build(b, name, channels, Conv2dSpec::new(3).padding(1).stride(2), false, eps)
    }

    fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let reduced = self.reduce.forward(f, x, None, Activation::IDENTITY)?;
        let mut parts: Vec<Var> = Vec::with_capacity(self.branches.len());
        for (i, branch) in self.branches.iter().enumerate() {
            // Each wider branch adds up all narrower ones but the first.
            let before = if i > 1 { parts.last() } else { None };
            let part = branch.forward(f, &reduced, before, Activation::IDENTITY)?;
            parts.push(part);
        }
        let joined = tape::concat(f.tape, &parts.iter().collect::<Vec<_>>())?;
        match self.residual {
            true => {
                let sum = tape::add(f.tape, &joined, x, Activation::IDENTITY)?;
                self.after.forward(f, &sum)
            }
            false => self.after.forward(f, &joined),
        }
    }
}

struct Encoder {
    level1: Block,
    join1: Rectified,
    halve2: Esp,
    level2: Vec<Esp>,
    join2: Rectified,
    halve3: Esp,
    level3: Vec<Esp>,
    join3: Rectified,
    classifier: Conv,
}

/// What the decoder reads: the joins of two levels, and the answers at an eighth of the sides.
struct Levels {
    half: Var,
    quarter: Var,
    answers: Var,
}

impl Encoder {
    /// `prefix` stands in front of the names.
    fn build(b: &mut Builder, prefix: &str, c: &Config) -> Self {
        let at = |name: &str| format!("{prefix}{name}");
        let plain = |b: &mut Builder, level: &str, i: usize, width: usize| {
            Esp::build(b, &at(&format!("{level}.{i}")), [width, width], Conv2dSpec::new(1), true, c.eps)
        };
        let (join1, join2) = (16 + c.channels, 128 + c.channels);
        Self {
            level1: Block::build(b, &at("level1"), c.channels, 16, 2, c.eps),
            join1: b.rectified(&at("b1"), join1, c.eps),
            halve2: Esp::halving(b, &at("level2_0"), [join1, 64], c.eps),
            level2: (0..c.p).map(|i| plain(b, "level2", i, 64)).collect(),
            join2: b.rectified(&at("b2"), join2, c.eps),
            halve3: Esp::halving(b, &at("level3_0"), [join2, 128], c.eps),
            level3: (0..c.q).map(|i| plain(b, "level3", i, 128)).collect(),
            join3: b.rectified(&at("b3"), 256, c.eps),
            classifier: b.conv_default(&at("classifier.conv"), 256, c.classes, Conv2dSpec::new(1)),
        }
    }

    fn levels(&self, f: &mut Forward, x: &Var) -> Result<Levels> {
        let half_image = tape::pool(f.tape, x, HALVE)?;
        let quarter_image = tape::pool(f.tape, &half_image, HALVE)?;
        let y = self.level1.forward(f, x)?;
        let y = tape::concat(f.tape, &[&y, &half_image])?;
        let half = self.join1.forward(f, &y)?;
        let (halved, y) = run(f, &self.halve2, &self.level2, &half)?;
        let y = tape::concat(f.tape, &[&y, &halved, &quarter_image])?;
        let quarter = self.join2.forward(f, &y)?;
        let (halved, y) = run(f, &self.halve3, &self.level3, &quarter)?;
        let y = tape::concat(f.tape, &[&halved, &y])?;
        let y = self.join3.forward(f, &y)?;
        Ok(Levels { half, quarter, answers: self.classifier.forward(f, &y, None, Activation::IDENTITY)? })
    }
}

/// The first module of a level, and the last.
fn run(f: &mut Forward, halve: &Esp, modules: &[Esp], x: &Var) -> Result<(Var, Var)> {
    let halved = halve.forward(f, x)?;
    let mut y = halved.clone();
    for module in modules {
        y = module.forward(f, &y)?;
    }
    Ok((halved, y))
}

impl Body for Encoder {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let &[_, h, w, _] = x.dims() else {
            return Err(Error::shape("espnet_c", format!("expected [N,H,W,C], found {:?}", x.dims())));
        };
        let answers = self.levels(f, &x)?.answers;
        tape::bilinear(f.tape, &answers, h, w)
    }
}

struct Net {
    encoder: Encoder,
    /// The join of the second level, to as many channels as there are classes.
    project: Conv,
    norm: Norm,
    last: Block,
    up3: ConvTranspose,
    joined: Rectified,
    combine: Esp,
    up2: ConvTranspose,
    after2: Rectified,
    classifier: ConvTranspose,
}

impl Net {
    fn build(b: &mut Builder, c: &Config) -> Self {
        let k = c.classes;
        Self {
            encoder: Encoder::build(b, "encoder.", c),
            project: b.conv_default("level3_C.conv", 128 + c.channels, k, Conv2dSpec::new(1)),
            norm: b.norm("br", k, c.eps),
            last: Block::build(b, "conv", 16 + c.channels + k, k, 1, c.eps),
            up3: b.conv_transpose("up_l3.0", k, k, DOUBLE),
            joined: b.rectified("combine_l2_l3.0", 2 * k, c.eps),
            combine: Esp::build(b, "combine_l2_l3.1", [2 * k, k], Conv2dSpec::new(1), false, c.eps),
            up2: b.conv_transpose("up_l2.0", k, k, DOUBLE),
            after2: b.rectified("up_l2.1", k, c.eps),
            classifier: b.conv_transpose("classifier", k, k, DOUBLE),
        }
    }
}

impl Body for Net {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let Levels { half, quarter, answers } = self.encoder.levels(f, &x)?;
        let y = self.norm.forward(f, &answers, None, None, Activation::IDENTITY)?;
        let y = self.up3.forward(f, &y)?;
        let projected = self.project.forward(f, &quarter, None, Activation::IDENTITY)?;
        let y = tape::concat(f.tape, &[&projected, &y])?;
        let y = self.joined.forward(f, &y)?;
        let y = self.combine.forward(f, &y)?;
        let y = self.up2.forward(f, &y)?;
        let y = self.after2.forward(f, &y)?;
        let y = tape::concat(f.tape, &[&y, &half])?;
        let y = self.last.forward(f, &y)?;
        self.classifier.forward(f, &y)
    }
}
