//! Supervised training on labelled images: baselines and the teachers we ship.

use super::{BN_MOMENTUM, Decay, Goal, Guard, Learner, LearnerRule, Need, Prepared, Schedule, StepReport};
use crate::augment::{CropFlip, Mixing};
use crate::checkpoint::{Clock, Resumable, Saved, Saver};
use crate::data::Labelled;
use crate::distill::Input;
use crate::events::{Observer, Record};
use crate::loss::argmax;
use crate::nets::{Mode, Network};
use crate::ops::mem::{host, view};
use crate::ops::place::Gallery;
use crate::rng::{Stream, Streams, permutation};
use crate::{Error, Result};
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
    /// α of mixup; 0 is off.
    pub mixup: f64,
    /// Share of the target spread evenly over all classes.
    pub label_smoothing: f64,
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
            mixup: 0.0,
            label_smoothing: 0.0,
            average: 0.0,
        }
    }
}

impl SupervisedRecipe {
    /// Updates per pass over `images` images: a last, smaller batch counts if it has at least two.
    pub fn steps_per_epoch(&self, images: usize) -> usize {
        let batch = self.batch.max(1);
        images / batch + usize::from(images % batch >= 2)
    }

    /// # Errors
    /// The first value that is out of its range, with the range.
    pub fn check(&self) -> Result<()> {
        let range = |key: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid(key, format!("{value}"), format!("must be within {low} to {high}")))
        };
        range("epochs", self.epochs as f64, 1.0, 1e6)?;
        range("batch", self.batch as f64, 2.0, 65_536.0)?;
        range("lr", self.lr, 0.0, 100.0)?;
        range("momentum", self.momentum, 0.0, 0.9999)?;
        range("weight_decay", self.weight_decay, 0.0, 1.0)?;
        range("mixup", self.mixup, 0.0, 100.0)?;
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
/// A recipe out of range, images that do not fit `input`, a loss that is no number again and again, an interruption.
pub fn supervised(
    network: Network,
    data: &Labelled,
    input: &Input,
    recipe: &SupervisedRecipe,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Trained> {
    recipe.check()?;
    check_fit(data, input)?;
    let [h, w, c] = input.dims;
    let need = Need::of(&network, &[h, w, c], Mode::Train { momentum: BN_MOMENTUM }, true)?;
    need.check("batch", recipe.batch.min(data.len()), [h, w])?;
    let streams = Streams::new(seed);
    let images = Gallery::new(&data.images.pixels, input.dims, &network.compute().device)?;
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
        let (x, targets) =
            batch_of(data, &images, batch, input, recipe, &mut streams.stream("train/batch", step as u64))?;
        let Some(report) = course.step(x, lr, Goal::Shares(&targets))? else { continue };
        let logits = host(&report.logits)?;
        let logits = view(&logits)?;
        let rows = logits.chunks_exact(input.classes).zip(batch);
        course.epoch.hits += rows.filter(|(r, i)| argmax(r) == data.labels[**i] as usize).count();
        course.epoch.loss += report.loss;
        let values = vec![("loss", report.loss), ("lr", lr * course.learner.factor())];
        observer.record(&Record { stage: STAGE, done: step + 1, total, images: batch.len(), values });
        observer.updated(STAGE, &course.learner)?;
        if i + 1 == per_epoch {
            let Epoch { loss, hits } = std::mem::take(&mut course.epoch);
            let values = vec![("loss", loss / per_epoch as f64), ("accuracy", hits as f64 / order.len() as f64)];
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
    hits: usize,
}

impl Course {
    fn new(network: Network, recipe: &SupervisedRecipe) -> Result<Self> {
        let SupervisedRecipe { momentum, nesterov, weight_decay, decay, average, .. } = *recipe;
        let rule = LearnerRule { momentum, nesterov, weight_decay, decay, average };
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
        to.owned("losses", &[self.epoch.loss, self.sound.loss]);
        Ok(())
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        from.restore("learner", &mut self.learner)?;
        from.restore("clock", &mut self.clock)?;
        let hits: [usize; 2] = from.value("hits")?;
        let losses: Vec<f64> = from.array("losses")?;
        let [own, sound] = losses[..] else { return Err(from.fault("losses", "there are not two")) };
        (self.epoch, self.sound) = (Epoch { loss: own, hits: hits[0] }, Epoch { loss: sound, hits: hits[1] });
        Ok(())
    }
}

fn check_fit(data: &Labelled, input: &Input) -> Result<()> {
    let found = [data.images.height, data.images.width, data.images.channels];
    if found != input.dims {
        let hint = format!("the network takes {:?}; resize the images or choose another network", input.dims);
        return Err(Error::invalid(data.name.clone(), format!("images of {found:?}"), hint));
    }
    if data.class_names.len() != input.classes || data.len() < 2 {
        let found = format!("{} images of {} classes", data.len(), data.class_names.len());
        return Err(Error::invalid(data.name.clone(), found, format!("the network has {} classes", input.classes)));
    }
    Ok(())
}

/// Augmented, normalised images and soft targets `[N·K]`.
fn batch_of(
    data: &Labelled,
    images: &Gallery,
    batch: &[usize],
    input: &Input,
    recipe: &SupervisedRecipe,
    rng: &mut Stream,
) -> Result<(Tensor, Vec<f64>)> {
    let places = recipe.augment.draw(batch.len(), rng);
    let mut x = images.place(batch, &places, &input.mean, &input.std)?;
    let k = input.classes;
    let even = recipe.label_smoothing / k as f64;
    let mut targets = vec![even as f32; batch.len() * k];
    for (row, &i) in targets.chunks_exact_mut(k).zip(batch) {
        row[data.labels[i] as usize] += (1.0 - recipe.label_smoothing) as f32;
    }
    if recipe.mixup > 0.0 {
        let mixing = Mixing::draw(recipe.mixup, batch.len(), rng);
        x = mixing.images(&x)?;
        targets = mixing.apply(&targets);
    }
    Ok((x, targets.into_iter().map(f64::from).collect()))
}
