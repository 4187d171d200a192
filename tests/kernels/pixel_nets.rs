//! Segmentation networks of torchvision and transformers. A training step against PyTorch in float64
//! (`fixtures/make_pixel_nets.py`): answers, gradients of every parameter and of the images, and statistics, on every instruction
//! set and with 1 and 2 threads; sizes and modes; and what `synth eval` makes of them. Their answers with full weights are
//! compared in `tests/models/libraries.rs`.

use crate::common::device::{bring_f32, cosine, here};
use crate::common::{Fixtures, Pair, values, verify_deep_network};
use crate::hashed::{filled, gradients, hashed};
use candle_core::Tensor;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use synth::model::Model;
use synth::nets::registry::{Shape, from_config, from_name, new_model};
use synth::nets::{Architecture, Forward, Kind, Mode, Network, Task};
use synth::ops::mem::{tensor, view};
use synth::rng::{Streams, normal};
use synth::tape::Tape;
use synth::weights::{Checkpoint, ModelConfig};

/// As the script has them.
const IMAGES: [usize; 4] = [3, 31, 39, 3];
const CLASSES: usize = 12;

/// Errors of a gradient are relative to its own largest value, and to this part of the largest of all gradients at least: some
/// are 0 but for rounding, like that of a bias that the next norm takes away.
const LEAST: f32 = 1e-3;

/// `t` with one more value.
fn beside(t: &Tensor, value: f32) -> Tensor {
    let all: Vec<f32> = values(t).into_iter().chain([value]).collect();
    let n = all.len();
    tensor(all, n).unwrap()
}

/// About 64 values of a large tensor, as `sample` of the Python script.
fn sample(values: Vec<f32>) -> Tensor {
    let mut step = values.len() / 64;
    while step > 1 && (step.is_multiple_of(2) || step % 3 != 1) {
        step += 1;
    }
    let kept: Vec<f32> = values.into_iter().step_by(step.max(1)).collect();
    let n = kept.len();
    tensor(kept, n).unwrap()
}

/// The network called `name`, with other arguments than the name says.
fn architecture(name: &str, args: Value, [height, width]: [usize; 2]) -> Architecture {
    let shape = Shape { channels: 3, height, width, num_classes: CLASSES };
    let (_, mut config) = new_model(name, &shape, None, &[0.5; 3], &[0.25; 3]).unwrap();
    assert_eq!((config.task.as_str(), config.pretrained_cfg.size_divisor), ("image-segmentation", None));
    let Value::Object(args) = args else { unreachable!() };
    config.model_args.extend(args.into_iter().collect::<Map<_, _>>());
    from_config(&config).unwrap()
}

fn network(name: &str, args: Value) -> Network {
    filled(architecture(name, args, [IMAGES[1], IMAGES[2]])).to(&here()).unwrap()
}

/// `directions`: of gradients, the cosines of the angles to their references stand for their values.
fn train_step(file: &Fixtures, case: &str, net: &Network, directions: bool) -> Vec<Pair> {
    let tape = Tape::new();
    let mut f = Forward::new(&tape, &net.weights, Mode::Train { momentum: 0.1 });
    let images = tensor(hashed("images", IMAGES.iter().product()), &IMAGES[..]).unwrap();
    let x = tape.leaf(bring_f32(&images));
    let y = net.forward(&mut f, x.clone()).unwrap();
    let out = y.tensor().unwrap();
    let weights = tensor(hashed("weights of the pixels", out.elem_count()), out.dims()).unwrap();
    let mut grads = tape.backward([(y, bring_f32(&weights))]).unwrap();
    let pair = |what: &str, values: Vec<f32>, stored: String| (what.to_string(), sample(values), file.get(&stored));
    let mut pairs = vec![pair("y", values(&out), format!("{case}/y"))];
    let mut parameters = gradients(net, &f, &mut grads);
    let largest = |found: &[f32]| found.iter().fold(0f32, |most, v| most.max(v.abs()));
    let top = parameters.iter().filter(|p| p.1).map(|p| largest(&p.2)).fold(0f32, f32::max);
    parameters.push(("images".into(), true, values(&grads.take(&x).unwrap())));
    for (name, gradient, values) in parameters {
        let kind = if gradient { "grad" } else { "stat" };
        let (what, got, expected) = pair(&name, values, format!("{case}/{kind}/{name}"));
        let least = if gradient { LEAST * top } else { 0.0 };
        let (got, expected) = (beside(&got, least), beside(&expected, least));
        pairs.push(match gradient && directions {
            true => (what, tensor(vec![cosine(&got, &expected) as f32], 1).unwrap(), tensor(vec![1.0], 1).unwrap()),
            false => (what, got, expected),
        });
    }
    let stored = file.names().iter().filter(|n| n.starts_with(&format!("{case}/"))).count();
    assert_eq!(pairs.len(), stored, "{case}: every stored tensor is compared");
    pairs
}

