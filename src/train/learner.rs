//! A network that learns by SGD, with its weight average and the state to which it goes back when its loss is no number.

use super::{Beside, Decay, Goal, Guard, Sgd, StepReport, Stepper, WeightAverage};
use crate::Result;
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::events::Pupil;
use crate::model::write_weights;
use crate::nets::Network;
use candle_core::Tensor;
use std::path::Path;

/// Steps between two states in memory: what a loss that is no number costs at most.
const SOUND_EVERY: usize = 100;

/// A network in training.
pub struct Learner {
    pub network: Network,
    sgd: Sgd,
    stepper: Stepper,
    average: Option<WeightAverage>,
    guard: Guard,
    done: usize,
    /// The last sound state, and the step at which it was taken.
    sound: Option<(usize, Saved)>,
}

/// What [`Learner::prepare`] did. Whatever belongs to the learner (priorities, sums) does the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared {
    AsBefore,
    /// This is the state to go back to.
    Marked,
    /// A weight was no number: the learner is back at an earlier step.
    WentBack,
}

/// Numbers of its optimizer.
#[derive(Clone, Copy, Debug)]
pub struct LearnerRule {
    pub momentum: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
    pub decay: Decay,
    /// See [`Sgd::turning`].
    pub turn: f64,
    /// Decay of the weight average; 0 is none.
    pub average: f64,
}

impl Learner {
    /// A learner that starts from `network`.
    ///
    /// # Errors
    /// A device that refuses.
    pub fn new(network: Network, rule: &LearnerRule, guard: Guard) -> Result<Self> {
        let sgd = Sgd::new(rule.momentum as f32, rule.nesterov, rule.weight_decay as f32, rule.decay)
            .turning(rule.turn as f32);
        let average = (rule.average > 0.0).then(|| WeightAverage::new(&network, rule.average)).transpose()?;
        Ok(Self { network, sgd, stepper: Stepper::new(), average, guard, done: 0, sound: None })
    }

    /// Steps done.
    pub fn done(&self) -> usize {
        self.done
    }

    /// How often the rate had to be halved.
    pub fn halvings(&self) -> u32 {
        self.guard.halvings()
    }

    /// What the rate of the schedule is multiplied by.
    pub fn factor(&self) -> f64 {
        self.guard.factor()
    }

    /// To be called before a step: takes the present state as sound where the last one is old, if all weights are numbers.
    ///
    /// # Errors
    /// A device that does not give its values; as [`Guard::trip`].
    pub fn prepare(&mut self) -> Result<Prepared> {
        if self.sound.as_ref().is_some_and(|(at, _)| self.done < at + SOUND_EVERY) {
            return Ok(Prepared::AsBefore);
        }
        if self.sound.is_some() && !self.is_sound()? {
            return Ok(Prepared::WentBack);
        }
        let mut saver = Saver::default();
        self.save_own(&mut saver)?;
        self.sound = Some((self.done, saver.keep()));
        Ok(Prepared::Marked)
    }

    /// What the learner learns from has changed: the sound state is no longer one to go back to.
    pub fn forget_mark(&mut self) {
        self.sound = None;
    }

    /// One step with learning rate `lr` times [`Learner::factor`], on what `beside` adds to the loss as well; `None` if the loss
    /// was no number and the learner is back at an earlier step.
    ///
    /// # Errors
    /// As [`Stepper::step`], and [`Guard::trip`].
    pub fn step(
        &mut self,
        x: Tensor,
        lr: f64,
        goal: Goal,
        beside: Option<&mut dyn Beside>,
    ) -> Result<Option<StepReport>> {
        let lr = (lr * self.factor()) as f32;
        let report = match beside {
            None => self.stepper.step(&self.network, &mut self.sgd, x, lr, goal)?,
            Some(beside) => self.stepper.step_beside(&self.network, &mut self.sgd, x, lr, goal, beside)?,
        };
        if !report.loss.is_finite() {
            self.go_back(&format!("the loss is {}", report.loss))?;
            return Ok(None);
        }
        if let Some(average) = &mut self.average {
            average.update(&self.network)?;
        }
        self.done += 1;
        Ok(Some(report))
    }

    /// Whether all weights are numbers, to be asked after the last step; `false` if they were not and the learner is back at an
    /// earlier step.
    ///
    /// # Errors
    /// As [`Guard::trip`].
    pub fn is_sound(&mut self) -> Result<bool> {
        let Some((name, count)) = self.network.weights.non_finite()? else { return Ok(true) };
        self.go_back(&format!("{count} weights in {name} are no numbers"))?;
        Ok(false)
    }

    fn go_back(&mut self, found: &str) -> Result<()> {
        self.guard.trip(found, &format!("step {}", self.done))?;
        if let Some((_, sound)) = self.sound.clone() {
            self.restore_own(&sound)?;
        }
        Ok(())
    }

    /// The network as it would be kept now; it shares its tensors with the learner.
    pub fn current(&self) -> Network {
        match &self.average {
            Some(a) => Network { arch: self.network.arch.clone(), weights: a.weights.clone() },
            None => self.network.clone(),
        }
    }

    /// What matters of the learner itself.
    fn save_own<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("done", self.done)?;
        to.part("weights", &self.network.weights)?;
        to.part("velocity", &self.sgd)?;
        self.average.as_ref().map_or(Ok(()), |average| to.part("average", average))
    }

    fn restore_own(&mut self, from: &Saved) -> Result<()> {
        self.done = from.value("done")?;
        from.restore("weights", &mut self.network.weights)?;
        from.restore("velocity", &mut self.sgd)?;
        self.average.as_mut().map_or(Ok(()), |average| from.restore("average", average))
    }
}

impl Pupil for Learner {
    fn write(&self, path: &Path) -> Result<()> {
        write_weights(&self.current(), path)
    }
}

impl Resumable for Learner {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        self.save_own(to)?;
        to.part("guard", &self.guard)?;
        if let Some((at, sound)) = &self.sound {
            to.value("sound_at", at)?;
            to.saved("sound", sound);
        }
        Ok(())
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        self.restore_own(from)?;
        from.restore("guard", &mut self.guard)?;
        self.sound = match from.has("sound_at") {
            true => Some((from.value("sound_at")?, from.part("sound").in_memory()?)),
            false => None,
        };
        Ok(())
    }
}
