//! Contrast of Contrastive Model Inversion (Fang et al., 2021, equations 6 and 7): two views of an image should be alike, and
//! unlike all other images, those of earlier batches among them.

use super::{Loss, Value};
use crate::ops::mem::{self, host, update, view};
use crate::tape::{self, Tape, Var};
use crate::{Error, Result};
use candle_core::Tensor;
use rayon::prelude::*;

/// Cross-entropy of row i of `P̂·Q̂ᵀ / temperature` against column i, where hats are rows of length 1: the mean over the first
/// `batch` rows plus the mean over the others. The gradient is with respect to `p`; `q` is constant.
///
/// `p` and `q` `[M, F]` are one view and the other of the same images.
///
/// # Errors
/// Matrices of different shapes, or with fewer than `batch` rows.
pub fn contrast(p: &Tensor, q: &Tensor, batch: usize, temperature: f64) -> Result<Loss> {
    let (m, f) = p.dims2()?;
    if q.dims() != p.dims() || batch > m || batch == 0 {
        return Err(Error::shape("contrast", format!("{:?} against {:?}, {batch} new", p.dims(), q.dims())));
    }
    let ((unit_p, lengths), (unit_q, _)) = (unit_rows(&host(p)?)?, unit_rows(&host(q)?)?);
    let logits = product(&unit_p, &unit_q.t()?.contiguous()?)?;
    let share = |row: usize| 1.0 / if row < batch { batch } else { m - batch } as f64;
    let mut losses = vec![0f64; m];
    update(&logits, |logits| {
        let rows = logits.par_chunks_exact_mut(m).zip(&mut losses).enumerate();
        rows.for_each(|(i, (row, loss))| *loss = share(i) * one_row(row, i, temperature, share(i)));
    })?;
    // `logits` now holds the gradient with respect to the products.
    let grad = product(&logits, &unit_q)?;
    update(&grad, |grad| {
        let p = view(&unit_p);
        let Ok(p) = p else { return };
        for ((g, p), length) in grad.chunks_exact_mut(f).zip(p.chunks_exact(f)).zip(&lengths) {
            let along: f64 = g.iter().zip(p).map(|(g, p)| f64::from(*g) * f64::from(*p)).sum();
            g.iter_mut().zip(p).for_each(|(g, p)| *g = ((f64::from(*g) - f64::from(*p) * along) / length) as f32);
        }
    })?;
    Ok(Loss { value: Value::Known(losses.iter().sum()), grad: grad.to_device(p.device())? })
}

/// Cross-entropy of `row / temperature` against entry `own`; leaves `share` times its gradient in `row`.
fn one_row(row: &mut [f32], own: usize, temperature: f64, share: f64) -> f64 {
    let most = row.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let exp = |v: f32| (f64::from(v - most) / temperature).exp();
    let sum: f64 = row.iter().map(|v| exp(*v)).sum();
    let loss = sum.ln() - f64::from(row[own] - most) / temperature;
    for (i, v) in row.iter_mut().enumerate() {
        let target = if i == own { 1.0 } else { 0.0 };
        *v = (share / temperature * (exp(*v) / sum - target)) as f32;
    }
    loss
}

/// Rows divided by their lengths, and the lengths.
fn unit_rows(x: &Tensor) -> Result<(Tensor, Vec<f64>)> {
    let (m, f) = x.dims2()?;
    let values = view(x)?;
    let length = |row: &[f32]| row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-12);
    let lengths: Vec<f64> = values.chunks_exact(f).map(length).collect();
    let rows = values.chunks_exact(f).zip(&lengths);
    let unit = rows.flat_map(|(row, length)| row.iter().map(move |v| (f64::from(*v) / length) as f32)).collect();
    Ok((mem::tensor(unit, (m, f))?, lengths))
}

/// `a·b`
fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    tape::linear(&Tape::new(), &Var::constant(a.clone()), &Var::constant(b.clone()), None)?.tensor()
}
