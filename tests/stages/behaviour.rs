//! What the keys of a recipe do: each test fails if its key does something else, or nothing.
//!
//! Most start from DAFL in tiny: a generator of noise that goes on from batch to batch, images as it makes them, and
//! the teacher alone to judge them, so that every step can be made again by hand.

use crate::common::{distance, values};
use crate::random::random_model;
use candle_core::Tensor;
use std::time::Duration;
use synth::augment::CropFlip;
use synth::checkpoint::{Resumable, Saver};
use synth::distill::{Shown, StudentRecipe, Trainer};
use synth::events::{Observer, Record, Silent};
use synth::invert::{
    AdversaryMode, Draws, Feed, FreshWeights, GeneratorRecipe, Input, Keep, Lifecycle, LossRecipe, Options, Order,
    Output, Quantise, Recipe, Synthesiser, invert,
};
use synth::nets::registry::Shape;
use synth::nets::{Forward, Kind, Mode, Network};
use synth::ops::mem::{tensor, update};
use synth::rng::{Streams, normal};
use synth::tape::{Tape, Var};
use synth::teacher::Teacher;
use synth::train::{Adam, BN_MOMENTUM, Schedule, trainable};

const SEED: u64 = 3;
const OPTIONS: Options = Options { embeddings: None, all_views: false, seed: SEED, limit: None };
const BATCH: usize = 8;
const LATENT: usize = 8;

/// A ResNet-8 with random weights, for images of 16x16 pixels and four classes.
fn teacher() -> Teacher {
    Teacher::of(&random_model("resnet8", &Shape { channels: 3, height: 16, width: 16, num_classes: 4 }))
}

/// Another one of the kind.
fn student(teacher: &Teacher) -> Network {
    Network::init(teacher.network.arch.clone(), &mut Streams::new(SEED).stream("student", 0)).unwrap()
}

/// A recipe cut down to eight images per batch.
fn tiny(name: &str) -> Recipe {
    let mut recipe = Recipe { batch: BATCH, ..Recipe::named(name).unwrap() };
    (recipe.generator.latent, recipe.generator.width) = (LATENT, 8);
    (recipe.student.batch, recipe.buffer.samples) = (BATCH, 64);
    recipe
}

fn synthesiser<'a>(teacher: &'a Teacher, recipe: &Recipe) -> Synthesiser<'a> {
    Synthesiser::new(teacher, recipe, Streams::new(SEED)).unwrap()
}

/// The labels and the noise of `n` images: the `index`-th of those that are drawn for `purpose`.
fn drawn(synthesiser: &Synthesiser, purpose: &str, index: usize, n: usize) -> (Vec<u32>, Tensor) {
    let mut rng = Streams::new(SEED).stream(purpose, index as u64);
    let labels = synthesiser.wish(n, &mut rng).rows;
    (labels, tensor(normal(&mut rng, n * LATENT), (n, LATENT)).unwrap())
}

/// What `generator` makes of `noise`; it stays as it is.
fn made_by(generator: &Network, noise: &Tensor) -> Tensor {
    let copy = generator.duplicate().unwrap();
    let tape = Tape::new();
    let mut f = Forward::new(&tape, &copy.weights, Mode::Reestimate { momentum: BN_MOMENTUM });
    copy.forward(&mut f, Var::constant(noise.clone())).unwrap().tensor().unwrap()
}

/// The gradients of an inner step of batch `index` on `generator`.
fn gradients(synthesiser: &Synthesiser, generator: &Network, index: usize) -> Vec<Option<Tensor>> {
    let (labels, noise) = drawn(synthesiser, "invert/batch", index, BATCH);
    synthesiser.inner_step(generator, &noise, &labels, &Draws::still(BATCH), &[0; 4], None).unwrap().grads
}

/// A new optimizer of the generator.
fn optimizer(recipe: &Recipe) -> Adam {
    let (first, second) = recipe.generator.betas;
    Adam::new((first as f32, second as f32))
}

/// A clone of the generator after `steps` inner steps of batch `index`, and the sum of their gradients.
fn adapted(synthesiser: &Synthesiser, recipe: &Recipe, index: usize, steps: usize) -> (Network, Vec<Option<Tensor>>) {
    let (clone, mut adam) = (synthesiser.generator.duplicate().unwrap(), optimizer(recipe));
    let mut sum: Vec<Option<Tensor>> = vec![None; clone.weights.slots.len()];
    for _ in 0..steps {
        let grads = gradients(synthesiser, &clone, index);
        adam.step(trainable(&clone.weights, &grads), recipe.generator.lr as f32).unwrap();
        let added = sum.into_iter().zip(grads).map(|pair| match pair {
            (Some(sum), Some(grad)) => Some((sum + grad).unwrap()),
            (sum, grad) => sum.or(grad),
        });
        sum = added.collect();
    }
    (clone, sum)
}

