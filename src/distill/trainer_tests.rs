//! What a step takes of its recipe, against what the formulas say.

use super::*;
use crate::augment::CropFlip;
use crate::data::Images;
use crate::loss::matching_loss;
use crate::model::Model;
use crate::nets::{Forward, Mode};
use crate::ops::mem::view;
use crate::set::priority::PriorityRule;
use crate::tape::{Tape, Var};
use crate::train::Schedule;

fn model(arch: &str) -> Model {
    Model::random(arch, [3, 16, 16], 4)
}

fn images(pixel: impl Fn(usize, usize) -> u8) -> Images {
    Images::new((0..8 * 768).map(|i| pixel(i / 768, i % 768)).collect::<Vec<u8>>(), 3, 16, 16).unwrap()
}

fn coloured() -> Images {
    images(|image, i| (i * i % 8191 * (3 + image) % 256) as u8)
}

/// Plain SGD on plain images.
fn plain() -> StudentRecipe {
    StudentRecipe {
        steps: 4,
        batch: 16,
        lr: 0.05,
        momentum: 0.0,
        nesterov: false,
        weight_decay: 0.0,
        muon: 0.0,
        schedule: Schedule::Constant,
        augment: CropFlip { crop: 0, flip: false },
        mixup_until: 0.0,
        average: 0.0,
        reestimate: 0,
        matching: Matching::Kl { temperature: 4.0 },
        priority: PriorityRule { alpha: 1.0, beta: 0.0, temperature: 2.0 },
        ..StudentRecipe::default()
    }
}

fn trainer(recipe: StudentRecipe, teacher: &Teacher) -> Trainer {
    Trainer::new(model("resnet8").network.duplicate().unwrap(), recipe, teacher.input(), Streams::new(4), "test")
        .unwrap()
}

fn pool<'a>(images: &'a Images, priorities: &'a mut Priorities, teacher: &'a Teacher) -> Pool<'a> {
    Pool { images, gallery: None, rows: None, priorities, answers: Answers::Live(teacher) }
}

fn values(network: &Network) -> Vec<f32> {
    network.weights.iter().flat_map(|(_, t)| view(t).unwrap().to_vec()).collect()
}

/// Logits of the first batch, as a student in training gives them, the teacher's answers, and what was drawn.
fn first(
    trainer: &Trainer,
    images: &Images,
    p: &Priorities,
    teacher: &Teacher,
) -> (Tensor, Tensor, crate::set::priority::Draw) {
    let draw = p.draw(trainer.recipe.batch, &mut Streams::new(4).stream("test", 0));
    let slices: Vec<&[u8]> = draw.indices.iter().map(|i| images.image(*i)).collect();
    let places = vec![Default::default(); slices.len()];
    let x = trainer.input.placed(&slices, &places, trainer.student().compute()).unwrap();
    let (twin, tape) = (trainer.student().duplicate().unwrap(), Tape::new());
    let mut f = Forward::new(&tape, &twin.weights, Mode::Train { momentum: 0.1 });
    let logits = twin.forward(&mut f, Var::constant(x.clone())).unwrap().tensor().unwrap();
    (logits, teacher.answers(&x).unwrap(), draw)
}

