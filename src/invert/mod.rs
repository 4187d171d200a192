//! The inversion stage: from a frozen teacher to a small, class-modulated set of images.

mod recipe;
mod synthesis;

pub use recipe::{BufferRecipe, GeneratorRecipe, Keep, Lifecycle, LossRecipe, PhiRecipe, PhiTarget, Recipe};
pub use synthesis::{InnerPass, Synthesised, Synthesiser, Terms, balanced_labels};

use crate::Result;
use crate::checkpoint::{Clock, Resumable, Saved, Saver};
use crate::data::Images;
use crate::distill::{Answers, Input, Pool, Trainer, record_views, view_list};
use crate::events::{Observer, Record};
use crate::nets::{Mode, Network};
use crate::ops::store::Store;
use crate::rng::Streams;
use crate::set::buffer::{Batch, BufferRule, ReplayBuffer};
use crate::teacher::Teacher;
use crate::train::{BN_MOMENTUM, Need, fitting};
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
    /// All of it, over all processes.
    pub clock: Clock,
    /// How often the rates of the generator and of the adversary had to be halved because a loss was no number.
    pub halvings: [u32; 2],
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
/// A recipe out of range, a teacher it cannot be run on, a loss that is no number again and again, an interruption.
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
    let mut course = Course::new(teacher, adversary, recipe, seed, limit)?;
    if let Some(saved) = observer.earlier(STAGE)? {
        course.restore(&saved)?;
    }
    while course.batch < course.plan.total() || course.adversary_is_behind()? {
        observer.between(STAGE, course.steps(), &course)?;
        match course.adversary_is_behind()? {
            true => course.adversary_step(observer)?,
            false => course.synthesise(observer)?,
        }
    }
    observer.ended(STAGE, course.steps(), &course)?;
    course.finish()
}

/// The name of the stage in states.
const STAGE: &str = "invert";

/// An inversion under way.
struct Course<'a> {
    teacher: &'a Teacher,
    recipe: &'a Recipe,
    limit: Option<Duration>,
    plan: Plan,
    /// Batches made.
    batch: usize,
    synthesiser: Synthesiser<'a>,
    buffer: ReplayBuffer,
    trainer: Trainer,
    clock: Clock,
    /// Time when the rounds began.
    rounds_begin: Duration,
    synthesis_time: Duration,
    adversary_time: Duration,
}

impl<'a> Course<'a> {
    fn new(
        teacher: &'a Teacher,
        adversary: Network,
        recipe: &'a Recipe,
        seed: u64,
        limit: Option<Duration>,
    ) -> Result<Self> {
        let clock = Clock::default();
        let streams = Streams::new(seed);
        let synthesiser = Synthesiser::new(teacher, recipe, streams)?;
        check_memory(teacher, &synthesiser.generator, &adversary, recipe)?;
        let buffer = empty_buffer(teacher, recipe, &streams)?;
        let mut student = recipe.student.clone();
        student.steps = recipe.rounds * recipe.adversary_steps;
        let trainer = Trainer::new(adversary, student, teacher.input(), streams, "invert/adversary")?;
        let mut plan = Plan { practice: recipe.practice, fill: recipe.fill(teacher.classes), rounds: recipe.rounds };
        if limit.is_some() {
            plan.rounds = 1;
        }
        Ok(Self {
            teacher,
            recipe,
            limit,
            plan,
            batch: 0,
            synthesiser,
            buffer,
            trainer,
            clock,
            rounds_begin: Duration::ZERO,
            synthesis_time: Duration::ZERO,
            adversary_time: Duration::ZERO,
        })
    }

    /// Batches and updates done.
    fn steps(&self) -> usize {
        self.batch + self.trainer.done()
    }

    /// Whether the adversary has not yet learned from the last batch as much as it should.
    fn adversary_is_behind(&mut self) -> Result<bool> {
        let due = self.plan.rounds_done(self.batch) * self.recipe.adversary_steps;
        Ok(self.trainer.done() < due || due > 0 && !self.trainer.is_sound(&mut self.buffer.priorities)?)
    }

    /// A batch of images, and what becomes of it.
    fn synthesise(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let start = Instant::now();
        let (batch, phase) = (self.batch, self.plan.phase(self.batch));
        let steps = match phase {
            Phase::Rounds => self.recipe.generator.inner_steps,
            _ => self.recipe.generator.warmup_steps,
        };
        let opponent = (self.trainer.done() > 0).then_some(self.trainer.student());
        let made = self.synthesiser.batch(batch, steps, self.buffer.histogram(), opponent)?;
        report_batch(observer, &self.plan, batch, &made, steps);
        if phase != Phase::Practice {
            store(&mut self.buffer, self.teacher, &made, batch as u64)?;
            self.trainer.pool_changed();
        }
        self.synthesis_time += start.elapsed();
        self.batch += 1;
        if phase != Phase::Rounds {
            self.shorten(phase);
            self.rounds_begin = self.clock.elapsed();
        }
        Ok(())
    }

