//! What every recipe must be, and that each line of the parity switches of the field is a key.

use crate::invert::{Feed, FillWith, Input, Layout, LayoutPrior, Lifecycle, Recipe, Target};
use crate::loss::Matching;
use crate::nets::Task;
use crate::overlay::overlaid;

#[test]
fn every_recipe_is_called_by_its_name_within_its_ranges_and_as_toml() {
    for (name, summary, make) in Recipe::ALL {
        let recipe = make();
        assert_eq!(recipe.name, *name);
        assert!(!summary.is_empty() && !summary.contains('\n'), "{name}: one line");
        recipe.clone().fitted([32, 32]).check().unwrap_or_else(|error| panic!("{name}: {error}"));
        let text = toml::to_string(&recipe).unwrap();
        assert_eq!(toml::from_str::<Recipe>(&text).unwrap(), recipe, "{name} comes back from its TOML");
        assert_eq!(Recipe::named(name).unwrap(), recipe);
    }
}

/// Both players of a min-max game must see each other: a method without any loss of the adversary has no student in its rounds.
#[test]
fn adversaries_are_used() {
    for (name, _, make) in Recipe::ALL {
        let recipe = make();
        let fights =
            ["dfad", "dfq", "zskt", "adi", "cmi", "nayer", "ssd", "synth"].contains(name) || name.starts_with("fast");
        assert_eq!(recipe.loss.adversarial > 0.0, fights, "{name}");
        assert!(recipe.adversary_updates() > 0 || *name == "deepinversion", "{name}");
    }
}

/// One pair per choice: every value can be set from the command line, and is another than the default.
#[test]
fn every_choice_is_a_key() {
    let pairs = [
        // 1. and 2. pool quantisation, best image
        "quantise=truncate",
        "generator.keep=lowest-loss",
        "generator.keep=last",
        // 3. labels
        "labels=uniform",
        "labels=sorted",
        "labels=sweeps",
        "layout=scene",
        "layout_prior=even",
        // 4. batch norms
        "loss.bn_form=sum-of-norms",
        "loss.bn_form=gaussian-kl",
        "loss.bn_momentum=0",
        "loss.bn_first=10",
        // 5. and 6. adversary
        "loss.adversarial=0",
        "loss.adversarial_form=kl",
        "loss.adversarial_form=l1",
        "loss.adversarial_form=log-l1",
        "loss.adversarial_form={js={temperature=3.0}}",
        "loss.adversary_mode=train",
        // 7. generator
        "generator.grain=true",
        "generator.lifecycle=carry-over",
        "generator.lifecycle=reptile",
        "generator.lifecycle=reset",
        "generator.rebuild=20",
        "generator.reset_first=140",
        "generator.reset_once=true",
        "generator.fresh=normal",
        // 8. what it reads
        "generator.input=noise",
        "generator.input=label-embedding",
        "generator.input=pixels",
        "generator.output=tanh",
        "generator.output=norm",
        // 9. augmentation
        "augment.motion=resized-crop",
        "augment.motion=roll",
        "augment.motion=none",
        // 10. student
        "student.matching=l1",
        "student.matching={kl-and-decision={temperature=4.0, decision=0.1}}",
        "student.schedule={cosine={floor=0.001}}",
        "student.schedule={step={at=[0.6, 0.8], gamma=0.1}}",
        "fill=7",
        "fill_with=shaders",
        "fill_with=leaves",
        "feed=fresh",
        "on_the_fly=true",
        "loss.target=decision",
        "loss.target=sureness",
        "loss.balance=1",
        "loss.activation=1",
        "loss.variation=1",
        "loss.variation_form=l1",
        "loss.image_norm=1",
        "loss.contrast=1",
    ];
    for pair in pairs {
        let changed = overlaid(&Recipe::default(), None, &[pair.to_string()]);
        let changed = changed.unwrap_or_else(|error| panic!("{pair}: {error}"));
        assert_ne!(changed, Recipe::default(), "{pair}");
    }
}

#[test]
fn combinations_that_make_no_sense_are_refused() {
    let refused = |pairs: &[&str], key: &str| {
        let pairs: Vec<String> = pairs.iter().map(ToString::to_string).collect();
        let error = overlaid(&Recipe::default(), None, &pairs).unwrap().check().unwrap_err().to_string();
        assert!(error.starts_with(key), "{error}");
    };
    refused(&["generator.input=label-embedding"], "labels");
    refused(&["generator.keep_optimizer=true"], "generator.keep_optimizer");
    refused(&["generator.grain=true", "generator.input=pixels"], "generator.grain");
    refused(&["feed=fresh"], "feed");
    refused(&["feed=fresh", "generator.lifecycle=carry-over", "generator.input=pixels"], "feed");
    let of_dafl = |pair: &str, key: &str| {
        let dafl = Recipe::named("dafl").unwrap();
        let error = overlaid(&dafl, None, &[pair.to_string()]).unwrap().check().unwrap_err().to_string();
        assert!(error.starts_with(key), "{error}");
    };
    of_dafl("fill=3", "fill");
    of_dafl("fill_with=shaders", "fill_with");
    of_dafl("student.mixup_until=0.5", "student.mixup_until");
    of_dafl("student.priority.alpha=0.3", "student.priority.alpha");
}

