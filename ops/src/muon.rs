//! Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024): a matrix moves along its momentum with all
//! singular values made alike, so that directions which the gradient hardly shows are learned as fast as the strongest ones.
//!
//! The matrices are weights of convolutions in front of norms, whose length means nothing: a step is stated as a share of that length,
//! and keeps it.

use super::mem::{update, view};
use super::step::{Update, blend};
use super::symmetric::{gram, product};
use crate::{Error, Result};
use candle_core::{D, Tensor};
use rayon::prelude::*;

/// Iterations of Newton and Schulz, and their quintic polynomial `a·x + b·x³ + c·x⁵` (of the paper): singular values of 0.01 to 1 come to
/// lie between 0.68 and 1.14.
const ITERATIONS: usize = 5;
const POLYNOMIAL: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// Below it a value of a matrix of length 1, or of its square matrices, is less than rounding leaves of the others.
const LEAST: f32 = 1e-12;

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
    let Some(first) = updates.first() else { return Ok(()) };
    on_cuda!(first.param, muon(updates, rule));
    // Each thread takes a matrix through all of it.
    updates.par_chunks_mut(1).with_max_len(1).try_for_each(|one| muon(one, rule))
}

/// All matrices at once, where there are launches.
fn muon(updates: &mut [Update], rule: &MuonRule) -> Result<()> {
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
    let directions = orthogonal(&directions)?;
    let pairs: Vec<_> = updates.iter().map(|each| each.param).zip(&directions).collect();
    turn(&pairs, rule)
}

/// Matrices of length 1 `[..., C]` with their singular values brought to about 1.
///
/// An iteration takes `X` to `X·p(G)`, with `G = Xᵀ·X` and `p(G) = a + b·G + c·G²`, and so `G` to `p·G·p`: all iterations are done on the
/// small square matrices, which commute, and `X` is multiplied once, by the product of the polynomials. (With fewer rows than columns
/// `G` is `X·Xᵀ`, from the left.) Rounding soon exceeds the least singular values of `G`, but their polynomial is `a` all the same.
fn orthogonal(matrices: &[Tensor]) -> Result<Vec<Tensor>> {
    let flat = matrices.iter().map(|matrix| Ok(matrix.flatten_to(D::Minus2)?)).collect::<Result<Vec<_>>>()?;
    let (mut grams, places) = stacked(flat.iter().map(|x| settled(gram(x)?)).collect::<Result<Vec<_>>>()?)?;
    let mut factors = polynomials(&grams)?;
    let mut products = factors.clone();
    for _ in 1..ITERATIONS {
        grams = times(&times(&factors, &grams)?, &factors)?;
        factors = polynomials(&grams)?;
        products = times(&products, &factors)?;
    }
    let turned = |((x, place), matrix): ((&Tensor, &[usize; 2]), &Tensor)| {
        let product = &products[place[0]];
        let product = if product.rank() == 3 { product.get(place[1])? } else { product.clone() };
        let is_wide = x.dim(0)? < x.dim(1)?;
        let turned = if is_wide { product.matmul(x)? } else { x.matmul(&product)? };
        Ok(turned.reshape(matrix.dims())?)
    };
    flat.iter().zip(&places).zip(matrices).map(turned).collect()
}

/// Square matrices with those of one side on each other, `[B, n, n]`, for one call of a product to take them all; a single one stays as
/// it is. Also in which stack each lies, and at which place.
fn stacked(squares: Vec<Tensor>) -> Result<(Vec<Tensor>, Vec<[usize; 2]>)> {
    let mut stacks: Vec<Vec<Tensor>> = Vec::new();
    let mut places = Vec::with_capacity(squares.len());
    for square in squares {
        let stack = stacks.iter().position(|stack| stack[0].dims() == square.dims()).unwrap_or(stacks.len());
        if stack == stacks.len() {
            stacks.push(Vec::new());
        }
        places.push([stack, stacks[stack].len()]);
        stacks[stack].push(square);
    }
    let laid = |stack: Vec<Tensor>| match stack.as_slice() {
        [one] => Ok(one.clone()),
        several => Ok(Tensor::stack(several, 0)?),
    };
    Ok((stacks.into_iter().map(laid).collect::<Result<_>>()?, places))
}

