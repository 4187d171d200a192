//! No value of a recipe is without effect: each, changed alone, changes the bits of a run in which it has a part.

use crate::random::random_model;
use crate::resume::labelled;
use synth::distill::StudentRecipe;
use synth::events::Silent;
use synth::invert::Recipe;
use synth::jobs::{Init, RunJob, TrainJob};
use synth::model::Model;
use synth::nets::registry::Shape;
use synth::ops::CPU;
use synth::overlay::overlaid;
use synth::train::SupervisedRecipe;

/// `ssd` cut down to a second, with answers asked live.
fn tiny() -> Recipe {
    let mut recipe = Recipe {
        batch: 12,
        practice: 2,
        fill: 2,
        rounds: 3,
        adversary_steps: 3,
        views: 0,
        finish_steps: 4,
        ..Recipe::default()
    };
    (recipe.generator.latent, recipe.generator.width) = (16, 8);
    (recipe.generator.inner_steps, recipe.generator.warmup_steps) = (2, 2);
    recipe.buffer.samples = 30;
    recipe.student = StudentRecipe { steps: 6, batch: 16, reestimate: 2, ..recipe.student };
    recipe
}

fn with(base: &Recipe, pairs: &[&str]) -> Recipe {
    let pairs: Vec<String> = pairs.iter().map(ToString::to_string).collect();
    let recipe = overlaid(base, None, &pairs).unwrap_or_else(|error| panic!("{pairs:?}: {error}"));
    recipe.check().unwrap_or_else(|error| panic!("{pairs:?}: {error}"));
    recipe
}

fn bits_of(model: &Model) -> Vec<u32> {
    let weights = &model.network.weights;
    (0..weights.slots.len()).flat_map(|i| weights.to_file(i).unwrap()).map(f32::to_bits).collect()
}

/// Images, and the student's weights.
fn run(teacher: &Model, recipe: &Recipe, init: Init) -> (Vec<u8>, Vec<u32>) {
    let job = RunJob {
        teacher,
        student: "resnet8",
        recipe,
        embeddings: None,
        init,
        on_the_fly: recipe.on_the_fly,
        all_views: false,
        limit: None,
        seed: 3,
        compute: &CPU,
    };
    let ran = job.run(&mut Silent).unwrap_or_else(|error| panic!("{}: {error}", recipe.name));
    (ran.inverted.set.images.pixels.to_vec(), bits_of(&ran.student))
}

/// That each of `pairs` changes what `base` (with the values `over` it) leaves.
fn each_matters(base: &Recipe, over: &[&str], init: Init, pairs: &[&str]) {
    let teacher = random_model("resnet8", &Shape { channels: 3, height: 16, width: 16, num_classes: 4 });
    let base = with(base, over);
    let usual = run(&teacher, &base, init);
    let idle: Vec<&&str> = pairs.iter().filter(|pair| run(&teacher, &with(&base, &[pair]), init) == usual).collect();
    assert!(idle.is_empty(), "{over:?}: no part in the run have {idle:?}");
}

#[test]
fn of_an_inversion_every_value_matters() {
    each_matters(
        &tiny(),
        &[],
        Init::Adversary,
        &[
            "batch=10",
            "practice=1",
            "fill=1",
            "rounds=2",
            "batches=2",
            "adversary_steps=2",
            "labels=uniform",
            "labels=sorted",
            "quantise=truncate",
            "buffer.samples=20",
            "buffer.replacement=oldest",
            "augment.motion=none",
            "augment.motion=roll",
            "augment.crop=2",
            "augment.flip=false",
            "generator.latent=12",
            "generator.width=16",
            "generator.output=tanh",
            "generator.conditional=false",
            "generator.label_scale=4",
            "generator.grain=true",
            "generator.lifecycle=carry-over",
            "generator.lifecycle=reptile",
            "generator.lifecycle=reset",
            "generator.inner_steps=3",
            "generator.warmup_steps=3",
            "generator.reset_first=2",
            "generator.rebuild=2",
            "generator.warmup_rebuild=1",
            "generator.lr=0.002",
            "generator.lr_latent=0.02",
            "generator.within_batch={cosine={floor=0.0}}",
            "generator.over_run={cosine={floor=0.0}}",
            "generator.betas=[0.5, 0.99]",
            "generator.keep=lowest-loss",
            "generator.keep=last",
            "loss.bn=5",
            "loss.bn_form=sum-of-norms",
            "loss.bn_form=gaussian-kl",
            "loss.bn_momentum=0.5",
            "loss.bn_first=10",
            "loss.one_hot=2",
            "loss.target=decision",
            "loss.target=sureness",
            "loss.adversarial=3",
            "loss.adversarial_form=kl",
            "loss.adversarial_form=l1",
            "loss.adversary_mode=train",
            "loss.balance=1",
            "loss.activation=1",
            "loss.variation=1",
            "loss.image_norm=1",
            "phi.target=off",
            "phi.target=replacement",
            "phi.diversity=off",
            "phi.gamma=2",
        ],
    );
    each_matters(&tiny(), &["phi.gamma=2"], Init::Adversary, &["phi.norm=none"]);
    each_matters(&tiny(), &["loss.variation=1"], Init::Adversary, &["loss.variation_form=l1"]);
    each_matters(&tiny(), &["generator.lifecycle=reptile"], Init::Adversary, &["generator.meta_factor=0.5"]);
    each_matters(&tiny(), &["generator.lifecycle=carry-over"], Init::Adversary, &["generator.keep_optimizer=true"]);
    each_matters(&tiny(), &["generator.lifecycle=reset"], Init::Adversary, &["generator.fresh=normal"]);
    each_matters(&tiny(), &["generator.reset_first=2"], Init::Adversary, &["generator.reset_once=true"]);
    each_matters(
        &tiny(),
        &["loss.contrast=1", "contrast.width=8", "contrast.bank=40", "contrast.negatives=20"],
        Init::Adversary,
        &[
            "loss.contrast=2",
            "contrast.temperature=0.5",
            "contrast.width=6",
            "contrast.lr=0.1",
            "contrast.bank=24",
            "contrast.negatives=10",
            "contrast.scale=0.8",
        ],
    );
}

