//! Writes every listed network as ONNX, with images and the logits that it answers here, for `tests/python/check_onnx.py`:
//! `cargo run --release --example export_all -- FOLDER [NETWORK...]`.
//!
//! `FOLDER/NAME.onnx` reads the tensor `image` of `FOLDER/NAME.safetensors` (`[3, C, H, W]`, pixels in 0..1) if its name ends
//! in `.normalised`, else the tensor `normalised`; its answer should be the tensor `logits`. Without names, the folder also
//! gets a network of every operation that a trace can hold, in old and new opsets.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use synth::export::onnx::{self, Options};
use synth::model::Model;
use synth::nets::layers::{Builder, Conv, Linear, Norm};
use synth::nets::registry::{self, Shape};
use synth::nets::{Architecture, Body, Forward, Kind, Mode, Network, infer};
use synth::ops::Activation;
use synth::ops::conv2d::{Conv2dSpec, Padding};
use synth::ops::mem::{tensor, update, view};
use synth::ops::place::{Placement, place};
use synth::rng::{Stream, Streams, uniform};
use synth::tape::{self, Pool, PoolKind, Tape, UnaryOp, Var};
use synth::weights::{Checkpoint, ModelConfig, RawData, RawTensor};

/// Images per case.
const IMAGES: usize = 3;
/// Images whose statistics become those of the batch norms.
const STATISTICS: usize = 8;
const CLASSES: usize = 10;
/// The longest side of the images: networks of large ones take smaller ones too.
const LONGEST: usize = 96;
/// Larger networks, of which smaller ones of the same family are written, are left out unless they are named.
const PARAMETERS: usize = 15_000_000;
/// Channels after the shortcut of [`Operations`].
const PADDED: usize = 25;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args();
    let folder = arguments.nth(1).ok_or_else(|| anyhow::anyhow!("name the folder to write into"))?;
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    let mut names: Vec<String> = arguments.collect();
    let all = names.is_empty();
    if all {
        names = registry::listed();
    }
    for name in names {
        let (arch, config) = architecture(&name)?;
        if !arch.trains() || (all && arch.parameters() > PARAMETERS) {
            println!("{name} (left out)");
            continue;
        }
        write(folder, &name, &model(&name, arch, config)?, &[Options::default()])?;
    }
    if all {
        let usual = Options::default();
        let [oldest, newest] = [*onnx::OPSETS.start(), *onnx::OPSETS.end()].map(|opset| Options { opset, ..usual });
        let opsets = [usual, Options { normalise: true, ..usual }, oldest, newest];
        write(folder, "grey", &listed("mnist-convnet")?, &opsets)?;
        write(folder, "colour", &listed("resnet8")?, &opsets)?;
        write(folder, "stream", &listed("wrn-16-1")?, &opsets)?;
        write(folder, "operations", &operations(true)?, &[usual, newest, Options { opset: 18, ..usual }])?;
        write(folder, "old-operations", &operations(false)?, &opsets)?;
    }
    Ok(())
}

