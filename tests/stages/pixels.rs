//! Networks that answer for every pixel through all stages, on tiny budgets: they learn, the same bits come out with one thread
//! or three, and every command takes them.

use crate::common::on_threads;
use crate::random::random_model;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use synth::data::{Images, Segmented, VOID};
use synth::distill::{Stop, StudentRecipe};
use synth::events::{Observer, Record, Silent};
use synth::invert::{Draws, InnerPass, Layout, LayoutPrior, Order, Recipe, Synthesiser, Target, Wish};
use synth::jobs::{AnswerMode, DistillJob, Init, Ran, RunJob, Start, TrainJob, answered_set};
use synth::loss::{Adversarial, without};
use synth::model::{Model, Overrides};
use synth::nets::registry::Shape;
use synth::nets::{Network, Task, infer};
use synth::ops::CPU;
use synth::ops::mem::view;
use synth::rng::Streams;
use synth::set::SyntheticSet;
use synth::tape::{Tape, Var};
use synth::teacher::Teacher;
use synth::train::{Examples, SupervisedRecipe, evaluate_pixels};

const CLASSES: usize = 5;
const SIZE: [usize; 2] = [16, 24];

fn shape() -> Shape {
    Shape { channels: 3, height: SIZE[0], width: SIZE[1], num_classes: CLASSES }
}

/// Images of two regions whose colours tell their classes; the border between them is void.
fn regions(count: usize, seed: u64) -> Segmented {
    let [h, w] = SIZE;
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for i in 0..count as u64 {
        let mut draw = Streams::new(seed).stream("regions", i);
        let numbers = synth::rng::uniform(&mut draw, 3, 1.0);
        let number = |n: usize| (numbers[n] + 1.0) / 2.0;
        let classes = [0, 1].map(|n| (number(n) * CLASSES as f32) as usize % CLASSES);
        let border = 4 + (number(2) * 16.0) as usize;
        for at in 0..h * w {
            let (y, x) = (at / w, at % w);
            let class = classes[usize::from(x >= border)];
            let shade = (y * 3 + x * 5 + i as usize * 7) % 40;
            let colour = [[200, 30, 30], [30, 200, 30], [30, 30, 200], [200, 200, 30], [120, 120, 120]][class];
            pixels.extend(colour.map(|c: usize| (c + shade) as u8));
            labels.push(if x == border { VOID } else { class as u8 });
        }
    }
    Segmented {
        images: Images::new(pixels, 3, h, w).unwrap(),
        labels: labels.into(),
        first: 0,
        name: "regions/train".into(),
        sha256: "0".repeat(64),
    }
}

fn trained(data: &Segmented, recipe: &SupervisedRecipe, observer: &mut dyn Observer) -> Model {
    training(data, recipe).run(observer).unwrap().0
}

fn training<'a>(data: &'a Segmented, recipe: &'a SupervisedRecipe) -> TrainJob<'a> {
    TrainJob {
        net: "espnet-p1-q1",
        data: Examples::Pixels { data, classes: CLASSES, void: Some(9) },
        recipe,
        mean: &[0.4; 3],
        std: &[0.25; 3],
        license: None,
        seed: 1,
        compute: &CPU,
    }
}

#[test]
fn labels_that_are_all_void_teach_nothing() {
    let mut data = regions(4, 0);
    data.labels = vec![VOID; data.labels.len()].into();
    let message = training(&data, &supervised()).run(&mut Silent).err().unwrap().to_string();
    assert_eq!(
        message,
        "regions/train: all of its pixels are void; choose other data, or other codes of labels (--first-label, --void)"
    );
}