/// How far two networks are apart, as a share of their weights.
fn apart(a: &Network, b: &Network) -> f64 {
    a.weights.distance(&b.weights).unwrap()
}

/// All values that learn.
fn learned(network: &Network) -> Vec<f32> {
    network.weights.iter().filter(|(slot, _)| slot.kind.trainable()).flat_map(|(_, tensor)| values(tensor)).collect()
}

/// All tensors of `kind`.
fn of_kind(network: &Network, kind: Kind) -> Vec<&Tensor> {
    network.weights.iter().filter(|(slot, _)| slot.kind == kind).map(|(_, tensor)| tensor).collect()
}

/// All running variances.
fn variances(network: &Network) -> Vec<f32> {
    of_kind(network, Kind::RunningVar).into_iter().flat_map(values).collect()
}

/// `quantise`: 254.7 levels are 255 or 254, in the pixels of a batch too.
#[test]
fn levels_are_rounded_or_cut_off() {
    assert_eq!([Quantise::Round, Quantise::Truncate].map(|quantise| quantise.byte(0.999)), [255, 254]);
    let teacher = teacher();
    let ways: [(Quantise, fn(f32) -> f32); 2] = [(Quantise::Round, f32::round), (Quantise::Truncate, f32::floor)];
    for (quantise, whole) in ways {
        let recipe = Recipe { quantise, ..tiny("dafl") };
        let made = synthesiser(&teacher, &recipe).batch(&Order::new(0, 1, &[0; 4])).unwrap();
        let levels = values(&made.images).into_iter().map(|value| whole(value.clamp(0.0, 1.0) * 255.0) as u8);
        assert!(made.pixels == levels.collect::<Vec<u8>>(), "{quantise:?}");
    }
}

/// `generator.keep`: of three steps the iterate with the lowest loss, the one before the last update, or that after it.
#[test]
fn the_iterate_that_is_asked_for_is_kept() {
    let teacher = teacher();
    let mut grey = tiny("dafl");
    grey.generator.output = Output::Sigmoid;
    grey.loss = LossRecipe { one_hot: 0.0, balance: 0.0, activation: 0.0, image_norm: 1.0, ..grey.loss };
    let noise = drawn(&synthesiser(&teacher, &grey), "invert/batch", 0, BATCH).1;
    // Up the slope of the loss the first of the iterates is the best, down the slope the last one.
    for (lr, best) in [(-0.01, 0), (0.01, 2)] {
        let batch = |keep: Keep, steps: usize| {
            let mut recipe = grey.clone();
            (recipe.generator.keep, recipe.generator.lr) = (keep, lr);
            let mut synthesiser = synthesiser(&teacher, &recipe);
            let images = synthesiser.batch(&Order::new(0, steps, &[0; 4])).unwrap().images;
            (images, made_by(&synthesiser.generator, &noise))
        };
        let iterates: Vec<Tensor> = (0..4).map(|steps| batch(Keep::Last, steps).1).collect();
        for (keep, expected) in [(Keep::LowestLoss, best), (Keep::Last, 2), (Keep::AfterLast, 3)] {
            let images = batch(keep, 3).0;
            for (iterate, its) in iterates.iter().enumerate() {
                let off = distance(&images, its);
                let right = if iterate == expected { off < 1e-5 } else { off > 1e-4 };
                assert!(right, "rate {lr}, {keep:?}: off iterate {iterate} by {off}");
            }
        }
    }
}

