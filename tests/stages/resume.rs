//! A run that is interrupted at any of its steps and goes on leaves the same bits as one that is not; a loss that is no number
//! sets a run back, and the two together do as well.

use crate::common::on_threads;
use crate::random::random_model;
use serde_json::{Value, json};
use std::path::Path;
use synth::checkpoint::{Checkpoints, Resumable, Saved};
use synth::collect::{Balance, Wish};
use synth::data::{Images, Labelled};
use synth::distill::{AnswerSource, Distilled, Signal, SignalKind, Stop, StudentRecipe, distill};
use synth::events::{Observer, Record, Silent};
use synth::invert::{AdversaryMode, Layout, Lifecycle, Order, Recipe, Synthesiser, Target};
use synth::jobs::{Access, CollectJob, Init, RunJob, TrainJob, fresh_student, open_sources};
use synth::loss::Matching;
use synth::model::Model;
use synth::nets::registry::Shape;
use synth::nets::{Network, Task};
use synth::ops::CPU;
use synth::rng::Streams;
use synth::set::SyntheticSet;
use synth::teacher::Teacher;
use synth::train::{Decay, Schedule, SupervisedRecipe};
use synth::{Error, Result};

/// An observer that keeps the state after `cut` steps and then ends the process, as it were.
struct Cut {
    checkpoints: Checkpoints,
    steps: usize,
    cut: usize,
}

impl Cut {
    fn after(cut: usize, folder: &Path) -> Self {
        let checkpoints = Checkpoints::in_folder(folder, json!({}), json!({}), None).unwrap();
        Self { checkpoints, steps: 0, cut }
    }
}

impl Observer for Cut {
    fn record(&mut self, _: &Record) {}

    fn between(&mut self, stage: &'static str, state: &dyn Resumable) -> Result<()> {
        self.steps += 1;
        if self.steps <= self.cut {
            return Ok(());
        }
        self.checkpoints.write(stage, state, &())?;
        Err(Error::Interrupted)
    }

    fn ended(&mut self, stage: &'static str, state: &dyn Resumable) -> Result<()> {
        self.checkpoints.write(stage, state, &()).map(|_| ())
    }

    fn earlier(&mut self, stage: &'static str) -> Result<Option<Saved>> {
        Ok(self.checkpoints.newest(stage)?.map(|(state, _)| state))
    }
}

