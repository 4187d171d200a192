//! `synth collect`: sets from every kind of source, with the shipped teacher.

use crate::common::on_threads;
use crate::random::random_model;
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;
use synth::augment::CropFlip;
use synth::collect::boundary::cross;
use synth::collect::related::relatedness;
use synth::collect::{Balance, Copies, Dataset, Pool, Progress, Source, Survey, Wish, fill};
use synth::data::Portion;
use synth::distill::{AnswerSource, Stop, StudentRecipe, distill};
use synth::events::{Observer, Record, Silent};
use synth::jobs::{
    Access, AnswerMode, CollectJob, Collected, DistillJob, SHIPPED, Start, fresh_student, open_model, open_sources,
};
use synth::loss::argmax;
use synth::model::{Model, Overrides};
use synth::nets::registry::Shape;
use synth::ops::Compute;
use synth::ops::place::Placement;
use synth::ops::store::Store;
use synth::rng::Streams;
use synth::set::{SyntheticSet, View};
use synth::teacher::Teacher;
use synth::weights::ModelConfig;

fn teacher() -> Model {
    open_model(Path::new(SHIPPED), None, &Overrides::default(), &Access::default()).unwrap()
}

fn sources(teacher: &Model, from: &[&str]) -> Vec<(Box<dyn Source>, f64)> {
    let wishes: Vec<Wish> = from.iter().map(|text| text.parse().unwrap()).collect();
    open_sources(&wishes, &Teacher::of(teacher), 0, usize::MAX, &Access { offline: true, quiet: true }).unwrap()
}

fn collect(from: &[&str], samples: usize, pool: Option<usize>, balance: Balance) -> Collected {
    let teacher = teacher();
    let sources = sources(&teacher, from);
    let compute = &Compute::cpu();
    let job = CollectJob { pool, balance, ..job(&teacher, sources, samples, compute) };
    job.run(&mut Silent).unwrap()
}

fn job<'a>(
    teacher: &'a Model,
    sources: Vec<(Box<dyn Source>, f64)>,
    samples: usize,
    compute: &'a Compute,
) -> CollectJob<'a> {
    CollectJob {
        teacher,
        sources,
        samples,
        pool: None,
        balance: SOFT,
        related: false,
        distinct: false,
        boundary: 0,
        views: 0,
        license: None,
        seed: 0,
        compute,
    }
}

const SOFT: Balance = Balance::Soft { rho: 0.5 };

#[test]
fn a_set_is_the_same_with_any_number_of_threads_and_comes_back_from_disk() {
    let made = || collect(&["shaders", "leaves=0.5", "noise=0.1", "noise:uniform=0.1"], 170, None, SOFT).set;
    let (one, two) = (on_threads(1, made), on_threads(2, made));
    assert_eq!(
        (&one.images, &one.labels, &one.logits, &one.priority),
        (&two.images, &two.labels, &two.logits, &two.priority)
    );
    assert_eq!(one.len(), 170);
    let used: Vec<u64> =
        one.provenance["sources"].as_array().unwrap().iter().map(|s| s["used"].as_u64().unwrap()).collect();
    assert_eq!(used, [100, 50, 10, 10]);
    assert_eq!((one.agreement(), &one.provenance["kind"]), (1.0, &"collected".into()));

    let folder = tempfile::tempdir().unwrap();
    one.write(folder.path()).unwrap();
    let read = SyntheticSet::read(folder.path()).unwrap();
    assert_eq!(
        (&read.images, &read.logits, read.sampling_weights()),
        (&one.images, &one.logits, Some(&one.priority[..]))
    );

    // The set is a source in its turn, of the same pixels; its rows are all there are.
    let again = collect(&[folder.path().to_str().unwrap()], 1000, None, Balance::None).set;
    assert_eq!((&again.images, &again.labels), (&one.images, &one.labels));
    assert_eq!(again.sampling_weights(), None);
}