#[test]
fn importance_weights_are_in_the_loss() {
    let (model, images) = (model("resnet14"), coloured());
    let teacher = Teacher::of(&model);
    let rule = PriorityRule { alpha: 1.0, beta: 1.0, temperature: 2.0 };
    let mut p = Priorities::new(rule, 8);
    p.update(&[0, 1, 2, 3, 4, 5, 6, 7], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let mut trainer = trainer(StudentRecipe { priority: rule, ..plain() }, &teacher);
    let (logits, answers, draw) = first(&trainer, &images, &p, &teacher);
    let how = Matching::Kl { temperature: 4.0 };
    let expected = matching_loss(&logits, &answers, how, Some(&draw.weights)).unwrap().value.get().unwrap();
    let found = trainer.step(&mut pool(&images, &mut p, &teacher)).unwrap().unwrap().loss;
    assert!((found - expected).abs() < 1e-4 * expected, "{found}, expected {expected}");
}

/// Images that were seen have the gap of their answers as priority, which a mixed batch leaves alone.
#[test]
fn priorities_are_the_gaps_of_what_was_seen_unmixed() {
    let (model, images) = (model("resnet14"), coloured());
    let teacher = Teacher::of(&model);
    let mut p = Priorities::new(plain().priority, 8);
    let mut own = trainer(plain(), &teacher);
    let (logits, answers, draw) = first(&own, &images, &p, &teacher);
    let gaps = compared(&logits, &answers, 2.0).unwrap().kl;
    own.step(&mut pool(&images, &mut p, &teacher)).unwrap().unwrap();
    let found = p.probabilities();
    let (a, b) = (draw.indices[0], *draw.indices.iter().find(|i| **i != draw.indices[0]).unwrap());
    let gap = |image: usize| f64::from(gaps[draw.indices.iter().position(|i| *i == image).unwrap()]);
    let (ratio, expected) = (found[a] / found[b], gap(a) / gap(b));
    assert!((ratio / expected - 1.0).abs() < 1e-3, "{ratio}, expected {expected}");

    let mut p = Priorities::new(plain().priority, 8);
    let mut mixed = trainer(StudentRecipe { mixup_until: 0.5, ..plain() }, &teacher);
    let mut changed = Vec::new();
    for _ in 0..4 {
        let before = p.probabilities();
        mixed.step(&mut pool(&images, &mut p, &teacher)).unwrap().unwrap();
        changed.push(p.probabilities() != before);
    }
    assert_eq!(changed, [false, false, true, true]);
}

#[test]
fn rates_and_parts_are_as_asked() {
    let (model, images) = (model("resnet14"), coloured());
    let teacher = Teacher::of(&model);
    let run = |recipe: StudentRecipe| {
        let mut p = Priorities::new(recipe.priority, 8);
        let report = trainer(recipe, &teacher).step(&mut pool(&images, &mut p, &teacher)).unwrap().unwrap();
        (report.lr, report.loss)
    };
    let (lr, loss) = run(StudentRecipe { lr: 0.2, lr_share: 0.5, warmup: 4, ..plain() });
    assert!((lr - 0.025).abs() < 1e-9, "{lr}");
    assert_ne!(run(StudentRecipe { scale: 0.3, ..plain() }).1, loss);
}

#[test]
fn the_average_is_kept() {
    let (model, images) = (model("resnet14"), coloured());
    let teacher = Teacher::of(&model);
    let mut p = Priorities::new(plain().priority, 8);
    let mut trainer = trainer(StudentRecipe { average: 0.9, lr: 0.5, ..plain() }, &teacher);
    let mut mean: Vec<f64> = values(trainer.student()).into_iter().map(f64::from).collect();
    for t in 0..4 {
        trainer.step(&mut pool(&images, &mut p, &teacher)).unwrap().unwrap();
        let d = f64::min(0.9, (1.0 + f64::from(t)) / (10.0 + f64::from(t)));
        mean.iter_mut().zip(values(trainer.student())).for_each(|(m, v)| *m = d * *m + (1.0 - d) * f64::from(v));
    }
    let found = values(&trainer.finished(&pool(&images, &mut p, &teacher)).unwrap());
    let off = found.iter().zip(&mean).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    assert!(off < 1e-4, "{off}");
}

/// The running mean of the first norm after an estimate, where 0 is that of black images and 1 that of white ones.
fn estimated(recipe: StudentRecipe, images: &Images, p: &mut Priorities, teacher: &Teacher) -> f64 {
    let trainer = trainer(recipe, teacher);
    let of = |value: u8| {
        let image = vec![value; 768];
        let x = trainer.input.placed(&[&image], &[Default::default()], trainer.student().compute()).unwrap();
        let tape = Tape::new();
        let mut f = Forward::new(&tape, &trainer.student().weights, Mode::Match);
        trainer.student().forward(&mut f, Var::constant(x)).unwrap();
        (f.moments[0].norm, view(&f.moments[0].moments.tensor().unwrap()).unwrap().to_vec())
    };
    let ((norm, black), (_, white)) = (of(0), of(255));
    let network = trainer.finished(&pool(images, p, teacher)).unwrap();
    let mean = network.weights.running_statistics(norm).unwrap().0;
    let apart = |c: &usize| (white[*c] - black[*c]).abs();
    let c = (0..mean.len()).max_by(|a, b| apart(a).total_cmp(&apart(b))).unwrap();
    f64::from((mean[c] - black[c]) / (white[c] - black[c]))
}

#[test]
fn norms_are_estimated_on_all_images_alike_cropped() {
    let model = model("resnet14");
    let teacher = Teacher::of(&model);
    let recipe = StudentRecipe { batch: 64, reestimate: 6, ..plain() };
    let mut p = Priorities::new(recipe.priority, 8);
    let white = estimated(recipe.clone(), &images(|_, _| 255), &mut p, &teacher);
    assert!((white - 1.0).abs() < 1e-3, "{white}");
    // A quarter is black, which alone are asked for.
    p.update(&[0, 1, 2, 3, 4, 5, 6, 7], &[1e6, 1e6, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    let some = estimated(recipe.clone(), &images(|i, _| if i < 2 { 0 } else { 255 }), &mut p, &teacher);
    assert!((some - 0.75).abs() < 0.08, "{some}");
    // A shift of 0 to 4, 20/9 in the mean, takes so many rows and columns of 16 away.
    let augment = CropFlip { crop: 4, flip: true };
    let cropped = estimated(StudentRecipe { augment, ..recipe }, &images(|_, _| 255), &mut p, &teacher);
    assert!((cropped - (1.0 - 20.0 / 144.0f64).powi(2)).abs() < 0.08, "{cropped}");
}