/// Products of symmetric matrices that commute.
fn times(left: &[Tensor], right: &[Tensor]) -> Result<Vec<Tensor>> {
    left.iter().zip(right).map(|(left, right)| settled(product(left, right)?)).collect()
}

/// The matrix without what does not count in it: on a CPU products of such values are too small to be normal numbers, and take many times
/// as long. A channel that is dead has them, as its momentum dies away.
fn settled(matrix: Tensor) -> Result<Tensor> {
    on_cuda!(matrix, Ok(matrix));
    update(&matrix, |x| x.iter_mut().for_each(|x| *x = settle(*x)))?;
    Ok(matrix)
}

/// 0 instead of less than [`LEAST`]; NaN stays.
fn settle(x: f32) -> f32 {
    if x.abs() < LEAST { 0.0 } else { x }
}

/// `a + b·G + c·G²` of square matrices.
fn polynomials(grams: &[Tensor]) -> Result<Vec<Tensor>> {
    let [a, b, c] = POLYNOMIAL;
    let squares = times(grams, grams)?;
    blend(&squares.iter().zip(grams).collect::<Vec<_>>(), c, b)?;
    raise(&squares, a)?;
    Ok(squares)
}

/// Adds a number to the diagonals of square matrices `[..., n, n]`.
fn raise(squares: &[Tensor], by: f32) -> Result<()> {
    let Some(first) = squares.first() else { return Ok(()) };
    on_cuda!(first, super::cuda::step::raise(squares, by));
    squares.iter().try_for_each(|square| {
        let n = square.dim(D::Minus1)?;
        update(square, |x| x.chunks_mut(n * n).for_each(|x| x.iter_mut().step_by(n + 1).for_each(|x| *x += by)))
    })
}

/// Every tensor over its length; zeros stay.
fn shorten(tensors: &[Tensor]) -> Result<()> {
    let Some(first) = tensors.first() else { return Ok(()) };
    on_cuda!(first, super::cuda::step::shorten(tensors));
    tensors.iter().try_for_each(|tensor| {
        update(tensor, |x| {
            let length = dot(x, x).sqrt();
            if length != 0.0 {
                let scale = (1.0 / length) as f32;
                x.iter_mut().for_each(|x| *x = settle(*x * scale));
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
            let (own, theirs, both) = (dot(p, p), dot(&o, &o), dot(p, &o));
            if own == 0.0 || theirs == 0.0 {
                return;
            }
            let step = f64::from(rule.lr * rule.per_rate) * (own / theirs).sqrt();
            let scale = (own / (own - 2.0 * step * both + step * step * theirs)).sqrt();
            let (scale, step) = (scale as f32, (scale * step) as f32);
            p.iter_mut().zip(o.iter()).for_each(|(p, o)| *p = scale * *p - step * *o);
        })?;
    }
    Ok(())
}

/// Σ a·b, of a block in f32 by lanes, which the compiler makes vectors of, and of all blocks in f64.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 16;
    const BLOCK: usize = 1024;
    let of_block = |(a, b): (&[f32], &[f32])| {
        let mut sums = [0f32; LANES];
        let add = |sums: &mut [f32; LANES], a: &[f32], b: &[f32]| {
            sums.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum += a * b);
        };
        let (whole, rest) = (a.chunks_exact(LANES).zip(b.chunks_exact(LANES)), a.len() - a.len() % LANES);
        whole.for_each(|(a, b)| add(&mut sums, a, b));
        add(&mut sums, &a[rest..], &b[rest..]);
        sums.iter().map(|sum| f64::from(*sum)).sum::<f64>()
    };
    a.chunks(BLOCK).zip(b.chunks(BLOCK)).map(of_block).sum()
}
