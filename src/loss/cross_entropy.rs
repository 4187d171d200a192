//! Cross-entropy against labels or soft targets.

use super::rows::{Rows, Weights, in_chunks, like, log_softmax, size, softmax_of, with_grads};
use super::{Loss, Value};
use crate::ops::logits::Slope;
#[cfg(feature = "cuda")]
use crate::ops::{cuda::loss as card, mem};
use crate::{Error, Result};
use candle_core::Tensor;

/// The label of a row that has none, and costs nothing.
pub const UNLABELLED: u32 = u32::MAX;

/// `(1/N) Σ wᵢ · CE(softmax(logitsᵢ), labelᵢ)` over the N rows; the sum of weights is not divided out. There is a label per
/// row, which may be [`UNLABELLED`], and a weight per row or per image.
///
/// # Errors
/// A label outside `0..K`, or shapes that do not fit.
pub fn cross_entropy(logits: &Tensor, labels: &[u32], weights: Option<&[f32]>) -> Result<Loss> {
    let (_, n, k) = size(logits)?;
    let weights = Weights::of(weights, logits)?;
    if labels.len() != n {
        return Err(Error::shape("cross_entropy", format!("{} labels for {n} rows", labels.len())));
    }
    if let Some(bad) = labels.iter().find(|y| **y as usize >= k && **y != UNLABELLED) {
        return Err(Error::shape("cross_entropy", format!("label {bad} of {k} classes")));
    }
    #[cfg(feature = "cuda")]
    if logits.device().is_cuda() {
        let (labels, weights) = without_unlabelled(labels, weights.per_row());
        let weights = card::brought(weights.as_deref(), logits)?;
        let flat = super::rows::flat(logits)?;
        return Loss::on_card(card::cross_entropy(&flat, &card::Targets::Labels(&labels), weights.as_ref())?, logits);
    }
    let (parts, [grad]) = in_chunks([&Rows::of(logits)?], [k], |range, [x], [grad]| {
        let labels = &labels[range.clone()];
        let mut shares = weights.shares(&range, 1.0);
        shares.iter_mut().zip(labels).filter(|(_, y)| **y == UNLABELLED).for_each(|(share, _)| *share = 0.0);
        let found = softmax_of(x, k, &shares, Slope::Probability, grad);
        let mut sum = 0.0;
        for (row, label) in labels.iter().enumerate() {
            if *label == UNLABELLED {
                // Even where its logits are no numbers.
                grad[row * k..][..k].fill(0.0);
                continue;
            }
            let at = |class: usize| row * k + class;
            grad[at(*label as usize)] -= shares[row];
            let [best, own] = [found.best[row] as usize, *label as usize].map(|class| f64::from(x[at(class)]));
            sum += weights.share(range.start + row) * (best - own + f64::from(found.log_sum[row]));
        }
        sum
    })?;
    Ok(Loss { value: Value::Known(parts.iter().sum()), grad: like(grad, logits)? })
}

/// Any label and a weight of 0 for what has none: the kernel knows no such rows.
#[cfg(feature = "cuda")]
fn without_unlabelled<'a>(
    labels: &'a [u32],
    weights: Option<std::borrow::Cow<'a, [f32]>>,
) -> (std::borrow::Cow<'a, [u32]>, Option<std::borrow::Cow<'a, [f32]>>) {
    if !labels.contains(&UNLABELLED) {
        return (labels.into(), weights);
    }
    let weight = |(i, y): (usize, &u32)| match y {
        &UNLABELLED => 0.0,
        _ => weights.as_ref().map_or(1.0, |w| w[i]),
    };
    let weights: Vec<f32> = labels.iter().enumerate().map(weight).collect();
    let labels: Vec<u32> = labels.iter().map(|y| if *y == UNLABELLED { 0 } else { *y }).collect();
    (labels.into(), Some(weights.into()))
}

/// Cross-entropy against rows of probabilities, `[N·K]` for N rows (mixup, label smoothing).
pub fn soft_cross_entropy(logits: &Tensor, targets: &[f64], weights: Option<&[f32]>) -> Result<Loss> {
    let (_, n, k) = size(logits)?;
    let weights = Weights::of(weights, logits)?;
    if targets.len() != n * k {
        return Err(Error::shape("cross_entropy", format!("{} targets for {n}x{k}", targets.len())));
    }
    #[cfg(feature = "cuda")]
    if logits.device().is_cuda() {
        let shares: Vec<f32> = targets.iter().map(|t| *t as f32).collect();
        let shares = mem::tensor(shares, (n, k))?.to_device(logits.device())?;
        let weights = card::brought(weights.per_row().as_deref(), logits)?;
        let flat = super::rows::flat(logits)?;
        return Loss::on_card(card::cross_entropy(&flat, &card::Targets::Shares(&shares), weights.as_ref())?, logits);
    }
    let (value, [grad]) = with_grads([&Rows::of(logits)?], |i, [row], [grad]| {
        let (log_p, target, w) = (log_softmax(row, 1.0), &targets[i * k..(i + 1) * k], weights.share(i));
        let mass: f64 = target.iter().sum();
        grad.iter_mut().zip(log_p.iter().zip(target)).for_each(|(g, (l, t))| *g = w * (mass * l.exp() - t));
        -w * target.iter().zip(&log_p).map(|(t, l)| t * l).sum::<f64>()
    })?;
    Ok(Loss { value: Value::Known(value), grad: like(grad, logits)? })
}
