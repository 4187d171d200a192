//! Supervised training on labelled images: baselines and the teachers we ship.

use super::{
    BN_MOMENTUM, Decay, Examples, Goal, Guard, Learner, LearnerRule, Need, Prepared, Schedule, StepReport, answer_bytes,
};
use crate::Result;
use crate::augment::CropFlip;
use crate::checkpoint::{Clock, Resumable, Saved, Saver};
use crate::distill::Input;
use crate::events::{Observer, Record};
use crate::nets::{Mode, Network, Task};
use crate::ops::place::Gallery;
use crate::overlay::range;
use crate::rng::{Streams, permutation};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// All choices of a supervised run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SupervisedRecipe {
    pub epochs: usize,
    pub batch: usize,
    pub lr: f64,
    pub momentum: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
    pub decay: Decay,
    pub schedule: Schedule,
    /// Steps of linear warm-up.
    pub warmup: usize,
    pub augment: CropFlip,
    /// Smallest share of its area that a view of an image shows, enlarged to the whole; 1 shows all.
    pub scale: f64,
    /// α of mixup; 0 is off. Of labels per image only, and so is the next.
    pub mixup: f64,
    /// Share of the target spread evenly over all classes.
    pub label_smoothing: f64,
    /// Whether the pixels of rare classes count more ([`crate::loss::class_weights`]). Of labels per pixel only, and so is the next.
    pub class_weights: bool,
    /// γ of the focal loss ([`crate::loss::labelled_pixels`]); 0 is cross-entropy.
    pub focal: f64,
    /// Decay of the weight average; 0 is off.
    pub average: f64,
}

impl Default for SupervisedRecipe {
    fn default() -> Self {
        Self {
            epochs: 40,
            batch: 128,
            lr: 0.2,
            momentum: 0.9,
            nesterov: true,
            weight_decay: 5e-4,
            decay: Decay::All,
            schedule: Schedule::OneCycle { rise: 0.2, start: 0.1, floor: 0.0 },
            warmup: 0,
            augment: CropFlip { crop: 4, flip: true },
            scale: 1.0,
            mixup: 0.0,
            label_smoothing: 0.0,
            class_weights: false,
            focal: 0.0,
            average: 0.0,
        }
    }
}

impl SupervisedRecipe {
    /// What is usual for a task: label images are few and large, so that batches are small and passes are many.
    pub fn of(task: Task) -> Self {
        match task {
            Task::Classification => Self::default(),
            Task::Segmentation => Self {
                epochs: 100,
                batch: 16,
                lr: 0.05,
                augment: CropFlip { crop: 8, flip: true },
                scale: 0.5,
                class_weights: true,
                ..Self::default()
            },
        }
    }

    /// Updates per pass over `images` images: a last, smaller batch counts if it has at least two.
    pub fn steps_per_epoch(&self, images: usize) -> usize {
        let batch = self.batch.max(1);
        images / batch + usize::from(images % batch >= 2)
    }

    /// # Errors
    /// The first value that is out of its range, with the range.
    pub fn check(&self) -> Result<()> {
        range("epochs", self.epochs as f64, 1.0, 1e6)?;
        range("batch", self.batch as f64, 2.0, 65_536.0)?;
        range("lr", self.lr, 0.0, 100.0)?;
        range("momentum", self.momentum, 0.0, 0.9999)?;
        range("weight_decay", self.weight_decay, 0.0, 1.0)?;
        self.schedule.check("schedule")?;
        range("warmup", self.warmup as f64, 0.0, 1e9)?;
        range("augment.crop", self.augment.crop as f64, 0.0, 4096.0)?;
        range("mixup", self.mixup, 0.0, 100.0)?;
        range("scale", self.scale, 1e-3, 1.0)?;
        range("focal", self.focal, 0.0, 100.0)?;
        range("label_smoothing", self.label_smoothing, 0.0, 0.9999)?;
        range("average", self.average, 0.0, 0.99999)
    }
}

/// A network that was trained.
pub struct Trained {
    /// What to keep: the weight average, if there is one.
    pub network: Network,
    /// How often the learning rate had to be halved because a loss was no number.
    pub halvings: u32,
    /// Time of the updates, over all processes.
    pub clock: Clock,
}

