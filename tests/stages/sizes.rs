//! Images of 28 to 224 pixels and 2 to 1,000 classes through both stages and evaluation, on budgets of a few batches.

use std::sync::Arc;
use synth::data::{Images, Labelled};
use synth::distill::{Stop, StudentRecipe};
use synth::events::Silent;
use synth::invert::Recipe;
use synth::jobs::{AnswerMode, DistillJob, InvertJob, Start};
use synth::model::{Model, Overrides};
use synth::nets::Network;
use synth::nets::registry::{Shape, new_model};
use synth::ops::CPU;
use synth::rng::Streams;
use synth::teacher::Teacher;
use synth::train::evaluate;

/// A random teacher, saved and loaded; images are those of ImageNet in normalisation.
fn teacher(arch: &str, side: usize, num_classes: usize) -> Model {
    let shape = Shape { channels: 3, height: side, width: side, num_classes };
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let (architecture, config) = new_model(arch, &shape, None, &mean, &std).unwrap();
    let network = Network::init(Arc::new(architecture), &mut Streams::new(7).stream("teacher", 0)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let model = Model::made(network, config);
    model.save(folder.path(), "", &serde_json::json!({})).unwrap();
    Model::load(folder.path(), None, &Overrides::default()).unwrap()
}

/// Two small batches, one of them against an adversary.
fn tiny() -> Recipe {
    let mut recipe =
        Recipe { batch: 8, practice: 0, fill: 1, rounds: 1, adversary_steps: 1, views: 0, ..Recipe::default() };
    recipe.generator.width = 8;
    recipe.generator.inner_steps = 1;
    recipe.generator.warmup_steps = 1;
    recipe.buffer.samples = 16;
    recipe.student = StudentRecipe { steps: 2, batch: 8, reestimate: 1, ..StudentRecipe::default() };
    recipe
}

/// Inverts, distils a student for images of `seen` pixels, saves and loads it, and evaluates it on other images.
fn whole_path(arch: &str, student: &str, side: usize, classes: usize, seen: Option<usize>) {
    let model = teacher(arch, side, classes);
    let recipe = tiny();
    let job = InvertJob {
        teacher: &model,
        recipe: &recipe,
        embeddings: None,
        adversary: student,
        teacher_blocks: false,
        on_the_fly: false,
        all_views: true,
        limit: None,
        seed: 0,
        compute: &CPU,
    };
    let set = job.run(&mut Silent).unwrap().set;
    assert_eq!((set.images.len(), set.images.height, set.class_names.len()), (16, side, classes));
    let folder = tempfile::tempdir().unwrap();
    set.write(folder.path().join("set")).unwrap();
    let set = synth::set::SyntheticSet::read(folder.path().join("set")).unwrap();
    let job = DistillJob {
        set: &set,
        set_name: "set".into(),
        teacher: Some(&model),
        like: &model.config,
        student,
        size: seen.map(|side| [side; 2]),
        answers: AnswerMode::Live,
        start: Start::Scratch,
        recipe: &recipe.student,
        stop: Stop::default(),
        seed: 0,
        compute: &CPU,
    };
    let (distilled, provenance) = job.run(&mut Silent).unwrap();
    std::fs::create_dir(folder.path().join("student")).unwrap();
    distilled.save(folder.path().join("student"), "", &provenance).unwrap();
    let student = Model::load(folder.path().join("student"), None, &Overrides::default()).unwrap();
    let read = seen.unwrap_or(side);
    assert_eq!(student.config.pretrained_cfg.input_size, [3, read, read]);

    let pixels: Vec<u8> = (0..4 * read * read * 3).map(|i| (i * i % 251) as u8).collect();
    let data = Labelled {
        images: Images::new(pixels, 3, read, read).unwrap(),
        labels: vec![0, 1, 1, 0],
        class_names: student.class_names(),
        name: "noise".into(),
        sha256: String::new(),
    };
    let found = evaluate(&Teacher::of(&student), &data, 4, &mut Silent).unwrap();
    assert!(found.loss.is_finite() && (0.0..=1.0).contains(&found.top1), "{arch} at {side}: {}", found.loss);
}

#[test]
fn small_images_of_two_classes() {
    whole_path("resnet8", "resnet8", 28, 2, None);
    whole_path("resnet8", "resnet8-b", 32, 1000, None);
}

#[test]
fn middling_images() {
    whole_path("resnet18", "resnet8", 64, 2, None);
    whole_path("resnet18", "resnet8", 112, 100, None);
}

/// The shape of ImageNet's usual teacher.
#[test]
fn large_images_of_a_thousand_classes() {
    whole_path("resnet18", "resnet18", 224, 1000, None);
}

#[test]
fn a_student_may_see_smaller_images_than_its_teacher() {
    whole_path("resnet18", "resnet8", 112, 5, Some(64));
    whole_path("resnet8", "resnet8", 64, 5, Some(20));
}
