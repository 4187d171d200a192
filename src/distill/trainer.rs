//! A student in training on a pool of images with a teacher's answers: the adversary of the inversion stage and the
//! student of the distillation stage are both this.

use super::pool::{Answers, Pool, placement};
use super::shown::Shown;
use super::signal::Hints;
use super::{Input, StudentRecipe};
use crate::augment::{Mixing, Zoom};
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::events::Pupil;
use crate::loss::{Matching, agreement, compared};
use crate::model::write_weights;
use crate::nets::{Network, reestimate};
use crate::ops::place::place;
use crate::rng::{Stream, Streams};
use crate::set::Views;
use crate::set::priority::Priorities;
use crate::teacher::{Teacher, Told};
use crate::train::{Beside, Goal, Guard, Learner, LearnerRule, Prepared};
use crate::{Error, Result};
use candle_core::Tensor;
use rand::RngExt;
use std::path::Path;

/// Numbers of a step.
pub struct TrainReport {
    pub loss: f64,
    pub lr: f64,
    /// Share of the batch (of its pixels, where these are answered for) on which student and teacher decide alike.
    pub agreement: f64,
}

/// A student with its optimizer, schedule and weight average.
pub struct Trainer {
    learner: Learner,
    recipe: StudentRecipe,
    input: Input,
    streams: Streams,
    purpose: &'static str,
    /// What is compared beside answers.
    hints: Option<Hints>,
    sound: Option<Sound>,
}

/// What belongs to the learner's sound state.
struct Sound {
    priorities: Priorities,
    hints: Option<Saved>,
}

impl Trainer {
    /// A trainer that starts from `student`'s weights; `purpose` names its random streams. The recipe must have a batch; its
    /// rate, where it leaves that open, is the student's.
    pub fn new(
        student: Network,
        recipe: StudentRecipe,
        input: Input,
        streams: Streams,
        purpose: &'static str,
    ) -> Result<Self> {
        recipe.check()?;
        if recipe.batch == 0 {
            return Err(Error::invalid("student.batch", "it is open", "fit the recipe to the size of the images"));
        }
        let recipe = StudentRecipe { lr: recipe.rate(&student), lr_share: 1.0, ..recipe };
        let StudentRecipe { momentum, nesterov, weight_decay, decay, average, .. } = recipe;
        let turn = recipe.turn(&student);
        let rule = LearnerRule { momentum, nesterov, weight_decay, decay, turn, average };
        let learner = Learner::new(student, &rule, Guard::new("student", "student.lr"))?;
        Ok(Self { learner, recipe, input, streams, purpose, hints: None, sound: None })
    }

    /// The same trainer, whose student hears more than answers.
    pub fn with_hints(self, hints: Option<Hints>) -> Self {
        Self { hints, ..self }
    }

    /// The recipe with nothing left open.
    pub fn recipe(&self) -> &StudentRecipe {
        &self.recipe
    }

    /// Steps done so far.
    pub fn done(&self) -> usize {
        self.learner.done()
    }

    /// The student as trained, not averaged.
    pub fn student(&self) -> &Network {
        &self.learner.network
    }

    /// How often the learning rate had to be halved because a loss was no number.
    pub fn halvings(&self) -> u32 {
        self.learner.halvings()
    }

    /// From now on the schedule is one of `steps` updates in all.
    pub fn plan_steps(&mut self, steps: usize) {
        self.recipe.steps = steps;
    }

    /// The pool's images have changed: from here there is no way back to earlier steps.
    pub fn pool_changed(&mut self) {
        self.learner.forget_mark();
    }

    /// Whether all weights are numbers, to be asked after the last step; `false` if the trainer is back at an earlier one.
    ///
    /// # Errors
    /// As [`Guard::trip`].
    pub fn is_sound(&mut self, priorities: &mut Priorities) -> Result<bool> {
        let sound = self.learner.is_sound()?;
        if !sound {
            self.go_back(priorities)?;
        }
        Ok(sound)
    }

    /// What belongs to the learner's sound state, kept.
    fn mark(&mut self, priorities: &Priorities) -> Result<()> {
        let hints = self.hints.as_ref().map(Saver::of).transpose()?.map(Saver::keep);
        self.sound = Some(Sound { priorities: priorities.clone(), hints });
        Ok(())
    }