/// What is of labels of pixels alone, and what moves images and their labels, changes what a network learns.
#[test]
fn of_training_on_pixels_every_value_matters() {
    let data = regions(8, 0);
    let base = SupervisedRecipe { epochs: 2, batch: 4, focal: 0.0, class_weights: false, scale: 1.0, ..supervised() };
    let bits = |recipe: &SupervisedRecipe| {
        let weights = trained(&data, recipe, &mut Silent).network.weights;
        (0..weights.slots.len()).flat_map(|i| weights.to_file(i).unwrap()).map(f32::to_bits).collect::<Vec<_>>()
    };
    let usual = bits(&base);
    let changed = [
        SupervisedRecipe { focal: 2.0, ..base.clone() },
        SupervisedRecipe { class_weights: true, ..base.clone() },
        SupervisedRecipe { scale: 0.5, ..base.clone() },
    ];
    for (at, recipe) in changed.iter().enumerate() {
        assert!(bits(recipe) != usual, "change {at} does nothing");
    }
}

fn miou(model: &Model, data: &Segmented) -> f64 {
    evaluate_pixels(&Teacher::of(model), data, None, 16, &mut Silent, |_, _| Ok(())).unwrap().miou
}

/// The accuracy that every epoch tells.
#[derive(Default)]
struct Accuracies(Vec<f64>);

impl Observer for Accuracies {
    fn record(&mut self, record: &Record) {
        let accuracy = record.values.iter().find(|(name, _)| *name == "accuracy").map(|(_, value)| *value);
        self.0.extend(accuracy.filter(|_| record.stage == "epoch"));
    }
}

fn supervised() -> SupervisedRecipe {
    SupervisedRecipe { epochs: 12, batch: 8, ..SupervisedRecipe::of(Task::Segmentation) }
}

/// A teacher from label images, then a student from the teacher's answers to those images alone.
#[test]
fn a_teacher_learns_from_label_images_and_a_student_from_its_answers() {
    on_threads(1, || {
        let (train, test) = (regions(48, 1), regions(24, 2));
        let mut accuracies = Accuracies::default();
        let mut teacher = trained(&train, &supervised(), &mut accuracies);
        let reached = miou(&teacher, &test);
        println!("teacher {reached:.3}, accuracies {:?}", accuracies.0);
        assert!(reached > 0.7 && accuracies.0.len() == 12 && accuracies.0[11] > accuracies.0[0].max(0.7), "{reached}");
        assert_eq!(
            (teacher.config.task.as_str(), teacher.config.pretrained_cfg.ignore_index),
            ("image-segmentation", Some(9))
        );
        let focal = SupervisedRecipe { focal: 2.0, class_weights: false, scale: 1.0, ..supervised() };
        assert!(miou(&trained(&train, &focal, &mut Silent), &test) > 0.7);

        teacher.sha256 = "1".repeat(64);
        let frozen = Teacher::of(&teacher);
        let set = answered_set(&teacher, &frozen, train.images, None, json!("regions")).unwrap();
        assert_eq!((set.task(), set.logits.len()), (Task::Segmentation, 48 * CLASSES));
        let recipe =
            StudentRecipe { steps: 90, batch: 8, lr: 0.05, scale: 0.7, average: 0.9, ..StudentRecipe::default() };
        let job = DistillJob { student: "espnet-p1-q1", ..distillation(&set, &teacher, &recipe) };
        let (student, provenance) = job.run(&mut Silent).unwrap();
        let (found, agreement) = (miou(&student, &test), provenance["metrics"]["held_out_agreement"].as_f64().unwrap());
        println!("student {found:.3}, agreement {agreement:.3}");
        assert!(found > 0.6 && agreement > 0.7, "{found} {agreement}");
        let alarms = provenance["alarms"].as_array().unwrap();
        let raised: Vec<&str> = alarms.iter().map(|alarm| alarm["name"].as_str().unwrap()).collect();
        let of_classes = ["off label", "unsure teacher", "classes missing", "student lost"];
        assert!(raised.contains(&"few images") && !raised.iter().any(|name| of_classes.contains(name)), "{raised:?}");
    })
}