/// A set of an asked size is whole, however few rounds there are; a recipe's own `fill` is what it says.
#[test]
fn the_buffer_starts_with_what_rounds_do_not_add() {
    let fast = Recipe { rounds: 20, ..Recipe::named("fast").unwrap() }.fitted([32, 32]);
    assert_eq!((fast.fill(10), fast.clone().of_samples(256 * 30, Task::Classification, [32, 32]).fill(10)), (20, 20));
    assert_eq!(fast.of_samples(256 * 100, Task::Classification, [32, 32]).fill(10), 80);
    let synth = Recipe { rounds: 11, ..Recipe::named("synth").unwrap() }.fitted([32, 32]);
    assert_eq!(synth.fill(10), 40);
    let fresh = Recipe { rounds: 2, ..Recipe::named("dfad").unwrap() }.of_samples(5000, Task::Classification, [32, 32]);
    assert_eq!((fresh.fill, fresh.buffer.samples), (0, 5000));
    fresh.check().unwrap();
    let whole = Recipe::named("deepinversion").unwrap().fitted([32, 32]);
    assert_eq!(whole.fill(10), 50_000_usize.div_ceil(256));
}

/// Muon is in none of the papers, and has not been tried for pixels.
#[test]
fn ours_alone_learn_by_muon_and_for_classes_alone() {
    for (name, _, make) in Recipe::ALL {
        assert_eq!(make().student.muon > 0.0, matches!(*name, "ssd" | "synth"), "{name}");
        assert_eq!(make().of_task(Task::Segmentation).student.muon, 0.0, "{name}");
    }
}

/// What many maps share cannot learn one that it is not told.
#[test]
fn for_pixels_generators_that_go_on_are_told_their_maps() {
    for (name, _, make) in Recipe::ALL {
        let recipe = make().of_task(Task::Segmentation);
        let g = &recipe.generator;
        let goes_on = matches!(g.input, Input::Latents | Input::Noise) && g.lifecycle != Lifecycle::Reset;
        assert!(g.conditional || !goes_on, "{name}");
        assert!(g.input != Input::LabelEmbedding || recipe.loss.target != Target::Label, "{name}");
        assert_eq!((recipe.views, recipe.student.mixup_until), (0, 0.0), "{name}");
        let soft = matches!(recipe.student.matching, Matching::Kl { temperature } if temperature != 1.0);
        assert!(!soft || recipe.feed != Feed::Buffer, "{name}");
        assert!(recipe.feed != Feed::Buffer || recipe.student.lr == 0.0, "{name}: published rates are for classifiers");
        recipe.fitted([64, 64]).check().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(make().of_task(Task::Classification), make());
    }
}

/// Only ours choose more for pixels than the task asks for: a published width is a published width.
#[test]
fn for_pixels_ours_choose_maps_of_scenes_and_stronger_norms() {
    for (name, _, make) in Recipe::ALL {
        let (images, pixels) = (make(), make().of_task(Task::Segmentation));
        let chosen = |r: &Recipe| (r.layout, r.layout_prior, r.loss.bn, r.generator.width, r.adversary_steps);
        match *name {
            "ssd" | "synth" => assert_eq!(chosen(&pixels), (Layout::Scene, LayoutPrior::Even, 100.0, 32, 25), "{name}"),
            _ => assert_eq!(chosen(&pixels), chosen(&images), "{name}"),
        }
        assert_eq!(pixels.fill_with, FillWith::Generator, "{name}: procedural images are not for pixels");
    }
    let ours = |name: &str| Recipe { name: String::new(), ..Recipe::named(name).unwrap().of_task(Task::Segmentation) };
    assert_eq!(ours("synth"), ours("ssd"));
}

/// Of large images there are as many in a batch of the inversion as a network for pixels needs, which is fewer.
#[test]
fn batches_follow_the_task() {
    let batches = |task, size| {
        let recipe = Recipe::default().of_task(task).fitted_for(task, size);
        (recipe.batch, recipe.student.batch)
    };
    assert_eq!(batches(Task::Segmentation, [120, 160]), (16, 16));
    assert_eq!(batches(Task::Segmentation, [480, 640]), (8, 8));
    assert_eq!(batches(Task::Classification, [120, 160]), (48, 32));
    assert_eq!(batches(Task::Classification, [32, 32]), (256, 128));
}

/// The recipe files beside the program fit the recipes that they are for.
#[test]
fn recipe_files_are_of_this_program() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/recipes/dfq-comparison.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let base = Recipe::named("dfq").unwrap();
    let recipe = overlaid(&base, Some((&text, &path)), &[]).unwrap().fitted([32, 32]);
    recipe.check().unwrap();
    assert_eq!((recipe.loss.balance, recipe.loss.adversarial, recipe.practice), (20.0, 1.0, 0));
    assert_ne!(recipe, base);
}