#[test]
fn quotas_make_even_classes_out_of_a_larger_pool() {
    let Collected { set, unfilled } = collect(&["shaders"], 60, Some(600), Balance::Nayak { min_confidence: 0.3 });
    let counts = set.histogram();
    let missing: usize = unfilled.iter().map(|class| class.wanted - class.have).sum();
    assert_eq!(set.len() + missing, 60);
    assert!(counts.iter().all(|count| *count <= 6) && set.len() >= 54, "{counts:?}");
    assert_eq!(set.agreement(), 1.0, "labels are what the teacher sees, in varied copies too");
    let pool = set.provenance["metrics"]["pool"].as_u64().unwrap();
    assert_eq!(pool, 600);
}

/// What was drawn at first is drawn again for the classes that lack images: ten noise images are of one class or two.
#[test]
fn classes_without_any_image_are_reported() {
    let Collected { set, unfilled } = collect(&["noise"], 40, Some(40), Balance::Nayak { min_confidence: 0.0 });
    let seen = set.histogram().iter().filter(|count| **count > 0).count();
    assert!(seen < 10 && unfilled.iter().filter(|class| class.have == 0).count() == 10 - seen, "{unfilled:?}");
    assert!(unfilled.iter().all(|class| class.wanted == 4));

    // Without quotas no class lacks images, and those that have none are named all the same.
    let Collected { set, unfilled } = collect(&["noise"], 40, None, SOFT);
    let seen = set.histogram().iter().filter(|count| **count > 0).count();
    let unseen = set.provenance["metrics"]["unseen"].as_array().unwrap().len();
    assert_eq!((unseen, unfilled.len()), (10 - seen, 0));
    let alarms = set.provenance["alarms"].as_array().unwrap();
    assert!(alarms.iter().any(|alarm| alarm["name"] == "few classes"), "{alarms:?}");
}

/// What borders add counts for a quota, which is an even share of what was asked for and no more.
#[test]
fn images_from_borders_fill_quotas() {
    let (model, compute) = (teacher(), &Compute::cpu());
    let (pool, balance) = (Some(40), Balance::Nayak { min_confidence: 0.0 });
    let plain = job(&model, sources(&model, &["noise"]), 40, compute);
    let Collected { set, unfilled } = CollectJob { pool, balance, boundary: 80, ..plain }.run(&mut Silent).unwrap();
    let few: Vec<usize> = set.histogram().into_iter().filter(|count| *count < 4).collect();
    assert_eq!(unfilled.iter().map(|class| class.have).collect::<Vec<_>>(), few);
    assert!(unfilled.iter().all(|class| class.wanted == 4), "{unfilled:?}");
}

