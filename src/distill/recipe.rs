//! How a student learns: the choices of the distillation stage and of the adversary.

use super::Signal;
use crate::augment::{CropFlip, RandAugment};
use crate::loss::Matching;
use crate::nets::{Network, Task};
use crate::set::priority::PriorityRule;
use crate::train::{Decay, Schedule, batch_of};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Images per update where nothing else is said and images are small.
const USUAL_BATCH: usize = 128;
/// The same where every pixel has an answer, which makes 16 of 160x120.
pub(crate) const USUAL_BATCH_OF_PIXELS: usize = 80;
/// What the rates of networks for pixels are for.
const BATCH_OF_RATES_OF_PIXELS: usize = 16;

/// All choices of a student's training. Every field is a recipe key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StudentRecipe {
    /// Updates in all.
    pub steps: usize,
    /// Images per update; 0 takes 128 (80 where every pixel has an answer), or fewer where they have more than 64x64 pixels
    /// ([`crate::train::batch_of`]).
    pub batch: usize,
    /// Learning rate; 0 takes the one of the student's family (0.5, or less where there are depthwise or grouped convolutions or no batch
    /// norms: `synth networks` lists it) for a batch of 128, or of 16 images with an answer for every pixel, and less in proportion
    /// for a smaller one.
    pub lr: f64,
    /// What that is multiplied by.
    pub lr_share: f64,
    pub momentum: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
    pub decay: Decay,
    /// Length of an update of a convolution's weights as a share of their length, at the rate of the student's family for
    /// the batch (in proportion at another one), along the orthogonal factor of their momentum: Muon ([`crate::train::Sgd::turning`]). Their
    /// length then stays. What no norm follows, depthwise convolutions, norms and linear layers learn by SGD as ever; 0: all do.
    pub muon: f64,
    pub schedule: Schedule,
    /// Steps of linear warm-up.
    pub warmup: usize,
    pub matching: Matching,
    /// What is compared beside the answers. The adversary of an inversion does without.
    pub signal: Signal,
    pub augment: CropFlip,
    /// Operations of RandAugment on every image, 0 for none; both networks see what comes of it, so the teacher has to answer
    /// live. The adversary of an inversion does without.
    pub rand_augment: usize,
    /// Smallest share of its area that a view of an image shows, enlarged to the whole, where the teacher answers live; 1 shows
    /// all.
    pub scale: f64,
    /// Share of the run, from its start, in which batches are mixed where the teacher answers live; 0 is never. Recorded
    /// answers are of single images and are not mixed: the teacher's answer to a mixture is not a mixture of its answers.
    /// Mixed batches leave priorities as they are: while all are mixed, they are drawn as the set asks for.
    pub mixup_until: f64,
    /// α of the mixing coefficient's Beta distribution.
    pub mixup_alpha: f64,
    /// Decay of the weight average; 0 switches it off.
    pub average: f64,
    /// Batches over which the batch norms are estimated anew at the end; 0 keeps the running statistics.
    pub reestimate: usize,
    pub priority: PriorityRule,
}

impl Default for StudentRecipe {
    fn default() -> Self {
        Self {
            steps: 4000,
            batch: 0,
            lr: 0.0,
            lr_share: 1.0,
            momentum: 0.9,
            nesterov: true,
            weight_decay: 1e-4,
            decay: Decay::All,
            muon: 0.02,
            schedule: Schedule::OneCycle { rise: 0.15, start: 0.1, floor: 0.0 },
            warmup: 0,
            matching: Matching::Kl { temperature: 20.0 },
            signal: Signal::default(),
            augment: CropFlip { crop: 4, flip: true },
            rand_augment: 0,
            scale: 1.0,
            mixup_until: 0.8,
            mixup_alpha: 1.0,
            average: 0.99,
            reestimate: 20,
            priority: PriorityRule { alpha: 0.3, ..PriorityRule::default() },
        }
    }
}

