//! The inversion stage: from a frozen teacher to a small, class-modulated set of images.

mod contrast;
mod embeddings;
mod labels;
mod lifecycle;
mod methods;
mod objective;
mod plan;
mod recipe;
mod synthesis;

pub use contrast::{Contrast, ContrastPass};
pub use embeddings::LabelEmbeddings;
pub use labels::{Labels, balanced_labels};
pub use objective::InnerPass;
pub use plan::Plan;
pub use recipe::{
    AdversaryMode, BufferRecipe, ContrastRecipe, Feed, FreshWeights, GeneratorRecipe, Input, Keep, Lifecycle, LossRecipe,
    Output, PhiRecipe, PhiTarget, Quantise, Recipe, Target,
};
pub use synthesis::{Draws, Synthesised, Synthesiser, Terms};

use crate::Result;
use crate::data::Images;
use crate::distill::{Answers, Input as StudentInput, Pool, TrainReport, Trainer, record_views, view_list};
use crate::events::{Observer, Record, check_interrupt};
use crate::loss::argmax;
use crate::nets::Network;
use crate::ops::store::Store;
use crate::rng::Streams;
use crate::set::buffer::{Batch, BufferRule, ReplayBuffer};
use crate::teacher::Teacher;
use crate::train::fitting;
use candle_core::Tensor;
use plan::{Phase, WARMUP_SHARE};
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
/// 3. Rounds: batches against the adversary replace part of the buffer; the adversary learns.
///
/// With a time limit, the number of rounds is what fits into it (at least one), whatever the recipe says; practice and fill
/// are cut to a third of the time (at least one batch each) where they would take more, or to all of it where there are no rounds.
/// `embeddings` are those of the class names, for a generator that reads them; without them it reads orthogonal ones.
///
/// # Errors
/// A recipe out of range, a teacher it cannot be run on, a loss that is no number, an interruption.
pub fn invert(
    teacher: &Teacher,
    adversary: Network,
    recipe: &Recipe,
    embeddings: Option<&LabelEmbeddings>,
    seed: u64,
    limit: Option<Duration>,
    observer: &mut dyn Observer,
) -> Result<Inversion> {
    recipe.check()?;
    let recipe = &recipe.clone().fitted(teacher.size);
    let begin = Instant::now();
    let streams = Streams::new(seed);
    let mut synthesiser = Synthesiser::with_embeddings(teacher, recipe, streams, embeddings)?;
    let mut buffer = empty_buffer(teacher, recipe, &streams)?;
    let mut student = recipe.student.clone();
    student.steps = recipe.adversary_updates();
    let mut trainer = Trainer::new(adversary, student, teacher.input(), streams, "invert/adversary")?;
    let (mut synthesis_time, mut adversary_time) = (Duration::ZERO, Duration::ZERO);

    let mut plan = Plan { practice: recipe.practice, fill: recipe.fill(teacher.classes), rounds: recipe.rounds };
    let has_rounds = plan.rounds > 0;
    if limit.is_some() && has_rounds {
        plan.rounds = 1;
    }
    let (mut turn, mut made_batches, mut rounds_begin) = (0, 0, begin);
    while turn < plan.total() {
        check_interrupt()?;
        let start = Instant::now();
        let phase = plan.phase(turn);
        let in_rounds = phase == Phase::Rounds;
        let mut made = None;
        for _ in 0..if in_rounds { recipe.batches } else { 1 } {
            if rebuilds(recipe, &plan, made_batches, in_rounds) {
                synthesiser.rebuild(made_batches)?;
            }
            let g = &recipe.generator;
            let steps = if in_rounds { g.inner_steps } else { g.warmup_steps };
            let opponent = (trainer.done() > 0).then_some(&trainer.student);
            let batch = synthesiser.batch(made_batches, steps, buffer.histogram(), opponent)?;
            report_batch(observer, &plan, turn, &batch, recipe, steps);
            if phase != Phase::Practice {
                store(&mut buffer, teacher, &batch, recipe, made_batches as u64)?;
            }
            made_batches += 1;
            made = Some(batch);
        }
        synthesis_time += start.elapsed();
        turn += 1;
        let Some(made) = made.filter(|_| in_rounds) else {
            if let Some(limit) = limit.filter(|_| phase == Phase::Practice || plan.practice == 0 || !has_rounds) {
                let share = if has_rounds { WARMUP_SHARE } else { 1.0 };
                plan.shorten(fitting(limit.mul_f64(share), begin.elapsed(), turn), turn);
            }
            rounds_begin = Instant::now();
            continue;
        };
        let start = Instant::now();
        let planned = plan.rounds * recipe.adversary_steps;
        let mut round = Round { trainer: &mut trainer, teacher, recipe, planned, observer };
        match recipe.feed {
            Feed::Buffer => round.on_buffer(&mut buffer)?,
            Feed::Batch => round.on_images(|_| Ok(made.images.clone()))?,
            Feed::Fresh => round.on_images(|update| synthesiser.fresh(update))?,
        }
        adversary_time += start.elapsed();
        if let Some(limit) = limit {
            let done = plan.rounds_done(turn);
            plan.rounds = done + fitting(limit.saturating_sub(begin.elapsed()), rounds_begin.elapsed(), done);
        }
    }
    let finished = trainer.finished(&buffer.images, None)?;
    let Synthesiser { generator, .. } = synthesiser;
    let synthesised = made_batches * recipe.batch;
    let adversary = trainer.student;
    Ok(Inversion { buffer, generator, adversary, finished, plan, synthesised, synthesis_time, adversary_time })
}

