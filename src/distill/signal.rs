//! What a student hears of its teacher beside the answers, for real images that have nothing to do with the teacher's task: on
//! these a softmax is often saturated or flat, while logits, maps and features still say something (Begon & Geurts, "Distillation
//! from heterogeneous unlabeled collections", 2022).
//!
//! | signal | loss, beside the matching of answers |
//! |---|---|
//! | `answers` | - |
//! | `logits` | `logits` times the mean squared difference of logits, the mean of each image taken off |
//! | `features` | that, `attention` times the mean over stages of [`attention`], and `features` times [`relative_error`] of the last features through a linear map that learns along |
//!
//! On images that inversion made, features harm (they are what inversion has bent), so sets of such are refused.

use super::Input;
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::loss::{Loss, Matching, attention, matching_loss, relative_error};
use crate::nets::{Forward, Mode, Network, projection};
use crate::ops::mem::tensor;
use crate::rng::Streams;
use crate::set::SyntheticSet;
use crate::tape::{Tape, Var};
use crate::teacher::{Teacher, Told};
use crate::train::{BN_MOMENTUM, Beside, Decay, Sgd};
use crate::{Error, Result};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How much of the teacher is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignalKind {
    #[default]
    Answers,
    Logits,
    Features,
}

/// The signal with its weights. Every field is a recipe key below `student.signal`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Signal {
    pub kind: SignalKind,
    /// Weight of the centred logits.
    pub logits: f64,
    /// Weight of the attention maps.
    pub attention: f64,
    /// Weight of the last features.
    pub features: f64,
    /// Whether sets with inverted images are taken, too.
    pub inverted: bool,
}

impl Default for Signal {
    fn default() -> Self {
        Self { kind: SignalKind::Answers, logits: 0.1, attention: 250.0, features: 1.0, inverted: false }
    }
}

impl Signal {
    /// Answers alone.
    pub fn is_plain(&self) -> bool {
        self.kind == SignalKind::Answers
    }

    /// # Errors
    /// A weight out of its range.
    pub fn check(&self) -> Result<()> {
        for (key, value) in [("logits", self.logits), ("attention", self.attention), ("features", self.features)] {
            if !(0.0..=1e5).contains(&value) {
                let what = format!("student.signal.{key}");
                return Err(Error::invalid(what, format!("{value}"), "must be within 0 to 100000"));
            }
        }
        Ok(())
    }

    /// # Errors
    /// A richer signal than answers for a set with inverted images, unless the recipe takes them; features where the teacher
    /// does not answer live.
    pub fn check_set(&self, set: &SyntheticSet, live: bool) -> Result<()> {
        if self.is_plain() {
            return Ok(());
        }
        if set.is_inverted() && !self.inverted {
            let hint = "on such images it harms: leave it out, or say --set student.signal.inverted=true to try";
            return Err(Error::invalid("signal", "the set has images that inversion made, or may have made", hint));
        }
        if self.kind == SignalKind::Features && !live {
            let hint = "take --answers live, or --signal logits";
            return Err(Error::invalid("signal", "recorded answers have no features", hint));
        }
        Ok(())
    }
}

/// The comparisons of a run beside that of answers.
pub struct Hints {
    signal: Signal,
    /// Stages of the student and of the teacher whose maps have the same grid.
    stages: Vec<[usize; 2]>,
    projection: Option<Projection>,
}

/// The linear map from the student's last features to the teacher's, which is thrown away in the end.
struct Projection {
    network: Network,
    sgd: Sgd,
}

/// What a network tells of images: its features per image, and the grids of its stages.
struct Outline {
    features: Option<usize>,
    grids: Vec<[usize; 2]>,
}

impl Outline {
    fn of(network: &Network, [h, w, c]: [usize; 3]) -> Result<Self> {
        let tape = Tape::new();
        let mut f = Forward::new(&tape, &network.weights, Mode::Frozen).with_stages();
        let x = network.compute().bring(&tensor(vec![0.0; h * w * c], (1, h, w, c))?)?;
        network.forward(&mut f, Var::constant(x))?;
        let grids = f.stages.unwrap_or_default().iter().map(|map| [map.dims()[1], map.dims()[2]]).collect();
        Ok(Self { features: f.features.map(|features| features.dims()[1]), grids })
    }
}

