//! Both stages through the library on tiny budgets: any image size and channel count, the same bits with one thread or
//! two, φ doing what it says, refusals.

use crate::random::random_model;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use synth::distill::{Stop, StudentRecipe};
use synth::events::Silent;
use synth::invert::{BufferRecipe, Lifecycle, Order, PhiTarget, Recipe, Synthesiser};
use synth::jobs::{AnswerMode, DistillJob, Init, InvertJob, Ran, RunJob, Start, teacher_config};
use synth::model::{Model, Overrides};
use synth::nets::Task;
use synth::nets::registry::Shape;
use synth::ops::CPU;
use synth::rng::Streams;
use synth::set::SyntheticSet;
use synth::teacher::Teacher;

/// A network with random weights as a teacher.
fn random_teacher(arch: &str, channels: usize, side: usize) -> Model {
    let shape = Shape { channels, height: side, width: side, num_classes: 10 };
    random_model(arch, &shape)
}

fn tiny() -> Recipe {
    let mut recipe = Recipe { batch: 20, practice: 1, rounds: 2, adversary_steps: 3, views: 2, ..Recipe::default() };
    recipe.generator.width = 8;
    recipe.generator.latent = 16;
    recipe.generator.inner_steps = 2;
    recipe.generator.warmup_steps = 2;
    recipe.buffer.samples = 60;
    recipe.finish_steps = 4;
    recipe.student = StudentRecipe { steps: 4, batch: 16, reestimate: 2, ..StudentRecipe::default() };
    recipe
}

/// An inversion and a distillation that goes on from its adversary, a ResNet-8.
fn both_stages<'a>(teacher: &'a Model, recipe: &'a Recipe) -> RunJob<'a> {
    RunJob {
        teacher,
        student: "resnet8",
        recipe,
        embeddings: None,
        init: Init::Adversary,
        on_the_fly: false,
        all_views: false,
        limit: None,
        seed: 0,
        compute: &CPU,
    }
}

/// The bits of everything a run leaves.
fn fingerprint(teacher: &Model, recipe: &Recipe, on_the_fly: bool, seed: u64) -> (Vec<u8>, Vec<u32>) {
    let job = RunJob { on_the_fly, seed, ..both_stages(teacher, recipe) };
    bits(&job.run(&mut Silent).unwrap())
}

/// An inversion against a ResNet-8 from fresh weights.
fn inversion<'a>(teacher: &'a Model, recipe: &'a Recipe, seed: u64) -> InvertJob<'a> {
    InvertJob {
        teacher,
        recipe,
        embeddings: None,
        adversary: "resnet8",
        teacher_blocks: false,
        on_the_fly: false,
        all_views: true,
        limit: None,
        seed,
        compute: &CPU,
    }
}

/// A ResNet-8 from fresh weights on the answers recorded in a set.
fn distillation<'a>(set: &'a SyntheticSet, teacher: &'a Model, recipe: &'a StudentRecipe) -> DistillJob<'a> {
    DistillJob {
        set,
        set_name: "set".into(),
        teacher: None,
        like: &teacher.config,
        student: "resnet8",
        size: None,
        answers: AnswerMode::Stored,
        start: Start::Scratch,
        recipe,
        stop: Stop::default(),
        seed: 0,
        compute: &CPU,
    }
}

fn bits(ran: &Ran) -> (Vec<u8>, Vec<u32>) {
    let set = &ran.inverted.set;
    let mut bits: Vec<u32> = set.logits.iter().chain(&set.priority).map(|v| v.to_bits()).collect();
    for (i, _) in ran.student.network.weights.iter().enumerate() {
        bits.extend(ran.student.network.weights.to_file(i).unwrap().iter().map(|v| v.to_bits()));
    }
    (set.images.pixels.to_vec(), bits)
}