fn distillation<'a>(set: &'a SyntheticSet, teacher: &'a Model, recipe: &'a StudentRecipe) -> DistillJob<'a> {
    DistillJob {
        set,
        set_name: "set".into(),
        teacher: Some(teacher),
        like: &teacher.config,
        student: "espnet-c-p1-q1",
        size: None,
        answers: AnswerMode::Live,
        start: Start::Scratch,
        recipe,
        stop: Stop::default(),
        seed: 0,
        compute: &CPU,
    }
}

#[test]
fn distillation_refuses_what_pixels_have_not() {
    let teacher = random_model("espnet-p1-q1", &shape());
    let set = answered_set(&teacher, &Teacher::of(&teacher), regions(20, 0).images, None, Value::Null).unwrap();
    let recipe = StudentRecipe { steps: 1, batch: 4, ..StudentRecipe::default() };
    let refused = |job: DistillJob, parts: &[&str]| {
        let message = job.run(&mut Silent).err().expect("refused").to_string();
        assert!(!message.contains('\n') && parts.iter().all(|part| message.contains(part)), "{message}");
    };
    let job = || distillation(&set, &teacher, &recipe);
    refused(DistillJob { student: "resnet8", ..job() }, &["resnet8", "image-classification", "image-segmentation"]);
    refused(DistillJob { size: Some([8, 16]), ..job() }, &["--size", "same pixels"]);
    let mut stored = answered_set(&teacher, &Teacher::of(&teacher), regions(20, 0).images, None, Value::Null).unwrap();
    let list = vec![synth::set::View::PLAIN];
    stored.views = Some(synth::set::Views { list, logits: stored.logits.to_vec().into() });
    let job = DistillJob { answers: AnswerMode::Stored, ..distillation(&stored, &teacher, &recipe) };
    refused(job, &["answers for every pixel are not recorded"]);
}

fn of_pixels(recipe: Recipe) -> Recipe {
    recipe.of_task(Task::Segmentation)
}

fn tiny() -> Recipe {
    let mut recipe =
        Recipe { batch: 8, practice: 1, fill: 1, rounds: 2, adversary_steps: 2, ..of_pixels(Recipe::default()) };
    recipe.generator.width = 8;
    recipe.generator.latent = 8;
    recipe.generator.inner_steps = 2;
    recipe.generator.warmup_steps = 2;
    recipe.buffer.samples = 16;
    recipe.finish_steps = 3;
    recipe.student = StudentRecipe { steps: 3, batch: 4, reestimate: 1, ..StudentRecipe::default() };
    recipe
}

fn run(teacher: &Model, recipe: &Recipe) -> Ran {
    let job = RunJob {
        teacher,
        student: "espnet-p1-q1",
        recipe,
        embeddings: None,
        init: Init::Adversary,
        on_the_fly: false,
        all_views: false,
        limit: None,
        seed: 3,
        compute: &CPU,
    };
    job.run(&mut Silent).unwrap()
}

fn bits(ran: &Ran) -> (Vec<u8>, Vec<u32>) {
    let weights = &ran.student.network.weights;
    let values = (0..weights.slots.len()).flat_map(|i| weights.to_file(i).unwrap());
    let answers = ran.inverted.set.logits.iter().copied();
    (ran.inverted.set.images.pixels.to_vec(), values.chain(answers).map(f32::to_bits).collect())
}

/// Every way to say what pixels should show, and φ in both places.
#[test]
fn runs_are_the_same_with_any_number_of_threads() {
    let teacher = random_model("espnet-p1-q2", &shape());
    for (layout, target) in
        [(Layout::Smooth, Target::Label), (Layout::Scene, Target::Label), (Layout::Smooth, Target::Sureness)]
    {
        let mut recipe = Recipe { layout, ..tiny() };
        recipe.loss.target = target;
        recipe.phi.target = synth::invert::PhiTarget::Both;
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(&teacher, &recipe))
        };
        let ran = with(1);
        let set = &ran.inverted.set;
        assert_eq!((set.len(), set.images.height, set.images.width, set.task()), (16, 16, 24, Task::Segmentation));
        assert!(set.views.is_none() && set.agreement() == 1.0, "labels are what the teacher sees most of");
        assert_eq!(ran.student.config.task, "image-segmentation");
        assert!(bits(&ran) == bits(&with(3)), "{layout:?} {target:?}: three threads differ from one");
    }
}