impl StudentRecipe {
    /// Refuses values (`KEY=VALUE`) of anything else in a recipe.
    ///
    /// # Errors
    /// [`Error::Invalid`], which names the first of them.
    pub fn has_all(values: &[String]) -> Result<()> {
        let Some(pair) = values.iter().find(|pair| !pair.trim_start().starts_with("student.")) else { return Ok(()) };
        let hint = "this command uses the keys `student.…` of `synth recipes NAME`";
        Err(Error::invalid("--set", format!("`{pair}` is nothing a student has"), hint))
    }

    /// The recipe with its batch for images of `size` (height, width), where it leaves that open.
    pub fn fitted(self, size: [usize; 2]) -> Self {
        self.fitted_for(Task::Classification, size)
    }

    /// The recipe as it is for students of `task`, before anything is changed in it: those that answer for pixels see parts of images
    /// and no mixtures of two, which are like nothing that a camera sees, and compare probabilities at temperature 1: the
    /// best of 1, 4 and 20, with real images and with inverted ones (docs/SEGMENTATION.md). The rate is that of the student's
    /// family: published ones are for classifiers. They learn by SGD: Muon has not been tried on them.
    pub fn of_task(self, task: Task) -> Self {
        match task {
            Task::Classification => self,
            Task::Segmentation => Self {
                augment: CropFlip { crop: 8, ..self.augment },
                scale: self.scale.min(0.5),
                mixup_until: 0.0,
                lr: 0.0,
                muon: 0.0,
                matching: match self.matching {
                    Matching::Kl { .. } => Matching::Kl { temperature: 1.0 },
                    other => other,
                },
                ..self
            },
        }
    }

    /// As [`StudentRecipe::fitted`], of a student of `task`: pixels make do with smaller batches.
    pub fn fitted_for(self, task: Task, size: [usize; 2]) -> Self {
        let usual = match task {
            Task::Classification => USUAL_BATCH,
            Task::Segmentation => USUAL_BATCH_OF_PIXELS,
        };
        let batch = if self.batch > 0 { self.batch } else { batch_of(task, usual, size) };
        Self { batch, ..self }
    }

    /// Whether every update that is shown an image sees the same pixels of it.
    pub(super) fn shows_images_as_they_are(&self) -> bool {
        self.augment == CropFlip { crop: 0, flip: false } && self.scale >= 1.0
    }

    /// The recipe of an adversary, which learns from images that change: answers on crops.
    pub fn of_adversary(self) -> Self {
        Self { signal: Signal::default(), rand_augment: 0, ..self }
    }

    /// The learning rate of `student`, once the batch is known.
    pub fn rate(&self, student: &Network) -> f64 {
        self.lr_share * if self.lr > 0.0 { self.lr } else { self.usual_rate(student) }
    }

    /// Length of an update by Muon per unit of the learning rate, for [`crate::train::Sgd::turning`]: it is `muon` at the rate of the
    /// family for a batch of this size.
    pub fn turn(&self, student: &Network) -> f64 {
        self.muon / self.usual_rate(student)
    }

    /// The rate of a family. A smaller batch has a noisier gradient: the rate is scaled with it (Goyal et al. 2017), never up.
    fn usual_rate(&self, student: &Network) -> f64 {
        let usual = match student.arch.task {
            Task::Classification => USUAL_BATCH,
            Task::Segmentation => BATCH_OF_RATES_OF_PIXELS,
        };
        let batch = if self.batch > 0 { self.batch } else { usual };
        let share = (batch as f64 / usual as f64).min(1.0);
        share * student.arch.student_rate
    }