    /// Takes over what belongs to the learner's sound state, at which the learner is again.
    fn go_back(&mut self, priorities: &mut Priorities) -> Result<()> {
        let Some(sound) = &self.sound else { return Ok(()) };
        priorities.go_back_to(&sound.priorities);
        match (&mut self.hints, &sound.hints) {
            (Some(hints), Some(saved)) => hints.restore(saved),
            _ => Ok(()),
        }
    }

    /// One update on a batch drawn by priority; `None` if a loss or a weight was no number and the trainer is back at an earlier
    /// step, with a lower rate.
    ///
    /// # Errors
    /// As [`Guard::trip`], when that happens again and again.
    pub fn step(&mut self, pool: &mut Pool) -> Result<Option<TrainReport>> {
        match self.learner.prepare()? {
            Prepared::AsBefore => {}
            Prepared::Marked => self.mark(pool.priorities)?,
            Prepared::WentBack => {
                self.go_back(pool.priorities)?;
                return Ok(None);
            }
        }
        let done = self.done();
        let mut rng = self.streams.stream(self.purpose, done as u64);
        let r = &self.recipe;
        let draw = pool.priorities.draw(r.batch, &mut rng);
        let rows = pool.rows_at(&draw.indices);
        let compute = self.student().compute();
        let (mut x, recorded) = pool.batch(&rows, r, &self.input, compute, &mut rng)?;
        if recorded.is_none() {
            x = self.zoomed(x, &mut rng)?;
        }
        let mixes = recorded.is_none() && (done as f64) < r.mixup_until * r.steps as f64;
        let mixing = mixes.then(|| Mixing::draw(r.mixup_alpha, draw.indices.len(), &mut rng));
        if let Some(mixing) = &mixing {
            x = mixing.images(&x)?;
        }
        let told = match (recorded, &pool.answers) {
            (Some(answers), _) => Told::answers(answers),
            (None, Answers::Live(teacher)) => self.asked(teacher, &x)?,
            (None, _) => return Err(Error::shape("student step", "stored answers are missing")),
        };
        let weights = (r.priority.beta > 0.0 && r.priority.alpha > 0.0).then_some(&draw.weights[..]);
        let temperature = mixing.is_none().then_some(r.priority.temperature);
        let Some((report, gaps)) = self.update(x, &told, weights, temperature)? else {
            self.go_back(pool.priorities)?;
            return Ok(None);
        };
        if let Some(gaps) = gaps {
            pool.priorities.update(&draw.indices, &gaps);
        }
        Ok(Some(report))
    }

    /// One update on images that are in no pool, augmented as the recipe says and answered by `teacher`, once for all updates where
    /// nothing in them changes; `None` as of [`Trainer::step`].
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn step_on(&mut self, shown: &mut Shown, teacher: &Teacher) -> Result<Option<TrainReport>> {
        if let Prepared::WentBack = self.learner.prepare()? {
            return Ok(None);
        }
        let mut rng = self.streams.stream(self.purpose, self.done() as u64);
        let places = self.recipe.augment.draw(shown.images.dims()[0], &mut rng);
        let x = self.zoomed(place(&shown.images, &places, &self.input.mean, &self.input.std)?, &mut rng)?;
        let told = match shown.told.take() {
            Some(told) => told,
            None => self.asked(teacher, &x)?,
        };
        let report = self.update(x, &told, None, None)?.map(|(report, _)| report);
        shown.told = self.recipe.shows_images_as_they_are().then_some(told);
        Ok(report)
    }

    /// What the teacher tells, as far as somebody listens.
    fn asked(&self, teacher: &Teacher, x: &Tensor) -> Result<Told> {
        match self.hints.as_ref().is_some_and(Hints::wants_features) {
            true => teacher.tells(x),
            false => Ok(Told::answers(teacher.answers(x)?)),
        }
    }

    /// Random parts of the images, if the recipe asks for them; teacher and student both see these.
    fn zoomed(&self, x: Tensor, rng: &mut Stream) -> Result<Tensor> {
        let [h, w, _] = self.input.dims;
        match Zoom::draw(self.recipe.scale, x.dims()[0], [h, w], rng) {
            Some(zoom) => zoom.images(&x),
            None => Ok(x),
        }
    }

