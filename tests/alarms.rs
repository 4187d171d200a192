//! Do the alarms tell runs that went well from runs that were broken on purpose? Needs trained teachers, which are looked
//! for in `$SYNTH_TEST_DATA`, or in `shared/data` beside the repository:
//! `cargo test --release --test alarms -- --ignored --nocapture`; `ALARM_RUNS=lr,bn` runs those whose names contain one
//! of the words.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use synth::distill::{AnswerSource, StudentRecipe, distill};
use synth::events::{Observer, Record};
use synth::invert::{Inversion, Lifecycle, Recipe, invert};
use synth::nets::{Architecture, Kind, Network, ResNetCifar, Shortcut, Weights};
use synth::ops::mem::update;
use synth::report::{Health, Summary};
use synth::rng::{Streams, permutation};
use synth::set::SyntheticSet;
use synth::teacher::Teacher;
use synth::weights::{Checkpoint, Expected, ModelConfig, RawData, fit, locate, schemes};
use synth::{Error, Result};

struct Watch(Summary);

impl Observer for Watch {
    fn record(&mut self, record: &Record) {
        self.0.take(record, Instant::now());
    }
}

fn data() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    std::env::var_os("SYNTH_TEST_DATA").map_or(beside, PathBuf::from)
}

fn teacher(name: &str) -> Teacher {
    let source = locate(data().join("models").join(name)).unwrap();
    let config: ModelConfig = source.config.unwrap();
    let depth = config.model_args["depth"].as_u64().unwrap() as usize;
    let net = ResNetCifar {
        blocks: vec![(depth - 2) / 6; 3],
        widths: vec![16, 32, 64],
        shortcut: if config.model_args["shortcut"] == "A" { Shortcut::A } else { Shortcut::B },
        in_channels: 3,
        num_classes: config.num_classes,
        bn_eps: 1e-5,
        head: if config.pretrained_cfg.extra["classifier"] == "linear" { "linear" } else { "fc" },
    };
    let arch = Arc::new(Architecture::new(|b| net.build(b)));
    let expected: Vec<Expected> = arch
        .slots
        .iter()
        .map(|s| Expected { name: s.name.clone(), shape: s.file_shape(), optional: false })
        .collect();
    let mut tensors = fit(Checkpoint::read(&source.weights).unwrap(), &expected, schemes::ALL).unwrap();
    let weights = Weights::from_file(arch.slots.clone(), |slot| match tensors.remove(&slot.name).map(|t| t.data) {
        Some(RawData::F32(values)) => Ok(values),
        _ => Err(Error::shape("teacher", slot.name.clone())),
    });
    let numbers = |v: &[f64]| v.iter().map(|v| *v as f32).collect();
    Teacher {
        network: Network { arch, weights: weights.unwrap() },
        mean: numbers(&config.pretrained_cfg.mean),
        std: numbers(&config.pretrained_cfg.std),
        size: [32, 32],
        channels: 3,
        classes: config.num_classes,
    }
}

/// ResNet-8: the student and the adversary.
fn student(classes: usize, seed: u64) -> Network {
    let net = ResNetCifar {
        blocks: vec![1; 3],
        widths: vec![16, 32, 64],
        shortcut: Shortcut::B,
        in_channels: 3,
        num_classes: classes,
        bn_eps: 1e-5,
        head: "fc",
    };
    let arch = Arc::new(Architecture::new(|b| net.build(b)));
    Network::init(arch, &mut Streams::new(seed).stream("student", 0)).unwrap()
}

/// Everything that a case may change.
struct Case {
    name: &'static str,
    healthy: bool,
    teacher: &'static str,
    seed: u64,
    change: fn(&mut Teacher, &mut Recipe, &mut StudentRecipe),
}

const R20: &str = "akamaster/resnet20-cifar10";
const R56: &str = "akamaster/resnet56-cifar10";
const C100: &str = "chenyaofo/cifar100_resnet20";

fn nothing(_: &mut Teacher, _: &mut Recipe, _: &mut StudentRecipe) {}

