//! Adaptive average pooling: as many windows as are asked for, whatever the size of the image.

use super::spatial::{nhwc, per_image};
use crate::{Error, Result};
use candle_core::Tensor;
use std::ops::Range;

/// Pixels of window `o` of `windows` over `size`: from ⌊o·size/windows⌋ to ⌈(o+1)·size/windows⌉, as in PyTorch. They
/// overlap where `windows` does not divide `size`, and repeat where there are more windows than pixels.
pub fn window(o: usize, size: usize, windows: usize) -> Range<usize> {
    o * size / windows..((o + 1) * size).div_ceil(windows)
}

/// Calls `f(output pixel, input pixel, weight)` for every pair.
fn each(size: [usize; 2], windows: [usize; 2], mut f: impl FnMut(usize, usize, f32)) {
    for o in 0..windows[0] * windows[1] {
        let rows = window(o / windows[1], size[0], windows[0]);
        let cols = window(o % windows[1], size[1], windows[1]);
        let weight = 1.0 / (rows.len() * cols.len()) as f32;
        for y in rows {
            for x in cols.clone() {
                f(o, y * size[1] + x, weight);
            }
        }
    }
}

/// Means of `windows` (rows, columns): `[N, H, W, C]` → `[N, rows, columns, C]`.
///
/// # Errors
/// No windows, or not a batch of images.
pub fn adaptive_mean(x: &Tensor, windows: [usize; 2]) -> Result<Tensor> {
    let [n, h, w, c] = nhwc("adaptive_mean", x)?;
    if windows.contains(&0) {
        return Err(Error::shape("adaptive_mean", format!("{windows:?} windows")));
    }
    on_cuda!(x, super::cuda::spatial::adaptive_mean(x, windows));
    per_image(x, [n, windows[0], windows[1], c], |_, image, out| {
        each([h, w], windows, |o, i, weight| {
            let to = &mut out[o * c..][..c];
            to.iter_mut().zip(&image[i * c..][..c]).for_each(|(to, v)| *to += weight * v);
        });
    })
}

/// Gradient of [`adaptive_mean`] for images of `size` (rows, columns).
///
/// # Errors
/// An empty size, or not a batch of images.
pub fn adaptive_mean_backward(dy: &Tensor, size: [usize; 2]) -> Result<Tensor> {
    let [n, rows, cols, c] = nhwc("adaptive_mean", dy)?;
    if size.contains(&0) {
        return Err(Error::shape("adaptive_mean", format!("gradient {:?} for images of {size:?}", dy.dims())));
    }
    on_cuda!(dy, super::cuda::spatial::adaptive_mean_backward(dy, size));
    per_image(dy, [n, size[0], size[1], c], |_, dy, dx| {
        each(size, [rows, cols], |o, i, weight| {
            let to = &mut dx[i * c..][..c];
            to.iter_mut().zip(&dy[o * c..][..c]).for_each(|(to, v)| *to += weight * v);
        });
    })
}
