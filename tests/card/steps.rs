//! Whole steps as the commands take them: supervised training, distillation, inversion, both stages.

use super::common::device::fresh_card;
use super::{near, near_number, on, random};
use std::sync::Arc;
use synth::data::{Images, Labelled};
use synth::distill::{Answers, Input, Pool, StudentRecipe, Trainer, view_list};
use synth::events::Silent;
use synth::invert::{Lifecycle, Order, Recipe, Synthesiser};
use synth::jobs::{Init, RunJob};
use synth::model::Model;
use synth::nets::registry::{Shape, new_model};
use synth::nets::{Network, Weights};
use synth::ops::place::Gallery;
use synth::ops::{CPU, Compute, Precision};
use synth::rng::Streams;
use synth::set::Views;
use synth::set::priority::{Priorities, PriorityRule};
use synth::teacher::Teacher;
use synth::train::{SupervisedRecipe, evaluate, supervised};

pub(super) const SIDE: usize = 16;

pub(super) fn model(arch: &str) -> Model {
    let shape = Shape { channels: 3, height: SIDE, width: SIDE, num_classes: 4 };
    let (architecture, config) = new_model(arch, &shape, None, &[0.5, 0.45, 0.4], &[0.25, 0.2, 0.3]).unwrap();
    let network = Network::init(Arc::new(architecture), &mut Streams::new(7).stream("teacher", 0)).unwrap();
    Model { network, config, sha256: "0".repeat(64), source: "test".into() }
}

fn labelled(count: usize) -> Labelled {
    let pixels: Vec<u8> = (0..count * SIDE * SIDE * 3)
        .map(|i| {
            let (image, at) = (i / (SIDE * SIDE * 3), i % (SIDE * SIDE * 3));
            ((at * (1 + image % 4) * 7 + image * image * 13) % 256) as u8
        })
        .collect();
    Labelled {
        images: Images::new(pixels, 3, SIDE, SIDE).unwrap(),
        labels: (0..count).map(|i| (i % 4) as u32).collect(),
        class_names: ["a", "b", "c", "d"].map(String::from).to_vec(),
        name: "test".into(),
        sha256: String::new(),
    }
}

fn compare(what: &str, there: &Weights, here: &Weights, tolerance: f64) {
    for ((slot, t), (_, h)) in there.iter().zip(here.iter()) {
        near(&format!("{what} {}", slot.name), t, h, tolerance);
    }
}

#[test]
#[ignore = "needs SYNTH_TEST_DEVICE"]
fn supervised_training_and_evaluation() {
    // The last batch of an epoch is smaller, and comes when a step of the usual size has been recorded.
    let (model, data) = (model("resnet8"), labelled(56));
    let recipe = SupervisedRecipe {
        epochs: 1,
        batch: 16,
        lr: 0.05,
        mixup: 0.5,
        label_smoothing: 0.1,
        average: 0.9,
        ..SupervisedRecipe::default()
    };
    let input = Teacher::of(&model).input();
    let run_for = |epochs: usize, compute: &Compute| {
        let recipe = SupervisedRecipe { epochs, ..recipe.clone() };
        let network = model.network.duplicate().unwrap().to(compute).unwrap();
        let network = supervised(network, &data, &input, &recipe, 3, &mut Silent).unwrap().network.to(&CPU).unwrap();
        let trained = Model { network, ..model.clone() };
        let frozen = Teacher::of(&trained).to(compute).unwrap();
        let found = evaluate(&frozen, &data, 32, &mut Silent).unwrap();
        (trained.network.weights, found.loss)
    };
    let run = |compute: &Compute| run_for(1, compute);
    let (here, loss) = run(&CPU);
    let (there, their_loss) = run(&on(Precision::F32));
    compare("trained", &there, &here, 1e-3);
    near_number("loss", their_loss, loss, 1e-3);
    let (again, _) = run(&on(Precision::F32));
    let bits =
        |w: &Weights| (0..w.slots.len()).flat_map(|i| w.to_file(i).unwrap()).map(f32::to_bits).collect::<Vec<_>>();
    assert!(bits(&there) == bits(&again), "the same seed gives the same bits");
    let (queued, _) = run_for(3, &on(Precision::F32));
    // Where nothing ran before, so that the smaller batch is the first to need as much scratch memory as it does.
    let (replayed, _) = run_for(3, &Compute { graphs: true, ..fresh_card().unwrap() });
    assert!(bits(&queued) == bits(&replayed), "a recorded step does the same");
    let (_, rough) = run(&on(Precision::Bf16));
    near_number("loss in bf16", rough, loss, 0.1);
}

