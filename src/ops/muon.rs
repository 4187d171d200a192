//! Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024): a matrix moves along its momentum with all
//! singular values made alike, so that directions which the gradient hardly shows are learned as fast as the strongest ones.
//!
//! The matrices are weights of convolutions in front of norms, whose length means nothing: a step is stated as a share of that length,
//! and keeps it.

use super::mem::{update, view};
use super::step::{Update, blend};
use crate::{Error, Result};
use candle_core::Tensor;

/// Iterations of Newton and Schulz, and their quintic polynomial `a·x + b·x³ + c·x⁵` (of the paper): singular values of 0.01 to 1 come to
/// lie between 0.68 and 1.14.
const ITERATIONS: usize = 5;
const POLYNOMIAL: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// Numbers of an update.
pub struct MuonRule {
    pub lr: f32,
    /// Length of a step as a share of the length of the weights, per unit of `lr`.
    pub per_rate: f32,
    pub momentum: f32,
    pub nesterov: bool,
}

/// Every parameter and its velocity after one step; `[..., C_out]` is a matrix of `C_out` columns. Weight decay does not pull.
///
/// # Errors
/// As [`super::step::sgd_all`].
pub fn muon_all(updates: &mut [Update], rule: &MuonRule) -> Result<()> {
    let mut directions = Vec::with_capacity(updates.len());
    for each in updates.iter_mut() {
        if each.velocity.is_none() {
            *each.velocity = Some(each.param.zeros_like()?);
        }
        directions.push(each.param.zeros_like()?);
    }
    let velocities: Vec<&Tensor> = updates.iter().filter_map(|each| each.velocity.as_ref()).collect();
    let grads = updates.iter().map(|each| each.grad);
    blend(&velocities.iter().copied().zip(grads.clone()).collect::<Vec<_>>(), rule.momentum, 1.0)?;
    let ahead = if rule.nesterov { rule.momentum } else { 1.0 };
    blend(&directions.iter().zip(velocities).collect::<Vec<_>>(), 0.0, ahead)?;
    if rule.nesterov {
        blend(&directions.iter().zip(grads).collect::<Vec<_>>(), 1.0, 1.0)?;
    }
    shorten(&directions)?;
    let directions = directions.iter().map(orthogonal).collect::<Result<Vec<_>>>()?;
    let pairs: Vec<_> = updates.iter().map(|each| each.param).zip(&directions).collect();
    turn(&pairs, rule)
}

/// The matrix of length 1 `[..., C]` with its singular values brought to about 1.
fn orthogonal(matrix: &Tensor) -> Result<Tensor> {
    let [a, b, c] = POLYNOMIAL;
    let columns = matrix.dims().last().copied().unwrap_or(1);
    let rows = matrix.elem_count() / columns.max(1);
    let mut x = matrix.reshape((rows, columns))?;
    for _ in 0..ITERATIONS {
        let gram = if rows < columns { x.matmul(&x.t()?)? } else { x.t()?.matmul(&x)? };
        let polynomial = gram.matmul(&gram)?;
        blend(&[(&polynomial, &gram)], c, b)?;
        let next = if rows < columns { polynomial.matmul(&x)? } else { x.matmul(&polynomial)? };
        blend(&[(&next, &x)], 1.0, a)?;
        x = next;
    }
    Ok(x.reshape(matrix.dims())?)
}

/// Every tensor over its length; zeros stay.
fn shorten(tensors: &[Tensor]) -> Result<()> {
    let Some(first) = tensors.first() else { return Ok(()) };
    on_cuda!(first, super::cuda::step::shorten(tensors));
    tensors.iter().try_for_each(|tensor| {
        update(tensor, |x| {
            let length = product(x, x).sqrt();
            if length != 0.0 {
                x.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
            }
        })
    })
}

/// Every first tensor a step against the second one, at its own length; beside zeros it stays.
fn turn(pairs: &[(&Tensor, &Tensor)], rule: &MuonRule) -> Result<()> {
    let Some((first, _)) = pairs.first() else { return Ok(()) };
    on_cuda!(first, super::cuda::step::turn(pairs, rule.lr, rule.per_rate));
    for (param, direction) in pairs {
        if param.elem_count() != direction.elem_count() {
            return Err(Error::shape("muon", format!("{:?} and {:?}", param.dims(), direction.dims())));
        }
        let o = view(direction)?;
        update(param, |p| {
            let (own, theirs, both) = (product(p, p), product(&o, &o), product(p, &o));
            if own == 0.0 || theirs == 0.0 {
                return;
            }
            let step = f64::from(rule.lr * rule.per_rate) * (own / theirs).sqrt();
            let scale = (own / (own - 2.0 * step * both + step * step * theirs)).sqrt();
            p.iter_mut().zip(o.iter()).for_each(|(p, o)| *p = (scale * (f64::from(*p) - step * f64::from(*o))) as f32);
        })?;
    }
    Ok(())
}

/// Σ a·b
fn product(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}