/// Methods that need none of what only classifiers have run too; the others say what is missing.
#[test]
fn recipes_run_or_say_what_is_missing() {
    let teacher = random_model("espnet-p1-q1", &shape());
    for (name, _, make) in Recipe::ALL {
        let published = of_pixels(make());
        let fill = published.fill.min(1);
        let mut recipe = Recipe { batch: 8, practice: 0, fill, rounds: 1, adversary_steps: 2, ..published };
        let g = &mut recipe.generator;
        (g.width, g.latent, g.inner_steps, g.warmup_steps) = (8, 8, 2, 2);
        (recipe.buffer.samples, recipe.finish_steps) = (8, 2);
        recipe.student = StudentRecipe { steps: 3, batch: 4, reestimate: 0, ..recipe.student };
        let job = RunJob {
            teacher: &teacher,
            student: "espnet-p1-q1",
            recipe: &recipe,
            embeddings: None,
            init: Init::Adversary,
            on_the_fly: recipe.on_the_fly,
            all_views: false,
            limit: None,
            seed: 0,
            compute: &CPU,
        };
        match job.run(&mut Silent) {
            Ok(ran) => assert_eq!(ran.student.network.weights.non_finite().unwrap(), None, "{name}"),
            Err(error) => assert!(*name == "dafl" && error.to_string().contains("loss.activation"), "{name}: {error}"),
        }
    }
}

/// Steps of inversion towards label maps: the teacher sees more of them than before, in images that are not square.
#[test]
fn images_come_to_show_their_label_maps() {
    let mut teacher = trained(&regions(48, 1), &supervised(), &mut Silent);
    teacher.config.pretrained_cfg.ignore_index = None;
    let frozen = Teacher::of(&teacher);
    for layout in [Layout::Smooth, Layout::Scene] {
        let mut recipe = Recipe { batch: 8, layout, ..tiny() };
        (recipe.loss.one_hot, recipe.loss.bn, recipe.loss.adversarial) = (1.0, 0.1, 0.0);
        (recipe.generator.latent, recipe.generator.width, recipe.generator.lr) = (32, 32, 0.02);
        recipe.phi.target = synth::invert::PhiTarget::Off;
        recipe.generator.lifecycle = synth::invert::Lifecycle::CarryOver;
        let mut synthesiser = Synthesiser::new(&frozen, &recipe, Streams::new(0)).unwrap();
        let first = synthesiser.batch(&Order::new(0, 1, &[0; CLASSES])).unwrap().last;
        let mut last = first;
        for index in 1..8 {
            last = synthesiser.batch(&Order::new(index, 15, &[0; CLASSES])).unwrap().last;
        }
        println!("{layout:?}: {:.3} of pixels on their map at first, {:.3} later", first.on_label, last.on_label);
        assert!(last.on_label > first.on_label + 0.15 && last.on_label > 0.45, "{layout:?}: {first:?} {last:?}");
    }
}

