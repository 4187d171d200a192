//! Losses: each returns its value and the gradient with respect to its inputs, in closed form.
//!
//! Logits are `[N, K]` and small beside the networks, so everything here is computed in f64 and returned as f32.

mod bn_stats;
mod cross_entropy;
mod disagreement;
mod distillation;
mod modulation;
#[cfg(test)]
mod tests;

pub use bn_stats::{BnForm, BnStatsLoss, LayerStatistics};
pub use cross_entropy::{cross_entropy, soft_cross_entropy};
pub use disagreement::{Disagreement, masked_disagreement};
pub use distillation::{Matching, kl_per_sample, matching_loss};
pub use modulation::{Diversity, Modulation, PhiNorm};

use crate::ops::mem;
use crate::{Error, Result};
use candle_core::Tensor;

/// A scalar loss and its gradient.
pub struct Loss {
    pub value: f64,
    pub grad: Tensor,
}

/// Rows of a logit matrix in f64.
pub(crate) struct Rows {
    pub n: usize,
    pub k: usize,
    values: Vec<f64>,
}

impl Rows {
    pub(crate) fn of(t: &Tensor) -> Result<Self> {
        let &[n, k] = t.dims() else {
            return Err(Error::shape("loss", format!("expected logits [N, K], found {:?}", t.dims())));
        };
        Ok(Self { n, k, values: mem::view(t)?.iter().map(|v| f64::from(*v)).collect() })
    }

    pub(crate) fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.k..(i + 1) * self.k]
    }

    fn same_shape(&self, other: &Rows) -> Result<()> {
        if (self.n, self.k) == (other.n, other.k) {
            return Ok(());
        }
        Err(Error::shape("loss", format!("[{}, {}] against [{}, {}]", self.n, self.k, other.n, other.k)))
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
