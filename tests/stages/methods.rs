//! Every recipe end to end on a tiny teacher; what they promise about each other; interrupted runs; the operations that only they use.

use crate::common;
use crate::random::random_model;
use synth::augment::{Augmentation, Motion};
use synth::checkpoint::{Resumable, Saver};
use synth::distill::StudentRecipe;
use synth::events::Silent;
use synth::invert::{
    BufferRecipe, ContrastRecipe, Feed, Input, LabelEmbeddings, Labels, LossRecipe, Options, Order, Recipe,
    Synthesiser, Target, invert,
};
use synth::jobs::{Init, InvertJob, Ran, RunJob};
use synth::loss::Adversarial;
use synth::model::Model;
use synth::nets::registry::Shape;
use synth::ops::CPU;
use synth::rng::Streams;
use synth::teacher::Teacher;

fn random_teacher(arch: &str) -> Model {
    random_model(arch, &Shape { channels: 3, height: 16, width: 16, num_classes: 4 })
}

/// A recipe cut down to seconds: its choices stay, its sizes go.
fn tiny(recipe: Recipe) -> Recipe {
    let mut tiny = recipe.clone();
    tiny.batch = 8;
    tiny.practice = recipe.practice.min(1);
    tiny.fill = if recipe.fill == Recipe::WHOLE { recipe.fill } else { recipe.fill.min(1) };
    tiny.rounds = recipe.rounds.min(2);
    tiny.adversary_steps = recipe.adversary_steps.min(2);
    tiny.generator.latent = 8;
    tiny.generator.width = 8;
    tiny.generator.inner_steps = recipe.generator.inner_steps.min(2);
    tiny.generator.warmup_steps = recipe.generator.warmup_steps.min(2);
    tiny.generator.rebuild = recipe.generator.rebuild.min(2);
    tiny.generator.warmup_rebuild = recipe.generator.warmup_rebuild.min(2);
    tiny.generator.reset_first = recipe.generator.reset_first.min(2);
    tiny.contrast = ContrastRecipe { width: 4, bank: 12, negatives: 6, ..recipe.contrast };
    tiny.buffer = BufferRecipe { samples: 16, ..recipe.buffer };
    tiny.views = recipe.views.min(2);
    tiny.finish_steps = 2;
    tiny.student = StudentRecipe { steps: 2, batch: 8, reestimate: recipe.student.reestimate.min(1), ..recipe.student };
    tiny
}

fn run(teacher: &Model, recipe: &Recipe) -> Ran {
    let job = RunJob {
        teacher,
        student: "resnet8",
        recipe,
        embeddings: None,
        init: Init::Adversary,
        on_the_fly: recipe.on_the_fly,
        all_views: false,
        limit: None,
        seed: 3,
        compute: &CPU,
    };
    job.run(&mut Silent).unwrap_or_else(|error| panic!("{}: {error}", recipe.name))
}

fn bits(ran: &Ran) -> (Vec<u8>, Vec<u32>) {
    let weights = &ran.student.network.weights;
    let values = (0..weights.slots.len()).flat_map(|i| weights.to_file(i).unwrap());
    (ran.inverted.set.images.pixels.to_vec(), values.map(f32::to_bits).collect())
}

#[test]
fn every_recipe_runs_to_a_set_and_a_student_and_with_any_number_of_threads_to_the_same() {
    let teacher = random_teacher("resnet14");
    for (name, _, make) in Recipe::ALL {
        let recipe = tiny(make());
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(&teacher, &recipe))
        };
        let ran = with(1);
        assert_eq!(ran.inverted.set.len(), 16, "{name}");
        assert_eq!(ran.student.network.weights.non_finite().unwrap(), None, "{name}");
        let provenance = &ran.inverted.set.provenance;
        assert_eq!(provenance["recipe"]["name"], *name);
        let reads_labels = recipe.generator.input == Input::LabelEmbedding;
        assert_eq!(provenance["label_embeddings"].as_str(), reads_labels.then_some("orthogonal"), "{name}");
        assert!(bits(&ran) == bits(&with(3)), "{name}: three threads differ from one");
    }
}

