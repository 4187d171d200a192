//! The inversion stage: from a frozen teacher to a small, class-modulated set of images.

mod recipe;
mod synthesis;

pub use recipe::{BufferRecipe, GeneratorRecipe, Keep, Lifecycle, LossRecipe, PhiRecipe, PhiTarget, Recipe};
pub use synthesis::{InnerPass, Synthesised, Synthesiser, Terms, balanced_labels};

use crate::Result;
use crate::data::Images;
use crate::distill::{Answers, Input, Pool, Trainer, record_views, view_list};
use crate::events::{Observer, Record, check_interrupt};
use crate::nets::Network;
use crate::ops::store::Store;
use crate::rng::Streams;
use crate::set::buffer::{Batch, BufferRule, ReplayBuffer};
use crate::teacher::Teacher;
use crate::train::fitting;
use std::time::{Duration, Instant};

/// What inversion leaves.
pub struct Inversion {
    pub buffer: ReplayBuffer,
    pub generator: Network,
    /// The adversary (with `on the fly`: the student) as trained, and as one would keep it.
    pub adversary: Network,
    pub finished: Network,
    /// Batches done of each phase: those of the recipe, or as many as the time limit allowed.
    pub plan: Plan,
    /// Images synthesised in all, of which the buffer keeps some.
    pub synthesised: usize,
    pub synthesis_time: Duration,
    pub adversary_time: Duration,
}

/// Runs a recipe against a teacher, with `adversary` as the student in training.
///
/// 1. Practice: batches from which only the generator learns.
/// 2. Fill: batches without an adversary fill the buffer.
/// 3. Rounds: a batch against the adversary replaces part of the buffer; the adversary learns from the buffer.
///
/// With a time limit, the number of rounds is what fits into it (at least one), whatever the recipe says; practice and fill
/// are cut to a third of the time (at least one batch each) where they would take more.
///
/// # Errors
/// A recipe out of range, a teacher it cannot be run on, a loss that is no number, an interruption.
pub fn invert(
    teacher: &Teacher,
    adversary: Network,
    recipe: &Recipe,
    seed: u64,
    limit: Option<Duration>,
    observer: &mut dyn Observer,
) -> Result<Inversion> {
    recipe.check()?;
    let recipe = &recipe.clone().fitted(teacher.size);
    let begin = Instant::now();
    let streams = Streams::new(seed);
    let mut synthesiser = Synthesiser::new(teacher, recipe, streams)?;
    let mut buffer = empty_buffer(teacher, recipe, &streams)?;
    let mut student = recipe.student.clone();
    student.steps = recipe.rounds * recipe.adversary_steps;
    let mut trainer = Trainer::new(adversary, student, teacher.input(), streams, "invert/adversary")?;
    let (mut synthesis_time, mut adversary_time) = (Duration::ZERO, Duration::ZERO);

    let mut plan = Plan { practice: recipe.practice, fill: recipe.fill(teacher.classes), rounds: recipe.rounds };
    if limit.is_some() {
        plan.rounds = 1;
    }
    let (mut batch, mut rounds_begin) = (0, begin);
    while batch < plan.total() {
        check_interrupt()?;
        let start = Instant::now();
        let phase = plan.phase(batch);
        let steps = match phase {
            Phase::Rounds => recipe.generator.inner_steps,
            _ => recipe.generator.warmup_steps,
        };
        let opponent = (trainer.done() > 0).then_some(&trainer.student);
        let made = synthesiser.batch(batch, steps, buffer.histogram(), opponent)?;
        report_batch(observer, &plan, batch, &made, steps);
        if phase != Phase::Practice {
            store(&mut buffer, teacher, &made, batch as u64)?;
        }
        synthesis_time += start.elapsed();
        batch += 1;
        if phase != Phase::Rounds {
            if let Some(limit) = limit.filter(|_| phase == Phase::Practice || plan.practice == 0) {
                plan.shorten(fitting(limit.mul_f64(WARMUP_SHARE), begin.elapsed(), batch), batch);
            }
            rounds_begin = Instant::now();
            continue;
        }
        let start = Instant::now();
        let planned = plan.rounds * recipe.adversary_steps;
        adversary_round(&mut trainer, &mut buffer, teacher, recipe, planned, observer)?;
        adversary_time += start.elapsed();
        if let Some(limit) = limit {
            let done = plan.rounds_done(batch);
            plan.rounds = done + fitting(limit.saturating_sub(begin.elapsed()), rounds_begin.elapsed(), done);
        }
    }
    let finished = trainer.finished(&buffer.images, None)?;
    let Synthesiser { generator, .. } = synthesiser;
    let synthesised = plan.total() * recipe.batch;
    let adversary = trainer.student;
    Ok(Inversion { buffer, generator, adversary, finished, plan, synthesised, synthesis_time, adversary_time })
}

/// What a batch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Only the generator learns.
    Practice,
    /// The buffer is filled, without an adversary.
    Fill,
    /// Part of the buffer is replaced, and the adversary learns.
    Rounds,
}

/// Share of a limited inversion that practice and fill may take.
const WARMUP_SHARE: f64 = 1.0 / 3.0;

/// How many batches of each phase there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub practice: usize,
    pub fill: usize,
    pub rounds: usize,
}

