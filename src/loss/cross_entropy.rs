//! Cross-entropy against labels or soft targets.

use super::{Loss, Rows, check_weights, log_softmax, matrix, weight};
use crate::{Error, Result};
use candle_core::Tensor;

/// `(1/N) Σ wᵢ · CE(softmax(logitsᵢ), labelᵢ)`; the sum of weights is not divided out.
///
/// # Errors
/// A label outside `0..K`, or shapes that do not fit.
pub fn cross_entropy(logits: &Tensor, labels: &[u32], weights: Option<&[f32]>) -> Result<Loss> {
    let rows = Rows::of(logits)?;
    check_weights(weights, rows.n)?;
    if labels.len() != rows.n {
        return Err(Error::shape("cross_entropy", format!("{} labels for {} rows", labels.len(), rows.n)));
    }
    if let Some(bad) = labels.iter().find(|y| **y as usize >= rows.k) {
        return Err(Error::shape("cross_entropy", format!("label {bad} of {} classes", rows.k)));
    }
    let mut targets = vec![0f64; rows.n * rows.k];
    for (i, y) in labels.iter().enumerate() {
        targets[i * rows.k + *y as usize] = 1.0;
    }
    against(&rows, &targets, weights)
}

/// Cross-entropy against rows of probabilities `[N, K]` (mixup, label smoothing).
pub fn soft_cross_entropy(logits: &Tensor, targets: &[f64], weights: Option<&[f32]>) -> Result<Loss> {
    let rows = Rows::of(logits)?;
    check_weights(weights, rows.n)?;
    if targets.len() != rows.n * rows.k {
        return Err(Error::shape("cross_entropy", format!("{} targets for {}x{}", targets.len(), rows.n, rows.k)));
    }
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
    Ok(Loss { value, grad: matrix(grad, n, k)? })
}