/// Only recipes that match no statistics take a teacher without batch norms, and they do.
#[test]
fn a_teacher_without_batch_norms_takes_the_recipes_that_need_none() {
    let shape = Shape { channels: 3, height: 32, width: 32, num_classes: 4 };
    let teacher = random_model("lenet-cifar", &shape);
    assert_eq!(Recipe::without_batch_norm(), ["dafl", "dfad", "zskt"]);
    for (name, _, make) in Recipe::ALL {
        let recipe = tiny(make());
        let job = InvertJob {
            teacher: &teacher,
            recipe: &recipe,
            embeddings: None,
            adversary: "resnet8",
            teacher_blocks: false,
            on_the_fly: true,
            all_views: true,
            limit: None,
            seed: 0,
            compute: &CPU,
        };
        let found = job.run(&mut Silent);
        assert_eq!(found.is_ok(), Recipe::without_batch_norm().contains(name), "{name}: {:?}", found.err());
    }
}

/// What is put away between two batches and taken up again goes on to the same images, whatever lives between batches.
#[test]
fn batches_after_a_state_are_those_that_would_have_been() {
    let model = random_teacher("resnet14");
    let teacher = Teacher::of(&model);
    for (name, _, make) in Recipe::ALL {
        let recipe = tiny(make()).fitted([16, 16]);
        let mut first = Synthesiser::new(&teacher, &recipe, Streams::new(5)).unwrap();
        for index in 0..2 {
            first.batch(&Order::new(index, 2, &[1; 4])).unwrap();
        }
        let state = Saver::of(&first).unwrap().keep();
        let mut second = Synthesiser::new(&teacher, &recipe, Streams::new(5)).unwrap();
        second.restore(&state).unwrap();
        for index in 2..4 {
            let (a, b) = (
                first.batch(&Order::new(index, 2, &[1; 4])).unwrap(),
                second.batch(&Order::new(index, 2, &[1; 4])).unwrap(),
            );
            assert!(a.pixels == b.pixels && a.labels == b.labels, "{name}, batch {index}");
            assert_eq!(a.last.total.to_bits(), b.last.total.to_bits(), "{name}, batch {index}");
        }
    }
}

