//! An inversion under way: batches and updates of the adversary in batch, and everything that changes from one to the next.

use super::keeping::{empty_buffer, pool_of, store};
use super::memory::check_memory;
use super::order::Order;
use super::plan::{Phase, Plan, WARMUP_SHARE};
use super::{Feed, Inversion, Options, Recipe, Synthesised, Synthesiser};
use crate::Result;
use crate::checkpoint::{Clock, Resumable, Saved, Saver};
use crate::collect::{Draw, Generated};
use crate::data::Images;
use crate::distill::{Shown, TrainReport, Trainer, record_all};
use crate::events::{Observer, Record};
use crate::nets::{Network, Weights};
use crate::rng::Streams;
use crate::set::buffer::ReplayBuffer;
use crate::signs::{Signs, Watch};
use crate::teacher::Teacher;
use crate::train::fitting;
use std::time::{Duration, Instant};

/// The name of the stage in states.
pub(super) const STAGE: &str = "invert";

/// An inversion under way.
pub(super) struct Course<'a> {
    teacher: &'a Teacher,
    recipe: &'a Recipe,
    limit: Option<Duration>,
    all_views: bool,
    pub plan: Plan,
    /// Batches made.
    pub batch: usize,
    synthesiser: Synthesiser<'a>,
    /// What the buffer starts with, where that is not the generator's.
    drawing: Option<Generated<Box<dyn Draw>>>,
    buffer: ReplayBuffer,
    trainer: Trainer,
    /// The last batch as it left the generator, where the adversary learns from it.
    last: Option<Shown>,
    watch: Watch,
    /// The generator's weights at its start.
    start: Weights,
    clock: Clock,
    /// Time when the rounds began.
    rounds_begin: Duration,
    synthesis_time: Duration,
    adversary_time: Duration,
}

impl<'a> Course<'a> {
    pub fn new(teacher: &'a Teacher, adversary: Network, recipe: &'a Recipe, options: &Options) -> Result<Self> {
        let Options { embeddings, all_views, seed, limit } = *options;
        let clock = Clock::default();
        let streams = Streams::new(seed);
        let synthesiser = Synthesiser::with_embeddings(teacher, recipe, streams, embeddings)?;
        check_memory(teacher, &synthesiser.generator, &adversary, recipe)?;
        let views = if all_views || recipe.feed == Feed::Buffer { recipe.views } else { 0 };
        let buffer = empty_buffer(teacher, recipe, views, &streams)?;
        let start = synthesiser.generator.weights.duplicate()?;
        let mut student = recipe.student.clone();
        student.steps = recipe.adversary_updates();
        let trainer = Trainer::new(adversary, student.of_adversary(), teacher.input(), streams, "invert/adversary")?;
        let mut plan = Plan::of(recipe, teacher.classes);
        if limit.is_some() {
            plan.rounds = plan.rounds.min(1);
        }
        Ok(Self {
            teacher,
            recipe,
            limit,
            all_views,
            plan,
            batch: 0,
            synthesiser,
            drawing: recipe.fill_with.drawing().map(|kind| Generated::new(kind, seed)),
            buffer,
            trainer,
            last: None,
            watch: Watch::default(),
            start,
            clock,
            rounds_begin: Duration::ZERO,
            synthesis_time: Duration::ZERO,
            adversary_time: Duration::ZERO,
        })
    }

    /// Whether the adversary has not yet learned from the last batch as much as it should.
    pub fn adversary_is_behind(&mut self) -> Result<bool> {
        let due = self.plan.updates_due(self.batch);
        Ok(self.trainer.done() < due || due > 0 && !self.trainer.is_sound(&mut self.buffer.priorities)?)
    }