fn check(case: &str, name: &str, args: Value, tolerance: f64, directions: bool) {
    let file = Fixtures::load("pixel_nets.safetensors");
    let run = || train_step(&file, case, &network(name, args.clone()), directions);
    println!("{case}: {:.1e}", verify_deep_network(case, tolerance, run));
}

#[test]
fn deeplab_on_a_resnet() {
    check("deeplab_resnet", "deeplabv3_resnet50", json!({"layers": [1, 1, 1, 1]}), 2e-4, false);
}

/// With random weights, one value that rounding moves across a kink of a ReLU6 turns single gradients by percents, here as in
/// PyTorch's own f32: their directions are compared.
#[test]
fn deeplab_on_mobilenet_v2() {
    check("deeplab_mobilenet_v2", "deeplabv3_mobilenet_v2", json!({}), 1e-2, true);
}

#[test]
fn lr_aspp_on_mobilenet_v3() {
    check("lraspp", "lraspp_mobilenet_v3_large", json!({}), 2e-4, false);
}

/// Trainable values for 21 classes: torchvision's documentation, less its auxiliary classifiers of 2,365,205 and 3,851.
#[test]
fn sizes_are_the_published_ones() {
    for (name, parameters, norms) in [
        ("deeplabv3_resnet50", 42_004_074 - 2_365_205, 53 + 7),
        ("deeplabv3_resnet101", 60_996_202 - 2_365_205, 104 + 7),
        ("deeplabv3_mobilenet_v3_large", 11_029_328 - 3_851, 46 + 7),
        ("lraspp_mobilenet_v3_large", 3_221_538, 46 + 1),
        ("deeplabv3-mobilenet-v2", 5_113_877, 51 + 7),
    ] {
        let shape = Shape { channels: 3, height: 520, width: 520, num_classes: 21 };
        let (architecture, _) = from_name(name, &shape).unwrap();
        assert_eq!((architecture.parameters(), architecture.norm_layers()), (parameters, norms), "{name}");
        assert_eq!((architecture.task, architecture.trains()), (Task::Segmentation, true), "{name}");
    }
}

/// Any size of image, two images at a time, down to maps of one pixel, whose statistics are those of two values: every answer is
/// finite, and a gradient reaches every parameter.
#[test]
fn networks_answer_for_every_pixel_and_train() {
    for (name, args) in [
        ("deeplabv3_resnet50", json!({"layers": [1, 1, 1, 1]})),
        ("deeplabv3_mobilenet_v2_035", json!({})),
        ("deeplabv3_mobilenet_v2_035", json!({"output_stride": 8})),
        ("deeplabv3_mobilenet_v3_large", json!({})),
        ("lraspp_mobilenet_v3_large", json!({})),
    ] {
        for [height, width] in [[33, 29], [8, 16]] {
            let mut rng = Streams::new(1).stream("test", 0);
            let made = architecture(name, args.clone(), [height, width]);
            let network = Network::init(Arc::new(made), &mut rng).unwrap();
            let of = |n: usize| (2, height, width, n);
            let x = tensor(normal(&mut rng, 2 * height * width * 3), of(3)).unwrap();
            for mode in [Mode::Train { momentum: 0.1 }, Mode::Match, Mode::Frozen] {
                let tape = Tape::new();
                let mut f = Forward::new(&tape, &network.weights, mode);
                let input = tape.leaf(x.clone());
                let y = network.forward(&mut f, input.clone()).unwrap();
                assert_eq!(y.dims(), [2, height, width, CLASSES], "{name}");
                let seed = tensor(normal(&mut rng, 2 * height * width * CLASSES), of(CLASSES)).unwrap();
                let finite = |t: &Tensor| values(t).iter().all(|v| v.is_finite());
                assert!(finite(&y.tensor().unwrap()), "{name} {mode:?}");
                let mut grads = tape.backward([(y, seed)]).unwrap();
                assert!(finite(&grads.take(&input).unwrap()), "{name} {mode:?}");
                if mode == Mode::Match {
                    assert_eq!(f.moments.len(), network.arch.norm_layers(), "{name}");
                }
                for (slot, grad) in network.weights.slots.iter().zip(f.gradients(&mut grads)) {
                    let expected = slot.kind.trainable() && matches!(mode, Mode::Train { .. });
                    assert_eq!(grad.is_some(), expected, "{name} {}", slot.name);
                    assert!(grad.is_none_or(|grad| grad.dims() == slot.shape && finite(&grad)), "{name} {}", slot.name);
                }
            }
        }
    }
}

