//! Entropies of the teacher's answers: each answer should be sure, all together should be even.

use super::{Loss, Rows, Value, log_softmax, matrix_on, softmax};
use crate::Result;
use candle_core::Tensor;

/// Mean entropy `−Σ p ln p` of single answers: small where the teacher is sure (Choi et al., "Data-Free Network Quantization
/// with Adversarial Knowledge Distillation", 2020, equation 6).
pub fn answer_entropy(logits: &Tensor) -> Result<Loss> {
    let rows = Rows::of(logits)?;
    let mut value = 0.0;
    let mut grad = Vec::with_capacity(rows.n * rows.k);
    for i in 0..rows.n {
        let log_p = log_softmax(rows.row(i), 1.0);
        let entropy: f64 = -log_p.iter().map(|l| l.exp() * l).sum::<f64>();
        value += entropy / rows.n as f64;
        grad.extend(log_p.iter().map(|l| -l.exp() * (l + entropy) / rows.n as f64));
    }
    Ok(Loss { value: Value::Known(value), grad: matrix_on(grad, rows.n, rows.k, logits)? })
}

/// `Σ p̄ ln p̄` of the mean answer `p̄`, natural logarithm: smallest (−ln K) where all classes come up alike, the "information
/// entropy loss" of DAFL (Chen et al., "Data-Free Learning of Student Networks", 2019, equation 6).
pub fn class_balance(logits: &Tensor) -> Result<Loss> {
    let rows = Rows::of(logits)?;
    let (n, k) = (rows.n, rows.k);
    let p: Vec<Vec<f64>> = (0..n).map(|i| softmax(rows.row(i))).collect();
    let mean: Vec<f64> = (0..k).map(|c| p.iter().map(|row| row[c]).sum::<f64>() / n as f64).collect();
    // A class that nobody ever takes adds 0, and its infinite slope meets probabilities of 0.
    let log: Vec<f64> = mean.iter().map(|m| m.max(f64::MIN_POSITIVE).ln()).collect();
    let value = mean.iter().zip(&log).map(|(m, l)| m * l).sum();
    let mut grad = Vec::with_capacity(n * k);
    for row in &p {
        let expected: f64 = row.iter().zip(&log).map(|(p, l)| p * l).sum();
        grad.extend(row.iter().zip(&log).map(|(p, l)| p * (l - expected) / n as f64));
    }
    Ok(Loss { value: Value::Known(value), grad: matrix_on(grad, n, k, logits)? })
}