/// The pool is as large as was asked for, even where copies are to make a larger set of it.
#[test]
fn copies_are_as_sure_as_what_they_are_made_of() {
    let set = collect(&["leaves"], 60, Some(30), Balance::Nayak { min_confidence: 0.9 }).set;
    let metrics = &set.provenance["metrics"];
    let copies: u64 = metrics["copies_per_class"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
    assert!(copies > 0 && metrics["varied_copies"] == copies && metrics["pool"] == 30, "{metrics:#}");
    let sure = set.teacher_confidence();
    assert!(sure.iter().all(|p| *p >= 0.9), "{sure:?}");
}

/// A member whose copies the teacher never sees in the class keeps no place empty that the others could fill.
#[test]
fn copies_are_of_any_member() {
    let teacher = Teacher::of(&teacher());
    let set = collect(&["shaders"], 200, None, Balance::None).set;
    // Copies of a black image are plain and dark.
    let dark: Vec<u8> = (0..=80).flat_map(|level| [level; 3072]).collect();
    let seen: Vec<usize> = teacher.answers_bytes(&dark, 81).unwrap().chunks_exact(10).map(argmax).collect();
    let counts = set.histogram();
    let class = (0..10).filter(|class| !seen.contains(class)).max_by_key(|class| counts[*class]).unwrap();
    let sure = set.teacher_confidence();
    let mut rows: Vec<usize> = (0..set.len()).filter(|&row| set.labels[row] as usize == class).collect();
    rows.sort_by(|a, b| sure[*b].total_cmp(&sure[*a]));
    let (mut pixels, mut logits) = (Store::new(), Store::new());
    rows[..3].iter().for_each(|&row| pixels.extend(set.images.image(row)).unwrap());
    pixels.extend(&[0; 3072]).unwrap();
    let wanted = Copies { class: class as u32, missing: 40, least: 0.0 };
    let made = fill(&teacher, &[0, 1, 2, 3], wanted, &Streams::new(0), &mut pixels, &mut logits).unwrap();
    // A place in four would stay empty.
    assert!(made > 35 && (pixels.len(), logits.len()) == ((4 + made) * 3072, 10 * made), "{made} of 40");
    assert!(logits.chunks_exact(10).all(|answer| argmax(answer) == class));
}

#[test]
fn a_set_that_could_not_be_read_is_not_begun() {
    let (model, compute) = (teacher(), &Compute::cpu());
    let plain = job(&model, sources(&model, &["noise"]), 6_000_000, compute);
    // No image is so sure: if it were begun, it would soon say that.
    let (pool, balance) = (Some(20), Balance::Nayak { min_confidence: 2.0 });
    let message = CollectJob { pool, balance, ..plain }.run(&mut Silent).err().unwrap().to_string();
    assert!(message.starts_with("--samples: 6000000 images") && message.contains("at most 5592405"), "{message}");
}

/// Whatever of a set is named as a source, its `synth.json` is found; without it nobody knows where its images come from.
#[test]
fn the_mark_of_inverted_images_stays_with_them() {
    let (model, folder) = (teacher(), tempfile::tempdir().unwrap());
    let mut set = collect(&["noise"], 20, None, Balance::None).set;
    set.provenance["recipe"] = json!({ "name": "ssd" });
    let root = folder.path().join("set");
    set.write(&root).unwrap();
    let parts = [root.clone(), root.join("data"), root.join("data/train-00000-of-00001.parquet")];
    let mark = |path: &Path| sources(&model, &[path.to_str().unwrap()])[0].0.provenance()["inverted"].clone();
    parts.iter().for_each(|path| assert_eq!(mark(path), true, "{}", path.display()));
    std::fs::remove_file(root.join("synth.json")).unwrap();
    parts.iter().for_each(|path| assert_eq!(mark(path), "unknown", "{}", path.display()));
    assert!(collect(&[parts[1].to_str().unwrap()], 20, None, Balance::None).set.is_inverted());
}

#[test]
fn pictures_in_tar_files_and_parquet_files_are_the_same_pictures() {
    let set = collect(&["leaves"], 30, None, Balance::None).set;
    let root = tempfile::tempdir().unwrap();
    let tar = |name: &str, rows: std::ops::Range<usize>| {
        let mut builder = tar::Builder::new(File::create(root.path().join(name)).unwrap());
        for row in rows {
            for (ending, bytes) in [("cls", row.to_string().into_bytes()), ("png", set.png(row).unwrap())] {
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                header.set_mode(0o644);
                builder.append_data(&mut header, format!("{row:05}.{ending}"), &bytes[..]).unwrap();
            }
        }
        builder.finish().unwrap();
    };
    tar("shard-0.tar", 0..12);
    tar("shard-1.tar", 12..30);
    let from = |path: &Path| collect(&[path.to_str().unwrap()], 1000, None, Balance::None).set;
    assert_eq!(from(root.path()).images, set.images);
    let one = from(&root.path().join("shard-1.tar"));
    assert_eq!(one.images.pixels[..], set.images.pixels[12 * 3072..]);

    // A part is drawn at random, and is a part.
    let some = collect(&[root.path().to_str().unwrap()], 10, None, Balance::None).set;
    let whole: Vec<&[u8]> = set.images.pixels.chunks(3072).collect();
    let rows: Vec<usize> =
        some.images.pixels.chunks(3072).map(|image| whole.iter().position(|w| *w == image).unwrap()).collect();
    assert!(rows.len() == 10 && rows.is_sorted() && rows != (0..10).collect::<Vec<_>>(), "{rows:?}");

    std::fs::write(root.path().join("shard-2.tar"), b"no tar file").unwrap();
    let wish: Wish = root.path().to_str().unwrap().parse().unwrap();
    let refused = open_sources(&[wish], &Teacher::of(&teacher()), 0, usize::MAX, &Access::default());
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("shard-2.tar: ") && !message.contains('\n'), "{message}");
}