/// Runs to the end in pieces of `piece` steps; the number of interruptions, and what is left.
fn in_pieces<T>(piece: usize, run: &dyn Fn(&mut dyn Observer) -> Result<T>) -> (usize, T) {
    let folder = tempfile::tempdir().unwrap();
    for interruptions in 0..10_000 {
        match run(&mut Cut::after(piece, folder.path())) {
            Ok(result) => return (interruptions, result),
            Err(Error::Interrupted) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it comes to no end")
}

fn teacher(arch: &str) -> Model {
    random_model(arch, &Shape { channels: 3, height: 16, width: 16, num_classes: 4 })
}

fn tiny() -> Recipe {
    let mut recipe = Recipe { batch: 12, practice: 1, rounds: 3, adversary_steps: 3, views: 2, ..Recipe::default() };
    recipe.generator.width = 8;
    recipe.generator.latent = 8;
    recipe.generator.inner_steps = 2;
    recipe.generator.warmup_steps = 2;
    recipe.buffer.samples = 24;
    recipe.finish_steps = 5;
    recipe.student = StudentRecipe { steps: 5, batch: 8, reestimate: 2, ..StudentRecipe::default() };
    recipe
}

fn job<'a>(teacher: &'a Model, recipe: &'a Recipe) -> RunJob<'a> {
    RunJob {
        teacher,
        student: "resnet8",
        recipe,
        embeddings: None,
        init: Init::Adversary,
        on_the_fly: false,
        all_views: false,
        limit: None,
        seed: 3,
        compute: &CPU,
    }
}

/// Everything that a run leaves, but for times.
fn bits(job: &RunJob, observer: &mut dyn Observer) -> Result<(Vec<u32>, Vec<u8>, Value)> {
    let ran = job.run(observer)?;
    let mut weights = Vec::new();
    for model in [&ran.student, &ran.inverted.adversary, &ran.inverted.generator] {
        for tensor in model.tensors()?.values() {
            weights.extend(tensor.as_f32().unwrap_or_default().iter().map(|v| v.to_bits()));
        }
    }
    let set = &ran.inverted.set;
    let views = set.views.as_ref().map_or(&[][..], |views| &views.logits[..]);
    weights.extend(set.logits.iter().chain(&set.priority).chain(views).map(|v| v.to_bits()));
    let health = json!([set.provenance["health"], ran.provenance["health"], ran.provenance["rates_halved"]]);
    Ok((weights, set.images.pixels.to_vec(), health))
}

#[test]
fn a_run_goes_on_from_any_of_its_steps() {
    on_threads(1, || {
        let (teacher, mut recipe) = (teacher("resnet20"), tiny());
        for lifecycle in [Lifecycle::Fomaml, Lifecycle::CarryOver] {
            recipe.generator.lifecycle = lifecycle;
            let job = RunJob { all_views: lifecycle == Lifecycle::CarryOver, ..job(&teacher, &recipe) };
            let whole = bits(&job, &mut Silent).unwrap();
            // Practice, fill, three rounds of one batch and three updates, and the second stage.
            for piece in [1, 2, 3, 5] {
                let (interruptions, again) = in_pieces(piece, &|observer| bits(&job, observer));
                assert!(interruptions >= 15 / piece, "{interruptions} interruptions");
                assert!(again == whole, "{lifecycle:?} in pieces of {piece} steps");
            }
        }
    })
}

#[test]
fn a_student_from_fresh_weights_with_live_answers_goes_on_too() {
    let (teacher, mut recipe) = (teacher("resnet14"), Recipe { views: 0, ..tiny() });
    recipe.buffer.replacement = synth::set::buffer::Replacement::Oldest;
    let job = RunJob { init: Init::Scratch, ..job(&teacher, &recipe) };
    let whole = bits(&job, &mut Silent).unwrap();
    assert!(in_pieces(2, &|observer| bits(&job, observer)).1 == whole);
    let on_the_fly = RunJob { on_the_fly: true, ..job };
    let whole = bits(&on_the_fly, &mut Silent).unwrap();
    assert!(in_pieces(3, &|observer| bits(&on_the_fly, observer)).1 == whole);
}

/// Whatever a method keeps from batch to batch, and whatever its adversary learns from.
#[test]
fn every_recipe_goes_on() {
    on_threads(1, || {
        let teacher = teacher("resnet14");
        for (name, _, make) in Recipe::ALL {
            let published = make();
            let fill = published.fill.min(2);
            let mut recipe = Recipe { batch: 8, practice: 0, fill, rounds: 2, adversary_steps: 2, ..published };
            recipe.generator.width = 8;
            recipe.generator.latent = 8;
            recipe.generator.inner_steps = 2;
            recipe.generator.warmup_steps = 2;
            // What happens every so many batches happens with each.
            let every = |batches: &mut usize| *batches = 1.min(*batches);
            every(&mut recipe.generator.reset_first);
            every(&mut recipe.generator.rebuild);
            every(&mut recipe.generator.warmup_rebuild);
            recipe.buffer.samples = 16;
            recipe.finish_steps = 2;
            recipe.views = recipe.views.min(2);
            recipe.student = StudentRecipe { steps: 4, batch: 8, reestimate: 0, ..recipe.student };
            let job = RunJob { on_the_fly: recipe.on_the_fly, ..job(&teacher, &recipe) };
            let whole = bits(&job, &mut Silent).unwrap();
            let (interruptions, again) = in_pieces(1, &|observer| bits(&job, observer));
            assert!(interruptions >= 4 && again == whole, "{name}: {interruptions} interruptions");
        }
    })
}

/// Answers for every pixel, with label maps and without, in both stages and on the fly.
#[test]
fn networks_that_answer_for_pixels_go_on_too() {
    on_threads(1, || {
        let teacher = random_model("espnet-p1-q2", &Shape { channels: 3, height: 16, width: 24, num_classes: 5 });
        for (layout, target) in
            [(Layout::Smooth, Target::Label), (Layout::Scene, Target::Label), (Layout::Smooth, Target::Sureness)]
        {
            let mut recipe = Recipe { layout, ..tiny().of_task(Task::Segmentation) };
            recipe.loss.target = target;
            recipe.student.scale = 0.6;
            for (init, on_the_fly) in [(Init::Adversary, false), (Init::Scratch, false), (Init::Adversary, true)] {
                let job = RunJob { student: "espnet-p1-q1", init, on_the_fly, ..job(&teacher, &recipe) };
                let whole = bits(&job, &mut Silent).unwrap();
                let (interruptions, again) = in_pieces(2, &|observer| bits(&job, observer));
                assert!(interruptions >= 4 && again == whole, "{layout:?} {target:?} {init:?}: {interruptions}");
            }
        }
    })
}

/// 40 images of four classes.
pub(crate) fn labelled() -> Labelled {
    let pixels: Vec<u8> = (0..40 * 16 * 16 * 3).map(|i| (i * 37 % 251) as u8).collect();
    Labelled {
        images: Images::new(pixels, 3, 16, 16).unwrap(),
        labels: (0..40).map(|i| i % 4).collect(),
        class_names: (0..4).map(|k| k.to_string()).collect(),
        name: "made up".into(),
        sha256: "0".repeat(64),
    }
}

fn trained(recipe: &SupervisedRecipe, observer: &mut dyn Observer) -> Result<(Vec<u32>, Value)> {
    let data = labelled();
    let (mean, std) = ([0.5; 3], [0.25; 3]);
    let (net, seed, compute) = ("resnet8", 5, &CPU);
    let (model, provenance) =
        TrainJob { net, data: (&data).into(), recipe, mean: &mean, std: &std, license: None, seed, compute }
            .run(observer)?;
    let tensors = model.tensors()?;
    let bits = tensors.values().flat_map(|t| t.as_f32().unwrap_or_default()).map(|v| v.to_bits()).collect();
    Ok((bits, provenance["rates_halved"].clone()))
}

#[test]
fn supervised_training_goes_on_within_and_between_epochs() {
    let recipe = SupervisedRecipe { epochs: 3, batch: 16, average: 0.9, mixup: 0.5, ..SupervisedRecipe::default() };
    let whole = trained(&recipe, &mut Silent).unwrap();
    for piece in [1, 2, 4] {
        let (interruptions, again) = in_pieces(piece, &|observer| trained(&recipe, observer));
        assert_eq!(interruptions, 9usize.div_ceil(piece) - 1, "pieces of {piece}");
        assert!(again == whole, "pieces of {piece}");
    }
}

/// A rate so high that weight decay alone makes the weights explode: the run is set back until the rate is low enough, says so,
/// and goes on from any step of that as well.
#[test]
fn a_loss_that_is_no_number_lowers_the_rate() {
    on_threads(1, || {
        let recipe = |epochs: usize| SupervisedRecipe {
            epochs,
            batch: 16,
            lr: 100.0,
            momentum: 0.0,
            weight_decay: 1.0,
            decay: Decay::WeightsOnly,
            schedule: Schedule::Constant,
            ..SupervisedRecipe::default()
        };
        // Weights grow to 99, 49, 24 times per step: 24 steps of the third are below the largest f32.
        let whole = trained(&recipe(8), &mut Silent).unwrap();
        assert!((1..=5).contains(&whole.1["network"].as_u64().unwrap()), "{}", whole.1);
        assert!(whole.0.iter().all(|bits| f32::from_bits(*bits).is_finite()));
        assert!(in_pieces(1, &|observer| trained(&recipe(8), observer)).1 == whole);
        let text = trained(&recipe(200), &mut Silent).unwrap_err().to_string();
        assert!(text.contains("though its rate was halved 5 times, to 1/32 of lr"), "{text}");
    })
}

#[test]
fn a_generator_that_blows_up_is_set_back_or_given_up() {
    let (teacher, mut recipe) = (teacher("resnet8"), tiny());
    recipe.generator.lr = 10.0;
    recipe.generator.lr_latent = 10.0;
    recipe.loss.one_hot = 1e6;
    let job = job(&teacher, &recipe);
    // Adam bounds its steps, so this may be ugly but stays finite; what is checked is that nothing that is no number gets out.
    match bits(&job, &mut Silent) {
        Ok((weights, ..)) => assert!(weights.iter().all(|bits| f32::from_bits(*bits).is_finite())),
        Err(error) => assert!(error.to_string().contains("though its rate was halved 5 times"), "{error}"),
    }
}

/// Hours of work would be lost.
#[test]
fn more_images_than_a_set_can_have_are_refused_at_once() {
    let (teacher, mut recipe) = (teacher("resnet8"), tiny());
    (recipe.rounds, recipe.buffer.samples) = (1_000_000_000, 1_000_000_000);
    let refused = job(&teacher, &recipe).run(&mut Silent).err().unwrap().to_string();
    assert!(refused.contains("buffer.samples") && refused.contains("read again"), "{refused}");
}

/// Latents of 2^63 make a running variance that is no number, those of two or three halvings less do not. What comes of it in the
/// end is to the bit what the lower rates make at once: generator, optimizer, head and the smoothed statistics of images go back.
#[test]
fn a_batch_that_fails_is_made_again_from_its_beginning() {
    let model = teacher("resnet8");
    let frozen = Teacher::of(&model);
    let made = |share: f64| {
        let mut recipe = tiny();
        (recipe.loss.contrast, recipe.loss.bn_momentum) = (0.8, 0.9);
        let g = &mut recipe.generator;
        (g.lifecycle, g.keep_optimizer) = (Lifecycle::CarryOver, true);
        (g.lr, g.lr_latent) = (g.lr * share, 2f64.powi(63) * share);
        let mut synthesiser = Synthesiser::new(&frozen, &recipe, Streams::new(0)).unwrap();
        let pixels: Vec<u8> = (0..2).flat_map(|i| synthesiser.batch(&Order::new(i, 3, &[])).unwrap().pixels).collect();
        (synthesiser.halvings(), pixels, weights_of(&synthesiser.generator))
    };
    let (halvings, pixels, weights) = made(1.0);
    assert!(halvings > 0);
    assert!(made(0.5f64.powi(halvings as i32)) == (0, pixels, weights), "{halvings}");
}

/// Batch norms of an adversary that train beside the generator go back with it.
#[test]
fn a_batch_that_fails_leaves_the_adversary_as_it_was() {
    let (model, adversary) = (teacher("resnet8"), teacher("resnet14").network);
    let frozen = Teacher::of(&model);
    let values = || weights_of(&adversary);
    let moves = |weight: f64| {
        let mut recipe = tiny();
        (recipe.loss.adversarial, recipe.loss.adversary_mode) = (weight, AdversaryMode::Train);
        let mut synthesiser = Synthesiser::new(&frozen, &recipe, Streams::new(0)).unwrap();
        let before = values();
        let made = synthesiser.batch(&Order::new(0, 3, &[]).against(&adversary));
        (made.is_ok(), values() != before)
    };
    // Infinite gradients: the second step has no loss.
    assert_eq!(moves(1e300), (false, false));
    assert_eq!(moves(1.0), (true, true));
}

/// A collection of everything that takes long: several sources, one of them with files that cannot be read, relatedness, copies for
/// classes that lack images, images from borders, recorded answers.
fn collection<'a>(teacher: &'a Model, pictures: &Path, balance: Balance) -> CollectJob<'a> {
    let wishes = ["leaves=3", "noise=11", pictures.to_str().unwrap()].map(|text| text.parse::<Wish>().unwrap());
    let access = Access { offline: true, quiet: true };
    CollectJob {
        teacher,
        sources: open_sources(&wishes, &Teacher::of(teacher), 0, usize::MAX, &access).unwrap(),
        samples: 600,
        pool: Some(1600),
        balance,
        related: true,
        distinct: true,
        boundary: 90,
        views: 2,
        license: None,
        seed: 4,
        compute: &CPU,
    }
}