/// What the teacher takes for void is worth nothing: no label is drawn for it, and the losses that take what they get look at the
/// other classes.
#[test]
fn void_is_never_aimed_at() {
    let with = |void: Option<i64>| {
        let mut model = random_model("espnet-p1-q1", &shape());
        model.config.pretrained_cfg.ignore_index = void;
        Teacher::of(&model)
    };
    let recipe = |target: Target| {
        let mut recipe = Recipe { batch: 2 * CLASSES, labels: synth::invert::Labels::Sweeps, ..tiny() };
        recipe.loss.target = target;
        (recipe.loss.one_hot, recipe.loss.balance, recipe.loss.bn) = (1.0, 1.0, 0.0);
        recipe.phi.target = synth::invert::PhiTarget::Off;
        recipe
    };
    // The class that an untrained network takes most pixels for.
    let terms = |teacher: &Teacher, target: Target| {
        let recipe = recipe(target);
        let mut synthesiser = Synthesiser::new(teacher, &recipe, Streams::new(0)).unwrap();
        synthesiser.batch(&Order::new(0, 1, &[])).unwrap()
    };
    let plain = with(None);
    let made = terms(&plain, Target::Decision);
    let seen = plain.verdicts(&made.pixels, 2 * CLASSES).unwrap().logits;
    let most = synth::loss::argmax(&seen[..CLASSES]);
    let voided = with(Some(most as i64));
    assert!(voided.known().len() == CLASSES - 1 && !voided.known().contains(&(most as u32)));
    for target in [Target::Decision, Target::Sureness] {
        let [before, after] = [&plain, &voided].map(|teacher| terms(teacher, target).last);
        assert!((before.one_hot - after.one_hot).abs() > 1e-3, "{target:?}: {before:?} {after:?}");
        assert!(after.balance >= -((CLASSES - 1) as f64).ln() - 1e-9, "{after:?}");
        assert!((before.balance - after.balance).abs() > 1e-3, "{target:?}: {before:?} {after:?}");
    }
    assert!(terms(&voided, Target::Decision).last.one_hot > terms(&plain, Target::Decision).last.one_hot);
    let labels = terms(&voided, Target::Decision).labels;
    let known: Vec<u32> = voided.known().repeat(2);
    assert_eq!(labels[..2 * CLASSES - 2], known, "whole sweeps over the others");
    assert!(!labels.contains(&(most as u32)));
}

/// With a prior, practice asks for no maps, and its images tell which classes those of the rounds have more of.
#[test]
fn maps_follow_what_practice_showed() {
    let teacher = Teacher::of(&random_model("espnet-p1-q1", &shape()));
    let recipe = tiny();
    let mut synthesiser = Synthesiser::new(&teacher, &recipe, Streams::new(0)).unwrap();
    let area = |synthesiser: &Synthesiser, class: u32| {
        let draw = |i| synthesiser.wish(recipe.batch, &mut Streams::new(1).stream("maps", i)).rows;
        let maps: Vec<u32> = (0..40).flat_map(draw).collect();
        maps.iter().filter(|c| **c == class).count() as f64 / maps.len() as f64
    };
    let even = area(&synthesiser, 2);
    let unasked = synthesiser.batch(&Order { maps: false, ..Order::new(0, 2, &[]) }).unwrap().last;
    assert_eq!((unasked.one_hot, unasked.on_label), (0.0, 0.0));
    synthesiser.learn_prior(0, &[0.1f32, 0.1, 0.6, 0.1, 0.1].map(f32::ln));
    let prior = area(&synthesiser, 2);
    assert!(prior > 1.4 * even, "{even} {prior}");
    assert!(synthesiser.batch(&Order::new(1, 2, &[])).unwrap().last.one_hot > 0.0);

    let (mut saver, streams) = (synth::checkpoint::Saver::default(), Streams::new(0));
    synth::checkpoint::Resumable::save(&synthesiser, &mut saver).unwrap();
    let saved = saver.keep();
    let mut again = Synthesiser::new(&teacher, &recipe, streams).unwrap();
    synth::checkpoint::Resumable::restore(&mut again, &saved).unwrap();
    assert_eq!(area(&again, 2), prior);
}

