//! Bilinear resizing without antialiasing, over either of the two grids that PyTorch knows.

use super::spatial::{nhwc, per_image};
use crate::{Error, Result};
use candle_core::Tensor;

/// Which points of the input and of the output lie on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corners {
    /// The outer edges of the images; pixels are squares, and their values stand at the centres (`align_corners=False`).
    Half,
    /// The centres of the corner pixels (`align_corners=True`).
    Aligned,
}

impl Corners {
    /// For every output index: two source indices and the weight of the second.
    fn interpolation(self, from: usize, to: usize) -> Vec<(usize, usize, f32)> {
        let place = |o: usize| match self {
            Self::Half => ((o as f32 + 0.5) * (from as f32 / to as f32) - 0.5).max(0.0),
            // One pixel alone shows the first.
            Self::Aligned => o as f32 * ((from - 1) as f32 / (to - 1).max(1) as f32),
        };
        (0..to)
            .map(|o| {
                let at = place(o);
                let low = (at as usize).min(from - 1);
                (low, (low + 1).min(from - 1), at - low as f32)
            })
            .collect()
    }
}

/// Resizing `[N, H, W, C]` to `h × w`.
///
/// # Errors
/// A side of 0.
pub fn resize(x: &Tensor, [h, w]: [usize; 2], corners: Corners) -> Result<Tensor> {
    let [n, ih, iw, c] = nhwc("bilinear", x)?;
    if h == 0 || w == 0 {
        return Err(Error::shape("bilinear", format!("to {h}x{w}")));
    }
    on_cuda!(x, super::cuda::spatial::bilinear(x, [h, w], corners));
    let (ys, xs) = (corners.interpolation(ih, h), corners.interpolation(iw, w));
    per_image(x, [n, h, w, c], |_, image, out| {
        // One row at a time: first between two rows of the input, then between the columns of what that gave.
        let row = |y: usize| &image[y * iw * c..][..iw * c];
        let mut between = vec![0f32; iw * c];
        for (out, &(y0, y1, fy)) in out.chunks_exact_mut(w * c).zip(&ys) {
            let rows = row(y0).iter().zip(row(y1));
            between.iter_mut().zip(rows).for_each(|(b, (low, high))| *b = (1.0 - fy) * low + fy * high);
            for (pixel, &(x0, x1, fx)) in out.chunks_exact_mut(c).zip(&xs) {
                let pair = between[x0 * c..][..c].iter().zip(&between[x1 * c..][..c]);
                pixel.iter_mut().zip(pair).for_each(|(o, (low, high))| *o = (1.0 - fx) * low + fx * high);
            }
        }
    })
}

/// Gradient of [`resize`] for an input of `ih × iw`.
///
/// # Errors
/// As [`resize`].
pub fn resize_backward(dy: &Tensor, [ih, iw]: [usize; 2], corners: Corners) -> Result<Tensor> {
    let [n, h, w, c] = nhwc("bilinear", dy)?;
    if ih == 0 || iw == 0 {
        return Err(Error::shape("bilinear", format!("from {ih}x{iw}")));
    }
    on_cuda!(dy, super::cuda::spatial::bilinear_backward(dy, [ih, iw], corners));
    let (ys, xs) = (corners.interpolation(ih, h), corners.interpolation(iw, w));
    per_image(dy, [n, ih, iw, c], |_, dy, dx| {
        // The way of `resize`, backwards.
        let mut between = vec![0f32; iw * c];
        for (dy, &(y0, y1, fy)) in dy.chunks_exact(w * c).zip(&ys) {
            between.fill(0.0);
            for (g, &(x0, x1, fx)) in dy.chunks_exact(c).zip(&xs) {
                for (x, share) in [(x0, 1.0 - fx), (x1, fx)] {
                    between[x * c..][..c].iter_mut().zip(g).for_each(|(b, g)| *b += share * g);
                }
            }
            for (y, share) in [(y0, 1.0 - fy), (y1, fy)] {
                dx[y * iw * c..][..iw * c].iter_mut().zip(&between).for_each(|(d, b)| *d += share * b);
            }
        }
    })
}
