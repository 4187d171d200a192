//! Published models through the public interface: their reference logits, their accuracy to the image, and the way to a
//! folder and back.
//!
//! Data are looked for in `$SYNTH_TEST_DATA`, or in `shared/data` beside the repository; without them the tests that need
//! them say so and pass.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Tensor;
use synth::data::{Labelled, ReadOptions};
use synth::events::Silent;
use synth::files::Staging;
use synth::model::{Model, Overrides};
use synth::nets::registry::{self, Shape};
use synth::nets::{Network, infer};
use synth::ops::mem::{tensor, view};
use synth::ops::simd::has_tiles;
use synth::ops::{CPU, Compute, Precision};
use synth::rng::{Streams, normal};
use synth::teacher::Teacher;
use synth::train::{Matched, evaluate, labels_for};
use synth::weights::Checkpoint;

const CIFAR10: &str = "uoft-cs/cifar10";
const MNIST: &str = "ylecun/mnist";

/// Folder, architecture as a person would name it, test set, images out of 10,000 that PyTorch gets right with the same
/// weights (README.md of each folder; where the training code publishes an accuracy, it is the same).
const PUBLISHED: &[(&str, &str, &str, usize)] = &[
    ("akamaster/resnet20-cifar10", "resnet20", CIFAR10, 9173),
    ("akamaster/resnet56-cifar10", "resnet56", CIFAR10, 9339),
    ("chenyaofo/cifar100_resnet20", "resnet20-b", "uoft-cs/cifar100", 6883),
    ("COMP6248/wrn-16-2-cifar10", "wrn-16-2", CIFAR10, 9400),
    ("COMP6248/wrn-40-1-cifar10", "wrn-40-1", CIFAR10, 9315),
    ("mlcommons/resnet8-cifar10", "mlperf-resnet8", CIFAR10, 8719),
    ("pytorch/captum-cifar10-lenet", "lenet-cifar", CIFAR10, 5907),
    ("tracel-ai/mnist-cnn", "burn-mnist-cnn", MNIST, 9915),
    ("hendrycks/mnist-convnet", "mnist-convnet", MNIST, 9906),
    ("saharshasamudrala05/fashion-mnist-cnn", "fashion-cnn", "zalando-datasets/fashion_mnist", 9131),
];

fn data() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let data = std::env::var_os("SYNTH_TEST_DATA").map_or(beside, PathBuf::from);
    if data.join("models").is_dir() {
        return Some(data);
    }
    eprintln!("skipped: no models in {}", data.display());
    None
}

fn load(path: &Path) -> Model {
    Model::load(path, None, &Overrides::default()).unwrap()
}

/// `[N, C, H, W]` of a reference file as `[N, H, W, C]`.
fn channels_last(checkpoint: &Checkpoint, name: &str) -> Tensor {
    let raw = &checkpoint.tensors[name];
    let t = tensor(raw.as_f32().unwrap().to_vec(), raw.shape.clone()).unwrap();
    t.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
}

/// max|a − b| / max|b|
fn distance(a: &Tensor, b: &[f32]) -> f32 {
    let a = view(a).unwrap();
    assert_eq!(a.len(), b.len());
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0f32, |m, v| m.max(v.abs()));
    largest(&mut a.iter().zip(b).map(|(a, b)| a - b)) / largest(&mut b.iter().copied())
}

#[test]
fn logits_are_those_of_pytorch() {
    let Some(data) = data() else { return };
    for (folder, arch, ..) in PUBLISHED {
        let folder = data.join("models").join(folder);
        let reference = Checkpoint::read(folder.join("reference.safetensors")).unwrap();
        let (x, logits) = (channels_last(&reference, "input_nchw"), reference.tensors["logits"].as_f32().unwrap());
        let model = load(&folder);
        let off = distance(&infer(&model.network, &x).unwrap(), logits);
        assert!(off < 1e-4, "{}: {off}", folder.display());
        // The same weights as they were published, and the same network under its short name.
        for original in std::fs::read_dir(folder.join("originals")).into_iter().flatten().flatten() {
            let bare = Model::load(original.path(), Some(arch), &Overrides::default()).unwrap();
            assert_eq!(bare.config.num_classes, model.config.num_classes, "{}", original.path().display());
            let off = distance(&infer(&bare.network, &x).unwrap(), logits);
            assert!(off < 1e-4, "{}: {off}", original.path().display());
        }
        let named = Model::load(&folder, Some(arch), &Overrides::default()).unwrap();
        assert_eq!(distance(&infer(&named.network, &x).unwrap(), logits), off, "{arch}");
    }
}