    /// A batch of images, and what becomes of it.
    pub fn synthesise(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let start = Instant::now();
        let (batch, phase) = (self.batch, self.plan.phase(self.batch));
        if phase == Phase::Fill
            && let Some(drawing) = &self.drawing
        {
            let images = self.drawn(drawing)?;
            return self.take_drawn(images, start, observer);
        }
        if self.rebuilds(phase) {
            self.synthesiser.rebuild(batch)?;
        }
        let steps = match phase {
            Phase::Rounds => self.recipe.generator.inner_steps,
            _ => self.recipe.generator.warmup_steps,
        };
        let opposed = self.trainer.done() > 0;
        let opponent = opposed.then_some(self.trainer.student());
        let only_told = phase == Phase::Practice && self.recipe.practice_tells(self.teacher.network.arch.task);
        let made = self.synthesiser.batch(&Order {
            index: batch,
            batches: self.batches_expected(),
            steps,
            histogram: &self.buffer.class_counts(),
            adversary: opponent,
            maps: !only_told,
            limit: self.limit.filter(|_| batch == 0),
        })?;
        if only_told {
            let found = self.teacher.verdicts(&made.pixels, made.labels.len())?;
            self.synthesiser.learn_prior(batch, &found.logits);
        }
        report_batch(observer, &self.plan, batch, &made, self.recipe, steps, [!only_told, opposed]);
        self.look_at(&made, phase);
        if phase != Phase::Practice {
            let [h, w] = self.teacher.size;
            let images = Images::new(made.pixels, self.teacher.channels, h, w)?;
            let labels = self.recipe.has_labels().then_some(made.labels);
            self.keep(images, labels)?;
        }
        self.last = (self.recipe.feed == Feed::Batch).then(|| Shown::new(made.images));
        self.over(phase, start);
        observer.signs(&self.signs()?)
    }

    /// Batches of the whole run, once rounds have told how many fit into its time; until then those of the recipe count.
    fn batches_expected(&self) -> Option<usize> {
        (self.limit.is_some() && self.plan.rounds_done(self.batch) > 0).then(|| self.plan.total())
    }

    /// A batch of `phase`, begun at `start`, is done.
    fn over(&mut self, phase: Phase, start: Instant) {
        self.synthesis_time += start.elapsed();
        self.batch += 1;
        if phase != Phase::Rounds {
            self.shorten(phase);
            self.rounds_begin = self.clock.elapsed();
        } else if self.plan.updates == 0 && self.plan.rounds_done(self.batch) > self.plan.rounds_done(self.batch - 1) {
            self.plan_rounds();
        }
    }

    /// After a round: as many further ones as fit into the time, if that is limited; the schedules of both sides follow.
    fn plan_rounds(&mut self) {
        let Some(limit) = self.limit else { return };
        let (now, rounds) = (self.clock.elapsed(), self.plan.rounds_done(self.batch));
        let goes_on = self.recipe.on_the_fly && self.recipe.feed == Feed::Buffer && self.plan.updates > 0;
        let update = goes_on.then(|| self.adversary_time / self.trainer.done().max(1) as u32);
        self.plan.fit(rounds, now.saturating_sub(self.rounds_begin), limit.saturating_sub(now), update);
        self.trainer.plan_steps(self.plan.all_updates());
    }

    /// A batch of drawn images.
    fn drawn(&self, drawing: &Generated<Box<dyn Draw>>) -> Result<Images> {
        let ([h, w], c) = (self.teacher.size, self.teacher.channels);
        let mut pixels = vec![0; self.recipe.batch * h * w * c];
        drawing.images(self.batch * self.recipe.batch, [h, w, c], &mut pixels);
        Images::new(pixels, c, h, w)
    }

    /// What becomes of them.
    fn take_drawn(&mut self, images: Images, start: Instant, observer: &mut dyn Observer) -> Result<()> {
        self.keep(images, None)?;
        self.over(Phase::Fill, start);
        let (done, total) = (self.batch - self.plan.practice, self.plan.fill);
        observer.record(&Record { stage: "fill", done, total, images: self.recipe.batch, values: Vec::new() });
        Ok(())
    }

