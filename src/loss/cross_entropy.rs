//! Cross-entropy against labels or soft targets.

use super::{Loss, Rows, Value, check_weights, log_softmax, matrix, size, weight};
#[cfg(feature = "cuda")]
use crate::ops::{cuda::loss as card, mem};
use crate::{Error, Result};
use candle_core::Tensor;

/// `(1/N) Σ wᵢ · CE(softmax(logitsᵢ), labelᵢ)`; the sum of weights is not divided out.
///
/// # Errors
/// A label outside `0..K`, or shapes that do not fit.
pub fn cross_entropy(logits: &Tensor, labels: &[u32], weights: Option<&[f32]>) -> Result<Loss> {
    let (n, k) = size(logits)?;
    check_weights(weights, n)?;
    if labels.len() != n {
        return Err(Error::shape("cross_entropy", format!("{} labels for {n} rows", labels.len())));
    }
    if let Some(bad) = labels.iter().find(|y| **y as usize >= k) {
        return Err(Error::shape("cross_entropy", format!("label {bad} of {k} classes")));
    }
    #[cfg(feature = "cuda")]
    if logits.device().is_cuda() {
        let weights = card::brought(weights, logits)?;
        return card::cross_entropy(logits, &card::Targets::Labels(labels), weights.as_ref()).map(Loss::from);
    }
    let rows = Rows::of(logits)?;
    let mut targets = vec![0f64; rows.n * rows.k];
    for (i, y) in labels.iter().enumerate() {
        targets[i * rows.k + *y as usize] = 1.0;
    }
    against(&rows, &targets, weights)
}

/// Cross-entropy against rows of probabilities `[N, K]` (mixup, label smoothing).
pub fn soft_cross_entropy(logits: &Tensor, targets: &[f64], weights: Option<&[f32]>) -> Result<Loss> {
    let (n, k) = size(logits)?;
    check_weights(weights, n)?;
    if targets.len() != n * k {
        return Err(Error::shape("cross_entropy", format!("{} targets for {n}x{k}", targets.len())));
    }
    #[cfg(feature = "cuda")]
    if logits.device().is_cuda() {
        let shares: Vec<f32> = targets.iter().map(|t| *t as f32).collect();
        let shares = mem::tensor(shares, (n, k))?.to_device(logits.device())?;
        let weights = card::brought(weights, logits)?;
        return card::cross_entropy(logits, &card::Targets::Shares(&shares), weights.as_ref()).map(Loss::from);
    }
    let rows = Rows::of(logits)?;
    against(&rows, targets, weights)
}

fn against(rows: &Rows, targets: &[f64], weights: Option<&[f32]>) -> Result<Loss> {
    let (n, k) = (rows.n, rows.k);
    let mut value = 0.0;
    let mut grad = Vec::with_capacity(n * k);
    for i in 0..n {
        let log_p = log_softmax(rows.row(i), 1.0);
        let target = &targets[i * k..(i + 1) * k];
        let mass: f64 = target.iter().sum();
        let w = weight(weights, i) / n as f64;
        value -= w * target.iter().zip(&log_p).map(|(t, l)| t * l).sum::<f64>();
        grad.extend(log_p.iter().zip(target).map(|(l, t)| w * (mass * l.exp() - t)));
    }
    Ok(Loss { value: Value::Known(value), grad: matrix(grad, n, k)? })
}