/// Everything that a collection leaves, but for times.
fn set_bits(job: CollectJob, observer: &mut dyn Observer) -> Result<(Vec<u8>, Vec<u32>, Vec<u32>, Value)> {
    let set = job.run(observer)?.set;
    let views = set.views.as_ref().map_or(&[][..], |views| &views.logits[..]);
    let numbers = set.logits.iter().chain(&set.priority).chain(views).map(|v| v.to_bits()).collect();
    let about = &set.provenance;
    let facts = json!([about["sources"], about["metrics"], about["health"], about["job_sha256"]]);
    Ok((set.images.pixels.to_vec(), set.labels.clone(), numbers, facts))
}

#[test]
fn a_collection_goes_on_from_any_of_its_steps() {
    on_threads(1, || {
        let (teacher, folder) = (teacher("resnet8"), tempfile::tempdir().unwrap());
        for i in 0..40u32 {
            let name = folder.path().join(format!("{i:02}.png"));
            match i % 4 {
                0 => std::fs::write(name, b"no picture").unwrap(),
                _ => image::RgbImage::from_fn(20, 16, |x, y| image::Rgb([x, y, i].map(|v| (v * 6) as u8)))
                    .save(name)
                    .unwrap(),
            }
        }
        for balance in [Balance::Soft { rho: 0.5 }, Balance::Nayak { min_confidence: 0.0 }] {
            let run = |observer: &mut dyn Observer| set_bits(collection(&teacher, folder.path(), balance), observer);
            let whole = run(&mut Silent).unwrap();
            assert_eq!(whole.3[0][2]["skipped"].as_object().unwrap().len(), 1, "{}", whole.3[0]);
            assert!(whole.3[1]["boundary"].as_u64().unwrap() > 0, "{}", whole.3[1]);
            for piece in [1, 2, 3] {
                let (interruptions, again) = in_pieces(piece, &run);
                assert!(interruptions >= 8 / piece, "{interruptions} interruptions in pieces of {piece}");
                assert!(again == whole, "{balance:?} in pieces of {piece} steps");
            }
        }
    })
}

