//! Entropies of the teacher's answers: each answer should be sure, all together should be even.

use super::rows::{Rows, like, log_softmax, with_grads};
use super::{Loss, Value};
use crate::Result;
use candle_core::Tensor;

/// log softmax of a row over all its columns but `void`, whose probability is 0.
fn log_known(row: &[f64], void: Option<usize>) -> Vec<f64> {
    let Some(void) = void else { return log_softmax(row, 1.0) };
    let mut known = row.to_vec();
    // Not −∞, which times a probability of 0 is no number.
    known[void] = f64::MIN;
    log_softmax(&known, 1.0)
}

/// Mean entropy `−Σ p ln p` of single answers: small where the teacher is sure (Choi et al., "Data-Free Network Quantization
/// with Adversarial Knowledge Distillation", 2020, equation 6). The column `void`, if there is one, is left out: nothing is
/// gained by it.
pub fn answer_entropy(logits: &Tensor, void: Option<usize>) -> Result<Loss> {
    let rows = Rows::of(logits)?;
    let n = rows.n as f64;
    let (value, [grad]) = with_grads([&rows], |_, [row], [grad]| {
        let log_p = log_known(row, void);
        let entropy: f64 = -log_p.iter().map(|l| l.exp() * l).sum::<f64>();
        grad.iter_mut().zip(&log_p).for_each(|(g, l)| *g = -l.exp() * (l + entropy) / n);
        entropy / n
    })?;
    Ok(Loss { value: Value::Known(value), grad: like(grad, logits)? })
}

/// `Σ p̄ ln p̄` of the mean answer `p̄`, natural logarithm: smallest (−ln K) where all classes come up alike, the "information
/// entropy loss" of DAFL (Chen et al., "Data-Free Learning of Student Networks", 2019, equation 6). The column `void`, if
/// there is one, is left out: it has no part in what is even.
pub fn class_balance(logits: &Tensor, void: Option<usize>) -> Result<Loss> {
    let rows = Rows::of(logits)?;
    let n = rows.n as f64;
    let softmax = |row: &[f64]| log_known(row, void).into_iter().map(f64::exp);
    let mass = rows.fold(|row, sum| sum.iter_mut().zip(softmax(row)).for_each(|(sum, p)| *sum += p))?;
    let mean: Vec<f64> = mass.into_iter().map(|mass| mass / n).collect();
    // A class that nobody ever takes adds 0, and its infinite slope meets probabilities of 0.
    let log: Vec<f64> = mean.iter().map(|m| m.max(f64::MIN_POSITIVE).ln()).collect();
    let value = mean.iter().zip(&log).map(|(m, l)| m * l).sum();
    let (_, [grad]) = with_grads([&rows], |_, [row], [grad]| {
        let p: Vec<f64> = softmax(row).collect();
        let expected: f64 = p.iter().zip(&log).map(|(p, l)| p * l).sum();
        grad.iter_mut().zip(p.iter().zip(&log)).for_each(|(g, (p, l))| *g = p * (l - expected) / n);
        0.0
    })?;
    Ok(Loss { value: Value::Known(value), grad: like(grad, logits)? })
}