/// Whether the generator starts anew with batch `index`: never with the first one.
fn rebuilds(recipe: &Recipe, plan: &Plan, index: usize, in_rounds: bool) -> bool {
    let (every, since) = match in_rounds {
        true => (recipe.generator.rebuild, index - plan.practice - plan.fill),
        false => (recipe.generator.warmup_rebuild, index),
    };
    index > 0 && every > 0 && since.is_multiple_of(every)
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

/// Asks the teacher about the 8-bit images and puts them into the buffer. Where images are not made for labels, their labels are
/// the teacher's answers.
fn store(
    buffer: &mut ReplayBuffer,
    teacher: &Teacher,
    made: &Synthesised,
    recipe: &Recipe,
    round: u64,
) -> Result<()> {
    let images = Images::new(made.pixels.clone(), teacher.channels, teacher.size[0], teacher.size[1])?;
    let logits = teacher.answers_u8(&images, made.labels.len())?;
    let view_logits = match &buffer.views {
        Some(views) => record_views(teacher, &images, views.list.clone())?.logits,
        None => Store::new(),
    };
    let answers: Vec<u32> = logits.chunks_exact(teacher.classes).map(|row| argmax(row) as u32).collect();
    let labels = if recipe.has_labels() { &made.labels } else { &answers };
    buffer.insert(&Batch { pixels: &made.pixels, labels, logits: &logits, view_logits: &view_logits, round })?;
    Ok(())
}

/// The adversary's updates of one round, of `planned` in all.
struct Round<'a, 'o> {
    trainer: &'a mut Trainer,
    teacher: &'a Teacher,
    recipe: &'a Recipe,
    planned: usize,
    observer: &'o mut dyn Observer,
}

impl Round<'_, '_> {
    /// On images of the buffer.
    fn on_buffer(&mut self, buffer: &mut ReplayBuffer) -> Result<()> {
        for _ in 0..self.recipe.adversary_steps {
            check_interrupt()?;
            let answers = match &buffer.views {
                Some(views) => Answers::Stored(views),
                None => Answers::Live(self.teacher),
            };
            let report = self.trainer.step(&mut Pool {
                images: &buffer.images,
                gallery: None,
                rows: None,
                priorities: &mut buffer.priorities,
                answers,
            })?;
            self.report(self.recipe.student.batch, &report);
        }
        Ok(())
    }

    /// On images straight from the generator, which `make` makes for the update with this number.
    fn on_images(&mut self, make: impl Fn(usize) -> Result<Tensor>) -> Result<()> {
        for _ in 0..self.recipe.adversary_steps {
            check_interrupt()?;
            let images = make(self.trainer.done())?;
            let report = self.trainer.step_on(&images, self.teacher)?;
            self.report(images.dims()[0], &report);
        }
        Ok(())
    }

    fn report(&mut self, images: usize, r: &TrainReport) {
        self.observer.record(&Record {
            stage: "adversary",
            done: self.trainer.done(),
            total: self.planned,
            images,
            values: vec![("loss", r.loss), ("lr", r.lr), ("agreement", r.agreement)],
        });
    }
}

fn report_batch(
    observer: &mut dyn Observer,
    plan: &Plan,
    turn: usize,
    made: &Synthesised,
    recipe: &Recipe,
    steps: usize,
) {
    let (t, loss) = (made.last, &recipe.loss);
    let (stage, done, total) = match plan.phase(turn) {
        Phase::Practice => ("practice", turn + 1, plan.practice),
        Phase::Fill => ("fill", turn + 1 - plan.practice, plan.fill),
        Phase::Rounds => ("synthesis", turn + 1 - plan.practice - plan.fill, plan.rounds),
    };
    let mut values = vec![("loss", t.total)];
    let terms = [
        ("bn", t.bn, loss.bn),
        ("one_hot", t.one_hot, loss.one_hot),
        ("adversarial", t.adversarial, loss.adversarial),
        ("balance", t.balance, loss.balance),
        ("activation", t.activation, loss.activation),
        ("prior", t.prior, loss.variation + loss.image_norm),
        ("contrast", t.contrast, loss.contrast),
        ("on_label", t.on_label, f64::from(recipe.has_labels())),
        ("agreement", t.agreement, loss.adversarial),
    ];
    values.extend(terms.into_iter().filter(|(_, _, weight)| *weight > 0.0).map(|(name, value, _)| (name, value)));
    observer.record(&Record { stage, done, total, images: made.labels.len() * steps, values });
}

impl Teacher {
    /// What a student must be fed: the same as the teacher.
    pub fn input(&self) -> StudentInput {
        StudentInput {
            dims: [self.size[0], self.size[1], self.channels],
            mean: self.mean.clone(),
            std: self.std.clone(),
            classes: self.classes,
            sees: self.size,
        }
    }
}