/// `loss.adversary_mode`: with `eval` the adversary answers by its running statistics, which stay; with `train` by
/// those of the batch, and the running ones go a tenth of the way to them. Its weights stay in both.
#[test]
fn batch_norms_of_the_adversary_use_running_statistics_or_those_of_the_batch() {
    let teacher = teacher();
    // The distance to an adversary whose running variances are `variance`, and what these are then.
    let against = |adversary_mode: AdversaryMode, variance: f32| {
        let mut recipe = tiny("dfad");
        recipe.loss.adversary_mode = adversary_mode;
        let adversary = student(&teacher);
        for running in of_kind(&adversary, Kind::RunningVar) {
            update(running, |values| values.fill(variance)).unwrap();
        }
        let before = adversary.duplicate().unwrap();
        let made = synthesiser(&teacher, &recipe).batch(&Order::new(0, 1, &[0; 4]).against(&adversary)).unwrap();
        assert_eq!(apart(&adversary, &before), 0.0, "{adversary_mode:?}");
        (made.last.adversarial, variances(&adversary))
    };
    let [(of_one, ones), (of_four, fours)] = [1.0, 4.0].map(|variance| against(AdversaryMode::Eval, variance));
    assert_ne!(of_one, of_four);
    assert!(ones.iter().all(|v| *v == 1.0) && fours.iter().all(|v| *v == 4.0));
    let [(of_one, ones), (of_four, fours)] = [1.0, 4.0].map(|variance| against(AdversaryMode::Train, variance));
    assert_eq!(of_one, of_four);
    // Nine tenths of the difference of 3 are left.
    assert!(ones.iter().zip(&fours).all(|(one, four)| (four - one - 2.7).abs() < 1e-3), "{ones:?}, {fours:?}");
    assert!(ones.iter().any(|v| (v - 1.0).abs() > 1e-3), "{ones:?}");
}

/// `loss.adversary_mode` in a run: the statistics that `train` moves are those of the student itself.
#[test]
fn the_adversary_of_a_run_is_the_student_itself() {
    let teacher = teacher();
    let statistics = |adversary_mode: AdversaryMode| {
        // The first round has no adversary yet. Nobody learns, so that the images are the same.
        let mut recipe = Recipe { rounds: 2, adversary_steps: 1, ..tiny("dfad") };
        (recipe.loss.adversary_mode, recipe.generator.lr, recipe.student.lr) = (adversary_mode, 0.0, 1e-30);
        let found = invert(&teacher, student(&teacher), &recipe, &OPTIONS, &mut Silent).unwrap();
        variances(&found.adversary)
    };
    assert_eq!(statistics(AdversaryMode::Eval), statistics(AdversaryMode::Eval));
    assert_ne!(statistics(AdversaryMode::Eval), statistics(AdversaryMode::Train));
}

/// Mean and standard deviation of all values of `kind`.
fn moments(network: &Network, kind: Kind) -> (f64, f64) {
    let all: Vec<f64> = of_kind(network, kind).into_iter().flat_map(values).map(f64::from).collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    (mean, (all.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / all.len() as f64).sqrt())
}

/// `generator.fresh`: how the weights are drawn when the generator starts anew; the first ones are always `uniform`.
#[test]
fn fresh_weights_are_drawn_as_asked() {
    let teacher = teacher();
    // Uniform on ±1/√12 for the 12 inputs of the linear layer.
    let uniform = (1.0f64 / 36.0).sqrt();
    for (fresh, norms, linear, bias) in [
        (FreshWeights::Uniform, (1.0, 0.0), uniform, uniform),
        (FreshWeights::Normal, (1.0, 0.02), 0.02, 0.0),
        (FreshWeights::Centred, (0.0, 0.02), 0.02, 0.0),
    ] {
        let mut recipe = tiny("dafl");
        (recipe.generator.latent, recipe.generator.width, recipe.generator.fresh) = (12, 128, fresh);
        let mut synthesiser = synthesiser(&teacher, &recipe);
        let first = moments(&synthesiser.generator, Kind::LinearWeight);
        synthesiser.rebuild(1).unwrap();
        let now = |kind: Kind| moments(&synthesiser.generator, kind);
        for (found, (mean, deviation)) in [
            (first, (0.0, uniform)),
            (now(Kind::NormWeight), norms),
            (now(Kind::NormBias), (0.0, 0.0)),
            (now(Kind::LinearWeight), (0.0, linear)),
            (now(Kind::Bias), (0.0, bias)),
        ] {
            let near = (found.0 - mean).abs() < 0.02 && (found.1 - deviation).abs() <= 0.25 * deviation;
            assert!(near, "{fresh:?}: {found:?}, expected {mean} and {deviation}");
        }
    }
}

/// Keeps the first layer of the generator as it is before every batch, and at the end.
#[derive(Default)]
struct FirstLayers(Vec<Vec<f32>>);

impl FirstLayers {
    fn take(&mut self, state: &dyn Resumable) -> synth::Result<()> {
        let state = Saver::of(state)?.keep();
        self.0.push(state.part("synthesiser").part("generator").array("l1.0.weight")?);
        Ok(())
    }
}

