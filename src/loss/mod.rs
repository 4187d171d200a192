//! Losses: each returns its value and the gradient with respect to its inputs, in closed form.
//!
//! Logits are `[N, K]` and small beside the networks, so everything here is computed in f64 and returned as f32. Where they lie
//! on a card, gradients are computed there in f32, and values wait there until somebody reads them.

mod activation;
mod adversarial;
mod attention;
#[cfg(feature = "cuda")]
mod bn_on_card;
mod bn_stats;
mod contrast;
mod cross_entropy;
mod disagreement;
mod distillation;
mod entropy;
mod image_prior;
mod jensen_shannon;
mod logit_distance;
#[cfg(test)]
mod method_tests;
mod modulation;
mod relative_error;
#[cfg(test)]
mod signal_tests;
#[cfg(test)]
mod tests;

pub use activation::activation;
pub use adversarial::Adversarial;
pub use attention::attention;
pub use bn_stats::{BnForm, BnStatsLoss, LayerStatistics};
pub use contrast::contrast;
pub use cross_entropy::{cross_entropy, soft_cross_entropy};
pub use disagreement::{Disagreement, disagreement, masked_disagreement};
pub use distillation::{Matching, kl_per_sample, matching_loss};
pub use entropy::{answer_entropy, class_balance};
pub use image_prior::{Variation, image_norm, total_variation};
pub use jensen_shannon::jensen_shannon;
pub use logit_distance::logit_distance;
pub use modulation::{Diversity, Modulation, PhiNorm};
pub use relative_error::relative_error;

use crate::ops::mem;
use crate::{Error, Result};
use candle_core::Tensor;

/// A number that may still lie on a card, in parts.
pub enum Value {
    Known(f64),
    /// The sum of these.
    Sum(Tensor),
}

impl Value {
    /// The number; waits for the card.
    pub fn get(&self) -> Result<f64> {
        match self {
            Self::Known(value) => Ok(*value),
            Self::Sum(parts) => Ok(mem::view(&mem::host(parts)?)?.iter().map(|v| f64::from(*v)).sum()),
        }
    }
}

/// A scalar loss and its gradient.
pub struct Loss {
    pub value: Value,
    pub grad: Tensor,
}

#[cfg(feature = "cuda")]
impl From<crate::ops::cuda::loss::Rowwise> for Loss {
    fn from(found: crate::ops::cuda::loss::Rowwise) -> Self {
        Self { value: Value::Sum(found.values), grad: found.grad }
    }
}

/// Rows of a logit matrix in f64.
pub(crate) struct Rows {
    pub n: usize,
    pub k: usize,
    values: Vec<f64>,
}

impl Rows {
    pub(crate) fn of(t: &Tensor) -> Result<Self> {
        let (n, k) = size(t)?;
        let t = mem::host(t)?;
        let values = mem::view(&t)?.iter().map(|v| f64::from(*v)).collect();
        Ok(Self { n, k, values })
    }

    pub(crate) fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.k..(i + 1) * self.k]
    }

    /// Share of rows whose first largest entries are at the same place.
    fn agreement(&self, other: &Rows) -> f64 {
        let same = (0..self.n).filter(|&i| argmax(self.row(i)) == argmax(other.row(i))).count();
        same as f64 / self.n.max(1) as f64
    }

    fn same_shape(&self, other: &Rows) -> Result<()> {
        if (self.n, self.k) == (other.n, other.k) {
            return Ok(());
        }
        Err(Error::shape("loss", format!("[{}, {}] against [{}, {}]", self.n, self.k, other.n, other.k)))
    }
}

/// N and K of logits.
fn size(t: &Tensor) -> Result<(usize, usize)> {
    match t.dims() {
        &[n, k] => Ok((n, k)),
        other => Err(Error::shape("loss", format!("expected logits [N, K], found {other:?}"))),
    }
}

/// log softmax(row / t)
pub(crate) fn log_softmax(row: &[f64], t: f64) -> Vec<f64> {
    let max = row.iter().fold(f64::NEG_INFINITY, |m, v| m.max(v / t));
    let log_sum = row.iter().map(|v| (v / t - max).exp()).sum::<f64>().ln() + max;
    row.iter().map(|v| v / t - log_sum).collect()
}

/// softmax(row)
pub(crate) fn softmax(row: &[f64]) -> Vec<f64> {
    log_softmax(row, 1.0).into_iter().map(f64::exp).collect()
}

/// Index of the first largest value.
pub fn argmax<T: PartialOrd + Copy>(row: &[T]) -> usize {
    let mut best = 0;
    for (i, v) in row.iter().enumerate() {
        if *v > row[best] {
            best = i;
        }
    }
    best
}

pub(crate) fn matrix(values: Vec<f64>, n: usize, k: usize) -> Result<Tensor> {
    mem::tensor(values.into_iter().map(|v| v as f32).collect(), (n, k))
}

/// [`matrix`] where `like` lies.
fn matrix_on(values: Vec<f64>, n: usize, k: usize, like: &Tensor) -> Result<Tensor> {
    Ok(matrix(values, n, k)?.to_device(like.device())?)
}

/// Weight of sample `i`, 1 without weights.
fn weight(weights: Option<&[f32]>, i: usize) -> f64 {
    weights.map_or(1.0, |w| f64::from(w[i]))
}

fn check_weights(weights: Option<&[f32]>, n: usize) -> Result<()> {
    match weights {
        Some(w) if w.len() != n => Err(Error::shape("loss", format!("{} weights for {n} samples", w.len()))),
        _ => Ok(()),
    }
}
