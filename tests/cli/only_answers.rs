//! Teachers without batch norms, through the binary: they answer for `eval`, `distill` and `inspect`; what needs more of them
//! says on one line that it cannot be had, and what can.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use synth::events::Silent;
use synth::invert::Recipe;
use synth::jobs::InvertJob;
use synth::model::Model;
use synth::nets::registry::{self, Shape};
use synth::nets::{Forward, Mode, Network, infer};
use synth::ops::CPU;
use synth::ops::mem::{tensor, view};
use synth::rng::{Streams, normal};
use synth::tape::Tape;
use synth::weights::{Checkpoint, ModelConfig};
use tempfile::TempDir;

const CLASSES: [&str; 4] = ["ant", "bee", "cat", "dog"];

/// A tiny ViT as transformers describes it, with its preprocessor.
fn vit() -> (Value, Option<Value>) {
    let labels: Value = CLASSES.iter().enumerate().map(|(i, name)| (i.to_string(), json!(name))).collect();
    let config = json!({
        "model_type": "vit", "architectures": ["ViTForImageClassification"], "image_size": 32, "patch_size": 8,
        "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96, "hidden_act": "gelu",
        "layer_norm_eps": 1e-12, "qkv_bias": true, "encoder_stride": 16, "id2label": labels,
    });
    let images = json!({
        "do_normalize": true, "do_rescale": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25],
        "size": {"height": 32, "width": 32},
    });
    (config, Some(images))
}

/// A tiny ConvNeXt as timm describes it.
fn convnext() -> (Value, Option<Value>) {
    let config = json!({
        "architecture": "convnext_atto", "num_classes": 4, "global_pool": "avg", "label_names": CLASSES,
        "model_args": {"depths": [1, 1, 2, 1], "dims": [12, 16, 24, 32]},
        "pretrained_cfg": {
            "input_size": [3, 32, 32], "fixed_input_size": false, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
        },
    });
    (config, None)
}

/// Writes a model folder with random weights, its configuration as the library has it.
fn write(folder: &Path, (config, preprocessor): &(Value, Option<Value>)) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    if let Some(preprocessor) = preprocessor {
        std::fs::write(folder.join("preprocessor_config.json"), preprocessor.to_string()).unwrap();
    }
    let config = ModelConfig::read(folder).unwrap();
    let arch = Arc::new(registry::from_config(&config).unwrap());
    let network = Network::init(arch, &mut Streams::new(3).stream("teacher", 0)).unwrap();
    let model = Model::made(network, config);
    let tensors = model.tensors().unwrap();
    Checkpoint::write_safetensors(folder.join("model.safetensors"), &tensors, &Default::default()).unwrap();
}

/// A few dozen inverted images of a random ResNet-8, as `synth invert` leaves them.
fn write_set(folder: &Path) {
    let shape = Shape { channels: 3, height: 32, width: 32, num_classes: 4 };
    let names = Some(CLASSES.map(String::from).to_vec());
    let (arch, config) = registry::new_model("resnet8", &shape, names, &[0.5; 3], &[0.25; 3]).unwrap();
    let network = Network::init(Arc::new(arch), &mut Streams::new(7).stream("teacher", 0)).unwrap();
    let teacher = Model { network, config, sha256: "0".repeat(64), source: "random".into() };
    let mut recipe = Recipe { batch: 20, practice: 1, rounds: 1, adversary_steps: 2, views: 0, ..Recipe::default() };
    (recipe.generator.width, recipe.generator.latent, recipe.generator.inner_steps) = (8, 16, 2);
    (recipe.generator.warmup_steps, recipe.buffer.samples) = (2, 60);
    let job = InvertJob {
        teacher: &teacher,
        recipe: &recipe,
        embeddings: None,
        adversary: "resnet8",
        teacher_blocks: false,
        on_the_fly: false,
        all_views: true,
        limit: None,
        seed: 0,
        compute: &CPU,
    };
    job.run(&mut Silent).unwrap().write(folder).unwrap();
}

struct Place {
    root: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { root: tempfile::tempdir().unwrap() };
        write(&place.at("vit"), &vit());
        write(&place.at("convnext"), &convnext());
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_string()
    }

    fn pictures(&self, folder: &str) -> String {
        for (i, class) in CLASSES.iter().enumerate() {
            std::fs::create_dir_all(self.at(folder).join(class)).unwrap();
            for j in 0..20u32 {
                let shade = |x: u32, y: u32| [(x * y + 12 * j) as u8, (x * 7 + j) as u8, (y * 5 + i as u32 * 60) as u8];
                let picture = image::RgbImage::from_fn(32, 32, |x, y| image::Rgb(shade(x, y)));
                picture.save(self.at(folder).join(class).join(format!("{j}.png"))).unwrap();
            }
        }
        self.text(folder)
    }
}

