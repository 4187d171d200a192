//! Do the alarms tell runs that went well from runs that were broken on purpose? Needs trained teachers, which are looked
//! for in `$SYNTH_TEST_DATA`, or in `shared/data` beside the repository:
//! `cargo test --release --test alarms -- --ignored --nocapture`; `ALARM_RUNS=lr,bn` runs those whose names contain one
//! of the words; `ALARM_KEEP=FOLDER` keeps the numbers of every run there and takes them from there the next time, for
//! work on the criteria.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use synth::Result;
use synth::distill::{AnswerSource, Stop, StudentRecipe, distill};
use synth::events::Silent;
use synth::invert::{Inversion, Lifecycle, Options, Recipe, invert};
use synth::loss::BnForm;
use synth::model::{Model, Overrides};
use synth::nets::{Architecture, Kind, Network, ResNetCifar, Shortcut};
use synth::ops::mem::update;
use synth::report::{Alarm, Health, alarms};
use synth::rng::{Streams, permutation};
use synth::set::SyntheticSet;
use synth::teacher::Teacher;

fn data() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    std::env::var_os("SYNTH_TEST_DATA").map_or(beside, PathBuf::from)
}

fn teacher(name: &str) -> Teacher {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let folder = if name == OWN { own } else { data().join("models").join(name) };
    Teacher::of(&Model::load(folder, None, &Overrides::default()).unwrap())
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
const R8: &str = "mlcommons/resnet8-cifar10";
/// The one in this repository.
const OWN: &str = "models/resnet20-cifar10";
const C100: &str = "chenyaofo/cifar100_resnet20";

/// The batch norms of this teacher read numbers up to 255, whose norms drown every other loss.
fn in_teacher_units(_: &mut Teacher, recipe: &mut Recipe, _: &mut StudentRecipe) {
    recipe.loss.bn_form = BnForm::TeacherUnits;
    recipe.loss.bn = 20.0;
}

fn nothing(_: &mut Teacher, _: &mut Recipe, _: &mut StudentRecipe) {}

fn cases() -> Vec<Case> {
    let ok = |name, teacher, seed, change| Case { name, healthy: true, teacher, seed, change };
    let bad = |name, teacher, seed, change| Case { name, healthy: false, teacher, seed, change };
    vec![
        ok("r20 seed 0", R20, 0, nothing),
        ok("r20 seed 1", R20, 1, nothing),
        ok("r20 carry-over", R20, 2, |_, r, _| r.generator.lifecycle = Lifecycle::CarryOver),
        ok("r20 reptile", R20, 3, |_, r, _| r.generator.lifecycle = Lifecycle::Reptile),
        ok("r20 256 images", R20, 4, |_, r, _| r.buffer.samples = 256),
        ok("own r20 seed 5", OWN, 5, nothing),
        ok("own r20 width 48", OWN, 6, |_, r, _| r.generator.width = 48),
        ok("own r20 batch 128", OWN, 7, |_, r, _| r.batch = 128),
        ok("r20 without labels", R20, 9, |_, r, _| r.loss.one_hot = 0.0),
        ok("c100 seed 8", C100, 8, |_, _, s| s.steps = 600),
        ok("r8 seed 9", R8, 9, in_teacher_units),
        bad("mean 0, std 1", R20, 0, |t, _, _| {
            t.mean = vec![0.0; 3];
            t.std = vec![1.0; 3];
        }),
        bad("std a quarter", R20, 1, |t, _, _| t.std.iter_mut().for_each(|v| *v /= 4.0)),
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
        bad("first conv zero", R20, 10, |t, _, _| {
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
    let mut recipe = Recipe {
        name: format!("alarms-{seed}"),
        batch: 64,
        practice: 4,
        rounds: 2,
        adversary_steps: 10,
        views: 0,
        ..Recipe::default()
    };
    recipe.generator.width = 32;
    recipe.generator.warmup_steps = 10;
    recipe.generator.inner_steps = 10;
    recipe.generator.meta_factor = 5.0;
    recipe.buffer.samples = if classes > 10 { 800 } else { 512 };
    (recipe.student.batch, recipe.student.lr) = (32, 0.1);
    recipe.student.reestimate = 5;
    let student =
        StudentRecipe { steps: 300, batch: 32, lr: 0.1, average: 0.97, reestimate: 10, ..StudentRecipe::default() };
    (recipe, student)
}

fn set_of(run: Inversion, classes: usize) -> SyntheticSet {
    let buffer = run.buffer;
    SyntheticSet {
        priority: vec![1.0; buffer.len()],
        images: buffer.images.into(),
        labels: buffer.entries.iter().map(|e| e.label).collect(),
        logits: buffer.logits,
        class_names: (0..classes).map(|k| k.to_string()).collect(),
        views: None,
        provenance: serde_json::json!({}),
    }
}

fn run(case: &Case) -> Result<Health> {
    let mut teacher = teacher(case.teacher);
    let (mut recipe, mut pupil) = small(case.seed, teacher.classes);
    (case.change)(&mut teacher, &mut recipe, &mut pupil);
    let fresh = student(teacher.classes, 100 + case.seed);
    let inversion = invert(&teacher, fresh, &recipe, &Options { seed: case.seed, ..Options::default() }, &mut Silent)?;
    let signs = inversion.signs;
    let set = set_of(inversion, teacher.classes);
    let fresh = student(teacher.classes, 200 + case.seed);
    let input = teacher.input();
    let distilled =
        distill(&set, AnswerSource::Live(&teacher), fresh, &input, &pupil, Stop::default(), case.seed, &mut Silent)?;
    Ok(Health::of(&set, Some(&teacher))?.with_signs(signs).with_student(&distilled))
}

/// The numbers of a case, or why it stopped by itself.
fn outcome(case: &Case) -> std::result::Result<Health, String> {
    let kept = std::env::var_os("ALARM_KEEP").map(|folder| Path::new(&folder).join(format!("{}.json", case.name)));
    if let Some(text) = kept.as_ref().and_then(|file| std::fs::read_to_string(file).ok()) {
        return serde_json::from_str(&text).unwrap();
    }
    let found = run(case).map_err(|e| e.to_string());
    if let Some(file) = kept {
        std::fs::write(file, serde_json::to_string(&found).unwrap()).unwrap();
    }
    found
}

/// One line of the table.
fn row(case: &Case, health: &Health) -> String {
    let (a, b, p) = (&health.answers, &health.balance, &health.pixels);
    let fit = health.fit.as_ref().unwrap();
    let [mean, median, first] = [fit.mean(), fit.median(), fit.first()].map(|v| v.unwrap_or(f64::NAN));
    let worst = fit.worst().map_or(f64::NAN, |w| w.distance);
    let pupil = health.pupil.as_ref().unwrap();
    let loss = health.course.as_ref().and_then(|c| c.student_loss);
    let mut cells = vec![a.on_label, a.confidence, a.entropy, a.entropy_of_mean, b.rarest, b.most_frequent, b.entropy];
    cells.extend([mean, median, first, worst, fit.classifier_sum.unwrap_or(f64::NAN)]);
    cells.extend([p.mean, p.std, p.std_across_images, p.saturated, p.within_class, p.between_classes, p.near_twins]);
    cells.extend([pupil.agreement, pupil.kl.unwrap_or(f64::NAN)]);
    cells.extend(loss.iter().flat_map(|l| [l.first, l.last]));
    let cells: Vec<String> = cells.iter().map(|v| format!("{v:>7.3}")).collect();
    format!("{:<16} {}", case.name, cells.join(" "))
}

const HEAD: &str = "                  label    conf entropy e(mean)  rarest    most balance  bn mean  median   first   worst    head   \
    mean     std  across     sat  within between   twins   agree      kl  loss 0    loss";

#[test]
#[ignore = "twenty small runs: ten minutes on a quiet machine"]
fn alarms_tell_broken_runs_from_healthy_ones() {
    if !data().join("models").is_dir() {
        eprintln!("skipped: no models in {}", data().display());
        return;
    }
    let wanted = std::env::var("ALARM_RUNS").unwrap_or_default();
    let (mut missed, mut false_alarms, mut verdicts) = (Vec::new(), Vec::new(), Vec::new());
    println!("{HEAD}");
    for case in cases().iter().filter(|c| wanted.is_empty() || wanted.split(',').any(|w| c.name.contains(w))) {
        let start = Instant::now();
        let outcome = outcome(case);
        let raised: Vec<Alarm> = outcome.as_ref().map_or(Vec::new(), alarms);
        match &outcome {
            Ok(health) => println!("{}", row(case, health)),
            Err(e) => println!("{:<16} {e}", case.name),
        }
        let caught = outcome.is_err() || !raised.is_empty();
        let names: Vec<&str> = raised.iter().map(|a| a.name).collect();
        let said = if outcome.is_err() { "stopped by itself".into() } else { names.join(", ") };
        let seconds = start.elapsed().as_secs();
        verdicts.push(format!(
            "{:<16} {:<8} {seconds:>4} s  {said}",
            case.name,
            if case.healthy { "healthy" } else { "broken" }
        ));
        match (case.healthy, caught) {
            (true, true) => false_alarms.push(case.name),
            (false, false) => missed.push(case.name),
            _ => {}
        }
    }
    println!("\n{}\n{} missed, {} false", verdicts.join("\n"), missed.len(), false_alarms.len());
    assert!(missed.is_empty() && false_alarms.is_empty(), "missed: {missed:?}, false: {false_alarms:?}");
}