/// One network in several ways, and what it answers.
fn write(folder: &Path, name: &str, model: &Model, ways: &[Options]) -> anyhow::Result<()> {
    let [c, h, w] = model.config.pretrained_cfg.input_size;
    let pixels = unit(&mut Streams::new(1).stream(name, 0), IMAGES * h * w * c);
    let x = tensor(pixels, (IMAGES, h, w, c))?;
    let narrow = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<_>>();
    let (mean, std) = (narrow(&model.config.pretrained_cfg.mean), narrow(&model.config.pretrained_cfg.std));
    let normalised = place(&x, &[Placement::default(); IMAGES], &mean, &std)?;
    let logits = infer(&model.network, &normalised)?;
    let first = |t: &candle_core::Tensor| -> anyhow::Result<RawTensor> {
        let t = t.permute((0, 3, 1, 2))?.contiguous()?;
        Ok(RawTensor { shape: t.dims().to_vec(), data: RawData::F32(view(&t)?.to_vec()) })
    };
    let answer = match logits.dims().len() {
        4 => first(&logits)?,
        _ => RawTensor { shape: logits.dims().to_vec(), data: RawData::F32(view(&logits)?.to_vec()) },
    };
    let named = [("image", first(&x)?), ("normalised", first(&normalised)?), ("logits", answer)];
    for way in ways {
        let mut full = name.to_string();
        if way.opset != Options::default().opset {
            full += &format!(".opset{}", way.opset);
        }
        if way.normalise {
            full += ".normalised";
        }
        onnx::export(model, way)?.write(folder.join(format!("{full}.onnx")))?;
        let tensors: BTreeMap<String, RawTensor> = named.iter().map(|(n, t)| (n.to_string(), t.clone())).collect();
        Checkpoint::write_safetensors(folder.join(format!("{full}.safetensors")), &tensors, &BTreeMap::new())?;
    }
    println!("{name}");
    Ok(())
}

/// A listed network.
fn architecture(name: &str) -> anyhow::Result<(Architecture, ModelConfig)> {
    let [channels, height, width] = registry::usual_input(name)?;
    let usual = Shape { channels, height, width, num_classes: CLASSES };
    let (mut called, mut shape) = (name.to_string(), usual);
    // Those that only answer may take no other size.
    if height > LONGEST && registry::from_name(name, &usual)?.0.trains() {
        called = format!("imagenet-{name}");
        shape = Shape { height: LONGEST, width: LONGEST, ..usual };
    }
    let (mean, std) = (&[0.485, 0.456, 0.406][..channels], &[0.229, 0.224, 0.225][..channels]);
    let labels = (0..CLASSES).map(|class| format!("class {class}")).collect();
    Ok(registry::new_model(&called, &shape, Some(labels), mean, std)?)
}

/// It with random weights and the statistics of random images.
fn model(name: &str, arch: Architecture, config: ModelConfig) -> anyhow::Result<Model> {
    let [channels, height, width] = config.pretrained_cfg.input_size;
    let network = randomised(arch, [height, width, channels])?;
    Ok(Model { source: name.to_string(), ..Model::made(network, config) })
}

fn listed(name: &str) -> anyhow::Result<Model> {
    let (arch, config) = architecture(name)?;
    model(name, arch, config)
}

/// Fresh weights, then scales, shifts and biases that are neither 0 nor 1, then running statistics as of training.
fn randomised(arch: Architecture, [h, w, c]: [usize; 3]) -> anyhow::Result<Network> {
    let rng = &mut Streams::new(7).stream("weights", 0);
    let network = Network::init(Arc::new(arch), rng)?;
    for (slot, t) in network.weights.iter() {
        let centre = match slot.kind {
            Kind::NormWeight => 1.0,
            Kind::NormBias | Kind::Bias => 0.0,
            _ => continue,
        };
        let values = uniform(rng, slot.len(), 0.3);
        update(t, |to| to.iter_mut().zip(values).for_each(|(to, v)| *to = centre + v))?;
    }
    let images = uniform(rng, STATISTICS * h * w * c, 2.0);
    let tape = Tape::new();
    let mut f = Forward::new(&tape, &network.weights, Mode::Reestimate { momentum: 1.0 });
    network.forward(&mut f, Var::constant(tensor(images, (STATISTICS, h, w, c))?))?;
    steady(&network)?;
    Ok(network)
}

/// Makes every running variance the second moment. Random images look nearly alike to a deep network with random weights, and
/// dividing by how little they differ would enlarge rounding from layer to layer until it is all that is left.
fn steady(network: &Network) -> synth::Result<()> {
    let mut mean = Vec::new();
    for (slot, t) in network.weights.iter() {
        match slot.kind {
            Kind::RunningMean { .. } => mean = view(t)?.to_vec(),
            Kind::RunningVar => update(t, |var| var.iter_mut().zip(&mean).for_each(|(var, mean)| *var += mean * mean))?,
            _ => {}
        }
    }
    Ok(())
}

