//! Channels of several images side by side, and the way back.

use super::mem::{build, view};
use super::par::{self, Shared};
use super::simd::{Simd, simd_fn};
use super::spatial::nhwc;
use crate::{Error, Result};
use candle_core::Tensor;
use std::ops::Range;

/// `[N, H, W, C₁]`, `[N, H, W, C₂]`, ... → `[N, H, W, C₁ + C₂ + ...]`.
///
/// Everything is copied: in a dense block, whose every layer reads all maps before it, that is about as much memory
/// traffic as the 1x1 convolution behind it reads anyway.
///
/// # Errors
/// Nothing to join, or tensors that differ in more than their channels.
pub fn concat(parts: &[Tensor]) -> Result<Tensor> {
    let fail = || {
        let shapes: Vec<&[usize]> = parts.iter().map(Tensor::dims).collect();
        Error::shape("concat", format!("expected images of one size, found {shapes:?}"))
    };
    let first = parts.first().ok_or_else(fail)?;
    let [n, h, w, _] = nhwc("concat", first)?;
    let mut widths = Vec::new();
    for part in parts {
        match nhwc("concat", part)? {
            [pn, ph, pw, c] if [pn, ph, pw] == [n, h, w] => widths.push(c),
            _ => return Err(fail()),
        }
    }
    on_cuda!(first, super::cuda::spatial::concat(parts, [n, h, w]));
    let total: usize = widths.iter().sum();
    let views = parts.iter().map(view).collect::<Result<Vec<_>>>()?;
    let sources: Vec<(&[f32], usize)> = views.iter().map(|v| &**v).zip(widths).collect();
    let pixels = h * w;
    // SAFETY: every image is written in full by its own task: the widths of the parts add up to `total`, and a part holds as many
    // pixels as the result.
    unsafe {
        build((n, h, w, total), |out| {
            let out = Shared(out);
            par::each(n, |i| {
                for p in (i * pixels..(i + 1) * pixels).step_by(RUN) {
                    let run = RUN.min((i + 1) * pixels - p);
                    let mut to = out.at(p * total);
                    for (values, c) in &sources {
                        copy_channels(values.as_ptr().add(p * c), [*c, *c, total], run, to);
                        to = to.add(*c);
                    }
                }
            });
        })
    }
}

/// Neighbouring pixels of which all channels are joined before the next ones': what is written stays in cache.
const RUN: usize = 64;

simd_fn!(
    /// The first `c` channels of `pixels` pixels, of `from_step` channels, to the first channels of as many of `to_step`.
    fn copy_channels(from: *const f32, sizes: [usize; 3], pixels: usize, to: *mut f32) = copy_kernel
);

#[inline(always)]
unsafe fn copy_kernel<S: Simd>(from: *const f32, [c, from_step, to_step]: [usize; 3], pixels: usize, to: *mut f32) {
    let whole = c - c % S::LANES;
    // SAFETY: `c` channels of every pixel can be read and written, says the caller.
    unsafe {
        for p in 0..pixels {
            let (from, to) = (from.add(p * from_step), to.add(p * to_step));
            for i in (0..whole).step_by(S::LANES) {
                S::store(to.add(i), S::load(from.add(i)));
            }
            if whole < c {
                S::store_first(to.add(whole), S::load_first(from.add(whole), c - whole), c - whole);
            }
        }
    }
}

/// Some of the channels: `[N, H, W, C]` → `[N, H, W, range]`.
///
/// # Errors
/// A range that is empty or outside.
pub fn select(x: &Tensor, range: Range<usize>) -> Result<Tensor> {
    let [n, h, w, c] = nhwc("select", x)?;
    if range.is_empty() || range.end > c {
        return Err(Error::shape("select", format!("{range:?} of {:?}", x.dims())));
    }
    on_cuda!(x, super::cuda::spatial::select(x, range));
    let (values, pixels, width) = (view(x)?, h * w, range.len());
    // SAFETY: every image is written in full by its own task; of the pixels' c channels `range` is a part.
    unsafe {
        build((n, h, w, width), |out| {
            let out = Shared(out);
            par::each(n, |i| {
                let from = values.as_ptr().add(i * pixels * c + range.start);
                copy_channels(from, [width, c, width], pixels, out.at(i * pixels * width));
            });
        })
    }
}
