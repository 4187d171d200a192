//! Answers of the teacher to views of images: each is asked for once, and what is learned from them is the same whenever that is.

use crate::random::random_model;
use synth::data::Images;
use synth::distill::{Answers, Pool, StudentRecipe, Trainer, record_all, view_list};
use synth::events::Silent;
use synth::invert::{Feed, Inversion, Lifecycle, Options, Recipe, invert};
use synth::jobs::{Init, RunJob};
use synth::model::Model;
use synth::nets::Network;
use synth::nets::registry::Shape;
use synth::ops::CPU;
use synth::rng::Streams;
use synth::set::priority::{Priorities, PriorityRule};
use synth::set::{View, Views};
use synth::teacher::Teacher;

const CLASSES: usize = 4;
const SIDE: usize = 16;

fn model() -> Model {
    random_model("resnet8", &Shape { channels: 3, height: SIDE, width: SIDE, num_classes: CLASSES })
}

fn student(teacher: &Teacher) -> Network {
    Network::init(teacher.network.arch.clone(), &mut Streams::new(1).stream("student", 0)).unwrap()
}

fn list(count: usize) -> Vec<View> {
    view_list(count, &StudentRecipe::default().augment, &mut Streams::new(2).stream("views", 0))
}

/// Twelve images of which no two are alike.
fn images() -> Images {
    let pixels = (0..12 * SIDE * SIDE * 3).map(|i| (i * i % 253) as u8).collect::<Vec<u8>>();
    Images::new(pixels, 3, SIDE, SIDE).unwrap()
}

/// Updates of a student that draws from `views` of `images`, which `teacher` is asked about.
fn learn(teacher: &Teacher, images: &Images, views: &mut Views, updates: usize) {
    let recipe = StudentRecipe { steps: updates, batch: 8, ..StudentRecipe::default() };
    let mut trainer = Trainer::new(student(teacher), recipe, teacher.input(), Streams::new(4), "test").unwrap();
    let evenly = PriorityRule { alpha: 0.0, ..PriorityRule::default() };
    let mut priorities = Priorities::new(evenly, images.len());
    let answers = Answers::Recording(views, teacher);
    let mut pool = Pool { images, gallery: None, rows: None, priorities: &mut priorities, answers };
    for _ in 0..updates {
        trainer.step(&mut pool).unwrap().unwrap();
    }
}

#[test]
fn an_answer_is_recorded_when_its_view_is_first_drawn() {
    let (teacher, images) = (Teacher::of(&model()), images());
    let nothing = || Views { list: list(5), logits: vec![f32::NAN; images.len() * 5 * CLASSES].into() };
    let mut all = nothing();
    record_all(&teacher, &images, &mut all, 0..images.len()).unwrap();
    let recorded =
        |views: &Views| -> Vec<usize> { (0..views.logits.len()).filter(|&i| !views.logits[i].is_nan()).collect() };
    let mut views = nothing();
    learn(&teacher, &images, &mut views, 3);
    let some = recorded(&views);
    // 24 draws of 60 views.
    assert!(!some.is_empty() && some.len() <= 24 * CLASSES, "{} numbers", some.len());
    assert!(some.iter().all(|&i| views.logits[i].to_bits() == all.logits[i].to_bits()), "whatever else is in a batch");
    // What is there is not asked for again.
    some.iter().for_each(|&i| views.logits[i] = 0.5);
    learn(&teacher, &images, &mut views, 200);
    assert_eq!(recorded(&views).len(), all.logits.len(), "1,600 draws");
    let known = |i: &usize| if some.contains(i) { 0.5 } else { all.logits[*i] };
    assert!((0..all.logits.len()).all(|i| views.logits[i].to_bits() == known(&i).to_bits()));
}