#[test]
fn the_same_seed_gives_the_same_bits_with_one_thread_or_two() {
    let teacher = random_teacher("wrn-10-1", 3, 32);
    for (views, on_the_fly) in [(0, false), (3, false), (0, true)] {
        let with = |threads: usize, seed: u64| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| fingerprint(&teacher, &Recipe { views, ..tiny() }, on_the_fly, seed))
        };
        let one = with(1, 3);
        assert!(one == with(2, 3), "two threads differ from one (views {views}, on the fly {on_the_fly})");
        assert!(one == with(3, 3), "three threads differ from one (views {views}, on the fly {on_the_fly})");
        assert!(one.0 != with(2, 4).0, "another seed must give other images");
    }
}

#[test]
fn a_run_with_a_time_limit_can_be_repeated_by_the_numbers_that_it_reports() {
    let teacher = random_teacher("resnet8", 3, 16);
    let recipe = tiny();
    let job = RunJob { limit: Some(Duration::from_secs(2)), ..both_stages(&teacher, &recipe) };
    let limited = job.run(&mut Silent).unwrap();
    let number = |key: &str| limited.inverted.set.provenance["recipe"][key].as_u64().unwrap() as usize;
    let (practice, fill, rounds) = (number("practice"), number("fill"), number("rounds"));
    let finish_steps = number("finish_steps");
    // However fast the machine is, it is the time that decides and not the recipe.
    assert_ne!((rounds, finish_steps), (tiny().rounds, tiny().finish_steps));
    assert_eq!(limited.provenance["steps"], json!(finish_steps));
    assert_eq!(limited.provenance["recipe"]["steps"], json!(finish_steps));
    let again = RunJob { recipe: &Recipe { practice, fill, rounds, finish_steps, ..tiny() }, limit: None, ..job };
    assert!(bits(&limited) == bits(&again.run(&mut Silent).unwrap()), "the same numbers, other bits");
}

#[test]
fn a_shallower_student_of_the_family_starts_with_the_teachers_blocks() {
    let teacher = random_teacher("resnet14", 3, 16);
    assert_eq!(Init::fitting(&teacher, "resnet8").unwrap(), Init::TeacherBlocks);
    assert_eq!(Init::fitting(&teacher, "wrn-10-1").unwrap(), Init::Adversary);
    let mut recipe = tiny();
    // Rates that change nothing.
    recipe.student = StudentRecipe { lr: 1e-30, average: 0.0, ..recipe.student };
    recipe.blocks_share = 1e-30;
    let job = RunJob { init: Init::TeacherBlocks, ..both_stages(&teacher, &recipe) };
    let weights = |init: Init| -> (Vec<f32>, serde_json::Value) {
        let ran = RunJob { init, ..job }.run(&mut Silent).unwrap();
        let student = &ran.student.network.weights;
        let (i, _) = student.iter().enumerate().find(|(_, (slot, _))| slot.name == "layer3.0.conv2.weight").unwrap();
        (student.to_file(i).unwrap(), ran.provenance["start"]["from"].clone())
    };
    let of_teacher = &teacher.network.weights;
    let (i, _) = of_teacher.iter().enumerate().find(|(_, (slot, _))| slot.name == "layer3.0.conv2.weight").unwrap();
    let expected = of_teacher.to_file(i).unwrap();
    assert_eq!(weights(Init::TeacherBlocks), (expected.clone(), json!("teacher-blocks")));
    assert!(weights(Init::Adversary).0 != expected && weights(Init::Scratch).0 != expected);
}

/// An adversary that had no update is neither a student nor a start.
#[test]
fn adversaries_without_rounds_teach_nothing() {
    let teacher = random_teacher("resnet8", 3, 16);
    let recipe = Recipe { adversary_steps: 0, ..tiny() };
    let job = both_stages(&teacher, &recipe);
    assert_eq!(job.run(&mut Silent).unwrap().provenance["start"]["from"], json!("scratch"));
    let refused = RunJob { on_the_fly: true, ..job }.run(&mut Silent).err().unwrap().to_string();
    assert!(refused.contains("on_the_fly") && refused.contains("no update"), "{refused}");
}