#[test]
fn real_datasets_are_streamed_in_parts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/datasets/uoft-cs/cifar10");
    if !root.exists() {
        return eprintln!("skipped: no {}", root.display());
    }
    let source: Box<dyn Source> = Box::new(Dataset::open(&root, "cifar10", Some("train"), Portion::Whole).unwrap());
    assert_eq!(source.items(), Some(50_000));
    let mut pool = Pool::new(vec![(source, 1.0)], 300, [32, 32, 3], &Streams::new(0)).unwrap();
    let mut places = Vec::new();
    let mut first = Vec::new();
    pool.visit(&mut Progress::default(), &mut |_, found, pixels| {
        places.extend_from_slice(found);
        first.extend_from_slice(pixels);
        Ok(())
    })
    .unwrap();
    assert!(places.len() == 300 && places.is_sorted() && places.last().unwrap().number > 40_000);
    let mut second = synth::ops::store::Store::new();
    pool.gather(&places, &mut second).unwrap();
    assert_eq!(first[..], second[..]);
}

#[test]
fn a_student_learns_from_a_collected_set() {
    let teacher = teacher();
    let set = collect(&["shaders"], 256, None, SOFT).set;
    let frozen = Teacher::of(&teacher);
    let (student, _) = fresh_student("resnet8", &teacher.config, None, &mut Streams::new(1).stream("s", 0)).unwrap();
    let recipe = StudentRecipe { steps: 12, batch: 32, reestimate: 2, ..StudentRecipe::default() };
    let answers = AnswerSource::Live(&frozen);
    let done = distill(&set, answers, student, &frozen.input(), &recipe, Stop::default(), 0, &mut Silent).unwrap();
    assert!(done.steps == 12 && done.held_out_kl.is_finite());
}

#[test]
fn views_are_those_of_every_image() {
    let (model, compute) = (teacher(), &Compute::cpu());
    // More than are asked about at a time.
    let set = CollectJob { views: 3, ..job(&model, sources(&model, &["shaders"]), 520, compute) };
    let set = set.run(&mut Silent).unwrap().set;
    let (teacher, views, k) = (Teacher::of(&model), set.views.as_ref().unwrap(), set.class_names.len());
    assert_eq!((views.list.len(), views.list[0], views.logits.len()), (3, View::PLAIN, set.len() * 3 * k));
    for (v, &View { dy, dx, flip }) in views.list.iter().enumerate() {
        let rows: Vec<usize> = (0..set.len()).collect();
        let places = vec![Placement { dy: i32::from(dy), dx: i32::from(dx), flip }; set.len()];
        let answers = teacher.answers(&teacher.normalised(&set.images, &rows, &places).unwrap()).unwrap();
        let answers = answers.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for row in rows {
            assert_eq!(views.logits[views.at(row, v, k)], answers[row * k..][..k], "view {v} of image {row}");
        }
    }
}