#[test]
#[ignore = "needs SYNTH_TEST_DEVICE"]
fn distillation_steps() {
    let (teacher, student, data) = (model("resnet14"), model("resnet8"), labelled(24));
    let run = |compute: &Compute, recorded: bool| {
        let muon = if recorded { 0.0125 } else { 0.0 };
        let recipe = StudentRecipe { steps: 6, batch: 8, lr: 0.05, muon, reestimate: 2, ..StudentRecipe::default() };
        let teacher = Teacher::of(&teacher).to(compute).unwrap();
        let input = Input { sees: [8, 8], ..teacher.input() };
        let network = student.network.duplicate().unwrap().to(compute).unwrap();
        let mut trainer = Trainer::new(network, recipe.clone(), input, Streams::new(2), "test").unwrap();
        let mut priorities = Priorities::new(PriorityRule::default(), data.images.len());
        // Kept on the card, and brought up batch by batch.
        let kept = || Gallery::new(&data.images.pixels, [SIDE, SIDE, 3], &compute.device).unwrap();
        let gallery = compute.graphs.then(kept);
        let mut losses = Vec::new();
        let list = view_list(3, &recipe.augment, &mut Streams::new(2).stream("views", 0));
        let mut views = Views { logits: vec![f32::NAN; data.images.len() * list.len() * 4].into(), list };
        let pool = &mut Pool {
            images: &data.images,
            gallery: gallery.as_ref(),
            rows: None,
            priorities: &mut priorities,
            answers: if recorded { Answers::Recording(&mut views, &teacher) } else { Answers::Live(&teacher) },
        };
        while trainer.done() < recipe.steps {
            losses.push(trainer.step(pool).unwrap().unwrap().loss);
        }
        (trainer.finished(pool).unwrap().to(&CPU).unwrap().weights, losses)
    };
    for recorded in [false, true] {
        let ((here, losses), (there, theirs)) = (run(&CPU, recorded), run(&on(Precision::F32), recorded));
        losses.iter().zip(&theirs).for_each(|(h, t)| near_number("loss", *t, *h, 1e-3));
        compare("student", &there, &here, 2e-3);
        let (replayed, again) = run(&Compute { graphs: true, ..on(Precision::F32) }, recorded);
        compare("replayed", &replayed, &there, 0.0);
        assert_eq!(theirs, again);
        let (_, rough) = run(&on(Precision::Bf16), recorded);
        near_number("first loss in bf16", rough[0], losses[0], 2e-2);
        // Later ones come from weights that went slightly other ways.
        losses.iter().zip(&rough).for_each(|(h, t)| near_number("loss in bf16", *t, *h, 0.15));
    }
}

fn tiny() -> Recipe {
    let mut recipe =
        Recipe { batch: 8, practice: 1, fill: 1, rounds: 2, adversary_steps: 1, views: 0, ..Recipe::default() };
    recipe.generator.width = 8;
    recipe.generator.inner_steps = 2;
    recipe.generator.warmup_steps = 2;
    recipe.buffer.samples = 16;
    recipe.finish_steps = 3;
    recipe.student = StudentRecipe { steps: 2, batch: 8, reestimate: 1, ..StudentRecipe::default() };
    recipe
}

#[test]
#[ignore = "needs SYNTH_TEST_DEVICE"]
fn inversion_batches() {
    let (teacher, adversary) = (model("resnet14"), model("resnet8"));
    for lifecycle in [Lifecycle::Fomaml, Lifecycle::Reptile, Lifecycle::Reset, Lifecycle::CarryOver] {
        let mut recipe = tiny();
        recipe.generator.lifecycle = lifecycle;
        recipe.generator.grain = lifecycle == Lifecycle::CarryOver;
        let run = |compute: &Compute| {
            let teacher = Teacher::of(&teacher).to(compute).unwrap();
            let adversary = adversary.network.to(compute).unwrap();
            let mut synthesiser = Synthesiser::new(&teacher, &recipe, Streams::new(1)).unwrap();
            let terms: Vec<_> = (0..2)
                .map(|round| synthesiser.batch(&Order::new(round, 2, &[4, 2, 1, 9]).against(&adversary)).unwrap().last)
                .collect();
            (terms, synthesiser.generator.to(&CPU).unwrap().weights)
        };
        let ((here, ours), (there, theirs)) = (run(&CPU), run(&on(Precision::F32)));
        for (h, t) in here.iter().zip(&there) {
            near_number("bn", t.bn, h.bn, 1e-3);
            near_number("one hot", t.one_hot, h.one_hot, 1e-3);
            near_number("adversarial", t.adversarial, h.adversarial, 5e-3);
            assert_eq!((h.on_label, h.agreement), (t.on_label, t.agreement));
        }
        // Adam divides by the size of the gradient: where that is rounding, so is the step.
        compare("generator", &theirs, &ours, 2e-2);
        let (rough, _) = run(&on(Precision::Bf16));
        near_number("total in bf16", rough[0].total, here[0].total, 5e-2);
    }
}

/// Both stages with all that is around them, to a student that is on the CPU again and finite.
#[test]
#[ignore = "needs SYNTH_TEST_DEVICE"]
fn a_whole_run() {
    let teacher = model("resnet14");
    let recipe = tiny();
    for precision in [Precision::F32, Precision::Bf16] {
        let job = RunJob {
            teacher: &teacher,
            student: "resnet8",
            recipe: &recipe,
            embeddings: None,
            init: Init::TeacherBlocks,
            on_the_fly: false,
            all_views: false,
            limit: None,
            seed: 0,
            compute: &on(precision),
        };
        let ran = job.run(&mut Silent).unwrap();
        assert!(ran.student.network.compute().is_cpu() && ran.inverted.generator.network.compute().is_cpu());
        assert_eq!(ran.student.network.weights.non_finite().unwrap(), None);
        assert_eq!(ran.provenance["device"], "cuda:0");
        assert_eq!(ran.provenance["precision"], precision.name());
        let x = random(&[2, SIDE, SIDE, 3], 1);
        assert_eq!(synth::nets::infer(&ran.student.network, &x).unwrap().dims(), [2, 4]);
    }
}
