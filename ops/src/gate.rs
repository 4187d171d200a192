//! One factor per image and channel, `x[n,h,w,c]·s[n,c]`: the last step of squeeze-and-excitation (Hu, Shen and Sun, 2018,
//! equation 4).

use super::mem::{build, tensor, update, view};
use super::par::{self, Shared};
use super::simd::{Simd, simd_fn};
use super::spatial::nhwc;
use crate::{Error, Result};
use candle_core::Tensor;

fn sizes(x: &Tensor, s: &Tensor) -> Result<[usize; 3]> {
    let [n, h, w, c] = nhwc("gate", x)?;
    match s.dims() {
        &[rows, channels] if rows == n && channels == c => Ok([n, h * w, c]),
        found => Err(Error::shape("gate", format!("factors {found:?} of input {:?}, expected [N,C]", x.dims()))),
    }
}

/// `x·s` for `x [N, H, W, C]` and `s [N, C]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn forward(x: &Tensor, s: &Tensor) -> Result<Tensor> {
    let [n, pixels, c] = sizes(x, s)?;
    on_cuda!(x, super::cuda::pointwise::gate(x, s, [n, pixels, c]));
    let (xv, sv) = (view(x)?, view(s)?);
    let (xs, ss): (&[f32], &[f32]) = (&xv, &sv);
    // SAFETY: images are disjoint and every one is written in full.
    unsafe {
        build(x.shape().clone(), |out| {
            let out = Shared(out);
            par::each(n, |i| {
                let at = i * pixels * c;
                scale_image(xs.as_ptr().add(at), ss.as_ptr().add(i * c), pixels, c, out.at(at));
            });
        })
    }
}

/// Turns the gradient of [`forward`] into that of `x`, in place, and gives that of `s`, `[N, C]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn backward(dy: &Tensor, x: &Tensor, s: &Tensor) -> Result<Tensor> {
    let [n, pixels, c] = sizes(x, s)?;
    on_cuda!(x, super::cuda::pointwise::gate_backward(dy, x, s, [n, pixels, c]));
    let (xv, sv) = (view(x)?, view(s)?);
    if dy.dims() != x.dims() {
        return Err(Error::shape("gate", format!("gradient {:?} of input {:?}", dy.dims(), x.dims())));
    }
    let (xs, ss): (&[f32], &[f32]) = (&xv, &sv);
    let mut ds = vec![0f32; n * c];
    let sums = Shared(ds.as_mut_ptr());
    update(dy, |d| {
        let d = Shared(d.as_mut_ptr());
        par::each(n, |i| {
            let at = i * pixels * c;
            // SAFETY: image `i` of each tensor, and its own row of sums.
            unsafe { undo_image(xs.as_ptr().add(at), ss.as_ptr().add(i * c), pixels, c, d.at(at), sums.at(i * c)) };
        });
    })?;
    tensor(ds, (n, c))
}

simd_fn!(fn scale_image(x: *const f32, s: *const f32, pixels: usize, c: usize, out: *mut f32) = scale_kernel);

#[inline(always)]
unsafe fn scale_kernel<S: Simd>(x: *const f32, s: *const f32, pixels: usize, c: usize, out: *mut f32) {
    let whole = c - c % S::LANES;
    // SAFETY: `x` and `out` hold pixels·c values, `s` c; vectors end inside the pixel.
    unsafe {
        for p in 0..pixels {
            let (x, out) = (x.add(p * c), out.add(p * c));
            let mut i = 0;
            while i < whole {
                S::store(out.add(i), S::mul(S::load(x.add(i)), S::load(s.add(i))));
                i += S::LANES;
            }
            while i < c {
                *out.add(i) = *x.add(i) * *s.add(i);
                i += 1;
            }
        }
    }
}

/// Pixels that are summed in registers before their sum is added to the total: the block stays in cache while the channels
/// are walked, and the rounding error does not grow with the image.
const BLOCK: usize = 32;

simd_fn!(
    fn undo_image(x: *const f32, s: *const f32, pixels: usize, c: usize, d: *mut f32, sums: *mut f32) = undo_kernel
);

/// `d ← d·s` and `sums += Σ d·x`, with `d` as it was.
#[inline(always)]
unsafe fn undo_kernel<S: Simd>(x: *const f32, s: *const f32, pixels: usize, c: usize, d: *mut f32, sums: *mut f32) {
    let whole = c - c % S::LANES;
    // SAFETY: `x` and `d` hold pixels·c values, `s` and `sums` c; vectors end inside the pixel.
    unsafe {
        for start in (0..pixels).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(pixels);
            let mut i = 0;
            while i < whole {
                let (factor, mut sum) = (S::load(s.add(i)), S::splat(0.0));
                for p in block.clone() {
                    let at = p * c + i;
                    let g = S::load(d.add(at));
                    sum = S::fma(g, S::load(x.add(at)), sum);
                    S::store(d.add(at), S::mul(g, factor));
                }
                S::store(sums.add(i), S::add(S::load(sums.add(i)), sum));
                i += S::LANES;
            }
            while i < c {
                let mut sum = 0f32;
                for p in block.clone() {
                    let at = p * c + i;
                    sum += *d.add(at) * *x.add(at);
                    *d.add(at) *= *s.add(i);
                }
                *sums.add(i) += sum;
                i += 1;
            }
        }
    }
}
