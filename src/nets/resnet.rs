//! Residual networks for large images: He et al., "Deep Residual Learning for Image Recognition" (2015), table 1, with the
//! stride of a bottleneck in its 3x3 convolution, as torchvision and timm have it; and their wide form, Zagoruyko and
//! Komodakis, "Wide Residual Networks" (2016), section 3.4.

use super::layers::{Builder, Conv, Linear, Norm};
use super::registry::{Args, Family, Form, Head, Shape, Transformers};
use super::{Architecture, Body, Forward};
use crate::ops::Activation;
use crate::ops::conv2d::Conv2dSpec;
use crate::tape::{self, Pool, PoolKind, Var};
use crate::weights::Scheme;
use crate::{Error, Result};
use serde_json::{Map, Value, json};

/// The family, for the registry.
pub(super) const FAMILY: Family = Family {
    title: "ResNet",
    model_type: "resnet",
    form: Form::Timm,
    names: &[
        ("resnet18", || json!({"block": "basic", "layers": [2, 2, 2, 2]})),
        ("resnet26", || json!({"block": "bottleneck", "layers": [2, 2, 2, 2]})),
        ("resnet34", || json!({"block": "basic", "layers": [3, 4, 6, 3]})),
        ("resnet50", || json!({"block": "bottleneck", "layers": [3, 4, 6, 3]})),
        ("resnet101", || json!({"block": "bottleneck", "layers": [3, 4, 23, 3]})),
        ("resnet152", || json!({"block": "bottleneck", "layers": [3, 8, 36, 3]})),
        ("wide_resnet50_2", || json!({"block": "bottleneck", "layers": [3, 4, 6, 3], "base_width": 128})),
        ("wide_resnet101_2", || json!({"block": "bottleneck", "layers": [3, 4, 23, 3], "base_width": 128})),
    ],
    aliases: &[],
    variants: &[("resnet10", "resnet18", || json!({"layers": [1, 1, 1, 1]}))],
    pattern: None,
    summary: "resnet10|18|26|34|50|101|152, wide_resnet50_2|101_2",
    usual_input: [3, 224, 224],
    min_side: 8,
    student_rate: 0.5,
    first: "conv1",
    head: Head::Is("fc"),
    averages: true,
    schemes: &[TRANSFORMERS],
    transformers: Some(Transformers { model_type: "resnet", args: transformers }),
    build,
};

/// What a transformers configuration says, as arguments of [`FAMILY`].
fn transformers(args: &mut Args) -> Result<Map<String, Value>> {
    let block = args.text("layer_type", "bottleneck")?.to_string();
    let layers = args.list("depths", 1..=64, &[3, 4, 6, 3])?;
    let expansion = if block == "basic" { 1 } else { 4 };
    let widths = args.list("hidden_sizes", 1..=8192, &[256, 512, 1024, 2048])?;
    args.fixed("hidden_act", json!("relu"))?;
    args.fixed("downsample_in_first_stage", json!(false))?;
    args.fixed("downsample_in_bottleneck", json!(false))?;
    args.fixed("embedding_size", json!(64))?;
    if widths.iter().any(|width| width % expansion != 0) {
        return Err(args.refuse("hidden_sizes", format!("{widths:?}"), "bottleneck widths are multiples of 4"));
    }
    let channels: Vec<usize> = widths.iter().map(|width| width / expansion).collect();
    let Value::Object(map) = json!({"block": block, "layers": layers, "channels": channels}) else { unreachable!() };
    Ok(map)
}

fn build(args: &mut Args, shape: &Shape, head: &'static str) -> Result<Architecture> {
    let bottleneck = match args.text("block", "basic")? {
        "basic" => false,
        "bottleneck" => true,
        other => return Err(args.refuse("block", other, "it is basic or bottleneck")),
    };
    let layers = args.list("layers", 1..=64, &[2, 2, 2, 2])?;
    let channels = args.list("channels", 1..=4096, &[64, 128, 256, 512])?;
    let base_width = args.count("base_width", 1..=1024, Some(64))?;
    if layers.len() != 4 || channels.len() != 4 {
        let found = format!("{} and {} channels", layers.len(), channels.len());
        return Err(args.refuse("layers", found, "there are four stages, each with a depth and a width"));
    }
    let net = ResNet {
        bottleneck,
        layers,
        channels,
        base_width,
        in_channels: shape.channels,
        num_classes: shape.num_classes,
        bn_eps: 1e-5,
        head,
    };
    Ok(Architecture::new(|b| net.build(b)))
}

/// Hyper-parameters of the family.
#[derive(Clone, Debug, PartialEq)]
pub struct ResNet {
    /// Blocks of three convolutions with four times as many outputs, instead of two 3x3 convolutions.
    pub bottleneck: bool,
    /// Blocks per stage.
    pub layers: Vec<usize>,
    /// Width per stage, before the expansion of bottlenecks.
    pub channels: Vec<usize>,
    /// Width of a bottleneck's 3x3 convolution per 64 channels.
    pub base_width: usize,
    pub in_channels: usize,
    pub num_classes: usize,
    pub bn_eps: f64,
    /// Name of the linear layer in files.
    pub head: &'static str,
}

struct Block {
    /// All but the last are followed by a ReLU; the shortcut is added to the last.
    convs: Vec<(Conv, Norm)>,
    shortcut: Option<(Conv, Norm)>,
}

/// All layers but the last.
pub(super) struct Trunk {
    conv1: Conv,
    bn1: Norm,
    blocks: Vec<Block>,
}

struct Net {
    trunk: Trunk,
    head: Linear,
}

const MAX_POOL: Pool = Pool { kind: PoolKind::Max, kernel: 3, stride: 2, padding: 1 };