/// Two commands instead of one do not make the teacher's blocks an adversary's own achievement.
#[test]
fn a_set_on_disk_remembers_that_its_adversary_began_with_the_teachers_blocks() {
    let teacher = random_teacher("resnet14", 3, 16);
    let recipe = tiny();
    let job = InvertJob { teacher_blocks: true, ..inversion(&teacher, &recipe, 0) };
    let inverted = job.run(&mut Silent).unwrap();
    let folder = tempfile::tempdir().unwrap();
    inverted.write(folder.path()).unwrap();
    let set = SyntheticSet::read(folder.path()).unwrap();
    let job = DistillJob { start: Start::Adversary(folder.path()), ..distillation(&set, &teacher, &recipe.student) };
    let (_, provenance) = job.run(&mut Silent).unwrap();
    assert_eq!(provenance["start"]["from"], json!("teacher-blocks"));
    assert_eq!(provenance["start"], inverted.set.provenance["adversary_start"]);
}

#[test]
fn grey_and_large_images_need_no_special_case() {
    for (channels, side) in [(1, 28), (3, 64), (3, 20)] {
        let teacher = random_teacher("resnet8-b", channels, side);
        let ran = RunJob { student: "wrn-10-1", init: Init::Scratch, ..both_stages(&teacher, &tiny()) }
            .run(&mut Silent)
            .unwrap();
        let images = &ran.inverted.set.images;
        assert_eq!((images.channels, images.height, images.width, images.len()), (channels, side, side, 60));
        assert_eq!(ran.student.config.pretrained_cfg.input_size, [channels, side, side]);
    }
}

#[test]
fn every_lifecycle_runs_and_labels_are_balanced() {
    let teacher = random_teacher("resnet8", 3, 16);
    for lifecycle in [Lifecycle::Fomaml, Lifecycle::Reptile, Lifecycle::CarryOver, Lifecycle::Reset] {
        let mut recipe = tiny();
        recipe.generator.lifecycle = lifecycle;
        let job = inversion(&teacher, &recipe, 1);
        let set = job.run(&mut Silent).unwrap().set;
        assert_eq!(set.len(), 60, "{lifecycle:?}");
        let histogram = set.histogram();
        assert!(histogram.iter().all(|n| (2..=10).contains(n)), "{lifecycle:?}: {histogram:?}");
    }
}

#[test]
fn the_generators_first_layer_is_drawn_anew_as_often_as_asked() {
    let model = random_teacher("resnet8", 3, 16);
    let teacher = Teacher::of(&model);
    let changed = |reset_first: usize, batches: usize| -> Vec<String> {
        let mut recipe = tiny();
        recipe.generator.reset_first = reset_first;
        recipe.generator.reset_once = true;
        recipe.generator.lr = 0.0;
        let mut synthesiser = Synthesiser::new(&teacher, &recipe, Streams::new(0)).unwrap();
        let before = synthesiser.generator.duplicate().unwrap();
        for batch in 0..batches {
            synthesiser.batch(&Order::new(batch, 1, &[0; 10])).unwrap();
        }
        let now = &synthesiser.generator.weights;
        let weights = now.iter().enumerate().filter(|(_, (slot, _))| slot.kind.trainable());
        let moved = weights.filter(|(i, _)| now.to_file(*i).unwrap() != before.weights.to_file(*i).unwrap());
        moved.map(|(_, (slot, _))| slot.name.clone()).collect()
    };
    assert_eq!(changed(2, 2), ["l1.0.weight", "l1.0.bias"], "before the second batch");
    assert!(changed(0, 3).is_empty() && changed(2, 1).is_empty());
    let layer = |reset_once: bool, batches: usize| {
        let mut recipe = tiny();
        (recipe.generator.reset_first, recipe.generator.reset_once, recipe.generator.lr) = (2, reset_once, 0.0);
        let mut synthesiser = Synthesiser::new(&teacher, &recipe, Streams::new(0)).unwrap();
        (0..batches).for_each(|batch| drop(synthesiser.batch(&Order::new(batch, 1, &[0; 10])).unwrap()));
        synthesiser.generator.weights.to_file(0).unwrap()
    };
    assert!(layer(true, 2) == layer(true, 4) && layer(true, 2) == layer(false, 2));
    assert!(layer(false, 4) != layer(false, 2), "before the fourth batch too");
}