/// Two batches of fill, and two rounds that replace.
fn recipe() -> Recipe {
    let mut recipe =
        Recipe { batch: 12, practice: 0, fill: 2, rounds: 2, adversary_steps: 3, views: 6, ..Recipe::default() };
    (recipe.generator.width, recipe.generator.latent) = (8, 8);
    (recipe.generator.inner_steps, recipe.generator.warmup_steps) = (2, 2);
    (recipe.buffer.samples, recipe.finish_steps) = (24, 4);
    recipe.student = StudentRecipe { steps: 4, batch: 8, reestimate: 2, ..StudentRecipe::default() };
    recipe
}

#[test]
fn an_inversion_is_the_same_whether_all_views_are_asked_for_or_those_that_are_drawn() {
    let teacher = Teacher::of(&model());
    let run = |all_views: bool| {
        let options = Options { all_views, seed: 5, ..Options::default() };
        invert(&teacher, student(&teacher), &recipe(), &options, &mut Silent).unwrap()
    };
    let weights = |run: &Inversion| -> Vec<Vec<f32>> {
        let of = |network: &Network| {
            (0..network.weights.iter().count()).map(|i| network.weights.to_file(i).unwrap()).collect()
        };
        let both: [Vec<Vec<f32>>; 2] = [of(&run.finished), of(&run.generator)];
        both.concat()
    };
    let (drawn, all) = (run(false), run(true));
    assert!(drawn.buffer.images.pixels[..] == all.buffer.images.pixels[..]);
    assert!(weights(&drawn) == weights(&all));
    let [drawn, all] = [drawn, all].map(|run| run.buffer.views.unwrap().logits);
    assert!(all.iter().all(|v| v.is_finite()));
    let asked = drawn.iter().filter(|v| !v.is_nan()).count();
    let plain = 24;
    assert!((plain + 1..=plain + 6 * 8).contains(&(asked / CLASSES)), "six updates of eight images: {asked} numbers");
    assert!(
        drawn.iter().zip(&all[..]).all(|(a, b)| a.is_nan() || a.to_bits() == b.to_bits()),
        "of the images that stayed"
    );
}

/// Where images are mixed, the second stage asks the teacher itself; a set with some of the answers would be of no use.
#[test]
fn the_set_of_a_run_has_views_if_its_student_reads_them_or_somebody_asked_for_them() {
    let grey = random_model("resnet8", &Shape { channels: 1, height: SIDE, width: SIDE, num_classes: CLASSES });
    let views = |recipe: &Recipe, on_the_fly: bool, all_views: bool| {
        let job = RunJob {
            teacher: &grey,
            student: "resnet8",
            recipe,
            embeddings: None,
            init: Init::Adversary,
            on_the_fly,
            all_views,
            limit: None,
            seed: 0,
            compute: &CPU,
        };
        let set = job.run(&mut Silent).unwrap().inverted.set;
        let folder = tempfile::tempdir().unwrap();
        set.write(folder.path()).unwrap();
        set.views.map(|views| (views.list.len(), views.logits.len()))
    };
    let all = Some((6, 24 * 6 * CLASSES));
    let with_mixing =
        |mixup_until: f64| Recipe { student: StudentRecipe { mixup_until, ..recipe().student }, ..recipe() };
    let (mixed, plain) = (with_mixing(0.5), with_mixing(0.0));
    assert_eq!((views(&mixed, false, false), views(&mixed, false, true)), (None, all));
    assert_eq!(views(&plain, false, false), all);
    assert_eq!((views(&plain, true, false), views(&plain, true, true)), (None, all), "there is no second stage");
    assert_eq!(views(&Recipe { views: 0, ..mixed }, false, true), None, "there are none");
    // Nobody draws from the buffer of this one.
    let mut fresh = Recipe { feed: Feed::Fresh, fill: 0, views: 6, ..plain };
    fresh.generator.lifecycle = Lifecycle::CarryOver;
    fresh.student.priority.alpha = 0.0;
    assert_eq!((views(&fresh, true, false), views(&fresh, true, true)), (None, all));
}