    /// # Errors
    /// The first value that is out of its range, with the range.
    pub fn check(&self) -> Result<()> {
        let range = |key: &str, value: f64, low: f64, high: f64| {
            crate::overlay::range(&format!("student.{key}"), value, low, high)
        };
        // Those of an adversary are rounds times its updates per round.
        range("steps", self.steps as f64, 0.0, 1e18)?;
        range("batch", self.batch as f64, 2.0 * f64::from(self.batch > 0), 65_536.0)?;
        range("lr", self.lr, 0.0, 100.0)?;
        range("lr_share", self.lr_share, 0.0, 100.0)?;
        range("momentum", self.momentum, 0.0, 0.9999)?;
        range("weight_decay", self.weight_decay, 0.0, 1.0)?;
        range("muon", self.muon, 0.0, 1.0)?;
        self.schedule.check("student.schedule")?;
        range("warmup", self.warmup as f64, 0.0, 1e9)?;
        range("augment.crop", self.augment.crop as f64, 0.0, 4096.0)?;
        range("rand_augment", self.rand_augment as f64, 0.0, RandAugment::MOST as f64)?;
        self.signal.check()?;
        range("scale", self.scale, 1e-3, 1.0)?;
        range("mixup_until", self.mixup_until, 0.0, 1.0)?;
        range("mixup_alpha", self.mixup_alpha, 1e-3, 100.0)?;
        range("average", self.average, 0.0, 0.99999)?;
        range("reestimate", self.reestimate as f64, 0.0, 1e6)?;
        range("priority.alpha", self.priority.alpha, 0.0, 10.0)?;
        range("priority.beta", self.priority.beta, 0.0, 1.0)?;
        range("priority.temperature", self.priority.temperature, 1e-3, 1000.0)?;
        match self.matching {
            Matching::Logits | Matching::L1 => Ok(()),
            Matching::Kl { temperature } => range("matching.temperature", temperature, 1e-3, 1000.0),
            Matching::KlAndDecision { temperature, decision } => {
                range("matching.decision", decision, 0.0, 1e3)?;
                range("matching.temperature", temperature, 1e-3, 1000.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::registry::{Shape, from_name};
    use crate::overlay::assert_refused;
    use crate::rng::Streams;
    use std::sync::Arc;

    /// The family's rate is for batches of 128; a recipe's own counts as it is.
    #[test]
    fn smaller_batches_learn_at_lower_rates() {
        let shape = Shape { channels: 3, height: 32, width: 32, num_classes: 10 };
        let arch = Arc::new(from_name("resnet8", &shape).unwrap().0);
        let student = &Network::init(arch, &mut Streams::new(0).stream("x", 0)).unwrap();
        let usual = student.arch.student_rate;
        let rate =
            |batch, lr, lr_share| StudentRecipe { batch, lr, lr_share, ..StudentRecipe::default() }.rate(student);
        for (found, expected) in [
            (rate(128, 0.0, 1.0), usual),
            (rate(256, 0.0, 1.0), usual),
            (rate(32, 0.0, 1.0), usual / 4.0),
            (rate(32, 0.0, 0.5), usual / 8.0),
            (rate(32, 0.3, 1.0), 0.3),
            (rate(32, 0.3, 0.5), 0.15),
        ] {
            assert!((found - expected).abs() < 1e-9, "{found} instead of {expected}");
        }
    }

    #[test]
    fn numbers_out_of_their_range_are_refused() {
        let pairs = [
            ("augment.crop=3000000000", "student.augment.crop"),
            ("steps=2000000000000000000", "student.steps"),
            ("warmup=2000000000", "student.warmup"),
            ("reestimate=2000000", "student.reestimate"),
            ("schedule={cosine={floor=nan}}", "student.schedule.floor"),
            ("schedule={step={at=[0.5, inf], gamma=0.1}}", "student.schedule.at"),
            ("schedule={step={at=[0.5], gamma=-1.0}}", "student.schedule.gamma"),
            ("schedule={one-cycle={rise=2.0, start=0.1, floor=0.0}}", "student.schedule.rise"),
            ("schedule={one-cycle={rise=0.2, start=inf, floor=0.0}}", "student.schedule.start"),
        ];
        assert_refused(&StudentRecipe::default(), StudentRecipe::check, &pairs);
        StudentRecipe::default().check().unwrap();
    }
}