/// Trains `network` on `data` for all epochs.
///
/// Every epoch is a random order of all images; the last, smaller batch is kept if it has at least two images.
///
/// # Errors
/// A recipe out of range, images or labels that do not fit `input`, a loss that is no number again and again, an interruption.
pub fn supervised<'a>(
    network: Network,
    data: impl Into<Examples<'a>>,
    input: &Input,
    recipe: &SupervisedRecipe,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Trained> {
    recipe.check()?;
    let data = data.into();
    data.check(input, recipe)?;
    let [h, w, c] = input.dims;
    let need = Need::of(&network, &[h, w, c], Mode::Train { momentum: BN_MOMENTUM }, true)?;
    // The gradient of the answers, and the tape's copy of it.
    let need = need.beside(2, answer_bytes(network.arch.task, [h, w], input.classes));
    need.check("batch", recipe.batch.min(data.len()), [h, w])?;
    let streams = Streams::new(seed);
    let images = Gallery::new(&data.images().pixels, input.dims, &network.compute().device)?;
    let weights = data.class_weights(recipe);
    let mut course = Course::new(network, recipe)?;
    if let Some(saved) = observer.earlier(STAGE)? {
        course.restore(&saved)?;
    }
    let per_epoch = recipe.steps_per_epoch(data.len());
    let total = per_epoch * recipe.epochs;
    let (mut order, mut order_of) = (Vec::new(), None);
    while course.learner.done() < total || !course.is_sound()? {
        let step = course.learner.done();
        observer.between(STAGE, &course)?;
        let (epoch, i) = (step / per_epoch, step % per_epoch);
        if order_of != Some(epoch) {
            order = permutation(data.len(), &mut streams.stream("train/order", epoch as u64));
            order_of = Some(epoch);
        }
        let batch = &order[i * recipe.batch..data.len().min((i + 1) * recipe.batch)];
        let lr = recipe.lr * recipe.schedule.factor(step, total, recipe.warmup);
        let mut rng = streams.stream("train/batch", step as u64);
        let (x, targets) = data.batch(&images, batch, input, recipe, &mut rng)?;
        let goal = targets.goal(weights.as_deref(), recipe.focal);
        let Some(report) = course.step(x, lr, goal)? else { continue };
        course.epoch.add(report.loss, data.hits(&report.logits, &targets, batch)?);
        let values = vec![("loss", report.loss), ("lr", lr * course.learner.factor())];
        observer.record(&Record { stage: STAGE, done: step + 1, total, images: batch.len(), values });
        observer.updated(STAGE, &course.learner)?;
        if i + 1 == per_epoch {
            let found = std::mem::take(&mut course.epoch);
            let values = vec![("loss", found.loss / per_epoch as f64), ("accuracy", found.accuracy())];
            observer.record(&Record { stage: "epoch", done: epoch + 1, total: recipe.epochs, images: 0, values });
        }
    }
    observer.ended(STAGE, &course)?;
    let Course { learner, clock, .. } = course;
    Ok(Trained { network: learner.current().duplicate()?, halvings: learner.halvings(), clock })
}

/// The name of the stage in records and states.
const STAGE: &str = "train";

/// Everything that changes from step to step.
struct Course {
    learner: Learner,
    epoch: Epoch,
    /// Sums at the learner's sound state.
    sound: Epoch,
    clock: Clock,
}

/// Sums over the batches of an epoch.
#[derive(Clone, Copy, Debug, Default)]
struct Epoch {
    loss: f64,
    /// Labels that were met, of those that there are: images, or pixels.
    hits: usize,
    labels: usize,
}

impl Epoch {
    fn add(&mut self, loss: f64, (hits, labels): (usize, usize)) {
        self.loss += loss;
        self.hits += hits;
        self.labels += labels;
    }

    fn accuracy(&self) -> f64 {
        self.hits as f64 / self.labels.max(1) as f64
    }
}

impl Course {
    fn new(network: Network, recipe: &SupervisedRecipe) -> Result<Self> {
        let SupervisedRecipe { momentum, nesterov, weight_decay, decay, average, .. } = *recipe;
        let rule = LearnerRule { momentum, nesterov, weight_decay, decay, turn: 0.0, average };
        let learner = Learner::new(network, &rule, Guard::new("network", "lr"))?;
        Ok(Self { learner, epoch: Epoch::default(), sound: Epoch::default(), clock: Clock::default() })
    }

    /// One update; `None` if the course is back at an earlier step.
    fn step(&mut self, x: Tensor, lr: f64, goal: Goal) -> Result<Option<StepReport>> {
        match self.learner.prepare()? {
            Prepared::AsBefore => {}
            Prepared::Marked => self.sound = self.epoch,
            Prepared::WentBack => {
                self.epoch = self.sound;
                return Ok(None);
            }
        }
        let report = self.learner.step(x, lr, goal, None)?;
        if report.is_none() {
            self.epoch = self.sound;
        }
        Ok(report)
    }

    fn is_sound(&mut self) -> Result<bool> {
        let sound = self.learner.is_sound()?;
        if !sound {
            self.epoch = self.sound;
        }
        Ok(sound)
    }
}

impl Resumable for Course {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.part("learner", &self.learner)?;
        to.part("clock", &self.clock)?;
        to.value("hits", [self.epoch.hits, self.sound.hits])?;
        to.value("labels", [self.epoch.labels, self.sound.labels])?;
        to.owned("losses", &[self.epoch.loss, self.sound.loss]);
        Ok(())
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        from.restore("learner", &mut self.learner)?;
        from.restore("clock", &mut self.clock)?;
        let (hits, labels): ([usize; 2], [usize; 2]) = (from.value("hits")?, from.value("labels")?);
        let losses: Vec<f64> = from.array("losses")?;
        let [own, sound] = losses[..] else { return Err(from.fault("losses", "there are not two")) };
        let epoch = |i: usize, loss: f64| Epoch { loss, hits: hits[i], labels: labels[i] };
        (self.epoch, self.sound) = (epoch(0, own), epoch(1, sound));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::assert_refused;

    #[test]
    fn numbers_out_of_their_range_are_refused() {
        let pairs = [
            ("augment.crop=3000000000", "augment.crop"),
            ("warmup=2000000000", "warmup"),
            ("schedule={cosine={floor=inf}}", "schedule.floor"),
        ];
        assert_refused(&SupervisedRecipe::default(), SupervisedRecipe::check, &pairs);
        SupervisedRecipe::default().check().unwrap();
    }
}