    /// The update itself on normalised images; the second value is, at a temperature, how far each image's answers before it were
    /// from the teacher's.
    fn update(
        &mut self,
        x: Tensor,
        told: &Told,
        weights: Option<&[f32]>,
        temperature: Option<f64>,
    ) -> Result<Option<(TrainReport, Option<Vec<f32>>)>> {
        let r = &self.recipe;
        let lr = r.lr * r.schedule.factor(self.learner.done(), r.steps, r.warmup);
        let seen = self.input.seen(x)?;
        let answers = r.matching.heard(&told.answers, self.input.void)?;
        let goal = Goal::Answers { answers: &answers, how: r.matching, weights };
        let mut beside = self.hints.as_mut().map(|hints| hints.of_batch(told, weights));
        let beside = beside.as_mut().map(|beside| beside as &mut dyn Beside);
        let Some(report) = self.learner.step(seen, lr, goal, beside)? else { return Ok(None) };
        let lr = lr * self.learner.factor();
        // A loss at the temperature of the priorities has compared the answers already.
        let same = temperature.is_none_or(|temperature| r.matching == Matching::Kl { temperature });
        let found = match (report.compared.filter(|_| same), temperature) {
            (Some(found), _) => Some(found),
            (None, Some(temperature)) => Some(compared(&report.logits, &answers, temperature)?),
            (None, None) => None,
        };
        let (agreement, gaps) = match found {
            Some(found) => (found.agreement, temperature.map(|_| found.kl)),
            None => (agreement(&report.logits, &answers)?, None),
        };
        Ok(Some((TrainReport { loss: report.loss, lr, agreement }, gaps)))
    }

    /// The network as it would be kept now, without estimating batch norms anew; it shares its tensors with the trainer.
    pub fn current(&self) -> Network {
        self.learner.current()
    }

    /// The network to keep: averaged weights if there is an average, batch norms estimated anew on images of the `pool` if asked.
    /// All count alike, whatever the set's weights (drawn by those, a student of 10,000 shaders with soft balance had 52.5 % on CIFAR-10
    /// in place of 54.1 %): recorded views, if those are what the student has learned from, else cropped and mirrored, without the
    /// other changes that it met.
    pub fn finished(&self, pool: &Pool) -> Result<Network> {
        let network = self.current().duplicate()?;
        let mut rng = self.streams.stream("re-estimate", 0);
        for i in 0..self.recipe.reestimate {
            let places: Vec<usize> =
                (0..self.recipe.batch).map(|_| rng.random_range(0..pool.priorities.len())).collect();
            let rows = pool.rows_at(&places);
            let places = match pool.answers.views() {
                Some(Views { list, .. }) => {
                    rows.iter().map(|_| placement(list[rng.random_range(0..list.len())])).collect()
                }
                None => self.recipe.augment.draw(rows.len(), &mut rng),
            };
            let slices: Vec<&[u8]> = rows.iter().map(|&row| pool.images.image(row)).collect();
            let x = self.input.seen(self.input.placed(&slices, &places, self.student().compute())?)?;
            // 1/(i+1): the plain mean over all batches.
            reestimate(&network, x, 1.0 / (i + 1) as f64)?;
        }
        Ok(network)
    }
}

impl Pupil for Trainer {
    fn write(&self, path: &Path) -> Result<()> {
        write_weights(&self.current(), path)
    }
}

impl Resumable for Trainer {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("steps", self.recipe.steps)?;
        to.part("learner", &self.learner)?;
        self.hints.as_ref().map_or(Ok(()), |hints| to.part("hints", hints))?;
        let Some(sound) = &self.sound else { return Ok(()) };
        if let Some(hints) = &sound.hints {
            to.saved("sound_hints", hints);
        }
        to.part("sound_priorities", &sound.priorities)
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        self.recipe.steps = from.value("steps")?;
        from.restore("learner", &mut self.learner)?;
        self.hints.as_mut().map_or(Ok(()), |hints| from.restore("hints", hints))?;
        self.sound = None;
        if from.has("sound_priorities") {
            let mut priorities = Priorities::new(self.recipe.priority, 0);
            from.restore("sound_priorities", &mut priorities)?;
            let hints = from.has("sound_hints").then(|| from.part("sound_hints").in_memory()).transpose()?;
            self.sound = Some(Sound { priorities, hints });
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "trainer_tests.rs"]
mod tests;