#[test]
fn of_a_student_that_goes_on_every_value_matters() {
    each_matters(
        &tiny(),
        &["student.mixup_until=0.5"],
        Init::Adversary,
        &[
            "finish_steps=3",
            "student.batch=12",
            "student.lr=0.3",
            "student.lr_share=0.5",
            "student.momentum=0.5",
            "student.nesterov=false",
            "student.weight_decay=0.1",
            "student.decay=weights-only",
            "student.muon=0",
            "student.rand_augment=2",
            "student.scale=0.5",
            "student.mixup_until=0",
            "student.mixup_until=1",
            "student.mixup_alpha=0.2",
            "student.average=0.2",
            "student.reestimate=1",
            "student.matching=l1",
            "student.matching.kl.temperature=4",
            "student.augment.crop=2",
            "student.augment.flip=false",
        ],
    );
    each_matters(
        &tiny(),
        &["student.mixup_until=0", "student.priority.alpha=2", "student.priority.beta=0.5"],
        Init::Adversary,
        &[
            "student.priority.alpha=1",
            "student.priority.beta=1",
            "student.priority.beta=0",
            "student.priority.temperature=4",
        ],
    );
    each_matters(&tiny(), &["views=4", "student.mixup_until=0"], Init::Adversary, &["views=2"]);
    each_matters(
        &tiny(),
        &["student.signal.inverted=true", "student.signal.kind=features"],
        Init::Scratch,
        &[
            "student.signal.kind=logits",
            "student.signal.logits=1",
            "student.signal.attention=1",
            "student.signal.features=9",
        ],
    );
    each_matters(&tiny(), &[], Init::TeacherBlocks, &["blocks_share=0.8"]);
}

#[test]
fn of_a_student_from_fresh_weights_every_value_matters() {
    each_matters(
        &tiny(),
        &[],
        Init::Scratch,
        &[
            "student.steps=5",
            "student.warmup=3",
            "student.schedule={cosine={floor=0.0}}",
            "student.schedule.one-cycle.rise=0.5",
            "student.schedule.one-cycle.start=0.5",
            "student.schedule.one-cycle.floor=0.5",
        ],
    );
}

#[test]
fn of_supervised_training_every_value_matters() {
    let data = labelled();
    let trained = |pair: Option<&str>| {
        let base = SupervisedRecipe { epochs: 3, batch: 16, lr: 0.1, average: 0.9, ..SupervisedRecipe::default() };
        let pairs: Vec<String> = pair.into_iter().map(String::from).collect();
        let recipe = &overlaid(&base, None, &pairs).unwrap();
        let (mean, std) = (&[0.5; 3], &[0.25; 3]);
        let (net, data, compute) = ("resnet8", (&data).into(), &CPU);
        bits_of(&TrainJob { net, data, recipe, mean, std, license: None, seed: 5, compute }.run(&mut Silent).unwrap().0)
    };
    let usual = trained(None);
    for pair in [
        "epochs=2",
        "batch=12",
        "lr=0.2",
        "momentum=0.5",
        "nesterov=false",
        "weight_decay=0.1",
        "decay=weights-only",
        "schedule={cosine={floor=0.0}}",
        "warmup=4",
        "augment.crop=2",
        "augment.flip=false",
        "scale=0.5",
        "mixup=0.5",
        "label_smoothing=0.2",
        "average=0",
        "average=0.2",
    ] {
        assert!(trained(Some(pair)) != usual, "no part in the training has {pair}");
    }
}