#[test]
fn accuracy_is_the_published_one() {
    let Some(data) = data() else { return };
    let mut read: Option<(&str, Labelled)> = None;
    for (folder, _, dataset, correct) in PUBLISHED {
        if read.as_ref().is_none_or(|(name, _)| name != dataset) {
            let path = data.join("datasets").join(dataset);
            read = Some((dataset, Labelled::read(path, &ReadOptions::default()).unwrap()));
        }
        let images = &mut read.as_mut().unwrap().1;
        let model = load(&data.join("models").join(folder));
        assert_eq!(labels_for(&model.class_names(), images).unwrap(), Matched::AsTheyAre, "{folder}");
        let found = evaluate(&Teacher::of(&model), images, 256, &mut Silent).unwrap();
        // One image may fall to the other side of a tie in single precision.
        assert!(found.count == 10_000 && found.correct.abs_diff(*correct) <= 1, "{folder}: {}", found.correct);
        let all: u32 = found.confusion.iter().flatten().sum();
        assert_eq!(all, 10_000, "{folder}");
        assert!(found.top5.unwrap() >= found.top1 && found.loss > 0.0 && found.images_per_s > 0.0, "{folder}");
        // What bf16 rounds decides a few images on the border of two classes.
        if has_tiles() {
            let teacher = Teacher::of(&model).to(&Compute { precision: Precision::Bf16, ..CPU.clone() }).unwrap();
            let rough = evaluate(&teacher, images, 256, &mut Silent).unwrap().correct;
            assert!(rough.abs_diff(*correct) <= 20, "{folder} in bf16: {rough}");
        }
    }
}

#[test]
fn answers_do_not_depend_on_the_batch() {
    let Some(data) = data() else { return };
    let model = load(&data.join("models/COMP6248/wrn-16-2-cifar10"));
    let options = ReadOptions { limit: Some(70), ..ReadOptions::default() };
    let images = Labelled::read(data.join("datasets").join(CIFAR10), &options).unwrap().images;
    let teacher = Teacher::of(&model);
    let (one, many) = (teacher.answers_u8(&images, 70).unwrap(), teacher.answers_u8(&images, 32).unwrap());
    assert_eq!(one.len(), 700);
    assert_eq!(one, many);
}

#[test]
fn a_published_model_survives_the_way_to_a_folder_and_back() {
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    for (name, ..) in PUBLISHED {
        let model = load(&data.join("models").join(name));
        let target = folder.path().join(name.replace('/', "-"));
        let staging = Staging::create(&target, false).unwrap();
        model.save(staging.path(), "# A card\n", &serde_json::json!({"seed": 0})).unwrap();
        staging.finish().unwrap();
        let again = load(&target);
        assert_eq!(again.config, model.config, "{name}");
        assert_eq!(again.tensors().unwrap(), model.tensors().unwrap(), "{name}");
    }
}

/// A student with fresh weights.
fn student(name: &str, shape: &Shape) -> Model {
    let (mean, std) = (vec![0.5; shape.channels], vec![0.25; shape.channels]);
    let (arch, config) = registry::new_model(name, shape, None, &mean, &std).unwrap();
    let network = Network::init(Arc::new(arch), &mut Streams::new(3).stream("test", 0)).unwrap();
    Model { source: name.to_string(), ..Model::made(network, config) }
}

#[test]
fn our_own_models_are_loaded_again() {
    let folder = tempfile::tempdir().unwrap();
    let x = tensor(normal(&mut Streams::new(1).stream("x", 0), 2 * 64 * 64 * 3), (2, 64, 64, 3)).unwrap();
    for name in ["resnet8", "resnet14-b", "resnet8x4", "resnet18", "wrn-16-1", "lenet5-half", "mlperf-resnet8"] {
        let shape = Shape { channels: 3, height: 64, width: 64, num_classes: 12 };
        let model = student(name, &shape);
        let target = folder.path().join(name);
        std::fs::create_dir(&target).unwrap();
        model.save(&target, "card", &serde_json::json!({})).unwrap();
        let again = load(&target);
        let (a, b) = (infer(&model.network, &x).unwrap(), infer(&again.network, &x).unwrap());
        assert_eq!(view(&a).unwrap().to_vec(), view(&b).unwrap().to_vec(), "{name}");
        assert_eq!((again.config, again.sha256.len()), (model.config, 64), "{name}");
        let mut files: Vec<String> =
            std::fs::read_dir(&target).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(files, ["README.md", "config.json", "model.safetensors", "synth.json"], "{name}");
        // The bare file, with what it does not say.
        let said = Overrides { input_size: Some([3, 64, 64]), ..Overrides::default() };
        let bare = Model::load(target.join("model.safetensors"), Some(name), &said).unwrap();
        assert_eq!(bare.config.num_classes, 12, "{name}");
        assert_eq!(
            (&bare.config.pretrained_cfg.mean[..], &bare.config.pretrained_cfg.std[..]),
            (&[0.0; 3][..], &[1.0; 3][..])
        );
    }
}

#[test]
fn weights_that_are_not_finite_are_never_saved() {
    let shape = Shape { channels: 1, height: 28, width: 28, num_classes: 10 };
    let model = student("mnist-convnet", &shape);
    let (_, first) = model.network.weights.iter().next().unwrap();
    synth::ops::mem::update(first, |values| values[3] = f32::NAN).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let message = model.save(folder.path(), "", &serde_json::json!({})).unwrap_err().to_string();
    assert!(message.contains("conv1.weight") && message.contains("1 values"), "{message}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