impl Plan {
    /// Cuts practice and fill in proportion to `most` batches in all, where they are more; `done` of them are over, and
    /// one of fill is left at least.
    fn shorten(&mut self, most: usize, done: usize) {
        let planned = self.practice + self.fill;
        if most >= planned {
            return;
        }
        let (practiced, filled) = (done.min(self.practice), done.saturating_sub(self.practice));
        let practice = (most * self.practice / planned).max(practiced);
        self.fill = most.saturating_sub(practice).max(filled).max(1);
        self.practice = practice;
    }

    fn total(&self) -> usize {
        self.practice + self.fill + self.rounds
    }

    fn rounds_done(&self, batch: usize) -> usize {
        batch.saturating_sub(self.practice + self.fill)
    }

    fn phase(&self, batch: usize) -> Phase {
        if batch < self.practice {
            Phase::Practice
        } else if batch < self.practice + self.fill {
            Phase::Fill
        } else {
            Phase::Rounds
        }
    }
}

fn empty_buffer(teacher: &Teacher, recipe: &Recipe, streams: &Streams) -> Result<ReplayBuffer> {
    let rule = BufferRule {
        capacity: recipe.samples(teacher.classes),
        replacement: recipe.buffer.replacement,
        guards: (recipe.buffer.guard_low, recipe.buffer.guard_high),
        modulation: matches!(recipe.phi.target, PhiTarget::Replacement | PhiTarget::Both)
            .then(|| recipe.phi.modulation()),
    };
    let views = match recipe.views {
        0 => Vec::new(),
        count => view_list(count, &recipe.student.augment, &mut streams.stream("invert/views", 0)),
    };
    let [h, w] = teacher.size;
    ReplayBuffer::new(rule, recipe.student.priority, [h, w, teacher.channels], teacher.classes, views)
}

/// Asks the teacher about the 8-bit images and puts them into the buffer.
fn store(buffer: &mut ReplayBuffer, teacher: &Teacher, made: &Synthesised, round: u64) -> Result<()> {
    let images = Images::new(made.pixels.clone(), teacher.channels, teacher.size[0], teacher.size[1])?;
    let logits = teacher.answers_u8(&images, made.labels.len())?;
    let view_logits = match &buffer.views {
        Some(views) => record_views(teacher, &images, views.list.clone())?.logits,
        None => Store::new(),
    };
    buffer.insert(&Batch {
        pixels: &made.pixels,
        labels: &made.labels,
        logits: &logits,
        view_logits: &view_logits,
        round,
    })?;
    Ok(())
}

/// The adversary's updates of one round, of `planned` in all.
fn adversary_round(
    trainer: &mut Trainer,
    buffer: &mut ReplayBuffer,
    teacher: &Teacher,
    recipe: &Recipe,
    planned: usize,
    observer: &mut dyn Observer,
) -> Result<()> {
    for _ in 0..recipe.adversary_steps {
        check_interrupt()?;
        let answers = match &buffer.views {
            Some(views) => Answers::Stored(views),
            None => Answers::Live(teacher),
        };
        let r = trainer.step(&mut Pool {
            images: &buffer.images,
            gallery: None,
            rows: None,
            priorities: &mut buffer.priorities,
            answers,
        })?;
        observer.record(&Record {
            stage: "adversary",
            done: trainer.done(),
            total: planned,
            images: recipe.student.batch,
            values: vec![("loss", r.loss), ("lr", r.lr), ("agreement", r.agreement)],
        });
        observer.updated("adversary", trainer)?;
    }
    Ok(())
}

fn report_batch(observer: &mut dyn Observer, plan: &Plan, batch: usize, made: &Synthesised, steps: usize) {
    let t = made.last;
    let (stage, done, total) = match plan.phase(batch) {
        Phase::Practice => ("practice", batch + 1, plan.practice),
        Phase::Fill => ("fill", batch + 1 - plan.practice, plan.fill),
        Phase::Rounds => ("synthesis", batch + 1 - plan.practice - plan.fill, plan.rounds),
    };
    let values = vec![
        ("loss", t.total),
        ("bn", t.bn),
        ("one_hot", t.one_hot),
        ("adversarial", t.adversarial),
        ("on_label", t.on_label),
        ("agreement", t.agreement),
    ];
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
            sees: self.size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Plan;

    #[test]
    fn practice_and_fill_are_cut_in_proportion_and_never_below_what_is_done() {
        let cut = |most: usize, done: usize| {
            let mut plan = Plan { practice: 10, fill: 20, rounds: 5 };
            plan.shorten(most, done);
            (plan.practice, plan.fill, plan.rounds)
        };
        assert_eq!(cut(30, 1), (10, 20, 5), "they fit");
        assert_eq!(cut(15, 1), (5, 10, 5));
        assert_eq!(cut(3, 1), (1, 2, 5));
        assert_eq!(cut(0, 1), (1, 1, 5), "one batch of each");
        assert_eq!(cut(3, 6), (6, 1, 5), "six are over");
        let mut unpractised = Plan { practice: 0, fill: 20, rounds: 5 };
        unpractised.shorten(4, 7);
        assert_eq!(unpractised.fill, 7);
    }
}