    /// Puts the images of the present batch into the buffer: of more than it holds every so many, since the labels may be sorted.
    fn keep(&mut self, images: Images, labels: Option<Vec<u32>>) -> Result<()> {
        let most = self.buffer.capacity();
        let (images, labels) = match images.len() > most {
            true => {
                let places: Vec<usize> = (0..most).map(|i| i * images.len() / most).collect();
                (images.picked(&places)?, labels.map(|labels| places.iter().map(|i| labels[*i]).collect()))
            }
            false => (images, labels),
        };
        let written = store(&mut self.buffer, self.teacher, images, labels, self.batch as u64)?;
        // Not at the end, where a limit on the time would have to leave room for it.
        if let Some(views) = self.buffer.views.as_mut().filter(|_| self.all_views) {
            record_all(self.teacher, &self.buffer.images, views, written)?;
        }
        self.trainer.pool_changed();
        Ok(())
    }

    fn look_at(&mut self, made: &Synthesised, phase: Phase) {
        let loss = &self.recipe.loss;
        let opposed = phase == Phase::Rounds && self.trainer.done() > 0 && loss.adversarial > 0.0;
        let image_len = made.pixels.len() / made.labels.len().max(1);
        let bn = (loss.bn > 0.0).then_some(made.last.bn);
        self.watch.take(&made.pixels, image_len, bn, opposed.then_some(made.last.agreement));
    }

    fn signs(&self) -> Result<Signs> {
        Ok(self.watch.signs(self.synthesiser.generator.weights.distance(&self.start)?))
    }

    /// Whether the generator starts anew with the next batch: never with the first one.
    fn rebuilds(&self, phase: Phase) -> bool {
        let (every, since) = match phase {
            Phase::Rounds => (self.recipe.generator.rebuild, self.batch - self.plan.practice - self.plan.fill),
            _ => (self.recipe.generator.warmup_rebuild, self.batch),
        };
        self.batch > 0 && every > 0 && since.is_multiple_of(every)
    }

    /// Cuts practice and fill to what fits into the time.
    fn shorten(&mut self, phase: Phase) {
        let only = self.plan.practice == 0 || self.plan.rounds == 0;
        let Some(limit) = self.limit.filter(|_| phase == Phase::Practice || only) else { return };
        let share = if self.plan.rounds > 0 { WARMUP_SHARE } else { 1.0 };
        let most = fitting(limit.mul_f64(share), self.clock.elapsed(), self.batch);
        match self.drawing {
            // A drawn image costs the teacher's answers alone.
            Some(_) if phase == Phase::Practice => self.plan.practice = self.plan.practice.min(most.max(self.batch)),
            _ => self.plan.shorten(most, self.batch),
        }
    }

    /// One update of the adversary; after the last one of a round, the number of rounds is what fits into the time, and the
    /// schedules of both sides follow it. A student on the fly that learns from the buffer goes on while no further round fits.
    pub fn adversary_step(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let start = Instant::now();
        let (report, images) = match (self.recipe.feed, &mut self.last) {
            (Feed::Batch, Some(shown)) => (self.trainer.step_on(shown, self.teacher)?, self.recipe.batch),
            (Feed::Fresh, _) => {
                let mut shown = Shown::new(self.synthesiser.fresh(self.trainer.done())?);
                (self.trainer.step_on(&mut shown, self.teacher)?, self.recipe.student.batch)
            }
            _ => (self.step_on_buffer()?, self.recipe.student.batch),
        };
        let (done, total) = (self.trainer.done(), self.plan.all_updates());
        if let Some(r) = report {
            let values = vec![("loss", r.loss), ("lr", r.lr), ("agreement", r.agreement)];
            observer.record(&Record { stage: "adversary", done, total, images, values });
            observer.updated("adversary", &self.trainer)?;
        }
        self.adversary_time += start.elapsed();
        if done == self.plan.rounds_done(self.batch) * self.plan.updates {
            self.plan_rounds();
        }
        Ok(())
    }