impl Observer for FirstLayers {
    fn record(&mut self, _: &Record) {}

    fn between(&mut self, _: &'static str, state: &dyn Resumable) -> synth::Result<()> {
        self.take(state)
    }

    fn ended(&mut self, _: &'static str, state: &dyn Resumable) -> synth::Result<()> {
        self.take(state)
    }
}

/// `generator.warmup_rebuild` counts the batches before the rounds, `generator.rebuild` those of the rounds, each from
/// 0; the very first batch has a new generator anyway.
#[test]
fn the_generator_starts_anew_as_often_as_asked() {
    let teacher = teacher();
    let mut recipe = Recipe { practice: 1, fill: 4, rounds: 4, adversary_steps: 0, ..tiny("dafl") };
    recipe.feed = Feed::Buffer;
    (recipe.generator.warmup_rebuild, recipe.generator.rebuild) = (2, 3);
    // Else it does not change.
    recipe.generator.lr = 0.0;
    let mut layers = FirstLayers::default();
    invert(&teacher, student(&teacher), &recipe, &OPTIONS, &mut layers).unwrap();
    assert_eq!(layers.0.len(), 10, "nine batches and the end");
    let changed = layers.0.windows(2).enumerate().filter(|(_, two)| two[0] != two[1]);
    // Five batches before the rounds, four in them.
    assert_eq!(changed.map(|(batch, _)| batch).collect::<Vec<usize>>(), [2, 4, 5, 8]);
}

/// `generator.keep_optimizer`: Adam goes on from batch to batch, or starts anew with each; with a new generator always.
#[test]
fn the_optimizer_of_the_generator_goes_on_or_starts_anew() {
    let teacher = teacher();
    let after_two_batches = |kept: bool| {
        let mut recipe = tiny("dafl");
        recipe.generator.keep_optimizer = kept;
        let mut synthesiser = synthesiser(&teacher, &recipe);
        let (expected, mut adam) = (synthesiser.generator.duplicate().unwrap(), optimizer(&recipe));
        for index in 0..2 {
            if !kept {
                adam = optimizer(&recipe);
            }
            let grads = gradients(&synthesiser, &expected, index);
            adam.step(trainable(&expected.weights, &grads), recipe.generator.lr as f32).unwrap();
            synthesiser.batch(&Order::new(index, 1, &[0; 4])).unwrap();
        }
        let off = apart(&synthesiser.generator, &expected);
        assert!(off < 1e-6, "kept {kept}: off by {off}");
        let found = synthesiser.generator.duplicate().unwrap();
        synthesiser.rebuild(2).unwrap();
        let state = Saver::of(&synthesiser).unwrap().keep();
        assert_eq!(state.part("meta").value::<i32>("steps").unwrap(), 0, "kept {kept}");
        found
    };
    let [kept, anew] = [true, false].map(after_two_batches);
    assert!(apart(&kept, &anew) > 1e-4, "{}", apart(&kept, &anew));
}

/// `generator.lifecycle = fomaml`: a batch is one step of Adam with the sum of its inner gradients, its rate that of
/// the inner steps times their number, or times `generator.meta_factor`. With one inner step that is plain Adam.
#[test]
fn fomaml_is_adam_with_the_inner_gradients() {
    let teacher = teacher();
    for (steps, meta_factor, times) in [(1, 0.0, 1.0), (3, 0.0, 3.0), (3, 0.5, 0.5)] {
        let mut recipe = tiny("dafl");
        (recipe.generator.lifecycle, recipe.generator.keep_optimizer) = (Lifecycle::Fomaml, false);
        recipe.generator.meta_factor = meta_factor;
        let mut synthesiser = synthesiser(&teacher, &recipe);
        let start = synthesiser.generator.duplicate().unwrap();
        let (expected, mut adam) = (start.duplicate().unwrap(), optimizer(&recipe));
        for index in 0..2 {
            let sum = adapted(&synthesiser, &recipe, index, steps).1;
            adam.step(trainable(&expected.weights, &sum), (recipe.generator.lr * times) as f32).unwrap();
            synthesiser.batch(&Order::new(index, steps, &[0; 4])).unwrap();
            let off = apart(&synthesiser.generator, &expected);
            assert!(off < 1e-6, "{steps} steps, factor {meta_factor}, batch {index}: off by {off}");
        }
        assert!(apart(&expected, &start) > 1e-3);
    }
}

