//! Cross-entropy of labelled pixels: void ones count nowhere, rare classes and pixels that are not yet known may count more.

use super::rows::{Rows, like, size, with_grads};
use super::{Loss, UNLABELLED, Value, cross_entropy};
use crate::{Error, Result};
use candle_core::Tensor;

/// What keeps the weight of a class without pixels finite: weights are below 1/ln 1.02 = 50.5.
const OFFSET: f64 = 1.02;

/// `Σ w_y·(1 − p_y)^γ·(−ln p_y) / Σ w_y` over the rows that have a label y; rows of label `void` have none. Without weights and
/// with γ = 0 that is plain cross-entropy, with γ the focal loss (Lin et al., "Focal Loss for Dense Object Detection", 2017,
/// equation 4).
///
/// `labels` has one entry per row, `weights` one per class. Without any label the loss is 0.
///
/// # Errors
/// A label outside `0..K` that is not `void`, or shapes that do not fit.
pub fn labelled_pixels(logits: &Tensor, labels: &[u8], void: u8, weights: Option<&[f32]>, focal: f64) -> Result<Loss> {
    let (_, n, k) = size(logits)?;
    if labels.len() != n || weights.is_some_and(|w| w.len() != k) {
        let found =
            format!("{} labels for {n} rows, {:?} weights for {k} classes", labels.len(), weights.map(<[f32]>::len));
        return Err(Error::shape("labelled_pixels", found));
    }
    if let Some(bad) = labels.iter().find(|y| **y != void && usize::from(**y) >= k) {
        return Err(Error::shape("labelled_pixels", format!("label {bad} of {k} classes")));
    }
    let weight = |y: u8| match weights {
        _ if y == void => 0.0,
        Some(w) => f64::from(w[usize::from(y)]),
        None => 1.0,
    };
    let total = labels.iter().map(|y| weight(*y)).sum::<f64>().max(f64::MIN_POSITIVE);
    if focal == 0.0 {
        // The mean over all rows that `cross_entropy` takes is undone in the weights.
        let shares: Vec<f32> = labels.iter().map(|y| (n as f64 * weight(*y) / total) as f32).collect();
        let label = |y: &u8| if *y == void { UNLABELLED } else { u32::from(*y) };
        return cross_entropy(logits, &labels.iter().map(label).collect::<Vec<_>>(), Some(&shares));
    }
    let rows = Rows::of(logits)?;
    let (value, [grad]) = with_grads([&rows], |i, [row], [grad]| {
        let (y, w) = (usize::from(labels[i]), weight(labels[i]) / total);
        if labels[i] == void {
            return 0.0;
        }
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        grad.iter_mut().zip(row).for_each(|(g, v)| *g = (v - max).exp());
        let sum: f64 = grad.iter().sum();
        let log_p = row[y] - max - sum.ln();
        let (factor, slope) = focusing(log_p, focal);
        for (c, g) in grad.iter_mut().enumerate() {
            *g = w * slope * (if c == y { 1.0 } else { 0.0 } - *g / sum);
        }
        -w * factor * log_p
    })?;
    Ok(Loss { value: Value::Known(value), grad: like(grad, logits)? })
}

/// `(1 − p)^γ`, and `p` times the derivative of `−(1 − p)^γ·ln p` with respect to p, for `log_p = ln p`.
fn focusing(log_p: f64, gamma: f64) -> (f64, f64) {
    let rest = -log_p.exp_m1();
    if rest <= 0.0 {
        return (0.0, 0.0);
    }
    let factor = rest.powf(gamma);
    (factor, gamma * log_p.exp() * factor / rest * log_p - factor)
}

/// `1 / ln(1.02 + share of the class among the labelled pixels)` for every class (Paszke et al., "ENet", 2016, section 5.2), in
/// units of their mean.
pub fn class_weights(labels: &[u8], void: u8, classes: usize) -> Vec<f32> {
    let mut counts = vec![0u64; classes];
    for y in labels.iter().filter(|y| **y != void) {
        if let Some(count) = counts.get_mut(usize::from(*y)) {
            *count += 1;
        }
    }
    let all = counts.iter().sum::<u64>().max(1) as f64;
    let weights: Vec<f64> = counts.iter().map(|count| 1.0 / (OFFSET + *count as f64 / all).ln()).collect();
    let mean = weights.iter().sum::<f64>() / classes.max(1) as f64;
    weights.into_iter().map(|w| (w / mean) as f32).collect()
}
