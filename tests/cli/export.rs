//! `synth export` through the binary: what it writes, what it refuses, and that the pictures of a set come back as they were.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::{Value, json};
use synth::data::{Images, Labelled, ReadOptions};
use synth::model::Model;
use synth::nets::Network;
use synth::nets::registry::{self, Shape};
use synth::rng::Streams;
use synth::set::SyntheticSet;
use synth::train::{Matched, labels_for};
use tempfile::TempDir;

const SHAPE: Shape = Shape { channels: 1, height: 28, width: 28, num_classes: 3 };
const COUNT: usize = 103;

fn synth(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_synth")).current_dir(folder).args(arguments).output().unwrap()
}

/// Runs a command that must succeed, and parses what it prints.
#[track_caller]
fn json_of(folder: &Path, arguments: &[&str]) -> Value {
    let output = synth(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs a command that must fail with `code` and gives its one line.
#[track_caller]
fn refused(folder: &Path, code: i32, arguments: &[&str]) -> String {
    let output = synth(folder, arguments);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {err}");
    assert!(output.stdout.is_empty() && err.starts_with("error: ") && err.lines().count() == 1, "{arguments:?}: {err}");
    err
}

/// `model`, with fresh weights for grey pictures of ant, bee and cat.
fn place() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let names = Some(["ant", "bee", "cat"].map(String::from).to_vec());
    let (arch, config) = registry::new_model("mnist-convnet", &SHAPE, names, &[0.1], &[0.3]).unwrap();
    let network = Network::init(Arc::new(arch), &mut Streams::new(0).stream("test", 0)).unwrap();
    let model = Model::made(network, config);
    std::fs::create_dir(root.path().join("model")).unwrap();
    model.save(root.path().join("model"), "card", &json!({})).unwrap();
    root
}

/// A set of noise whose labels go round; the last class has no image.
fn set(names: &[&str]) -> SyntheticSet {
    let classes = names.len();
    let pixels: Vec<u8> = (0..COUNT * 28 * 28).map(|i| (i * i / 7 % 251) as u8).collect();
    SyntheticSet {
        images: Images::new(pixels, 1, 28, 28).unwrap().into(),
        labels: (0..COUNT).map(|i| (i % (classes - 1)) as u32).collect(),
        logits: (0..COUNT * classes).map(|i| (i % 5) as f32).collect(),
        priority: vec![0.5; COUNT],
        class_names: names.iter().map(|name| name.to_string()).collect(),
        views: None,
        provenance: json!({}),
    }
}

#[test]
fn a_model_becomes_one_file() {
    let root = place();
    let at = root.path();
    let said = json_of(at, &["export", "model", "--to", "onnx", "--json"]);
    let size = std::fs::metadata(at.join("model.onnx")).unwrap().len();
    assert_eq!((&said["path"], &said["opset"], &said["bytes"]), (&json!("model.onnx"), &json!(20), &json!(size)));
    assert_eq!((&said["parameters"], &said["nodes"]), (&json!(21_483), &json!(16)));
    assert!(size > 4 * 21_483 && size < 4 * 21_483 + 4000, "{size}");
    // What is there stays, unless it is asked for.
    assert!(refused(at, 2, &["export", "model", "--to", "onnx"]).contains("model.onnx: it exists already"));
    let said = json_of(at, &["export", "model", "--to", "onnx", "--normalise", "--opset", "17", "--force", "--json"]);
    assert_eq!((&said["opset"], &said["nodes"], &said["normalise"]), (&json!(17), &json!(18), &json!(true)));
    let american = ["export", "model", "--to", "onnx", "--normalize", "--opset", "17", "-o", "new/a.onnx"];
    let text = String::from_utf8(synth(at, &american).stdout).unwrap();
    assert!(text.contains("image [batch, 1, 28, 28]: pixels in 0..1") && text.contains("logits [batch, 3]"), "{text}");
    let [a, b] = ["model.onnx", "new/a.onnx"].map(|file| std::fs::read(at.join(file)).unwrap());
    assert_eq!(a, b, "the same options give the same bytes");
    let bare =
        ["export", "model/model.safetensors", "--arch", "mnist-convnet", "--to", "onnx", "-o", "b.onnx", "--json"];
    assert_eq!(json_of(at, &bare)["nodes"], 16);
    let names: Vec<_> = std::fs::read_dir(at).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let root = place();
    let at = root.path();
    set(&["ant", "bee", "cat"]).write(at.join("set")).unwrap();
    std::fs::create_dir(at.join("folder")).unwrap();
    assert!(refused(at, 2, &["export", "model", "--to", "onnx", "--opset", "12"]).contains("13 to 28 can be written"));
    assert!(refused(at, 2, &["export", "model", "--to", "onnx", "-o", "folder"]).contains("it is a folder"));
    assert!(refused(at, 2, &["export", "set", "--to", "onnx"]).contains("set: it is a set of images"));
    assert!(refused(at, 2, &["export", "set", "--to", "png"]).contains("name the folder for the pictures with -o"));
    assert!(refused(at, 2, &["export", "set", "--to", "png", "-o", "p", "--opset", "20"]).contains("no meaning"));
    assert!(refused(at, 2, &["export", "set", "--to", "png", "-o", "p", "--arch", "lenet5"]).contains("no meaning"));
    assert!(refused(at, 1, &["export", "model", "--to", "png", "-o", "p"]).contains("finished"));
    assert!(refused(at, 2, &["export", "model", "--to", "gif"]).contains("[possible values: onnx, png]"));
    assert!(refused(at, 1, &["export", "nowhere", "--to", "onnx"]).contains("nowhere"));
    let weights = "model/model.safetensors";
    let before = std::fs::read(at.join(weights)).unwrap();
    let over_weights = ["export", "model", "--to", "onnx", "-o", weights, "--force"];
    assert!(refused(at, 2, &over_weights).contains("does not end in .onnx"));
    assert!(refused(at, 2, &["inspect", "set", "--html", weights, "--force"]).contains("does not end in .html"));
    assert_eq!(std::fs::read(at.join(weights)).unwrap(), before);
    assert!(!at.join("p").exists() && !at.join("nowhere.onnx").exists());
}

#[test]
fn the_pictures_of_a_set_come_back() {
    let root = place();
    let at = root.path();
    let odd: Vec<String> = (0..12).rev().map(|class| class.to_string()).collect();
    let odd: Vec<&str> = odd.iter().map(String::as_str).collect();
    for (i, names) in [&["ant", "train", "bee", "none"][..], &["b/b", "..", "a"], &odd].into_iter().enumerate() {
        let set = set(names);
        set.write(at.join(format!("set{i}"))).unwrap();
        let (from, to) = (format!("set{i}"), format!("pictures{i}"));
        let said = json_of(at, &["export", &from, "--to", "png", "-o", &to, "--json"]);
        assert_eq!((&said["images"], &said["path"]), (&json!(COUNT), &json!(to)));
        assert!(refused(at, 2, &["export", &from, "--to", "png", "-o", &to]).contains("exists already"));
        json_of(at, &["export", &from, "--to", "png", "-o", &to, "--force", "--json"]);
        // Read as people read a folder of pictures, the classes by their names.
        let mut read = Labelled::read(at.join(&to), &ReadOptions::default()).unwrap();
        assert_eq!(read.class_names.len(), names.len());
        let matched = labels_for(&set.class_names, &mut read).unwrap();
        assert_eq!(matched == Matched::ByOrder, names.contains(&".."), "{names:?}: {matched:?}");
        let pairs = |images: &Images, labels: &[u32]| {
            let mut all: Vec<(u32, Vec<u8>)> = (0..COUNT).map(|i| (labels[i], images.image(i).to_vec())).collect();
            all.sort();
            all
        };
        assert_eq!(pairs(&read.images, &read.labels), pairs(&set.images, &set.labels), "{names:?}");
    }
    assert!(at.join("pictures0/train/001.png").is_file());
    assert_eq!(std::fs::read_dir(at.join("pictures0/none")).unwrap().count(), 0, "a class without images has a folder");
    // The folders are data for the other commands.
    set(&["cat", "ant", "bee"]).write(at.join("set")).unwrap();
    json_of(at, &["export", "set", "--to", "png", "-o", "pictures", "--json"]);
    let found = json_of(at, &["eval", "model", "--data", "pictures", "--json"]);
    assert_eq!((&found["count"], &found["data"]["class_names"]), (&json!(COUNT), &json!(["ant", "bee", "cat"])));
    let train = ["train", "mnist-convnet", "--data", "pictures", "--epochs", "1", "-o", "trained", "-q", "--json"];
    json_of(at, &train);
    assert!(at.join("trained/model.safetensors").is_file());
}
