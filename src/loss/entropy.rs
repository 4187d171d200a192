//! Entropies of the teacher's answers: each answer should be sure, all together should be even.

use super::rows::{CHUNK, Rows, Weights, in_chunks, like, softmax_of};
use super::{Loss, Value};
use crate::Result;
use crate::ops::logits::Slope;
use candle_core::Tensor;

/// `(1/N) Σ wᵢ · H(softmax(logitsᵢ))`, the mean entropy `H = −Σ p ln p` of single answers: small where the teacher is sure (Choi et al.,
/// "Data-Free Network Quantization with Adversarial Knowledge Distillation", 2020, equation 6), with a weight per row or per
/// image.
pub fn answer_entropy(logits: &Tensor, weights: Option<&[f32]>) -> Result<Loss> {
    let rows = Rows::of(logits)?;
    let (weights, k) = (Weights::of(weights, logits)?, rows.k);
    let (parts, [grad]) = in_chunks([&rows], [k], |range, [x], [grad]| {
        let found = softmax_of(x, k, &weights.shares(&range, 1.0), Slope::Entropy, grad);
        range.zip(found.entropy).map(|(row, entropy)| weights.share(row) * f64::from(entropy)).sum::<f64>()
    })?;
    Ok(Loss { value: Value::Known(parts.iter().sum()), grad: like(grad, logits)? })
}

/// `Σ p̄ ln p̄` of the mean answer `p̄`, natural logarithm: smallest (−ln K) where all classes come up alike, the "information
/// entropy loss" of DAFL (Chen et al., "Data-Free Learning of Student Networks", 2019, equation 6).
pub fn class_balance(logits: &Tensor) -> Result<Loss> {
    let rows = Rows::of(logits)?;
    let n = rows.n as f64;
    let mass = rows.mass()?;
    let mean: Vec<f64> = mass.into_iter().map(|mass| mass / n).collect();
    // A class that nobody ever takes adds 0, and its infinite slope meets probabilities of 0.
    let log: Vec<f64> = mean.iter().map(|m| m.max(f64::MIN_POSITIVE).ln()).collect();
    let value = mean.iter().zip(&log).map(|(m, l)| m * l).sum();
    let k = rows.k.max(1);
    let (_, [grad]) = in_chunks([&rows], [rows.k], |_, [x], [grad]| {
        softmax_of(x, k, &[1.0; CHUNK], Slope::Probability, grad);
        for p in grad.chunks_exact_mut(k) {
            let expected: f64 = p.iter().zip(&log).map(|(p, l)| f64::from(*p) * l).sum();
            p.iter_mut().zip(&log).for_each(|(p, l)| *p = (f64::from(*p) * (l - expected) / n) as f32);
        }
    })?;
    Ok(Loss { value: Value::Known(value), grad: like(grad, logits)? })
}