/// `generator.lifecycle = reptile`: every weight goes towards what the inner steps made of it, by the meta rate.
#[test]
fn reptile_goes_towards_the_adapted_clone() {
    let teacher = teacher();
    let mut recipe = tiny("dafl");
    (recipe.generator.lifecycle, recipe.generator.keep_optimizer) = (Lifecycle::Reptile, false);
    let mut synthesiser = synthesiser(&teacher, &recipe);
    let (then, there) = (learned(&synthesiser.generator), learned(&adapted(&synthesiser, &recipe, 0, 2).0));
    synthesiser.batch(&Order::new(0, 2, &[0; 4])).unwrap();
    let now = learned(&synthesiser.generator);
    let rate = 2.0 * recipe.generator.lr as f32;
    let mut moved = 0;
    for ((then, there), now) in then.iter().zip(&there).zip(&now) {
        let way = there - then;
        if way.abs() > 1e-3 {
            assert!((now - then - rate * way.signum()).abs() < 1e-5, "from {then} towards {there} to {now}");
            moved += 1;
        }
    }
    assert!(moved > then.len() / 2, "{moved} of {}", then.len());
}

/// The student after one round with one update.
fn after_a_round(teacher: &Teacher, recipe: &Recipe) -> Network {
    let recipe = Recipe { rounds: 1, adversary_steps: 1, ..recipe.clone() };
    invert(teacher, student(teacher), &recipe, &OPTIONS, &mut Silent).unwrap().adversary
}

/// The student after one update on `images`.
fn after_an_update(teacher: &Teacher, recipe: &Recipe, images: &Tensor) -> Network {
    let rule = StudentRecipe { steps: 1, ..recipe.student.clone() };
    let mut trainer = Trainer::new(student(teacher), rule, teacher.input(), Streams::new(SEED), "test").unwrap();
    let shown = &mut Shown::new(images.clone());
    trainer.step_on(shown, teacher).unwrap().expect("a loss that is a number");
    trainer.student().clone()
}

/// A batch that is shown as it is has the same answers in every update: the teacher is asked for them once. Crops are other images.
#[test]
fn the_teacher_is_asked_once_about_what_does_not_change() {
    let teacher = teacher();
    let other = Teacher::of(&random_model("resnet14", &Shape { channels: 3, height: 16, width: 16, num_classes: 4 }));
    let recipe = tiny("dafl");
    let images = synthesiser(&teacher, &recipe).fresh(0).unwrap();
    let trained = |rule: &StudentRecipe, teachers: [&Teacher; 2], anew: bool| {
        let rule = StudentRecipe { steps: 2, lr: 1.0, ..rule.clone() };
        let mut trainer = Trainer::new(student(&teacher), rule, teacher.input(), Streams::new(SEED), "test").unwrap();
        let mut shown = Shown::new(images.clone());
        for teacher in teachers {
            if anew {
                shown = Shown::new(images.clone());
            }
            trainer.step_on(&mut shown, teacher).unwrap().expect("a loss that is a number");
        }
        trainer.student().clone()
    };
    let still = recipe.student;
    let asked_twice = trained(&still, [&teacher, &teacher], true);
    assert_eq!(apart(&trained(&still, [&teacher, &teacher], false), &asked_twice), 0.0);
    assert_eq!(apart(&trained(&still, [&teacher, &other], false), &asked_twice), 0.0, "the second teacher was asked");
    assert!(apart(&trained(&still, [&teacher, &other], true), &asked_twice) > 0.0);
    let moved = StudentRecipe { augment: CropFlip { crop: 2, flip: true }, ..still };
    let shown_anew = trained(&moved, [&teacher, &other], true);
    assert_eq!(apart(&trained(&moved, [&teacher, &other], false), &shown_anew), 0.0);
}

/// `feed = batch`: the student learns from the images as they left the generator, not from their 8 bits: before its
/// step where the last iterate is kept (DAFL), after it where the one after that is (ZSKT).
#[test]
fn the_student_sees_the_batch_as_it_left_the_generator() {
    let of = |name: &str| Recipe::named(name).map(|recipe| (recipe.feed, recipe.generator.keep)).unwrap();
    assert_eq!([of("dafl"), of("zskt")], [(Feed::Batch, Keep::Last), (Feed::Batch, Keep::AfterLast)]);
    let teacher = teacher();
    for keep in [Keep::Last, Keep::AfterLast] {
        let mut recipe = tiny("dafl");
        // At this rate one update shows.
        (recipe.generator.keep, recipe.student.lr) = (keep, 1.0);
        let mut synthesiser = synthesiser(&teacher, &recipe);
        let noise = drawn(&synthesiser, "invert/batch", 0, BATCH).1;
        let before = made_by(&synthesiser.generator, &noise);
        synthesiser.batch(&Order::new(0, 1, &[0; 4])).unwrap();
        let after = made_by(&synthesiser.generator, &noise);
        let found = after_a_round(&teacher, &recipe);
        let off = |images: &Tensor| apart(&found, &after_an_update(&teacher, &recipe, images));
        let (off_before, off_after) = (off(&before), off(&after));
        let right = if keep == Keep::Last { off_before < 1e-3 * off_after } else { off_after < 1e-3 * off_before };
        assert!(right, "{keep:?}: off by {off_before} from before the step, by {off_after} from after it");
    }
}