/// The gradients that the whole step leaves, against differences of the total loss, for each input and every loss at once; and for what
/// holds the teacher against the adversary alone, which would drown in the others.
#[test]
fn the_whole_objective_has_the_gradient_of_its_value() {
    let model = random_teacher("resnet8");
    let teacher = Teacher::of(&model);
    let adversary = random_teacher("resnet14").network;
    let js = Adversarial::Js { temperature: 3.0 };
    for (input, motion, form, others) in [
        (Input::Latents, Motion::ResizedCrop, Adversarial::Kl, 1.0),
        (Input::Pixels, Motion::Roll, js, 1.0),
        (Input::Pixels, Motion::None, Adversarial::Kl, 0.0),
        (Input::Pixels, Motion::None, js, 0.0),
    ] {
        let mut recipe = tiny(Recipe::default());
        recipe.generator.input = input;
        recipe.augment = Augmentation { motion, crop: 2, ..Augmentation::default() };
        recipe.phi.target = synth::invert::PhiTarget::Off;
        recipe.loss = LossRecipe {
            bn: others,
            one_hot: others,
            target: Target::Sureness,
            adversarial: 1.0,
            adversarial_form: form,
            balance: others,
            activation: others,
            variation: 0.1 * others,
            image_norm: 0.1 * others,
            ..recipe.loss
        };
        let synthesiser = Synthesiser::new(&teacher, &recipe, Streams::new(2)).unwrap();
        let mut rng = Streams::new(2).stream("test", 0);
        let dims: Vec<usize> = if input == Input::Pixels { vec![8, 16, 16, 3] } else { vec![8, 12] };
        let count = dims.iter().product::<usize>();
        let latents = synth::ops::mem::tensor(synth::rng::normal(&mut rng, count), &dims[..]).unwrap();
        let draws = synth::invert::Draws { view: recipe.augment.draw(8, [16, 16], &mut rng), contrast: None };
        let labels = [0, 1, 2, 3, 0, 1, 2, 3];
        let step = |latents: &candle_core::Tensor| {
            let generator = synthesiser.generator.duplicate().unwrap();
            synthesiser.inner_step(&generator, latents, &labels, &draws, &[1; 4], Some(&adversary)).unwrap()
        };
        let pass = step(&latents);
        let gradient = common::values(&pass.latent_grad.unwrap());
        // Labels' columns have no gradient; along random directions of the others.
        let free = if input == Input::Pixels { dims[3] } else { 8 };
        let width = *dims.last().unwrap();
        for direction in 0..3 {
            let way = synth::rng::normal(&mut Streams::new(9).stream("way", direction), count);
            let masked = |i: usize| if i % width < free { f64::from(way[i]) } else { 0.0 };
            let h = 2e-3;
            let moved = |sign: f64| {
                let values = common::values(&latents);
                let values = values.iter().enumerate().map(|(i, v)| (f64::from(*v) + sign * h * masked(i)) as f32);
                step(&synth::ops::mem::tensor(values.collect(), &dims[..]).unwrap()).terms.total
            };
            let quotient = (moved(1.0) - moved(-1.0)) / (2.0 * h);
            let expected: f64 = gradient.iter().enumerate().map(|(i, g)| f64::from(*g) * masked(i)).sum();
            let length = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!(
                (quotient - expected).abs() < 0.05 * length.max(expected.abs()),
                "{input:?}: difference {quotient}, gradient {expected}, length {length}"
            );
        }
    }
}

/// A generator whose rate falls over the run stands still once the batches that fit into the time are over, however many the
/// recipe has.
#[test]
fn rates_fall_over_the_batches_that_are_planned() {
    let model = random_teacher("resnet8");
    let teacher = Teacher::of(&model);
    let mut recipe = tiny(Recipe::named("dfq").unwrap()).fitted([16, 16]);
    (recipe.practice, recipe.rounds) = (0, 1000);
    let moved = |batches: Option<usize>| {
        let mut synthesiser = Synthesiser::new(&teacher, &recipe, Streams::new(1)).unwrap();
        let before = synthesiser.generator.weights.duplicate().unwrap();
        synthesiser.batch(&Order { batches, ..Order::new(3, 1, &[0; 4]) }).unwrap();
        synthesiser.generator.weights.distance(&before).unwrap()
    };
    assert!(moved(None) > 0.0);
    assert!(moved(Some(3)) < 1e-3 * moved(None), "{} {}", moved(Some(3)), moved(None));
}

/// A batch of sorted labels that is larger than the buffer leaves no class out of it.
#[test]
fn small_sets_of_large_batches_have_every_class() {
    let model = random_teacher("resnet8");
    let mut recipe = tiny(Recipe::named("deepinversion").unwrap());
    assert_eq!(recipe.labels, Labels::Sorted);
    recipe.batch = 40;
    let student = random_teacher("resnet8").network;
    let found = invert(&Teacher::of(&model), student, &recipe, &Options::default(), &mut Silent).unwrap();
    let mut counts = [0; 4];
    found.buffer.entries.iter().for_each(|entry| counts[entry.label as usize] += 1);
    assert_eq!(found.buffer.len(), 16);
    assert!(counts.iter().all(|n| (2..=7).contains(n)), "{counts:?}");
}