impl ResNet {
    /// Registers the layers.
    pub fn build(&self, b: &mut Builder) -> impl Body + use<> {
        let trunk = self.trunk(b, "", false);
        Net { trunk, head: b.linear(self.head, self.features(), self.num_classes) }
    }

    /// All layers but the last, with `prefix` in front of their names. `dilated`: the last two stages keep the size of their maps,
    /// and dilate their 3x3 convolutions instead, each block by what was not strided before it (torchvision's
    /// `replace_stride_with_dilation`).
    pub(super) fn trunk(&self, b: &mut Builder, prefix: &str, dilated: bool) -> Trunk {
        let stem = 64;
        let spec = Conv2dSpec::new(7).stride(2).padding(3);
        let conv1 = b.conv(&format!("{prefix}conv1"), self.in_channels, stem, spec);
        let bn1 = b.norm(&format!("{prefix}bn1"), stem, self.bn_eps);
        let mut blocks = Vec::new();
        let (mut c_in, mut dilation) = (stem, 1);
        for (stage, (&count, &width)) in self.layers.iter().zip(&self.channels).enumerate() {
            for i in 0..count {
                let first = stage > 0 && i == 0;
                let stride = if first && !(dilated && stage > 1) { 2 } else { 1 };
                let name = format!("{prefix}layer{}.{i}", stage + 1);
                blocks.push(self.block(b, &name, c_in, width, (stride, dilation)));
                c_in = width * self.expansion();
                dilation *= if first && stride == 1 { 2 } else { 1 };
            }
        }
        Trunk { conv1, bn1, blocks }
    }

    /// Channels of the last maps.
    pub(super) fn features(&self) -> usize {
        self.channels.last().map_or(0, |width| width * self.expansion())
    }

    fn expansion(&self) -> usize {
        if self.bottleneck { 4 } else { 1 }
    }

    fn block(
        &self,
        b: &mut Builder,
        name: &str,
        c_in: usize,
        width: usize,
        (stride, dilation): (usize, usize),
    ) -> Block {
        let (k1, k3) = (Conv2dSpec::new(1), Conv2dSpec::new(3).padding(dilation).dilation(dilation));
        let c_out = width * self.expansion();
        let inner = width * self.base_width / 64;
        let plan = match self.bottleneck {
            false => vec![(c_in, width, k3.stride(stride)), (width, width, k3)],
            true => vec![(c_in, inner, k1), (inner, inner, k3.stride(stride)), (inner, c_out, k1)],
        };
        let layer = |(i, (from, to, spec)): (usize, (usize, usize, Conv2dSpec))| {
            let conv = b.conv(&format!("{name}.conv{}", i + 1), from, to, spec);
            (conv, b.norm(&format!("{name}.bn{}", i + 1), to, self.bn_eps))
        };
        let convs = plan.into_iter().enumerate().map(layer).collect();
        let shortcut = (stride > 1 || c_in != c_out).then(|| {
            let conv = b.conv(&format!("{name}.downsample.0"), c_in, c_out, k1.stride(stride));
            (conv, b.norm(&format!("{name}.downsample.1"), c_out, self.bn_eps))
        });
        Block { convs, shortcut }
    }
}

impl Trunk {
    /// The last maps, `[N, H', W', C]`.
    pub(super) fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let x = self.conv1.forward_norm(f, &self.bn1, x, None, Activation::RELU)?;
        let mut x = tape::pool(f.tape, &x, MAX_POOL)?;
        for block in &self.blocks {
            x = block.forward(f, &x)?;
            f.leaves_map(&x);
        }
        Ok(x)
    }
}

impl Body for Net {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let x = self.trunk.forward(f, &x)?;
        let features = tape::global_mean(f.tape, &x)?;
        f.features = Some(features.clone());
        self.head.forward(f, &features)
    }
}

impl Block {
    fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let shortcut = match &self.shortcut {
            None => x.clone(),
            Some((conv, bn)) => conv.forward_norm(f, bn, x, None, Activation::IDENTITY)?.dense()?,
        };
        let Some(((last, bn), before)) = self.convs.split_last() else {
            return Err(Error::shape("resnet block", "no convolution"));
        };
        let mut h = x.clone();
        for (conv, bn) in before {
            h = conv.forward_norm(f, bn, &h, None, Activation::RELU)?;
        }
        last.forward_norm(f, bn, &h, Some(&shortcut), Activation::RELU)
    }
}

/// `ResNetForImageClassification` of transformers, to torchvision.
const TRANSFORMERS: Scheme = Scheme {
    name: "transformers ResNet",
    renames: &[
        ("resnet.embedder.embedder.convolution.*", "conv1.*"),
        ("resnet.embedder.embedder.normalization.*", "bn1.*"),
        ("resnet.encoder.stages.0.layers.**", "layer1.**"),
        ("resnet.encoder.stages.1.layers.**", "layer2.**"),
        ("resnet.encoder.stages.2.layers.**", "layer3.**"),
        ("resnet.encoder.stages.3.layers.**", "layer4.**"),
        ("layer*.*.shortcut.convolution.*", "layer*.*.downsample.0.*"),
        ("layer*.*.shortcut.normalization.*", "layer*.*.downsample.1.*"),
        ("layer*.*.layer.0.convolution.*", "layer*.*.conv1.*"),
        ("layer*.*.layer.0.normalization.*", "layer*.*.bn1.*"),
        ("layer*.*.layer.1.convolution.*", "layer*.*.conv2.*"),
        ("layer*.*.layer.1.normalization.*", "layer*.*.bn2.*"),
        ("layer*.*.layer.2.convolution.*", "layer*.*.conv3.*"),
        ("layer*.*.layer.2.normalization.*", "layer*.*.bn3.*"),
        ("classifier.1.*", "fc.*"),
    ],
};