/// The richest signal, whose projection learns along, and RandAugment: the weights of the student.
fn distilled(
    set: &SyntheticSet,
    teacher: &Model,
    recipe: &StudentRecipe,
    observer: &mut dyn Observer,
) -> Result<Vec<u32>> {
    Ok(weights_of(&learned(set, teacher, recipe, observer)?.student))
}

fn learned(
    set: &SyntheticSet,
    teacher: &Model,
    recipe: &StudentRecipe,
    observer: &mut dyn Observer,
) -> Result<Distilled> {
    let frozen = Teacher::of(teacher);
    let (student, _) = fresh_student("resnet8", &teacher.config, None, &mut Streams::new(1).stream("s", 0))?;
    distill(set, AnswerSource::Live(&frozen), student, &frozen.input(), recipe, Stop::default(), 0, observer)
}

fn weights_of(network: &Network) -> Vec<u32> {
    let tensors = network.weights.iter().flat_map(|(_, t)| t.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    tensors.map(f32::to_bits).collect()
}

/// As `a_loss_that_is_no_number_lowers_the_rate`: priorities, hints and the loss's trend go back with the weights.
#[test]
fn a_student_that_blows_up_is_set_back() {
    on_threads(1, || {
        let (teacher, folder) = (teacher("resnet14"), tempfile::tempdir().unwrap());
        image::RgbImage::from_pixel(16, 16, image::Rgb([1, 2, 3])).save(folder.path().join("a.png")).unwrap();
        let job = CollectJob { related: false, boundary: 0, ..collection(&teacher, folder.path(), Balance::None) };
        let set = job.run(&mut Silent).unwrap().set;
        let recipe = StudentRecipe {
            steps: 24,
            batch: 8,
            lr: 20.0,
            momentum: 0.0,
            weight_decay: 1.0,
            decay: Decay::WeightsOnly,
            schedule: Schedule::Constant,
            warmup: 0,
            mixup_until: 0.0,
            reestimate: 1,
            matching: Matching::Kl { temperature: 1.0 },
            signal: Signal { kind: SignalKind::Features, logits: 0.0, features: 1e-4, ..Signal::default() },
            ..StudentRecipe::default()
        };
        let run = |observer: &mut dyn Observer| -> Result<_> {
            let done = learned(&set, &teacher, &recipe, observer)?;
            let loss = done.loss.map(|trend| [trend.first.to_bits(), trend.last.to_bits()]);
            Ok((weights_of(&done.student), done.steps, done.halvings, loss))
        };
        let whole = run(&mut Silent).unwrap();
        assert!(whole.1 == 24 && (1..=5).contains(&whole.2), "{} steps, {} halvings", whole.1, whole.2);
        assert!(whole.0.iter().all(|bits| f32::from_bits(*bits).is_finite()));
        assert!(whole.3.unwrap().iter().all(|bits| f64::from_bits(*bits).is_finite()));
        for piece in [3, 10] {
            assert!(in_pieces(piece, &run).1 == whole, "pieces of {piece}");
        }
    })
}

#[test]
fn richer_signals_and_random_operations_go_on() {
    let (teacher, folder) = (teacher("resnet14"), tempfile::tempdir().unwrap());
    image::RgbImage::from_fn(16, 16, |x, y| image::Rgb([(x * 15) as u8, (y * 15) as u8, 7]))
        .save(folder.path().join("a.png"))
        .unwrap();
    let job = CollectJob { related: false, boundary: 0, ..collection(&teacher, folder.path(), Balance::None) };
    let mut set = job.run(&mut Silent).unwrap().set;
    let plain = StudentRecipe { steps: 6, batch: 8, reestimate: 1, ..StudentRecipe::default() };
    let mut all = Vec::new();
    for kind in [SignalKind::Answers, SignalKind::Logits, SignalKind::Features] {
        for rand_augment in [0, 2] {
            let signal = Signal { kind, ..Signal::default() };
            let recipe = StudentRecipe { signal, rand_augment, ..plain.clone() };
            let run = |observer: &mut dyn Observer| distilled(&set, &teacher, &recipe, observer);
            let whole = run(&mut Silent).unwrap();
            assert!(in_pieces(2, &run).1 == whole, "{kind:?}, {rand_augment} operations");
            assert!(!all.contains(&whole), "{kind:?}, {rand_augment} operations: as another one");
            all.push(whole);
        }
    }
    // Recorded answers know neither features nor other images; inverted images are no place for more than answers.
    let frozen = Teacher::of(&teacher);
    let features = Signal { kind: SignalKind::Features, ..Signal::default() };
    let stored = |recipe: StudentRecipe| {
        let (student, _) =
            fresh_student("resnet8", &teacher.config, None, &mut Streams::new(1).stream("s", 0)).unwrap();
        let answers = AnswerSource::Stored;
        distill(&set, answers, student, &frozen.input(), &recipe, Stop::default(), 0, &mut Silent)
            .err()
            .map(|e| e.to_string())
    };
    let refusal = stored(StudentRecipe { signal: features, ..plain.clone() }).unwrap();
    assert!(refusal.contains("recorded answers have no features"), "{refusal}");
    let refusal = stored(StudentRecipe { rand_augment: 2, ..plain.clone() }).unwrap();
    assert!(refusal.contains("recorded answers are of other images"), "{refusal}");
    let refusal = stored(StudentRecipe { scale: 0.5, ..plain.clone() }).unwrap();
    assert!(refusal.contains("student.scale: recorded answers are of other images"), "{refusal}");
    let logits = Signal { kind: SignalKind::Logits, ..Signal::default() };
    assert_eq!(stored(StudentRecipe { signal: logits, ..plain.clone() }), None);
    set.provenance["sources"][0]["inverted"] = json!(true);
    let recipe = StudentRecipe { signal: logits, ..plain };
    let refusal = distilled(&set, &teacher, &recipe, &mut Silent).unwrap_err().to_string();
    assert!(
        refusal.contains("images that inversion made") && refusal.contains("student.signal.inverted=true"),
        "{refusal}"
    );
    let signal = Signal { inverted: true, ..logits };
    distilled(&set, &teacher, &StudentRecipe { signal, ..recipe }, &mut Silent).unwrap();
}
