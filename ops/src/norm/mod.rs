//! The passes of batch normalisation over `[.., C]` tensors: moments, scale and shift, and the backward pass.
//!
//! Everything per channel is f64 or a `[C]` vector; everything per pixel is one read and at most one write.

mod kernels;

use super::activation::Activation;
use super::conv2d::{Affine, Sums};
use super::mem::{build, tensor, update, view};
use super::par::{self, Shared};
use crate::{Error, Result};
use candle_core::Tensor;
use kernels::Rows;

/// Pixels per piece of work: about 256 KiB of values, so that the cut depends on the shape alone.
fn grain(channels: usize) -> usize {
    (65_536 / channels.max(1)).max(1)
}

fn rows(t: &Tensor, channels: usize) -> Result<usize> {
    match t.dims().last() {
        Some(&c) if c == channels && c > 0 => Ok(t.elem_count() / c),
        _ => Err(Error::shape("batch_norm", format!("expected [.., {channels}], found {:?}", t.dims()))),
    }
}

/// Sums `pieces` rows of `2·channels` partial sums in order.
fn in_order(partial: &[f32], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let mut total = par::sum_rows(partial, 2 * channels);
    let second = total.split_off(channels);
    (total, second)
}

/// Σ and Σ² per channel in a pass of its own, for inputs that no convolution of ours wrote.
pub fn sums(x: &Tensor) -> Result<Sums> {
    let channels = x.dims().last().copied().unwrap_or(0);
    let count = rows(x, channels)?;
    let xv = view(x)?;
    let pieces = par::pieces(count, grain(channels));
    let mut partial = vec![0f32; pieces * 2 * channels];
    let out = Shared(partial.as_mut_ptr());
    let xs: &[f32] = &xv;
    par::each(pieces, |i| {
        let r = par::range(count, pieces, i);
        // SAFETY: piece `i` reads its rows and writes its own partial sums.
        unsafe { kernels::sums(xs.as_ptr().add(r.start * channels), r.len(), channels, out.at(i * 2 * channels)) };
    });
    let (sum, sum_sq) = in_order(&partial, channels);
    Ok(Sums { count, sum, sum_sq })
}

/// Σ and Σ² per channel of each image of `x [N, .., C]`, `[N, 2·C]`.
pub fn sums_each(x: &Tensor) -> Result<Tensor> {
    let (images, channels) = match *x.dims() {
        [n, .., c] if n > 0 => (n, c),
        _ => return Err(Error::shape("batch_norm", format!("expected [N, .., C], found {:?}", x.dims()))),
    };
    let pixels = rows(x, channels)? / images;
    on_cuda!(x, super::cuda::norm::sums_each(x, images));
    let xv = view(x)?;
    let xs: &[f32] = &xv;
    // SAFETY: piece `i` reads the pixels of image `i` and writes its row, all of it; the pieces cover all images.
    unsafe {
        build((images, 2 * channels), |out| {
            let out = Shared(out);
            par::each(images, |i| {
                kernels::sums(xs.as_ptr().add(i * pixels * channels), pixels, channels, out.at(i * 2 * channels));
            });
        })
    }
}

/// `act(scale·x + shift + residual)`, written out.
pub fn apply(x: &Tensor, affine: &Affine, residual: Option<&Tensor>) -> Result<Tensor> {
    on_cuda!(x, super::cuda::norm::apply(x, affine, residual));
    let (scale, shift) = (view(&affine.scale)?, view(&affine.shift)?);
    let channels = scale.len();
    let count = rows(x, channels)?;
    let (xv, rv) = (view(x)?, residual.map(view).transpose()?);
    if rv.as_ref().is_some_and(|r| r.len() != xv.len()) || shift.len() != channels {
        return Err(Error::shape("batch_norm", "residual or shift does not have the shape of its input".to_string()));
    }
    let pieces = par::pieces(count, grain(channels));
    let (xs, rs): (&[f32], Option<&[f32]>) = (&xv, rv.as_deref());
    let (scale, shift): (&[f32], &[f32]) = (&scale, &shift);
    // SAFETY: the pieces cover all rows.
    unsafe {
        build(x.shape().clone(), |out| {
            let out = Shared(out);
            par::each(pieces, |i| {
                let r = par::range(count, pieces, i);
                let at = r.start * channels;
                let rows = Rows { scale, shift, act: affine.act, count: r.len() };
                kernels::apply(&rows, xs.as_ptr().add(at), rs.map(|r| r.as_ptr().add(at)), out.at(at));
            });
        })
    }
}

/// Turns the gradient of `y = act(v)` into that of `v`, in place, given the output `y`.
pub fn mask_by_output(dy: &Tensor, y: &Tensor, act: Activation) -> Result<()> {
    if act.is_identity() {
        return Ok(());
    }
    on_cuda!(dy, super::cuda::pointwise::mask_by_output(dy, y, act));
    let yv = view(y)?;
    let n = yv.len();
    if dy.elem_count() != n {
        return Err(Error::shape("activation", format!("gradient {:?} of output {:?}", dy.dims(), y.dims())));
    }
    let pieces = par::pieces(n, 65_536);
    let ys: &[f32] = &yv;
    update(dy, |d| {
        let d = Shared(d.as_mut_ptr());
        par::each(pieces, |i| {
            let r = par::range(n, pieces, i);
            // SAFETY: disjoint ranges of equally long slices.
            unsafe { kernels::mask(d.at(r.start), ys.as_ptr().add(r.start), r.len(), act) };
        });
    })
}