#[test]
fn a_teacher_without_batch_norm_is_refused_by_a_recipe_that_matches_it() {
    let teacher = random_teacher("lenet-cifar", 3, 32);
    let recipe = tiny();
    let job = inversion(&teacher, &recipe, 0);
    let error = job.run(&mut Silent).err().expect("refused").to_string();
    assert!(error.contains("batch norm") && error.contains("loss.bn = 0"), "{error}");
    let mut recipe = tiny();
    recipe.loss.bn = 0.0;
    let job = InvertJob { recipe: &recipe, ..job };
    assert_eq!(job.run(&mut Silent).unwrap().set.len(), 60);
}

/// The rounds add to what the batches before them leave, and a set of an asked size is whole however few rounds there are.
#[test]
fn a_set_has_the_size_that_was_asked_for() {
    let teacher = random_teacher("resnet8", 3, 16);
    let count = |recipe: Recipe| {
        let set = inversion(&teacher, &recipe, 0).run(&mut Silent).unwrap().set;
        (set.provenance["recipe"]["fill"].as_u64().unwrap(), set.len())
    };
    let growing = Recipe { fill: 1, ..tiny() };
    assert_eq!(count(growing.clone()), (1, 60), "one batch of 20 and two rounds");
    let of = |fill: usize, samples: usize| {
        let buffer = BufferRecipe { samples, ..growing.buffer };
        count(Recipe { fill, buffer, ..growing.clone() })
    };
    assert_eq!(of(1, 50), (1, 50), "the last round replaces");
    assert_eq!(of(1, 90), (1, 60), "there are no more rounds");
    assert_eq!(count(growing.clone().of_samples(90, Task::Classification, [16, 16])), (3, 90));
    assert_eq!(of(Recipe::WHOLE, 90), (5, 90), "filled before the rounds");
    assert_eq!(of(0, 90), (0, 40), "the rounds alone");
}

#[test]
fn a_student_needs_no_teacher_when_answers_are_stored() {
    let teacher = random_teacher("resnet8", 3, 16);
    let recipe = tiny();
    let job = inversion(&teacher, &recipe, 0);
    let set = job.run(&mut Silent).unwrap().set;
    let recipe = tiny().student;
    let job = distillation(&set, &teacher, &recipe);
    let (_, provenance) = job.run(&mut Silent).unwrap();
    assert_eq!(provenance["answers"], json!("stored"));
    let live = DistillJob { answers: AnswerMode::Live, ..job };
    assert!(live.run(&mut Silent).err().unwrap().to_string().contains("--teacher"));
}

/// Where the teacher is not there, what the set says of it decides how much memory the student takes.
#[test]
fn what_a_set_says_of_its_teacher_is_checked() {
    let teacher = random_teacher("resnet8", 3, 16);
    let mut set = inversion(&teacher, &tiny(), 0).run(&mut Silent).unwrap().set;
    assert_eq!(teacher_config(&set, Path::new("set")).unwrap(), teacher.config);
    let sound = set.provenance["teacher"]["config"].clone();
    let cases: [(&str, fn(&mut serde_json::Value)); 7] = [
        ("num_classes is 100000000000", |c| c["num_classes"] = json!(100_000_000_000_u64)),
        ("a teacher of 11 classes", |c| c["num_classes"] = json!(11)),
        ("images of [3, 32, 32] for a set of 10 classes and images of [3, 16, 16]", |c| {
            c["pretrained_cfg"]["input_size"] = json!([3, 32, 32]);
        }),
        ("a teacher of 10 classes and images of [1, 16, 16]", |c| {
            c["pretrained_cfg"] = json!({"input_size": [1, 16, 16], "mean": [0.5], "std": [0.25]});
        }),
        ("std has the value 0", |c| c["pretrained_cfg"]["std"] = json!([0.0, 0.2, 0.2])),
        ("missing field `architecture`", |c| drop(c.as_object_mut().unwrap().remove("architecture"))),
        ("does not say what the teacher read", |c| *c = json!(null)),
    ];
    for (part, spoil) in cases {
        set.provenance["teacher"]["config"] = sound.clone();
        spoil(&mut set.provenance["teacher"]["config"]);
        let message = teacher_config(&set, Path::new("set")).unwrap_err().to_string();
        assert!(message.contains(part) && message.starts_with("set/synth.json: "), "{message}");
    }
}