/// A run with a prior is another one than without, where its practice has something to tell.
#[test]
fn practice_tells_a_run_its_prior() {
    let teacher = random_model("espnet-p1-q1", &shape());
    let with = |layout_prior, practice| bits(&run(&teacher, &Recipe { layout_prior, practice, ..tiny() }));
    let [even, told] = [LayoutPrior::Even, LayoutPrior::Teacher].map(|prior| with(prior, 1));
    assert!(even != told);
    let [even, told] = [LayoutPrior::Even, LayoutPrior::Teacher].map(|prior| with(prior, 0));
    assert!(even == told, "without practice there is no prior");
}

/// What two images are made for, what the generator reads for them, and how they are moved.
fn drawn(synthesiser: &Synthesiser, recipe: &Recipe) -> (Wish, Vec<f32>, Draws) {
    let mut rng = Streams::new(5).stream("test", 0);
    let wish = synthesiser.wish(2, &mut rng);
    assert_eq!((wish.labels.len(), wish.rows.len()), (2, 2 * 16 * 24));
    let z = synth::rng::normal(&mut rng, 2 * (recipe.generator.latent + 4 * 6 * CLASSES));
    let draws = Draws { view: recipe.augment.draw(2, SIZE, &mut rng), contrast: None };
    (wish, z, draws)
}

/// An inner step on two images.
fn stepped(synthesiser: &Synthesiser, wish: &Wish, z: Vec<f32>, draws: &Draws, adversary: &Network) -> InnerPass {
    let width = z.len() / 2;
    let z = synth::ops::mem::tensor(z, (2, width)).unwrap();
    let generator = synthesiser.generator.duplicate().unwrap();
    synthesiser.inner_step(&generator, &z, &wish.rows, draws, &[], Some(adversary)).unwrap()
}

/// Disagreement of probabilities leaves void out of the teacher's answers, as the adversary's lessons do; that of logits has it.
#[test]
fn an_adversary_is_held_against_what_it_learns() {
    let mut model = random_model("espnet-p1-q1", &shape());
    model.config.pretrained_cfg.ignore_index = Some(2);
    let teacher = Teacher::of(&model);
    let adversary = random_model("espnet-c-p1-q1", &shape()).network;
    for (form, void) in
        [(Adversarial::Kl, Some(2)), (Adversarial::Js { temperature: 3.0 }, Some(2)), (Adversarial::L1, None)]
    {
        let mut recipe = Recipe { batch: 2, ..tiny() };
        (recipe.loss.bn, recipe.loss.one_hot, recipe.loss.adversarial) = (0.0, 1.0, 1.0);
        recipe.loss.adversarial_form = form;
        let synthesiser = Synthesiser::new(&teacher, &recipe, Streams::new(0)).unwrap();
        let (wish, z, draws) = drawn(&synthesiser, &recipe);
        let pass = stepped(&synthesiser, &wish, z, &draws, &adversary);
        let images = Var::constant(pass.images);
        let seen = draws.view.apply(&Tape::new(), &images, &teacher.mean, &teacher.std).unwrap().tensor().unwrap();
        let (told, heard) = (teacher.answers(&seen).unwrap(), infer(&adversary, &seen).unwrap());
        let of = |void| form.loss(&without(&told, void).unwrap(), &heard).unwrap().value_and_agreement().unwrap().0;
        let found = pass.terms.adversarial;
        assert!((found - of(void)).abs() < 1e-5 * found.abs().max(1.0), "{form:?}: {found} and {}", of(void));
        assert!((of(None) - of(Some(2))).abs() > 1e-2, "{form:?}: void makes a difference");
    }
}