/// Recorded answers are of the set's views: what the recipe says of crops plays no part, nor in the batch norms of the end.
#[test]
fn of_recorded_views_nothing_else_is_seen() {
    let (model, compute) = (teacher(), &Compute::cpu());
    let set = CollectJob { views: 3, ..job(&model, sources(&model, &["shaders"]), 40, compute) };
    let set = set.run(&mut Silent).unwrap().set;
    let weights = |augment: CropFlip| {
        let (student, _) = fresh_student("resnet8", &model.config, None, &mut Streams::new(1).stream("s", 0)).unwrap();
        let recipe = StudentRecipe { steps: 2, batch: 16, reestimate: 2, augment, ..StudentRecipe::default() };
        let (answers, input) = (AnswerSource::Stored, Teacher::of(&model).input());
        let done = distill(&set, answers, student, &input, &recipe, Stop::default(), 0, &mut Silent).unwrap();
        let tensors = done.student.weights.iter();
        tensors.flat_map(|(_, tensor)| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect::<Vec<_>>()
    };
    assert!(weights(CropFlip { crop: 0, flip: false }) == weights(CropFlip::default()));
}

/// Watches a run until something is alarming.
#[derive(Default)]
struct Alarmed {
    records: usize,
    said: Vec<String>,
}

impl Observer for Alarmed {
    fn record(&mut self, _: &Record) {
        self.records += 1;
    }

    fn alarm(&mut self, text: &str) -> synth::Result<()> {
        self.said.push(text.into());
        Err(synth::Error::Interrupted)
    }
}

#[test]
fn a_set_of_few_classes_is_alarming_before_anything_learns_from_it() {
    let (model, compute) = (teacher(), &Compute::cpu());
    let set = collect(&["noise"], 250, None, SOFT).set;
    let recipe = StudentRecipe { steps: 2, batch: 16, ..StudentRecipe::default() };
    let job = DistillJob {
        set: &set,
        set_name: "noise".into(),
        teacher: Some(&model),
        like: &model.config,
        student: "resnet8",
        size: None,
        answers: AnswerMode::Live,
        start: Start::Scratch,
        recipe: &recipe,
        stop: Stop::default(),
        seed: 0,
        compute,
    };
    let mut watching = Alarmed::default();
    assert!(job.run(&mut watching).is_err());
    assert!(watching.records == 0 && watching.said[0].starts_with("few classes (in the set): "), "{:?}", watching.said);
}

/// Images before and behind a border differ by about one step, and the teacher decides otherwise.
#[test]
fn pairs_straddle_the_borders_of_rare_classes() {
    let teacher = Teacher::of(&teacher());
    let starts = collect(&["leaves"], 24, None, Balance::None).set;
    let own: Vec<u32> = starts.labels.clone();
    let targets: Vec<u32> = own.iter().map(|class| (class + 3) % 10).collect();
    let found = cross(&teacher, &starts.images.pixels, &targets).unwrap();
    let crossings: Vec<_> = found.into_iter().flatten().collect();
    assert!(crossings.len() >= 20, "{} of 24 ways lead to a border", crossings.len());
    let decision = |image: &[u8]| argmax(&teacher.answers_bytes(image, 1).unwrap()) as u32;
    let surely = |image: &[u8], class: u32| {
        let logits = teacher.answers_bytes(image, 1).unwrap();
        let sum: f64 = logits.iter().map(|v| f64::from(*v).exp()).sum();
        f64::from(logits[class as usize]).exp() / sum
    };
    let (mut deeper, mut distance) = (0, 0.0);
    for c in &crossings {
        let [before, behind] = &c.pair;
        assert_ne!(decision(before), c.target);
        assert_eq!(decision(behind), c.target);
        deeper += usize::from(surely(&c.deeper[1], c.target) > surely(behind, c.target));
        let square: f64 = before.iter().zip(behind).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        distance += square.sqrt() / 255.0 / crossings.len() as f64;
    }
    assert!(deeper * 10 >= crossings.len() * 8, "{deeper} of {}", crossings.len());
    assert!(distance < 2.5, "pairs are {distance} apart, in pixels of 0..1");

    let model = self::teacher();
    let compute = &Compute::cpu();
    let plain = job(&model, sources(&model, &["noise"]), 60, compute).run(&mut Silent).unwrap().set;
    let more = CollectJob { boundary: 80, ..job(&model, sources(&model, &["noise"]), 60, compute) };
    let more = more.run(&mut Silent).unwrap().set;
    assert_eq!((more.len(), &more.provenance["metrics"]["boundary"]), (140, &80.into()));
    assert_eq!(more.images.pixels[..60 * 3072], plain.images.pixels[..]);
    let seen = |set: &SyntheticSet| set.histogram().iter().filter(|n| **n > 0).count();
    assert!(seen(&plain) < 10 && seen(&more) == 10, "{:?} {:?}", plain.histogram(), more.histogram());
}

#[test]
fn repeated_images_are_left_out_where_sets_are_mixed() {
    let model = teacher();
    let folder = tempfile::tempdir().unwrap();
    collect(&["shaders"], 40, None, SOFT).set.write(folder.path().join("a")).unwrap();
    let path = folder.path().join("a").display().to_string();
    let compute = &Compute::cpu();
    // The first images of the generator are those of the set.
    let mixed = CollectJob { distinct: true, ..job(&model, sources(&model, &[&path, "shaders=1.5"]), 100, compute) };
    let set = mixed.run(&mut Silent).unwrap().set;
    assert_eq!((set.len(), &set.provenance["metrics"]["repeated"]), (60, &40.into()));
}

/// Photographs of the teacher's own classes are more related than shapes, and those more than noise; the weights say so.
#[test]
fn related_images_are_preferred() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/datasets/uoft-cs/cifar10");
    if !root.exists() {
        return eprintln!("skipped: no {}", root.display());
    }
    let (model, compute) = (teacher(), &Compute::cpu());
    let from = [&*format!("{}:test", root.display()), "leaves", "noise:uniform"];
    let all = CollectJob { balance: Balance::None, related: true, ..job(&model, sources(&model, &from), 300, compute) };
    let set = all.run(&mut Silent).unwrap().set;
    let weights = set.sampling_weights().unwrap();
    let mean = |rows: std::ops::Range<usize>| weights[rows].iter().sum::<f32>() / 100.0;
    let (photographs, shapes, noise) = (mean(0..100), mean(100..200), mean(200..300));
    assert!(photographs > 1.1 * shapes && shapes > 1.5 * noise, "{photographs} {shapes} {noise}");
    assert!((weights.iter().sum::<f32>() / 300.0 - 1.0).abs() < 1e-3);
    assert_eq!((set.even_share(0.0), set.even_share(0.7), set.even_share(1.0)), (0.1, 0.1, 1.0));
    assert!((set.even_share(0.85) - 0.55).abs() < 1e-9);
    let some = CollectJob {
        pool: Some(300),
        balance: Balance::None,
        related: true,
        ..job(&model, sources(&model, &from), 90, compute)
    };
    let set = some.run(&mut Silent).unwrap().set;
    let used: Vec<u64> =
        set.provenance["sources"].as_array().unwrap().iter().map(|s| s["used"].as_u64().unwrap()).collect();
    assert!(used[0] > 30 && used[0] > used[2] && used.iter().sum::<u64>() == 90, "{used:?}");
}