/// Σ g and Σ g·x per channel, where `g` is `dz` through the activation of `act(scale·x + shift)`.
pub fn backward_sums(dz: &Tensor, x: &Tensor, affine: &Affine) -> Result<(Vec<f64>, Vec<f64>)> {
    let (scale, shift) = (view(&affine.scale)?, view(&affine.shift)?);
    let channels = scale.len();
    let count = rows(x, channels)?;
    let (xv, dv) = (view(x)?, view(dz)?);
    if xv.len() != dv.len() || shift.len() != channels {
        return Err(Error::shape("batch_norm", format!("gradient {:?} of input {:?}", dz.dims(), x.dims())));
    }
    let pieces = par::pieces(count, grain(channels));
    let mut partial = vec![0f32; pieces * 2 * channels];
    let out = Shared(partial.as_mut_ptr());
    let (xs, ds, scale, shift): (&[f32], &[f32], &[f32], &[f32]) = (&xv, &dv, &scale, &shift);
    par::each(pieces, |i| {
        let r = par::range(count, pieces, i);
        let at = r.start * channels;
        let rows = Rows { scale, shift, act: affine.act, count: r.len() };
        // SAFETY: piece `i` reads its rows and writes its own partial sums.
        unsafe { kernels::backward_sums(&rows, ds.as_ptr().add(at), xs.as_ptr().add(at), out.at(i * 2 * channels)) };
    });
    Ok(in_order(&partial, channels))
}

/// Coefficients of the backward pass of a normalisation: `dx = a·g + b·x + c` per channel.
#[derive(Clone, Debug)]
pub struct BackwardAffine {
    pub a: Vec<f32>,
    pub b: Vec<f32>,
    pub c: Vec<f32>,
}

/// `dx = a·g + b·x + c`, where `g` is `dz` through the activation of `affine`. Without `dz`, `g` is 0.
///
/// Unless `keep`, `dz` is overwritten by the result and returned, so nobody else may hold it.
pub fn backward_apply(
    dz: Option<&Tensor>,
    keep: bool,
    x: &Tensor,
    affine: &Affine,
    k: &BackwardAffine,
) -> Result<Tensor> {
    let (scale, shift) = (view(&affine.scale)?, view(&affine.shift)?);
    let channels = scale.len();
    let count = rows(x, channels)?;
    let xv = view(x)?;
    let per_channel = [k.a.len(), k.b.len(), k.c.len(), shift.len()];
    if per_channel.iter().any(|l| *l != channels) || dz.is_some_and(|d| d.elem_count() != xv.len()) {
        return Err(Error::shape("batch_norm", format!("gradient of input {:?}", x.dims())));
    }
    let pieces = par::pieces(count, grain(channels));
    let (xs, scale, shift): (&[f32], &[f32], &[f32]) = (&xv, &scale, &shift);
    let run = |d: Option<Shared>, out: Shared| {
        par::each(pieces, |i| {
            let r = par::range(count, pieces, i);
            let at = r.start * channels;
            let rows = Rows { scale, shift, act: affine.act, count: r.len() };
            // SAFETY: disjoint rows; a kernel reads each element before it writes it, so `d` and `out` may be one.
            unsafe {
                kernels::backward_apply(&rows, d.map(|d| d.at(at).cast_const()), xs.as_ptr().add(at), k, out.at(at))
            };
        });
    };
    match dz {
        Some(dz) if !keep => {
            update(dz, |d| {
                let d = Shared(d.as_mut_ptr());
                run(Some(d), d);
            })?;
            Ok(dz.clone())
        }
        _ => {
            let dv = dz.map(view).transpose()?;
            let d = dv.as_ref().map(|d| Shared(d.as_ptr().cast_mut()));
            // SAFETY: the pieces cover all rows.
            unsafe { build(x.shape().clone(), |out| run(d, Shared(out))) }
        }
    }
}

/// Σ over all rows, per channel, `[C]`: the gradient of a bias.
pub fn channel_sums(x: &Tensor) -> Result<Tensor> {
    on_cuda!(x, super::cuda::norm::channel_sums(x));
    let sum: Vec<f32> = sums(x)?.sum.into_iter().map(|v| v as f32).collect();
    let channels = sum.len();
    tensor(sum, channels)
}

/// `a += b`, element by element.
pub fn add_into(a: &Tensor, b: &Tensor) -> Result<()> {
    on_cuda!(a, super::cuda::pointwise::add_into(a, b));
    let bv = view(b)?;
    if a.elem_count() != bv.len() {
        return Err(Error::shape("add", format!("{:?} and {:?}", a.dims(), b.dims())));
    }
    let n = bv.len();
    let pieces = par::pieces(n, 65_536);
    let bs: &[f32] = &bv;
    update(a, |a| {
        let a = Shared(a.as_mut_ptr());
        par::each(pieces, |i| {
            let r = par::range(n, pieces, i);
            // SAFETY: disjoint ranges of equally long slices.
            unsafe { kernels::add(a.at(r.start), bs.as_ptr().add(r.start), r.len()) };
        });
    })
}
