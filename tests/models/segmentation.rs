//! Networks that answer for every pixel: their reference logits, their measures on CamVid, and what they refuse.
//!
//! Data are looked for in `$SYNTH_TEST_DATA`, or in `shared/data` beside the repository; without them the tests that need
//! them say so and pass.

use candle_core::Tensor;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use synth::data::{LabelCodes, ReadOptions, Segmented};
use synth::events::Silent;
use synth::model::{Model, Overrides};
use synth::nets::registry::{Shape, from_config, from_name, new_model};
use synth::nets::{Forward, Mode, Network, Task, infer};
use synth::ops::mem::{tensor, view};
use synth::rng::{Streams, normal};
use synth::tape::Tape;
use synth::teacher::Teacher;
use synth::train::evaluate_pixels;
use synth::weights::Checkpoint;

const TEACHER: &str = "models/sacmehta/espnet-camvid";

fn data() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let data = std::env::var_os("SYNTH_TEST_DATA").map_or(beside, PathBuf::from);
    if data.join(TEACHER).is_dir() {
        return Some(data);
    }
    eprintln!("skipped: no {TEACHER} in {}", data.display());
    None
}

/// max|a − b| / max|b|
fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0f32, |m, v| m.max(v.abs()));
    largest(&mut a.iter().zip(b).map(|(a, b)| a - b)) / largest(&mut b.iter().copied())
}

/// `[N, C, H, W]` of a file as `[N, H, W, C]`, with the channels in reverse if asked.
fn channels_last(checkpoint: &Checkpoint, name: &str, reverse: bool) -> Tensor {
    let raw = &checkpoint.tensors[name];
    let t = tensor(raw.as_f32().unwrap().to_vec(), raw.shape.clone()).unwrap();
    let t = if reverse { Tensor::cat(&[2, 1, 0].map(|c| t.narrow(1, c, 1).unwrap()), 1).unwrap() } else { t };
    t.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
}

/// The published network, from the folder and from the bare file: images come in as RGB and are turned inside.
#[test]
fn logits_are_those_of_pytorch() {
    let Some(data) = data() else { return };
    let folder = data.join(TEACHER);
    let reference = Checkpoint::read(folder.join("reference.safetensors")).unwrap();
    let logits = channels_last(&reference, "logits", false);
    let expected = view(&logits).unwrap();
    let model = Model::load(&folder, None, &Overrides::default()).unwrap();
    assert_eq!((model.network.arch.task, model.network.arch.parameters()), (Task::Segmentation, 354_517));
    let rgb = channels_last(&reference, "input_nchw", true);
    let found = infer(&model.network, &rgb).unwrap();
    assert_eq!(found.dims(), [1, 120, 160, 12]);
    let off = distance(&view(&found).unwrap(), &expected);
    println!("folder: {off:.1e}");
    assert!(off < 1e-4, "{off}");
    // The moments are collected by other passes, which do not fold norms into convolutions.
    let tape = Tape::new();
    let mut f = Forward::new(&tape, &model.network.weights, Mode::Match);
    let matched = model.network.forward(&mut f, tape.leaf(rgb)).unwrap().tensor().unwrap();
    assert!(distance(&view(&matched).unwrap(), &expected) < 1e-4);
    assert_eq!(f.moments.len(), model.network.arch.norm_layers());
    // The file as it was published does not say that its channels are BGR.
    let bare = folder.join("originals/espnet_p_2_q_8_camvid.pth");
    let bare = Model::load(bare, Some("espnet-p2-q8"), &Overrides::default()).unwrap();
    assert_eq!(bare.config.num_classes, 12);
    let found = infer(&bare.network, &channels_last(&reference, "input_nchw", false)).unwrap();
    assert!(distance(&view(&found).unwrap(), &expected) < 1e-4);
}

#[test]
fn a_model_survives_the_way_to_a_folder_and_back() {
    let Some(data) = data() else { return };
    let model = Model::load(data.join(TEACHER), None, &Overrides::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path(), "# A card\n", &serde_json::json!({})).unwrap();
    let again = Model::load(folder.path(), None, &Overrides::default()).unwrap();
    assert_eq!(again.config, model.config);
    assert_eq!(again.tensors().unwrap(), model.tensors().unwrap());
}