/// Where all images are taken, the weights are the balance times the square of relatedness: the even share is the sampler's to add.
#[test]
fn weights_are_relatedness_and_balance() {
    let (model, compute) = (teacher(), &Compute::cpu());
    let from = ["leaves", "shaders", "noise:uniform"];
    let all = CollectJob { related: true, ..job(&model, sources(&model, &from), 60, compute) };
    let set = all.run(&mut Silent).unwrap().set;
    let teacher = Teacher::of(&model);
    let dims = [teacher.size[0], teacher.size[1], teacher.channels];
    let mut pool = Pool::new(sources(&model, &from), 60, dims, &Streams::new(0)).unwrap();
    let survey = Survey::of(&mut pool, &teacher, false, &mut Silent).unwrap();
    let related = relatedness(&mut pool, &teacher, &survey.places, 0, &mut Silent).unwrap();
    let balance = SOFT.weights(&set.labels, 10).unwrap();
    let mean = related.iter().map(|r| r * r).sum::<f64>() / 60.0;
    for ((weight, balance), r) in set.sampling_weights().unwrap().iter().zip(&balance).zip(&related) {
        let (found, expected) = (f64::from(*weight), f64::from(*balance) * r * r / mean);
        assert!((found - expected).abs() < 1e-5 * expected, "{found} {expected}");
    }
    assert_eq!((set.even_share(0.0), set.even_weights()), (0.1, Some(balance)));
}

#[test]
fn what_is_not_there_is_said_on_one_line() {
    let teacher = Teacher::of(&teacher());
    let empty = tempfile::tempdir().unwrap();
    for (from, part) in
        [("no/such/place/at/all", "there is no"), (empty.path().to_str().unwrap(), "no picture in this")]
    {
        let refused =
            open_sources(&[from.parse().unwrap()], &teacher, 0, usize::MAX, &Access { offline: true, quiet: true });
        let message = refused.err().unwrap().to_string();
        assert!(message.contains(part) && !message.contains('\n'), "{message}");
    }
}

fn program(folder: &Path, arguments: &[&str]) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_synth")).current_dir(folder).args(arguments).output().unwrap()
}