    fn step_on_buffer(&mut self) -> Result<Option<TrainReport>> {
        self.trainer.step(&mut pool_of(&mut self.buffer, self.teacher, self.recipe))
    }

    /// Images that were made for an update each and kept nowhere.
    fn fresh(&self) -> usize {
        if self.recipe.feed == Feed::Fresh { self.trainer.done() * self.recipe.student.batch } else { 0 }
    }

    pub fn finish(mut self) -> Result<Inversion> {
        let finished = self.trainer.finished(&pool_of(&mut self.buffer, self.teacher, self.recipe))?;
        Ok(Inversion {
            adversary: self.trainer.student().clone(),
            finished,
            drawn: self.drawing.is_some(),
            plan: self.plan,
            synthesised: self.batch * self.recipe.batch + self.fresh(),
            synthesis_time: self.synthesis_time,
            adversary_time: self.adversary_time,
            clock: self.clock,
            signs: self.signs()?,
            halvings: [self.synthesiser.halvings(), self.trainer.halvings()],
            generator: self.synthesiser.generator,
            buffer: self.buffer,
        })
    }
}

impl Resumable for Course<'_> {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("batch", self.batch)?;
        to.value("plan", [self.plan.practice, self.plan.fill, self.plan.rounds, self.plan.more_updates])?;
        self.last.as_ref().map_or(Ok(()), |shown| to.tensor("last", &shown.images))?;
        to.part("clock", &self.clock)?;
        let times = [self.rounds_begin, self.synthesis_time, self.adversary_time];
        to.owned("times", &times.map(|time| time.as_secs_f64()));
        to.part("synthesiser", &self.synthesiser)?;
        to.part("buffer", &self.buffer)?;
        to.part("watch", &self.watch)?;
        to.part("trainer", &self.trainer)
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        self.batch = from.value("batch")?;
        let [practice, fill, rounds, more_updates] = from.value("plan")?;
        self.plan = Plan { practice, fill, rounds, more_updates, ..self.plan };
        self.last = match from.has("last") {
            true => Some(Shown::new(self.teacher.network.compute().bring(&from.tensor("last")?)?)),
            false => None,
        };
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
        from.restore("watch", &mut self.watch)?;
        from.restore("trainer", &mut self.trainer)
    }
}

fn report_batch(
    observer: &mut dyn Observer,
    plan: &Plan,
    batch: usize,
    made: &Synthesised,
    recipe: &Recipe,
    steps: usize,
    [asked, opposed]: [bool; 2],
) {
    let (t, loss) = (made.last, &recipe.loss);
    let against = if opposed { loss.adversarial } else { 0.0 };
    let (stage, done, total) = match plan.phase(batch) {
        Phase::Practice => ("practice", batch + 1, plan.practice),
        Phase::Fill => ("fill", batch + 1 - plan.practice, plan.fill),
        Phase::Rounds => ("synthesis", batch + 1 - plan.practice - plan.fill, plan.rounds * plan.batches),
    };
    let mut values = vec![("loss", t.total)];
    let terms = [
        ("bn", t.bn, loss.bn),
        ("one_hot", t.one_hot, if asked { loss.one_hot } else { 0.0 }),
        ("adversarial", t.adversarial, against),
        ("balance", t.balance, loss.balance),
        ("activation", t.activation, loss.activation),
        ("prior", t.prior, loss.variation + loss.image_norm),
        ("contrast", t.contrast, loss.contrast),
        ("on_label", t.on_label, f64::from(asked && recipe.has_labels())),
        ("agreement", t.agreement, against),
    ];
    values.extend(terms.into_iter().filter(|(_, _, weight)| *weight > 0.0).map(|(name, value, _)| (name, value)));
    observer.record(&Record { stage, done, total, images: made.labels.len() * steps, values });
}

#[cfg(test)]
#[path = "course_tests.rs"]
mod tests;