/// Every kind, small: forward and backward, a gradient for every parameter, one pair of moments per batch norm.
#[test]
fn networks_answer_for_every_pixel_and_train() {
    for (name, parameters) in [("espnet-p2-q8", 354_517), ("espnet-p1-q1", 0), ("espnet-c-p1-q2", 0)] {
        let shape = Shape { channels: 3, height: 24, width: 40, num_classes: 12 };
        let (architecture, config) = new_model(name, &shape, None, &[0.5; 3], &[0.25; 3]).unwrap();
        assert!(parameters == 0 || architecture.parameters() == parameters, "{name}: {}", architecture.parameters());
        assert_eq!((config.task.as_str(), config.pretrained_cfg.size_divisor), ("image-segmentation", Some(8)));
        assert_eq!(from_config(&config).unwrap().slots.len(), architecture.slots.len());
        let mut rng = Streams::new(1).stream("test", 0);
        let network = Network::init(Arc::new(architecture), &mut rng).unwrap();
        let x = tensor(normal(&mut rng, 2 * 24 * 40 * 3), (2, 24, 40, 3)).unwrap();
        for mode in [Mode::Train { momentum: 0.1 }, Mode::Match, Mode::Frozen] {
            let tape = Tape::new();
            let mut f = Forward::new(&tape, &network.weights, mode);
            let input = tape.leaf(x.clone());
            let y = network.forward(&mut f, input.clone()).unwrap();
            assert_eq!(y.dims(), [2, 24, 40, 12], "{name}");
            let seed = tensor(normal(&mut rng, 2 * 24 * 40 * 12), (2, 24, 40, 12)).unwrap();
            let mut grads = tape.backward([(y, seed)]).unwrap();
            assert!(view(&grads.take(&input).unwrap()).unwrap().iter().all(|v| v.is_finite()), "{name}");
            if mode == Mode::Match {
                assert_eq!(f.moments.len(), network.arch.norm_layers(), "{name}");
            }
            for (slot, grad) in network.weights.slots.iter().zip(f.gradients(&mut grads)) {
                let expected = slot.kind.trainable() && matches!(mode, Mode::Train { .. });
                assert_eq!(grad.is_some(), expected, "{name} {}", slot.name);
                assert!(grad.is_none_or(|grad| grad.dims() == slot.shape), "{name} {}", slot.name);
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_said_on_one_line() {
    let shape = Shape { channels: 3, height: 120, width: 160, num_classes: 12 };
    let message = |name: &str, shape: &Shape| from_name(name, shape).err().unwrap().to_string();
    let odd = message("espnet-p2-q8", &Shape { height: 100, ..shape });
    assert!(odd.contains("100x160") && odd.contains("multiples of 8") && odd.contains("96x160"), "{odd}");
    let few = message("espnet-p2-q8", &Shape { num_classes: 4, ..shape });
    assert!(few.contains("at least 5") && !few.contains('\n'), "{few}");
    assert!(message("espnet-p0-q8", &shape).contains("from 1 to 64"));
    let (_, mut config) =
        new_model("resnet20", &Shape { height: 32, width: 32, ..shape }, None, &[0.5; 3], &[0.25; 3]).unwrap();
    config.task = "semantic-segmentation".into();
    let wrong = from_config(&config).err().unwrap().to_string();
    assert!(wrong.contains("answers once per image") && !wrong.contains('\n'), "{wrong}");
}

/// mIoU 52.77 and the IoU of every class, as PyTorch measures them on the same files (README.md of the model): whole images,
/// void left out of the labels, answers over all twelve outputs.
#[test]
fn the_published_network_has_its_accuracy() {
    let Some(data) = data() else { return };
    let model = Model::load(data.join(TEACHER), None, &Overrides::default()).unwrap();
    let codes = LabelCodes { classes: 12, ignore: Some(11), void: None, first: None };
    let images =
        Segmented::read(data.join("datasets/alexgkendall/camvid/320x240"), &ReadOptions::default(), &codes).unwrap();
    let teacher = Teacher::of(&model).at([240, 320]).unwrap();
    let mut answered = 0;
    let found = evaluate_pixels(&teacher, &images, codes.ignore, 16, &mut Silent, |i, answer| {
        assert_eq!((i, answer.len()), (answered, 240 * 320));
        answered += 1;
        Ok(())
    })
    .unwrap();
    println!("{found:?}");
    assert_eq!((found.count, answered, found.iou[11]), (233, 233, None));
    assert!((100.0 * found.miou - 52.77).abs() < 0.05, "{}", found.miou);
    assert!((100.0 * found.pixel_accuracy - 82.48).abs() < 0.05, "{}", found.pixel_accuracy);
    let published = [90.3, 64.8, 22.4, 91.4, 73.9, 60.8, 23.4, 9.4, 73.7, 31.1, 39.3];
    for (class, (iou, expected)) in found.iou.iter().flatten().zip(published).enumerate() {
        assert!((100.0 * iou - expected).abs() < 0.15, "class {class}: {iou}, expected {expected}");
    }
    assert_eq!(found.confusion.iter().flatten().sum::<u64>(), found.pixels);
}

/// Runs a command that must fail and gives its one line.
#[track_caller]
fn refused(arguments: &[&str], parts: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_synth")).args(arguments).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!output.status.success() && out.is_empty(), "{arguments:?}: {out}{err}");
    assert!(err.starts_with("error: ") && err.lines().count() == 1, "{arguments:?}: {err}");
    for part in parts {
        assert!(err.contains(part), "{part:?} is not in: {err}");
    }
}

/// A network with fresh weights in `folder`, and two pictures with label images beside it.
fn place(folder: &Path, height: u32) -> [String; 2] {
    let shape = Shape { channels: 3, height: 16, width: 24, num_classes: 6 };
    let (architecture, config) = new_model("espnet-p1-q1", &shape, None, &[0.4; 3], &[0.2; 3]).unwrap();
    let network = Network::init(Arc::new(architecture), &mut Streams::new(0).stream("test", 0)).unwrap();
    let model = Model::made(network, config);
    let at = |name: &str| folder.join(name);
    std::fs::create_dir_all(at("model")).unwrap();
    model.save(at("model"), "card", &serde_json::json!({})).unwrap();
    for part in ["data/test", "data/testannot"] {
        std::fs::create_dir_all(at(part)).unwrap();
    }
    for i in 0..2u8 {
        let picture = image::RgbImage::from_fn(24, height, |x, y| image::Rgb([10 * x as u8, 10 * y as u8, 100 * i]));
        picture.save(at(&format!("data/test/{i}.png"))).unwrap();
        let labels = image::GrayImage::from_fn(24, height, |x, _| image::Luma([if x < 12 { i } else { 255 }]));
        labels.save(at(&format!("data/testannot/{i}.png"))).unwrap();
    }
    ["model", "data"].map(|name| at(name).display().to_string())
}

#[test]
fn eval_measures_and_draws() {
    let folder = tempfile::tempdir().unwrap();
    let [model, data] = place(folder.path(), 16);
    let overlays = folder.path().join("overlays");
    let arguments = ["eval", &model, "--data", &data, "--json", "--overlays", overlays.to_str().unwrap()];
    let output = Command::new(env!("CARGO_BIN_EXE_synth")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((json["count"].as_u64(), json["pixels"].as_u64()), (Some(2), Some(2 * 16 * 12)));
    assert_eq!((json["task"].as_str(), json["data"]["width"].as_u64()), (Some("image-segmentation"), Some(24)));
    let confusion: u64 = json["confusion"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .filter_map(|n| n.as_u64())
        .sum();
    assert_eq!(confusion, 2 * 16 * 12);
    assert!(json["miou"].as_f64().unwrap() <= 1.0 && json["iou"].as_array().unwrap().len() == 6);
    assert!(["0.png", "1.png", "legend.txt"].iter().all(|name| overlays.join(name).is_file()));
    // What is there stays, unless it is to be replaced; then nothing is left of it.
    std::fs::write(overlays.join("9.png"), "old").unwrap();
    refused(&arguments, &["overlays", "exists already", "--force"]);
    let output = Command::new(env!("CARGO_BIN_EXE_synth")).args(arguments).arg("--force").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(overlays.join("1.png").is_file() && !overlays.join("9.png").exists());
    let output = Command::new(env!("CARGO_BIN_EXE_synth")).args(["eval", &model, "--data", &data]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("mIoU") && text.contains("labelled pixels"), "{text}");
}

#[test]
fn an_exported_network_is_said_to_answer_for_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let [model, _] = place(folder.path(), 16);
    let file = folder.path().join("model.onnx").display().to_string();
    let arguments = ["export", &model, "--to", "onnx", "-o", &file];
    let output = Command::new(env!("CARGO_BIN_EXE_synth")).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("logits [batch, 6, 16, 24]"), "{text}");
}

#[test]
fn commands_refuse_what_pixels_have_not() {
    let folder = tempfile::tempdir().unwrap();
    let [model, data] = place(folder.path(), 16);
    let out = folder.path().join("out").display().to_string();
    let invert = ["invert", &model, "-o", &out, "--samples", "8"];
    let with =
        |more: &[&'static str]| -> Vec<String> { invert.iter().chain(more).map(|word| word.to_string()).collect() };
    let refuse = |more: &[&'static str], parts: &[&str]| {
        let words = with(more);
        refused(&words.iter().map(String::as_str).collect::<Vec<_>>(), parts);
    };
    refuse(&["--views", "4"], &["views", "answers for every pixel", "leave it at 0"]);
    refuse(&["--set", "views=4"], &["views", "answers for every pixel", "leave it at 0"]);
    refuse(&["--adversary", "resnet8"], &["resnet8", "image-classification", "the teacher's is image-segmentation"]);
    refuse(&["--input-size", "3,20,24"], &["20x24 pixels", "multiples of 8", "16x24"]);
    refused(&["run", "-o", &out, "--student", "espnet-p2-q8"], &["espnet-p2-q8", "image-segmentation"]);
    refused(&["eval", &model, "--data", &data, "--card"], &["--card", "leave it out"]);
    refused(
        &["collect", &model, "-o", &out, "--from", "shaders", "--samples", "8", "--balance", "nayak"],
        &["--balance", "no one class", "--balance none"],
    );
    refused(&["train", "resnet8", "--data", &data, "-o", &out, "--void", "5"], &["--void", "whole images"]);
    refused(
        &["train", "espnet-p1-q1", "--data", &data, "-o", &out, "--split", "test", "--num-classes", "1"],
        &["testannot/1.png", "the value 1 at row 0, column 0"],
    );
    let mixup = ["--set", "mixup=0.5", "--num-classes", "6"];
    let words = [&["train", "espnet-p1-q1", "--data", &data, "-o", &out, "--split", "test"][..], &mixup].concat();
    refused(&words, &["mixup", "of pixels"]);
    // The keys of a training are not those of a recipe, and none is in `synth recipes`.
    let other = ["--set", "student.lr=0.05", "--num-classes", "6"];
    let words = [&["train", "espnet-p1-q1", "--data", &data, "-o", &out, "--split", "test"][..], &other].concat();
    refused(&words, &["no key `student.lr`", "class_weights", "focal"]);
    let odd = ["--size", "20x16", "--num-classes", "6"];
    let words = [&["train", "espnet-p1-q1", "--data", &data, "-o", &out, "--split", "test"][..], &odd].concat();
    refused(&words, &["16x20 pixels", "multiples of 8"]);
    assert!(!Path::new(&out).exists());
}

#[test]
fn eval_refuses_what_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let [model, data] = place(folder.path(), 20);
    refused(&["eval", &model, "--data", &data], &["20x24 pixels", "multiples of 8"]);
    let label = |values: u8, width| {
        let picture = image::GrayImage::from_pixel(width, 20, image::Luma([values]));
        picture.save(folder.path().join("data/testannot/1.png")).unwrap();
    };
    label(6, 24);
    refused(&["eval", &model, "--data", &data], &["testannot/1.png", "the value 6 at row 0, column 0", "255 is void"]);
    label(1, 16);
    refused(&["eval", &model, "--data", &data], &["testannot/1.png", "16x20 pixels", "the picture 24x20"]);
    label(1, 24);
    let output = Command::new(env!("CARGO_BIN_EXE_synth")).args(["eval", &model, "--data", &data, "--resize"]).output();
    assert!(output.unwrap().status.success());
}
