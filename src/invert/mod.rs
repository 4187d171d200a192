//! The inversion stage: from a frozen teacher to a small, class-modulated set of images.

mod recipe;
mod synthesis;

pub use recipe::{
    BufferRecipe, GeneratorRecipe, Keep, Lifecycle, LossRecipe, PhiRecipe, PhiTarget, Recipe,
};
pub use synthesis::{InnerPass, Synthesised, Synthesiser, Terms, balanced_labels};

use crate::distill::{Answers, Input, Pool, Trainer};
use crate::events::{Observer, Record, check_interrupt};
use crate::nets::Network;
use crate::rng::Streams;
use crate::set::buffer::{Batch, BufferRule, ReplayBuffer};
use crate::teacher::Teacher;
use crate::Result;
use std::time::{Duration, Instant};

/// What inversion leaves.
pub struct Inversion {
    pub buffer: ReplayBuffer,
    pub generator: Network,
    /// The adversary (with `on the fly`: the student) as trained, and as one would keep it.
    pub adversary: Network,
    pub finished: Network,
    pub synthesis_time: Duration,
    pub adversary_time: Duration,
}

/// Runs a recipe against a teacher, with `adversary` as the student in training.
///
/// 1. Warm-up: batches without an adversary fill the buffer.
/// 2. Rounds: a batch against the adversary replaces part of the buffer; the adversary learns from the buffer.
///
/// # Errors
/// A recipe out of range, a teacher it cannot be run on, a loss that is no number, an interruption.
pub fn invert(
    teacher: &Teacher,
    adversary: Network,
    recipe: &Recipe,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Inversion> {
    recipe.check()?;
    let streams = Streams::new(seed);
    let mut synthesiser = Synthesiser::new(teacher, recipe, streams)?;
    let mut buffer = empty_buffer(teacher, recipe)?;
    let mut student = recipe.student.clone();
    student.steps = recipe.rounds * recipe.adversary_steps;
    let mut trainer = Trainer::new(adversary, student, teacher.input(), streams, "invert/adversary")?;
    let (mut synthesis_time, mut adversary_time) = (Duration::ZERO, Duration::ZERO);

    let warm_up = buffer_batches(teacher, recipe);
    for round in 0..warm_up + recipe.rounds {
        check_interrupt()?;
        let warm = round < warm_up;
        let start = Instant::now();
        let steps = if warm { recipe.generator.warmup_steps } else { recipe.generator.inner_steps };
        let opponent = (!warm && trainer.done() > 0).then_some(&trainer.student);
        let made = synthesiser.batch(round, steps, buffer.histogram(), opponent)?;
        store(&mut buffer, teacher, &made, round as u64)?;
        synthesis_time += start.elapsed();
        report_batch(observer, warm, round, [warm_up, recipe.rounds], &made, steps);
        if warm {
            continue;
        }
        let start = Instant::now();
        for _ in 0..recipe.adversary_steps {
            check_interrupt()?;
            let mut pool = Pool {
                images: &buffer.images,
                priorities: &mut buffer.priorities,
                answers: Answers::Live(teacher),
            };
            let r = trainer.step(&mut pool)?;
            let values = vec![("loss", r.loss), ("lr", r.lr), ("agreement", r.agreement)];
            let total = recipe.rounds * recipe.adversary_steps;
            observer.record(&Record { stage: "adversary", done: trainer.done(), total, images: recipe.student.batch, values });
        }
        adversary_time += start.elapsed();
    }
    let finished = trainer.finished(&buffer.images)?;
    let Synthesiser { generator, .. } = synthesiser;
    Ok(Inversion { buffer, generator, adversary: trainer.student, finished, synthesis_time, adversary_time })
}

/// Batches that fill the buffer.
fn buffer_batches(teacher: &Teacher, recipe: &Recipe) -> usize {
    recipe.samples(teacher.classes).div_ceil(recipe.batch)
}

fn empty_buffer(teacher: &Teacher, recipe: &Recipe) -> Result<ReplayBuffer> {
    let rule = BufferRule {
        capacity: recipe.samples(teacher.classes),
        replacement: recipe.buffer.replacement,
        guards: (recipe.buffer.guard_low, recipe.buffer.guard_high),
        modulation: matches!(recipe.phi.target, PhiTarget::Replacement | PhiTarget::Both)
            .then(|| recipe.phi.modulation()),
    };
    let [h, w] = teacher.size;
    ReplayBuffer::new(rule, recipe.student.priority, [h, w, teacher.channels], teacher.classes)
}

/// Asks the teacher about the 8-bit images and puts them into the buffer.
fn store(buffer: &mut ReplayBuffer, teacher: &Teacher, made: &Synthesised, round: u64) -> Result<()> {
    let images = crate::data::Images::new(made.pixels.clone(), teacher.channels, teacher.size[0], teacher.size[1])?;
    let logits = teacher.answers_u8(&images, made.labels.len())?;
    buffer.insert(&Batch { pixels: &made.pixels, labels: &made.labels, logits: &logits, round });
    Ok(())
}

fn report_batch(
    observer: &mut dyn Observer,
    warm: bool,
    round: usize,
    [warm_up, rounds]: [usize; 2],
    made: &Synthesised,
    steps: usize,
) {
    let t = made.last;
    let values = vec![
        ("loss", t.total),
        ("bn", t.bn),
        ("one_hot", t.one_hot),
        ("adversarial", t.adversarial),
        ("on_label", t.on_label),
        ("agreement", t.agreement),
    ];
    let (stage, done, total) =
        if warm { ("warm-up", round + 1, warm_up) } else { ("synthesis", round + 1 - warm_up, rounds) };
    observer.record(&Record { stage, done, total, images: made.labels.len() * steps, values });
}

impl Teacher {
    /// What a student must be fed: the same as the teacher.
    pub fn input(&self) -> Input {
        Input {
            dims: [self.size[0], self.size[1], self.channels],
            mean: self.mean.clone(),
            std: self.std.clone(),
            classes: self.classes,
        }
    }
}