/// `feed = fresh`: the student learns from `student.batch` new images of the generator as it is after its step.
#[test]
fn the_student_sees_fresh_images() {
    let of = |name: &str| Recipe::named(name).unwrap().feed;
    assert_eq!([of("dfad"), of("dfq")], [Feed::Fresh; 2]);
    let teacher = teacher();
    let mut recipe = Recipe { feed: Feed::Fresh, ..tiny("dafl") };
    (recipe.student.batch, recipe.student.lr) = (6, 1.0);
    let mut synthesiser = synthesiser(&teacher, &recipe);
    let noise = drawn(&synthesiser, "invert/fresh", 0, 6).1;
    let before = made_by(&synthesiser.generator, &noise);
    let batch = synthesiser.batch(&Order::new(0, 1, &[0; 4])).unwrap().images;
    let fresh = made_by(&synthesiser.generator, &noise);
    assert_eq!((fresh.dims(), batch.dims()), (&[6, 16, 16, 3][..], &[BATCH, 16, 16, 3][..]));
    let found = after_a_round(&teacher, &recipe);
    let off = |images: &Tensor| apart(&found, &after_an_update(&teacher, &recipe, images));
    let (off, off_before, off_batch) = (off(&fresh), off(&before), off(&batch));
    let others = off_before.min(off_batch);
    assert!(off < 1e-3 * others, "off by {off}, by {off_before} from before the step, by {off_batch} from the batch");
}

/// `generator.within_batch`: with a rate that is 0 from the middle of a batch on, two steps are one, of the generator's
/// weights and of the latents.
#[test]
fn both_rates_follow_the_schedule_within_a_batch() {
    let teacher = teacher();
    for (lr, lr_latent) in [(0.02, 0.0), (0.0, 0.1)] {
        let images = |within_batch: Schedule, steps: usize| {
            let dafl = tiny("dafl");
            let (input, keep) = (Input::Latents, Keep::AfterLast);
            let generator = GeneratorRecipe { input, keep, lr, lr_latent, within_batch, ..dafl.generator };
            let recipe = Recipe { generator, ..dafl };
            synthesiser(&teacher, &recipe).batch(&Order::new(0, steps, &[0; 4])).unwrap().images
        };
        let one = images(Schedule::Constant, 1);
        let off = distance(&images(Schedule::Step { at: vec![0.5], gamma: 0.0 }, 2), &one);
        assert!(off < 1e-5, "rates {lr} and {lr_latent}: off by {off}");
        let off = distance(&images(Schedule::Constant, 2), &one);
        assert!(off > 1e-4, "rates {lr} and {lr_latent}: {off}");
    }
}

/// `--minutes`: a batch that cannot fit is refused after its first steps and not made, by the synthesiser and by a run.
#[test]
fn a_batch_beyond_its_time_is_refused() {
    let teacher = teacher();
    let (many, limit) = (1_000_000, Some(Duration::from_secs(60)));
    let mut recipe = tiny("dafl");
    let mut synthesiser = synthesiser(&teacher, &recipe);
    let order = Order { limit, ..Order::new(0, many, &[0; 4]) };
    let error = synthesiser.batch(&order).err().unwrap().to_string();
    assert!(error.starts_with("--minutes: a batch of 1000000 steps takes about"), "{error}");
    synthesiser.batch(&Order { limit, ..Order::new(0, 4, &[0; 4]) }).unwrap();
    recipe.generator.inner_steps = many;
    let run = invert(&teacher, student(&teacher), &recipe, &Options { limit, ..OPTIONS }, &mut Silent);
    let error = run.err().unwrap().to_string();
    assert!(error.starts_with("--minutes: a batch of 1000000 steps takes about"), "{error}");
}