    /// Cuts practice and fill to what fits into the time.
    fn shorten(&mut self, phase: Phase) {
        let Some(limit) = self.limit.filter(|_| phase == Phase::Practice || self.plan.practice == 0) else { return };
        let most = fitting(limit.mul_f64(WARMUP_SHARE), self.clock.elapsed(), self.batch);
        self.plan.shorten(most, self.batch);
    }

    /// One update of the adversary; after the last one of a round, the number of rounds is what fits into the time.
    fn adversary_step(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let start = Instant::now();
        let answers = match &self.buffer.views {
            Some(views) => Answers::Stored(views),
            None => Answers::Live(self.teacher),
        };
        let report = self.trainer.step(&mut Pool {
            images: &self.buffer.images,
            gallery: None,
            rows: None,
            priorities: &mut self.buffer.priorities,
            answers,
        })?;
        let (done, total) = (self.trainer.done(), self.plan.rounds * self.recipe.adversary_steps);
        if let Some(r) = report {
            let values = vec![("loss", r.loss), ("lr", r.lr), ("agreement", r.agreement)];
            let images = self.recipe.student.batch;
            observer.record(&Record { stage: "adversary", done, total, images, values });
        }
        self.adversary_time += start.elapsed();
        let rounds = self.plan.rounds_done(self.batch);
        if let Some(limit) = self.limit.filter(|_| done == rounds * self.recipe.adversary_steps) {
            let took = self.clock.elapsed().saturating_sub(self.rounds_begin);
            self.plan.rounds = rounds + fitting(limit.saturating_sub(self.clock.elapsed()), took, rounds);
        }
        Ok(())
    }

    fn finish(self) -> Result<Inversion> {
        let finished = self.trainer.finished(&self.buffer.images, None)?;
        Ok(Inversion {
            adversary: self.trainer.student().clone(),
            finished,
            plan: self.plan,
            synthesised: self.plan.total() * self.recipe.batch,
            synthesis_time: self.synthesis_time,
            adversary_time: self.adversary_time,
            clock: self.clock,
            halvings: [self.synthesiser.halvings(), self.trainer.halvings()],
            generator: self.synthesiser.generator,
            buffer: self.buffer,
        })
    }
}

impl Resumable for Course<'_> {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("batch", self.batch)?;
        to.value("plan", [self.plan.practice, self.plan.fill, self.plan.rounds])?;
        to.part("clock", &self.clock)?;
        let times = [self.rounds_begin, self.synthesis_time, self.adversary_time];
        to.owned("times", &times.map(|time| time.as_secs_f64()));
        to.part("synthesiser", &self.synthesiser)?;
        to.part("buffer", &self.buffer)?;
        to.part("trainer", &self.trainer)
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        self.batch = from.value("batch")?;
        let [practice, fill, rounds] = from.value("plan")?;
        self.plan = Plan { practice, fill, rounds };
        from.restore("clock", &mut self.clock)?;
        let times: Vec<f64> = from.array("times")?;
        let times = times.into_iter().map(|time| Duration::try_from_secs_f64(time).unwrap_or_default());
        let times: Vec<Duration> = times.collect();
        let [rounds_begin, synthesis, adversary] = times[..] else {
            return Err(from.fault("times", "there are not three"));
        };
        (self.rounds_begin, self.synthesis_time, self.adversary_time) = (rounds_begin, synthesis, adversary);
        from.restore("synthesiser", &mut self.synthesiser)?;
        from.restore("buffer", &mut self.buffer)?;
        from.restore("trainer", &mut self.trainer)
    }
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

/// Whether the batches of `recipe` fit into memory.
fn check_memory(teacher: &Teacher, generator: &Network, adversary: &Network, recipe: &Recipe) -> Result<()> {
    let ([h, w], g) = (teacher.size, &recipe.generator);
    let image = [h, w, teacher.channels];
    let latent = g.latent + if g.conditional { teacher.classes } else { 0 };
    let mode = if recipe.loss.bn > 0.0 { Mode::Match } else { Mode::Frozen };
    let mut need = Need::of(generator, &[latent], Mode::Train { momentum: BN_MOMENTUM }, true)?;
    need = need.with(Need::of(&teacher.network, &image, mode, true)?);
    if recipe.loss.adversarial > 0.0 {
        need = need.with(Need::of(adversary, &image, Mode::Frozen, true)?);
    }
    need.check("batch", recipe.batch, teacher.size)?;
    let live = (recipe.views == 0).then_some(teacher);
    crate::distill::check_memory(adversary, live, &teacher.input(), &recipe.student)
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