/// CMI's contrast reaches the images: with it alone, they move.
#[test]
fn contrast_moves_images() {
    let model = random_teacher("resnet8");
    let teacher = Teacher::of(&model);
    let mut recipe = tiny(Recipe::named("cmi").unwrap()).fitted([16, 16]);
    recipe.generator.keep = synth::invert::Keep::AfterLast;
    recipe.loss = LossRecipe { bn: 0.0, one_hot: 0.0, adversarial: 0.0, ..recipe.loss };
    let mut synthesiser = Synthesiser::new(&teacher, &recipe, Streams::new(1)).unwrap();
    let first = synthesiser.batch(&Order::new(0, 2, &[0; 4])).unwrap();
    let second = synthesiser.batch(&Order::new(1, 2, &[0; 4])).unwrap();
    for made in [&first, &second] {
        assert!(made.last.contrast > 0.0 && made.last.total == recipe.loss.contrast * made.last.contrast);
    }
    // Two rows without a bank; with six negatives the mean over them comes on top.
    assert!(second.last.contrast > first.last.contrast, "{} {}", second.last.contrast, first.last.contrast);
    recipe.loss.contrast = 1e-30;
    let mut still = Synthesiser::new(&teacher, &recipe, Streams::new(1)).unwrap();
    assert_ne!(still.batch(&Order::new(0, 2, &[0; 4])).unwrap().pixels, first.pixels);
}

/// Images of a generator that reads label embeddings differ within a class, and only by the noisy layer.
#[test]
fn noisy_layers_make_different_images_of_a_label() {
    let model = random_teacher("resnet8");
    let teacher = Teacher::of(&model);
    let recipe = tiny(Recipe::named("nayer").unwrap()).fitted([16, 16]);
    let mut synthesiser = Synthesiser::new(&teacher, &recipe, Streams::new(1)).unwrap();
    let made = synthesiser.batch(&Order::new(0, 1, &[0; 4])).unwrap();
    assert_eq!(made.labels, [0, 1, 2, 3, 0, 1, 2, 3]);
    let images: Vec<&[u8]> = made.pixels.chunks(16 * 16 * 3).collect();
    for (i, a) in images.iter().enumerate() {
        images[..i].iter().for_each(|b| assert_ne!(a, b));
    }
    let other = LabelEmbeddings::new((0..20).map(|i| (i as f32).sin()).collect(), 5, "test".into()).unwrap();
    let mut told = Synthesiser::with_embeddings(&teacher, &recipe, Streams::new(1), Some(&other)).unwrap();
    assert_ne!(told.batch(&Order::new(0, 1, &[0; 4])).unwrap().pixels, made.pixels);
    let wrong = LabelEmbeddings::new(vec![1.0; 15], 5, "test".into()).unwrap();
    assert!(Synthesiser::with_embeddings(&teacher, &recipe, Streams::new(1), Some(&wrong)).is_err());
}

/// In a min-max game the student learns from what the generator makes now, not from a pool; and without labels, an image's
/// label is what the teacher sees in it.
#[test]
fn generative_methods_label_by_the_teacher_and_feed_fresh_images() {
    let model = random_teacher("resnet8");
    let teacher = Teacher::of(&model);
    let recipe = tiny(Recipe::named("dfad").unwrap()).fitted([16, 16]);
    assert_eq!((recipe.feed, recipe.labels), (Feed::Fresh, Labels::Uniform));
    let student = random_teacher("resnet8").network;
    let found = invert(&teacher, student, &recipe, &Options::default(), &mut Silent).unwrap();
    assert!(found.buffer.entries.iter().all(|entry| entry.label == entry.class));
    assert_eq!(found.plan.fill, 0);
    let synthesiser = Synthesiser::new(&teacher, &recipe, Streams::new(1)).unwrap();
    let values = |index: usize| common::values(&synthesiser.fresh(index).unwrap());
    assert_eq!(values(4), values(4));
    assert_ne!(values(4), values(5));
}