/// A rate for batch norms would leave a network without them with nothing but the mean answer.
#[test]
fn a_student_without_batch_norms_learns_at_a_lower_rate() {
    let teacher = random_teacher("resnet8", 3, 32);
    let recipe = StudentRecipe { average: 0.0, ..tiny().student };
    let set = inversion(&teacher, &tiny(), 0).run(&mut Silent).unwrap().set;
    let rate = |student: &str, recipe: &StudentRecipe| {
        let job = DistillJob { student, ..distillation(&set, &teacher, recipe) };
        job.run(&mut Silent).unwrap().1["recipe"]["lr"].as_f64().unwrap()
    };
    assert!(rate("lenet-cifar", &recipe) < rate("resnet8", &recipe));
    assert_eq!(rate("lenet-cifar", &StudentRecipe { lr: 0.3, ..recipe.clone() }), 0.3);
    let batches_of = |batch| rate("resnet8", &StudentRecipe { batch, ..recipe.clone() });
    assert_eq!([32, 128, 512].map(batches_of), [0.125, 0.5, 0.5], "noisier gradients take smaller steps");
    let length = |batch| {
        let recipe = StudentRecipe { batch, muon: 0.02, ..recipe.clone() };
        recipe.turn(&teacher.network) * recipe.rate(&teacher.network)
    };
    assert!([32, 128, 512].iter().all(|batch| (length(*batch) - 0.02).abs() < 1e-9), "those of Muon do not");
}

#[test]
fn recipes_out_of_range_are_refused_by_name() {
    let teacher = random_teacher("resnet8", 3, 16);
    let cases: [(&str, fn(&mut Recipe)); 4] = [
        ("batch", |r| r.batch = 1),
        ("generator.lr", |r| r.generator.lr = -1.0),
        ("student.batch", |r| r.student.batch = 1),
        ("loss.bn_momentum", |r| r.loss.bn_momentum = 1.5),
    ];
    for (key, spoil) in cases {
        let mut recipe = tiny();
        spoil(&mut recipe);
        let job = inversion(&teacher, &recipe, 0);
        let error = job.run(&mut Silent).err().expect(key).to_string();
        assert!(error.contains(key) && error.contains("must be within"), "{error}");
    }
}

/// φ on cross-entropy, with its difficulty, takes the pressure off images that the teacher is sure of already, so the buffer keeps more doubtful
/// ones: at least half as many again as without it (measured: 10.5 % instead of 3.9 % below a confidence of 0.7). On the
/// shipped teacher, 8 batches of 64.
#[test]
fn modulated_cross_entropy_keeps_more_doubtful_images() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/resnet20-cifar10");
    let teacher = Model::load(&path, None, &Overrides::default()).unwrap();
    let doubtful = |target: PhiTarget| {
        let mut recipe = tiny();
        (recipe.batch, recipe.buffer.samples, recipe.rounds) = (64, 512, 1);
        (recipe.generator.width, recipe.generator.latent, recipe.generator.warmup_steps) = (32, 64, 6);
        (recipe.phi.target, recipe.phi.gamma, recipe.loss.one_hot) = (target, 2.0, 2.0);
        let job = inversion(&teacher, &recipe, 5);
        let set = job.run(&mut Silent).unwrap().set;
        let confidence = set.teacher_confidence();
        confidence.iter().filter(|c| **c < 0.7).count() as f64 / confidence.len() as f64
    };
    let (off, on) = (doubtful(PhiTarget::Off), doubtful(PhiTarget::CrossEntropy));
    println!("share of images below a confidence of 0.7: without {off:.3}, with {on:.3}");
    assert!(on > 1.5 * off, "without φ {off}, with φ {on}");
}