fn cases() -> Vec<Case> {
    let ok = |name, teacher, seed, change| Case { name, healthy: true, teacher, seed, change };
    let bad = |name, teacher, seed, change| Case { name, healthy: false, teacher, seed, change };
    vec![
        ok("r20 seed 0", R20, 0, nothing),
        ok("r20 seed 1", R20, 1, nothing),
        ok("c100 seed 3", C100, 3, nothing),
        ok("r20 carry-over", R20, 2, |_, r, _| r.generator.lifecycle = Lifecycle::CarryOver),
        ok("c100 width 48", C100, 4, |_, r, _| r.generator.width = 48),
        ok("r56 seed 5", R56, 5, nothing),
        ok("r20 batch 128", R20, 6, |_, r, _| r.batch = 128),
        ok("r56 reptile", R56, 7, |_, r, _| r.generator.lifecycle = Lifecycle::Reptile),
        ok("r20 1000 images", R20, 8, |_, r, _| r.buffer.samples = 1000),
        ok("r20 256 images", R20, 9, |_, r, _| r.buffer.samples = 256),
        bad("mean 0, std 1", R20, 0, |t, _, _| {
            t.mean = vec![0.0; 3];
            t.std = vec![1.0; 3];
        }),
        bad("std a quarter", C100, 1, |t, _, _| t.std.iter_mut().for_each(|v| *v /= 4.0)),
        bad("bn weight 0", R20, 2, |_, r, _| r.loss.bn = 0.0),
        bad("head shuffled", R20, 3, |t, _, _| shuffle_head(t)),
        bad("one bn corrupt", R20, 4, |t, _, _| corrupt_norm(t, "layer2.1.bn1")),
        bad("random teacher", R20, 5, |t, _, _| {
            t.network = Network::init(t.network.arch.clone(), &mut Streams::new(5).stream("random", 0)).unwrap();
        }),
        bad("32 images", R20, 6, |_, r, _| r.buffer.samples = 32),
        bad("generator lr 3", R20, 7, |_, r, _| r.generator.lr = 3.0),
        bad("student lr 50", R20, 8, |_, r, s| {
            r.student.lr = 50.0;
            s.lr = 50.0;
        }),
        bad("labels ignored", R20, 9, |_, r, _| r.loss.one_hot = 0.0),
        bad("first conv zero", C100, 10, |t, _, _| {
            change_slot(t, "conv1.weight", |v| v.fill(0.0));
        }),
        bad("std four times", R20, 11, |t, _, _| t.std.iter_mut().for_each(|v| *v *= 4.0)),
    ]
}

fn change_slot(teacher: &Teacher, name: &str, change: impl Fn(&mut [f32])) {
    let (_, tensor) = teacher.network.weights.iter().find(|(s, _)| s.name == name).unwrap();
    update(tensor, |v| change(v)).unwrap();
}

/// All weights of the classifier in random order.
fn shuffle_head(teacher: &Teacher) {
    let (slot, _) = teacher.network.weights.iter().find(|(s, _)| s.kind == Kind::LinearWeight).unwrap();
    let order = permutation(slot.len(), &mut Streams::new(1).stream("shuffle", 0));
    change_slot(teacher, &slot.name, |v| {
        let old = v.to_vec();
        v.iter_mut().zip(&order).for_each(|(v, i)| *v = old[*i]);
    });
}

/// One batch norm's running statistics as if they had been saved wrongly: means with the wrong sign, variances too small.
fn corrupt_norm(teacher: &Teacher, layer: &str) {
    change_slot(teacher, &format!("{layer}.running_mean"), |v| v.iter_mut().for_each(|v| *v = -*v));
    change_slot(teacher, &format!("{layer}.running_var"), |v| v.iter_mut().for_each(|v| *v *= 0.05));
}

/// A small budget: half a minute on two cores.
fn small(seed: u64, classes: usize) -> (Recipe, StudentRecipe) {
    let mut recipe = Recipe { name: format!("alarms-{seed}"), batch: 64, rounds: 4, adversary_steps: 20, ..Recipe::default() };
    recipe.generator.width = 32;
    recipe.generator.warmup_steps = 25;
    recipe.generator.inner_steps = 10;
    recipe.generator.meta_factor = 5.0;
    recipe.buffer.samples = if classes > 10 { 800 } else { 512 };
    recipe.student.batch = 64;
    recipe.student.reestimate = 5;
    let student = StudentRecipe { steps: 150, batch: 64, average: 0.95, reestimate: 10, ..StudentRecipe::default() };
    (recipe, student)
}

fn set_of(run: &Inversion, classes: usize) -> SyntheticSet {
    let buffer = &run.buffer;
    SyntheticSet {
        images: buffer.images.clone(),
        labels: buffer.entries.iter().map(|e| e.label).collect(),
        logits: buffer.logits.clone(),
        priority: vec![1.0; buffer.len()],
        class_names: (0..classes).map(|k| k.to_string()).collect(),
        views: None,
        provenance: serde_json::json!({}),
    }
}

fn run(case: &Case) -> Result<Health> {
    let mut teacher = teacher(case.teacher);
    let (mut recipe, mut pupil) = small(case.seed, teacher.classes);
    (case.change)(&mut teacher, &mut recipe, &mut pupil);
    let mut watch = Watch(Summary::default());
    let inversion = invert(&teacher, student(teacher.classes, 100 + case.seed), &recipe, case.seed, &mut watch)?;
    let set = set_of(&inversion, teacher.classes);
    let fresh = student(teacher.classes, 200 + case.seed);
    let input = teacher.input();
    let distilled = distill(&set, AnswerSource::Live(&teacher), fresh, &input, &pupil, None, case.seed, &mut watch)?;
    Ok(Health::of(&set, Some(&teacher))?.with_student(&distilled).with_course(&watch.0))
}

#[test]
#[ignore = "trains twenty-two small runs"]
fn alarms_tell_broken_runs_from_healthy_ones() {
    let wanted = std::env::var("ALARM_RUNS").unwrap_or_default();
    for case in cases().iter().filter(|c| wanted.is_empty() || wanted.split(',').any(|w| c.name.contains(w))) {
        let start = Instant::now();
        let line = match run(case) {
            Ok(health) => serde_json::to_string(&health).unwrap(),
            Err(e) => e.to_string(),
        };
        println!("{:<16} {:<5} {:>4.0}s {line}", case.name, case.healthy, start.elapsed().as_secs_f64());
    }
}
