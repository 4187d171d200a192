//! Supervised training on labelled images: baselines and the teachers we ship.

use super::{Decay, Goal, Schedule, Sgd, Stepper, WeightAverage};
use crate::augment::{CropFlip, Mixing};
use crate::data::Labelled;
use crate::distill::Input;
use crate::events::{Observer, Pupil, Record, check_interrupt};
use crate::loss::argmax;
use crate::model::write_weights;
use crate::nets::Network;
use crate::ops::mem::{host, view};
use crate::ops::place::Gallery;
use crate::rng::{Stream, Streams, permutation};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

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

/// Trains `network` on `data` for all epochs and returns what to keep (the weight average, if there is one).
///
/// Every epoch is a random order of all images; the last, smaller batch is kept if it has at least two images.
///
/// # Errors
/// A recipe out of range, images that do not fit `input`, a loss that is no number, an interruption.
pub fn supervised(
    network: Network,
    data: &Labelled,
    input: &Input,
    recipe: &SupervisedRecipe,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Network> {
    recipe.check()?;
    check_fit(data, input)?;
    let streams = Streams::new(seed);
    let mut sgd = Sgd::new(recipe.momentum as f32, recipe.nesterov, recipe.weight_decay as f32, recipe.decay);
    let mut average = (recipe.average > 0.0).then(|| WeightAverage::new(&network, recipe.average)).transpose()?;
    let images = Gallery::new(&data.images.pixels, input.dims, &network.compute().device)?;
    let mut stepper = Stepper::new();
    let per_epoch = recipe.steps_per_epoch(data.len());
    let total = per_epoch * recipe.epochs;
    for epoch in 0..recipe.epochs {
        let order = permutation(data.len(), &mut streams.stream("train/order", epoch as u64));
        let (mut loss, mut hits) = (0.0, 0usize);
        for (i, batch) in order.chunks(recipe.batch).take(per_epoch).enumerate() {
            check_interrupt()?;
            let step = epoch * per_epoch + i;
            let mut rng = streams.stream("train/batch", step as u64);
            let lr = recipe.lr * recipe.schedule.factor(step, total, recipe.warmup);
            let (x, targets) = batch_of(data, &images, batch, input, recipe, &mut rng)?;
            let report = stepper.step(&network, &mut sgd, x, lr as f32, Goal::Shares(&targets))?;
            if !report.loss.is_finite() {
                let found = format!("the loss is {} in epoch {}", report.loss, epoch + 1);
                return Err(Error::Failed { found, hint: "lower the learning rate".into() });
            }
            if let Some(average) = &mut average {
                average.update(&network)?;
            }
            let logits = host(&report.logits)?;
            let logits = view(&logits)?;
            let rows = logits.chunks_exact(input.classes).zip(batch);
            hits += rows.filter(|(r, i)| argmax(r) == data.labels[**i] as usize).count();
            loss += report.loss;
            let values = vec![("loss", report.loss), ("lr", lr)];
            observer.record(&Record { stage: "train", done: step + 1, total, images: batch.len(), values });
            observer.updated("train", &InTraining { network: &network, average: average.as_ref() })?;
        }
        let values = vec![("loss", loss / per_epoch as f64), ("accuracy", hits as f64 / order.len() as f64)];
        observer.record(&Record { stage: "epoch", done: epoch + 1, total: recipe.epochs, images: 0, values });
    }
    match average {
        Some(a) => a.network(&network),
        None => Ok(network),
    }
}

/// What would be kept now.
struct InTraining<'a> {
    network: &'a Network,
    average: Option<&'a WeightAverage>,
}

impl Pupil for InTraining<'_> {
    fn write(&self, path: &Path) -> Result<()> {
        match self.average {
            Some(average) => write_weights(&average.network(self.network)?, path),
            None => write_weights(self.network, path),
        }
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
) -> Result<(candle_core::Tensor, Vec<f64>)> {
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