/// The gradient of a step's losses with respect to what the generator reads is that of its value: central differences through
/// generator, movements, teacher and adversary, of cross-entropy per pixel and disagreement.
#[test]
fn the_gradient_of_an_inner_step_is_that_of_its_loss() {
    let teacher = Teacher::of(&random_model("espnet-p1-q1", &shape()));
    let adversary = random_model("espnet-c-p1-q1", &shape()).network;
    let mut recipe = Recipe { batch: 2, ..tiny() };
    (recipe.loss.bn, recipe.loss.one_hot, recipe.loss.adversarial) = (0.0, 1.0, 1.0);
    recipe.loss.adversarial_form = Adversarial::Kl;
    recipe.phi.target = synth::invert::PhiTarget::Off;
    let synthesiser = Synthesiser::new(&teacher, &recipe, Streams::new(0)).unwrap();
    let (wish, z, draws) = drawn(&synthesiser, &recipe);
    let width = z.len() / 2;
    let at = |z: Vec<f32>| stepped(&synthesiser, &wish, z, &draws, &adversary);
    let pass = at(z.clone());
    let grad = pass.latent_grad.unwrap();
    let grad = view(&grad).unwrap();
    let step = 2e-3;
    for i in [0, 3, 7, width, width + 5] {
        let moved = |by: f32| {
            let mut z = z.clone();
            z[i] += by;
            at(z).terms.total
        };
        let slope = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
        assert!((slope - f64::from(grad[i])).abs() < 2e-3 + 0.05 * slope.abs(), "{i}: {slope} and {}", grad[i]);
    }
    assert!(grad[recipe.generator.latent..width].iter().all(|g| *g == 0.0), "maps are given, not learned");
}

/// Runs a command that must succeed and gives what it prints.
#[track_caller]
fn done(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_synth")).args(arguments).args(["--json", "-q"]).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// Pictures and label images as CamVid has them.
fn write(data: &Segmented, folder: &Path, split: &str) {
    for part in [split.to_string(), format!("{split}annot")] {
        std::fs::create_dir_all(folder.join(part)).unwrap();
    }
    let [h, w] = SIZE.map(|side| side as u32);
    for i in 0..data.len() {
        let picture = image::RgbImage::from_raw(w, h, data.images.image(i).to_vec()).unwrap();
        picture.save(folder.join(format!("{split}/{i}.png"))).unwrap();
        // Void as a value of its own, as in CamVid.
        let labels = data.label(i).iter().map(|label| if *label == VOID { 9 } else { *label }).collect();
        let labels = image::GrayImage::from_raw(w, h, labels).unwrap();
        labels.save(folder.join(format!("{split}annot/{i}.png"))).unwrap();
    }
}

/// Every command, from label images to a measured student, with sets that come back from disk.
#[test]
fn commands_take_networks_for_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let data = at("data");
    write(&regions(24, 1), Path::new(&data), "train");
    write(&regions(8, 2), Path::new(&data), "test");
    let (teacher, set, collected) = (at("teacher"), at("set"), at("collected"));
    done(&[
        "train",
        "espnet-p1-q1",
        "--data",
        &data,
        "-o",
        &teacher,
        "--void",
        "9",
        "--epochs",
        "3",
        "--set",
        "batch=8",
    ]);
    let config = Model::load(&teacher, None, &Overrides::default()).unwrap().config;
    assert_eq!((config.num_classes, config.pretrained_cfg.ignore_index), (CLASSES, Some(9)));
    let measured = done(&["eval", &teacher, "--data", &data]);
    assert_eq!((measured["count"].as_u64(), measured["ignored_class"].as_u64()), (Some(8), Some(9)));
    assert_eq!(measured["pixels"].as_u64(), Some(8 * 16 * 23));
    let text = std::fs::read_to_string(Path::new(&teacher).join("README.md")).unwrap();
    assert!(text.contains("pipeline_tag: image-segmentation") && text.contains("the class of every pixel"), "{text}");

    let tiny = "--set=generator.width=8 --set=generator.latent=8 --set=batch=8 --set=rounds=1 --set=practice=0 \
                --set=adversary_steps=2 --set=student.batch=4 --set=student.reestimate=1 --set=layout=scene";
    let tiny: Vec<&str> = tiny.split_whitespace().collect();
    let invert = ["invert", &teacher, "-o", &set, "--samples", "16", "--adversary", "espnet-c-p1-q1"];
    done(&[&invert[..], &tiny].concat());
    done(&["collect", &teacher, "-o", &collected, "--from", "shaders", "--samples", "16"]);
    for (name, set) in [("a", &set), ("b", &collected)] {
        let read = SyntheticSet::read(set).unwrap();
        assert_eq!((read.task(), read.len(), read.images.width), (Task::Segmentation, 16, 24));
        let card = std::fs::read_to_string(Path::new(set).join("README.md")).unwrap();
        assert!(card.contains("- image-segmentation") && card.contains("mean probabilities"), "{card}");
        let described = done(&["inspect", set, "--teacher", &teacher]);
        assert_eq!(described["criteria"]["margins"]["distance"], Value::Null);
        let student = at(name);
        let words = ["distill", set, "-o", &student, "--student", "espnet-c-p1-q1", "--steps", "3", "--set"];
        done(&[&words[..], &["student.batch=4"]].concat());
        let measured = done(&["eval", &student, "--data", &data]);
        assert!((0.0..=1.0).contains(&measured["miou"].as_f64().unwrap()));
    }
    let both = at("both");
    let run = ["run", &teacher, "-o", &both, "--student", "espnet-c-p1-q1", "--samples", "16", "--set=finish_steps=2"];
    done(&[&run[..], &tiny].concat());
    assert_eq!(done(&["eval", &format!("{both}/student"), "--data", &data])["count"], 8);
}