#[test]
fn arguments_are_checked() {
    let shape = Shape { channels: 3, height: 64, width: 64, num_classes: CLASSES };
    for (name, key, value, part) in [
        ("deeplabv3_resnet50", "layers", json!([3, 4]), "four stages"),
        ("deeplabv3_mobilenet_v2", "output_stride", json!(12), "8, 16 or 32"),
        ("deeplabv3_mobilenet_v3_large", "output_stride", json!(8), "unknown argument"),
    ] {
        let (_, mut config) = new_model(name, &shape, None, &[0.5; 3], &[0.25; 3]).unwrap();
        config.model_args.insert(key.into(), value);
        let error = from_config(&config).err().unwrap().to_string();
        assert!(error.contains(part) && error.contains(key) && !error.contains('\n'), "{error}");
    }
}

/// A tiny SegFormer as transformers saves it, with random weights.
fn segformer(folder: &Path) -> Model {
    let labels: Map<String, Value> = (0..4).map(|i| (i.to_string(), json!(format!("class {i}")))).collect();
    let config = json!({
        "model_type": "segformer", "architectures": ["SegformerForSemanticSegmentation"], "depths": [1, 1, 2, 1],
        "hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 2, 3, 4], "decoder_hidden_size": 20, "id2label": labels,
        "semantic_loss_ignore_index": 3,
    });
    let images = json!({"do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25],
        "size": {"height": 64, "width": 64}});
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.join("preprocessor_config.json"), images.to_string()).unwrap();
    let config = ModelConfig::read(folder).unwrap();
    let network =
        Network::init(Arc::new(from_config(&config).unwrap()), &mut Streams::new(3).stream("test", 0)).unwrap();
    let model = Model::made(network, config);
    let weights = folder.join("model.safetensors");
    Checkpoint::write_safetensors(weights, &model.tensors().unwrap(), &Default::default()).unwrap();
    model
}

/// `synth eval` of a network that only answers, at another size than its configuration has, beside its answers taken by hand.
#[test]
fn a_segformer_is_measured_per_pixel() {
    const SIZE: [u32; 2] = [72, 104];
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let model = segformer(&at("model"));
    assert_eq!((model.network.arch.task, model.network.arch.trains()), (Task::Segmentation, false));
    assert_eq!(model.network.weights.slots.iter().filter(|slot| matches!(slot.kind, Kind::RunningVar)).count(), 1);
    for part in ["data/test", "data/testannot"] {
        std::fs::create_dir_all(at(part)).unwrap();
    }
    let [height, width] = SIZE;
    let picture = image::RgbImage::from_fn(width, height, |x, y| image::Rgb([2 * x as u8, 3 * y as u8, (x * y) as u8]));
    picture.save(at("data/test/0.png")).unwrap();
    let labels = image::GrayImage::from_fn(width, height, |x, y| image::Luma([((x / 40 + y / 30) % 4) as u8]));
    labels.save(at("data/testannot/0.png")).unwrap();

    let pixels: Vec<f32> = picture.as_raw().iter().map(|v| (f32::from(*v) / 255.0 - 0.5) / 0.25).collect();
    let x = tensor(pixels, (1, height as usize, width as usize, 3)).unwrap();
    let logits = synth::nets::infer(&model.network, &x).unwrap();
    assert_eq!(logits.dims(), [1, height as usize, width as usize, 4]);
    let logits = view(&logits).unwrap();
    let mut confusion = [[0u64; 4]; 4];
    for (row, label) in logits.chunks_exact(4).zip(labels.as_raw()).filter(|(_, label)| **label != 3) {
        let best = (0..4).fold(0, |best, class| if row[class] > row[best] { class } else { best });
        confusion[usize::from(*label)][best] += 1;
    }
    let [model, data] = ["model", "data"].map(|name| at(name).display().to_string());
    let output = Command::new(env!("CARGO_BIN_EXE_synth"))
        .args(["eval", &model, "--data", &data, "--device", "cpu", "--precision", "f32", "--json"])
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["task"], &found["ignored_class"]), (&json!("image-segmentation"), &json!(3)));
    assert_eq!(found["confusion"], json!(confusion));
    assert!(confusion.iter().flatten().filter(|count| **count > 0).count() > 3, "{confusion:?}");
}
