//! Channels of several images side by side, and the way back.

use super::mem::{build, view};
use super::par::{self, Shared};
use super::spatial::{nhwc, per_image};
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
    // SAFETY: every image is written in full by its own task: the widths of the parts add up to `total`.
    unsafe {
        build((n, h, w, total), |out| {
            let out = Shared(out);
            par::each(n, |i| {
                let image = std::slice::from_raw_parts_mut(out.at(i * pixels * total), pixels * total);
                for (p, pixel) in image.chunks_exact_mut(total).enumerate() {
                    let mut rest = pixel;
                    for (values, c) in &sources {
                        let (to, behind) = rest.split_at_mut(*c);
                        to.copy_from_slice(&values[(i * pixels + p) * c..][..*c]);
                        rest = behind;
                    }
                }
            });
        })
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
    per_image(x, [n, h, w, range.len()], |_, image, out| {
        for (to, from) in out.chunks_exact_mut(range.len()).zip(image.chunks_exact(c)) {
            to.copy_from_slice(&from[range.clone()]);
        }
    })
}