/// Uniform in 0..1.
fn unit(rng: &mut Stream, n: usize) -> Vec<f32> {
    uniform(rng, n, 0.5).into_iter().map(|v| v + 0.5).collect()
}

/// What a trace can hold and no listed network uses.
struct Operations {
    stem: Conv,
    norm: Norm,
    grouped: Conv,
    dilated: Conv,
    enlarging: Conv,
    fc: Linear,
    /// Whether it resizes to a fixed size, which old opsets cannot.
    resizes: bool,
}

fn operations(resizes: bool) -> anyhow::Result<Model> {
    let mut model = listed("lenet-cifar")?;
    let k3 = Conv2dSpec::new(3);
    let uneven = Conv2dSpec { padding: Padding { top: 2, left: 0, bottom: 1, right: 1 }, kernel: [3, 2], ..k3 };
    let arch = Architecture::new(|b: &mut Builder| Operations {
        stem: b.conv_bias("stem", 3, 8, Conv2dSpec { stride: [2, 1], ..uneven }),
        norm: b.norm("norm", 8, 1e-3),
        grouped: b.conv("grouped", 8, 12, k3.padding(1).groups(4)),
        dilated: b.conv("dilated", 12, 12, k3.padding(2).dilation(2).groups(12)),
        enlarging: b.conv_bias("enlarging", 12, 5, k3.padding(1).upsampled()),
        fc: b.linear("fc", PADDED, CLASSES),
        resizes,
    });
    model.network = randomised(arch, [32, 32, 3])?;
    Ok(model)
}

impl Body for Operations {
    fn forward(&self, f: &mut Forward, x: Var) -> synth::Result<Var> {
        let pool = |kind, kernel, stride, padding| Pool { kind, kernel, stride, padding };
        let x = self.stem.forward(f, &x, None, Activation::IDENTITY)?;
        let residual = tape::activate(f.tape, &x, Activation::leaky(0.1))?;
        let y = self.norm.forward(f, &x, None, Some(&residual), Activation { slope: 0.2, cap: 1.5 })?;
        let y = self.grouped.forward(f, &y, None, Activation { slope: 0.0, cap: 0.7 })?;
        let y = tape::pool(f.tape, &y, pool(PoolKind::Average { count_padding: true }, 3, 2, 1))?;
        let y = tape::pool(f.tape, &y, pool(PoolKind::Average { count_padding: false }, 3, 1, 1))?;
        let y = self.dilated.forward(f, &y, Some(&y), Activation { slope: 1.0, cap: 0.2 })?;
        let y = tape::pool(f.tape, &y, pool(PoolKind::Max, 3, 2, 1))?;
        let y = tape::nearest2(f.tape, &y)?;
        let mut y = self.enlarging.forward(f, &y, None, Activation::IDENTITY)?;
        for (h, w) in [(11, 13), (40, 27), (1, 6)] {
            if self.resizes {
                y = tape::bilinear(f.tape, &y, h, w)?;
            }
        }
        let gate = tape::unary(f.tape, &y, UnaryOp::Sigmoid)?;
        let y = tape::add(f.tape, &gate, &y, Activation::IDENTITY)?;
        let flat = tape::flatten_chw(f.tape, &y)?;
        let &[_, h, w, c] = y.dims() else { return Err(synth::Error::shape("operations", "no image")) };
        let y = tape::unflatten_chw(f.tape, &flat, [w, c, h])?;
        let y = tape::subsample_pad(f.tape, &y, 3, PADDED)?;
        let y = tape::add(f.tape, &y, &y, Activation::leaky(0.5))?;
        let y = tape::global_mean(f.tape, &y)?;
        self.fc.forward(f, &y)
    }
}