impl Hints {
    /// What `signal` compares of `student` and `teacher` (which is needed for features); the projection starts from fresh
    /// weights. `None` for answers alone.
    ///
    /// # Errors
    /// Features where one of the networks tells neither features nor maps of a common grid.
    pub fn new(
        signal: Signal,
        student: &Network,
        teacher: Option<&Teacher>,
        input: &Input,
        streams: &Streams,
    ) -> Result<Option<Self>> {
        let (SignalKind::Features, Some(teacher)) = (signal.kind, teacher) else {
            let hints = Self { signal, stages: Vec::new(), projection: None };
            return Ok((!signal.is_plain()).then_some(hints));
        };
        let ([h, w, c], [height, width]) = (input.dims, input.sees);
        let (own, its) = (Outline::of(student, [height, width, c])?, Outline::of(&teacher.network, [h, w, c])?);
        let pairs = (0..own.grids.len()).flat_map(|i| (0..its.grids.len()).map(move |j| [i, j]));
        let stages: Vec<[usize; 2]> = pairs.filter(|[i, j]| own.grids[*i] == its.grids[*j]).collect();
        let projection = match (own.features, its.features) {
            (Some(from), Some(to)) => Some(Projection::new(from, to, student, streams)?),
            _ => None,
        };
        if projection.is_none() && stages.is_empty() {
            let found = "student and teacher have neither features nor maps of the same grid to compare";
            return Err(Error::invalid("signal features", found, "take --signal logits"));
        }
        Ok(Some(Self { signal, stages, projection }))
    }

    /// Whether the teacher has to tell more than answers.
    pub fn wants_features(&self) -> bool {
        self.signal.kind == SignalKind::Features
    }

    /// The comparison of one batch, with a weight per image.
    pub fn of_batch<'a>(&'a mut self, told: &'a Told, weights: Option<&'a [f32]>) -> impl Beside + 'a {
        BatchHints { hints: self, told, weights }
    }
}

impl Projection {
    fn new(from: usize, to: usize, student: &Network, streams: &Streams) -> Result<Self> {
        let mut rng = streams.stream("distill/projection", 0);
        let network = Network::init(Arc::new(projection(from, to)), &mut rng)?.to(student.compute())?;
        Ok(Self { network, sgd: Sgd::new(0.9, true, 0.0, Decay::All) })
    }

    /// The loss of the student's features `[N, from]` and its gradient with respect to them; the projection makes its own step.
    fn step(&mut self, features: &Tensor, goal: &Tensor, weights: &[f32], lr: f32) -> Result<(f64, Tensor)> {
        let tape = Tape::new();
        let mut f = Forward::new(&tape, &self.network.weights, Mode::Train { momentum: BN_MOMENTUM });
        let x = tape.leaf(features.clone());
        let y = self.network.forward(&mut f, x.clone())?;
        let Loss { value, grad } = relative_error(&y.tensor()?, goal, Some(weights))?;
        let mut grads = tape.backward([(y, grad)])?;
        self.sgd.step(&self.network.weights, &f.gradients(&mut grads), lr)?;
        let missing = || Error::shape("projection", "no gradient reaches the features");
        Ok((value.get()?, grads.take(&x).ok_or_else(missing)?))
    }
}

impl Resumable for Hints {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        let Some(projection) = &self.projection else { return Ok(()) };
        to.part("weights", &projection.network.weights)?;
        to.part("velocity", &projection.sgd)
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        let Some(projection) = &mut self.projection else { return Ok(()) };
        from.restore("weights", &mut projection.network.weights)?;
        from.restore("velocity", &mut projection.sgd)
    }
}

struct BatchHints<'a> {
    hints: &'a mut Hints,
    told: &'a Told,
    weights: Option<&'a [f32]>,
}

impl BatchHints<'_> {
    /// The weights of the images, all times `factor`.
    fn weights(&self, images: usize, factor: f64) -> Vec<f32> {
        let one = |i: usize| self.weights.map_or(1.0, |weights| f64::from(weights[i]));
        (0..images).map(|i| (factor * one(i)) as f32).collect()
    }
}

impl Beside for BatchHints<'_> {
    fn compare(&mut self, logits: &Var, f: &Forward, lr: f32) -> Result<(f64, Vec<(Var, Tensor)>)> {
        let (signal, images) = (self.hints.signal, logits.dims()[0]);
        // The matching of logits is half of the mean squared difference.
        let weights = self.weights(images, 2.0 * signal.logits);
        let centred = matching_loss(&logits.tensor()?, &self.told.answers, Matching::Logits, Some(&weights))?;
        let mut sum = centred.value.get()?;
        let mut seeds = vec![(logits.clone(), centred.grad)];

        let weights = self.weights(images, signal.attention / self.hints.stages.len().max(1) as f64);
        let maps = f.stages.as_deref().unwrap_or_default();
        for &[own, its] in &self.hints.stages {
            let Loss { value, grad } = attention(&maps[own].tensor()?, &self.told.stages[its], Some(&weights))?;
            sum += value.get()?;
            seeds.push((maps[own].clone(), grad));
        }
        let weights = self.weights(images, signal.features);
        if let (Some(projection), Some(own), Some(its)) = (&mut self.hints.projection, &f.features, &self.told.features)
        {
            let (value, grad) = projection.step(&own.tensor()?, its, &weights, lr)?;
            sum += value;
            seeds.push((own.clone(), grad));
        }
        Ok((sum, seeds))
    }
}

#[cfg(test)]
#[path = "signal_tests.rs"]
mod tests;