/// From the command line: a set, its page, and what is refused.
#[test]
fn the_program_collects_and_inspects() {
    let root = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = program(root.path(), arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let words = ["collect", SHIPPED, "-o", "set", "--from", "shaders", "--from", "noise=0.25", "--samples", "50", "-q"];
    let output = program(root.path(), &words);
    let [text, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(text.contains("shaders: 40 looked at, 40 used") && text.contains("noise: 10 looked at"), "{text}{said}");
    assert!(said.contains("alarm: few images"), "however quiet: {said}");
    let json: serde_json::Value =
        serde_json::from_str(&run(&["inspect", "set", "--teacher", SHIPPED, "--html", "page.html", "--json"])).unwrap();
    let criteria = &json["criteria"];
    assert!(criteria["features"]["effective_dimensions"].as_f64().unwrap() > 1.0, "{criteria:#}");
    assert!(criteria["margins"]["distance"].as_f64().unwrap() > 0.0, "{criteria:#}");
    assert_eq!(criteria["score"]["verdict"], "poor", "50 images are too few");
    let names: Vec<&str> = json["alarms"].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["few images"], "what holds for inverted sets alone is not held against others");
    assert!(std::fs::read_to_string(root.path().join("page.html")).unwrap().contains("layer1.0.bn1"));
    let text = run(&["collect", SHIPPED, "-o", "bare", "--from", "noise", "--samples", "20", "-q"]);
    assert!(text.contains("unseen") && text.contains(" of 10 classes: "), "{text}");

    // Another teacher is asked for its own answers, if it knows as many classes.
    for (name, num_classes) in [("other", 10), ("small", 4)] {
        std::fs::create_dir(root.path().join(name)).unwrap();
        let model = random_model("resnet8", &Shape { channels: 3, height: 32, width: 32, num_classes });
        model.save(root.path().join(name), "", &json!({})).unwrap();
    }
    let output = program(root.path(), &["inspect", "set", "--teacher", "other", "--json"]);
    let said = String::from_utf8(output.stderr).unwrap();
    let other: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(said.contains("other is another teacher than the set's"), "{said}");
    assert!(json["agreement"] == 1.0 && other["agreement"].as_f64().unwrap() < 1.0, "{}", other["agreement"]);

    // The same weights of pixels that are normalised otherwise are another teacher too.
    let shipped: Value = serde_json::from_str(include_str!("../../models/resnet20-cifar10/config.json")).unwrap();
    let mut config: ModelConfig = serde_json::from_value(shipped).unwrap();
    config.pretrained_cfg.std = vec![1.0; 3];
    let otherwise =
        Model::load_as(concat!(env!("CARGO_MANIFEST_DIR"), "/models/resnet20-cifar10/model.safetensors"), config);
    std::fs::create_dir(root.path().join("otherwise")).unwrap();
    otherwise.unwrap().save(root.path().join("otherwise"), "", &json!({})).unwrap();
    let output = program(root.path(), &["inspect", "set", "--teacher", "otherwise", "--json"]);
    let said = String::from_utf8(output.stderr).unwrap();
    let other: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(said.contains("otherwise is another teacher than the set's"), "{said}");
    assert!(other["agreement"].as_f64().unwrap() < 1.0, "{}", other["agreement"]);

    for (arguments, part) in [
        (&["collect", SHIPPED, "-o", "x", "--from", "nowhere"][..], "--from: there is no nowhere"),
        (&["collect", SHIPPED, "-o", "x", "--from", "leaves=0"], "a weight is a number above 0"),
        (
            &["collect", SHIPPED, "-o", "x", "--from", "leaves", "--balance", "nayak", "--rho", "1"],
            "--rho: another balance",
        ),
        (&["collect", SHIPPED, "-o", "x", "--from", "leaves", "--rho", "2"], "--rho: 2"),
        (&["collect", SHIPPED, "-o", "set", "--from", "leaves"], "set"),
        (&["collect", SHIPPED, "-o", "x", "--from", "leaves", "--views", "163"], "--views: 163; take at most 162"),
        (
            &["collect", SHIPPED, "-o", "x", "--from", "leaves", "--samples", "50", "--pool", "20"],
            "--pool: 20 images for a set of 50",
        ),
        (
            &["inspect", "set", "--teacher", "small"],
            "--teacher: it takes images of 32x32 in 3 channels and knows 4 classes",
        ),
        (&["inspect", SHIPPED, "--html", "y.html"], "only sets have a page"),
        (&["inspect", "set", "--html", "page.html"], "page.html"),
    ] {
        let output = program(root.path(), arguments);
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {err}");
        assert!(err.contains(part) && err.lines().count() == 1, "{arguments:?}: {err}");
    }
    assert!(!root.path().join("x").exists());
}