fn synth(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_synth")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn done(arguments: &[&str]) -> Value {
    let output = synth(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn refused(arguments: &[&str], parts: &[&str]) {
    let output = synth(arguments);
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && output.stdout.is_empty(), "{arguments:?}: {err}");
    assert!(err.starts_with("error: ") && err.lines().count() == 1, "{arguments:?}: {err}");
    for part in parts {
        assert!(err.contains(part), "{part:?} is not in: {err}");
    }
}

#[test]
fn they_are_measured_and_teach() {
    let place = Place::new();
    let (set, pictures) = (place.text("set"), place.pictures("pictures"));
    write_set(&place.at("set"));
    for name in ["vit", "convnext"] {
        let (teacher, student) = (place.text(name), place.text(&format!("{name}-student")));
        let eval = |threads: &str| done(&["eval", &teacher, "--data", &pictures, "--threads", threads]);
        let (one, two, three) = (eval("1"), eval("2"), eval("3"));
        assert_eq!((&one["count"], one["confusion"].as_array().unwrap().len()), (&json!(80), 4));
        assert_eq!(one["loss"], two["loss"], "{name}: other bits with two threads");
        assert_eq!(one["loss"], three["loss"], "{name}: other bits with three threads");

        let fixed = ["distill", &set, "--teacher", &teacher, "--student", "resnet8", "-o", &student, "-q"];
        let made = done(&[&fixed[..], &["--steps", "6", "--set", "student.batch=16"]].concat());
        assert_eq!(made["architecture"], "resnet8");
        let about = std::fs::read(place.at(&format!("{name}-student/synth.json"))).unwrap();
        let about: Value = serde_json::from_slice(&about).unwrap();
        assert_eq!((&about["answers"], &about["teacher"]["id"]), (&json!("live"), &json!(teacher)));
        // The student takes over the teacher's classes, and reads what it reads.
        let student = done(&["inspect", &student]);
        assert_eq!((&student["label_names"], &student["std"]), (&json!(CLASSES), &json!([0.25, 0.25, 0.25])));

        let about = done(&["inspect", &teacher]);
        assert_eq!((&about["batch_norm_layers"], &about["trains"]), (&json!(0), &json!(false)));
        let text = String::from_utf8(synth(&["inspect", &teacher]).stdout).unwrap();
        assert!(text.contains("only answers") && text.contains("layer norm"), "{text}");
        let output = synth(&["inspect", &set, "--teacher", &teacher]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("the teacher has none"), "{text}");
    }
}

#[test]
fn what_needs_gradients_says_what_can_be_done_instead() {
    let place = Place::new();
    let out = place.text("out");
    for name in ["vit", "convnext"] {
        let teacher = place.text(name);
        let reason = ["recipe ssd", "no batch norms and only answers", "synth distill SET --teacher", "synth eval"];
        refused(&["invert", &teacher, "-o", &out], &reason);
        refused(&["invert", &teacher, "-o", &out, "--set", "loss.bn=0"], &reason);
        refused(&["run", &teacher, "-o", &out, "--student", "resnet8"], &reason);
        let collect = ["collect", &teacher, "-o", &out, "--from", "noise", "--samples", "40", "--boundary", "20"];
        refused(&collect, &["--boundary", "only answers", "leave it out"]);
        assert!(!place.at("out").exists());
    }
    let role = ["only answers", "teacher of `distill`", "not be a student, an adversary", "synth networks"];
    let adversary = ["run", "-o", &out, "--student", "vit_tiny_patch16_224"];
    // The shipped teacher's images are too small for patches of this size, which is said first.
    refused(&["run", "-o", &out, "--student", "vit_tiny_patch12_32"], &["input_size", "multiple of 12"]);
    refused(&adversary, &[&["student \"vit_tiny_patch16_224\""], &role[..]].concat());
    refused(&["run", "-o", &out, "--student", "convnext_atto"], &role);
    place.pictures("labelled/train");
    refused(&["train", "convnextv2_atto", "--data", &place.text("labelled"), "-o", &out], &role);
}

/// `sgd` of a pass that was never recorded, or a gradient that is quietly 0, would be worse than a refusal.
#[test]
fn a_pass_that_wants_gradients_is_refused() {
    for (config, _) in [vit(), convnext()] {
        let config = ModelConfig::parse(config.to_string().as_bytes(), "test").unwrap();
        let arch = Arc::new(registry::from_config(&config).unwrap());
        let network = Network::init(arch, &mut Streams::new(3).stream("teacher", 0)).unwrap();
        let x = tensor(normal(&mut Streams::new(0).stream("x", 0), 5 * 32 * 32 * 3), (5, 32, 32, 3)).unwrap();
        let pass = |mode, leaf: bool| {
            let tape = Tape::new();
            let mut f = Forward::new(&tape, &network.weights, mode);
            let x = if leaf { tape.leaf(x.clone()) } else { synth::tape::Var::constant(x.clone()) };
            network.forward(&mut f, x).map(|y| y.dims().to_vec()).map_err(|e| e.to_string())
        };
        assert_eq!(pass(Mode::Frozen, false), Ok(vec![5, 4]));
        for (mode, leaf) in [(Mode::Frozen, true), (Mode::Match, true), (Mode::Train { momentum: 0.1 }, false)] {
            let error = pass(mode, leaf).unwrap_err();
            assert!(error.contains("it was asked for gradients") && !error.contains('\n'), "{error}");
        }
    }
}

/// A batch is cut into pieces; an image's answer is its own.
#[test]
fn an_answer_does_not_depend_on_the_other_images() {
    for (config, _) in [vit(), convnext()] {
        let config = ModelConfig::parse(config.to_string().as_bytes(), "test").unwrap();
        let arch = Arc::new(registry::from_config(&config).unwrap());
        let network = Network::init(arch, &mut Streams::new(3).stream("teacher", 0)).unwrap();
        let count = 300;
        let values = normal(&mut Streams::new(0).stream("x", 0), count * 32 * 32 * 3);
        let x = tensor(values, (count, 32, 32, 3)).unwrap();
        let all = infer(&network, &x).unwrap();
        assert_eq!(all.dims(), [count, 4]);
        for i in [0, 63, 64, 241, 299] {
            let one = infer(&network, &x.narrow(0, i, 1).unwrap().force_contiguous().unwrap()).unwrap();
            for (a, b) in view(&one).unwrap().iter().zip(&view(&all).unwrap()[i * 4..][..4]) {
                assert!((a - b).abs() < 1e-5, "image {i}: {a} alone, {b} among others");
            }
        }
    }
}

/// What the modules do not have is named, not overlooked.
#[test]
fn hyper_parameters_that_are_not_there_are_refused_by_name() {
    let parse = |base: (Value, Option<Value>), key: &str, value: Value| {
        let mut config = base.0;
        let args = if config["model_args"].is_object() { &mut config["model_args"] } else { &mut config };
        args[key] = value;
        let config = ModelConfig::parse(config.to_string().as_bytes(), "test").unwrap();
        let error = registry::from_config(&config).err().unwrap_or_else(|| panic!("{key} was accepted")).to_string();
        assert!(error.contains(key) && !error.contains('\n'), "{key}: {error}");
    };
    let dinov2 = || {
        let (mut config, _) = vit();
        config["model_type"] = "dinov2".into();
        for key in ["encoder_stride", "intermediate_size"] {
            config.as_object_mut().unwrap().remove(key);
        }
        (config, None)
    };
    let segformer = || {
        let labels = vit().0["id2label"].clone();
        (json!({"model_type": "segformer", "image_size": 64, "id2label": labels}), None)
    };
    for (key, value) in [
        ("hidden_act", json!("quick_gelu")),
        ("num_attention_heads", json!(5)),
        ("image_size", json!([32, 48])),
        ("patch_size", json!([8, 4])),
        ("num_register_tokens", json!(4)),
        ("qkv_bias", json!("yes")),
        ("layer_norm_eps", json!(-1.0)),
    ] {
        parse(vit(), key, value.clone());
        parse(dinov2(), key, value);
    }
    parse(dinov2(), "use_swiglu_ffn", json!(true));
    for (key, value) in [
        ("hidden_act", json!("relu")),
        ("sr_ratios", json!([8, 4, 2])),
        ("num_attention_heads", json!([1, 2, 5, 7])),
        ("qkv_bias", json!(false)),
    ] {
        parse(segformer(), key, value);
    }
    for (key, value) in [
        ("stem_type", json!("overlap")),
        ("kernel_sizes", json!(5)),
        ("head_norm_first", json!(true)),
        ("act_layer", json!("relu")),
        ("norm_layer", json!("rmsnorm")),
        ("depths", json!([1, 1])),
        ("patch_size", json!(2)),
        ("head_hidden_size", json!(64)),
    ] {
        parse(convnext(), key, value);
    }
    let timm = || {
        let (mut config, _) = convnext();
        (config["architecture"], config["model_args"], config["global_pool"]) =
            (json!("vit_tiny_patch16_224"), json!({"depth": 1}), json!("token"));
        (config, None)
    };
    for (key, value) in [
        ("global_pool", json!("avg")),
        ("reg_tokens", json!(4)),
        ("qk_norm", json!(true)),
        ("fc_norm", json!(true)),
        ("img_size", json!(224)),
        ("class_token", json!(false)),
    ] {
        parse(timm(), key, value);
    }
    // Its answers would be taken for probabilities of which one is meant.
    let (mut config, _) = vit();
    config["problem_type"] = "single_label_classification".into();
    assert!(ModelConfig::parse(config.to_string().as_bytes(), "test").is_ok());
    config["problem_type"] = "multi_label_classification".into();
    let refused = ModelConfig::parse(config.to_string().as_bytes(), "test").err().unwrap().to_string();
    assert!(refused.contains("multi_label_classification") && !refused.contains('\n'), "{refused}");
    let (mut pooled, _) = convnext();
    pooled["global_pool"] = "max".into();
    let pooled = ModelConfig::parse(pooled.to_string().as_bytes(), "test").unwrap();
    assert!(registry::from_config(&pooled).err().unwrap().to_string().contains("\"max\""));
}