/// Where classes begin at 1, void is a value all the same; the model knows it by its class.
#[test]
fn void_is_a_value_of_label_images() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (data, teacher) = (at("data"), at("teacher"));
    for (split, seed) in [("train", 1), ("test", 2)] {
        let mut from_one = regions(8, seed);
        let labels = from_one.labels.iter().map(|label| if *label == VOID { VOID } else { label + 1 });
        from_one.labels = labels.collect::<Vec<u8>>().into();
        write(&from_one, Path::new(&data), split);
    }
    let words = ["train", "espnet-p1-q1", "--data", &data, "-o", &teacher, "--epochs", "1", "--set", "batch=8"];
    done(&[&words[..], &["--first-label", "1", "--void", "9", "--num-classes", "5"]].concat());
    let config = Model::load(&teacher, None, &Overrides::default()).unwrap().config;
    assert_eq!((config.num_classes, config.pretrained_cfg.ignore_index), (CLASSES, Some(8)));
    let measured = done(&["eval", &teacher, "--data", &data, "--first-label", "1"]);
    assert_eq!(measured["pixels"].as_u64(), Some(8 * 16 * 23));
}

/// A teacher whose first channel is blue has students whose first channel is blue: tensors that they share mean the same.
#[test]
fn students_have_the_channel_order_of_their_teacher() {
    let mut teacher = random_model("espnet-p1-q2", &shape());
    teacher.config.pretrained_cfg.channel_order = Some("bgr".into());
    teacher.config.pretrained_cfg.mean = vec![0.2, 0.4, 0.6];
    let arch = synth::nets::registry::from_config(&teacher.config).unwrap();
    teacher.network.arch = Arc::new(arch);
    let mut rng = Streams::new(0).stream("student", 0);
    let (student, config) = synth::jobs::fresh_student("espnet-p1-q2", &teacher.config, None, &mut rng).unwrap();
    assert_eq!(config.pretrained_cfg.mean, [0.2, 0.4, 0.6]);
    assert!(synth::distill::start_from(&student, &teacher.network).unwrap() > 0);
    let x = synth::ops::mem::tensor(synth::rng::normal(&mut rng, 16 * 24 * 3), (1, 16, 24, 3)).unwrap();
    let [a, b] = [&student, &teacher.network].map(|network| synth::nets::infer(network, &x).unwrap());
    assert!(view(&a).unwrap()[..] == view(&b).unwrap()[..]);
    let again = synth::nets::registry::from_config(&config).unwrap();
    assert_eq!(again.slots.len(), student.arch.slots.len());
}
