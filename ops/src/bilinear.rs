//! Bilinear resizing without antialiasing, over either of the two grids that PyTorch knows.

use super::simd::{Simd, add_to, load, simd_fn, store};
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

/// Where an output index lies: two source indices and the weight of the second.
pub(super) type Between = (usize, usize, f32);

impl Corners {
    fn interpolation(self, from: usize, to: usize) -> Vec<Between> {
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
    per_image(x, [n, h, w, c], |_, image, out| read(image, [iw, c], [&ys, &xs], out))
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
    per_image(dy, [n, ih, iw, c], |_, dy, dx| read_backward(dy, [iw, c], [&ys, &xs], dx))
}

/// What lies between the pixels of an image with rows of `iw` pixels and `c` channels, at the rows `ys` and the columns `xs`. One
/// row at a time: first between two rows of the image, then between the columns of what that gave.
pub(super) fn read(image: &[f32], [iw, c]: [usize; 2], [ys, xs]: [&[Between]; 2], out: &mut [f32]) {
    check(iw, c, [ys, xs], out);
    let row = |y: usize| &image[y * iw * c..][..iw * c];
    let mut between = vec![0f32; iw * c];
    for (out, &(y0, y1, fy)) in out.chunks_exact_mut(xs.len() * c).zip(ys) {
        let rows = row(y0).iter().zip(row(y1));
        between.iter_mut().zip(rows).for_each(|(b, (low, high))| *b = (1.0 - fy) * low + fy * high);
        // SAFETY: `xs` names pixels of the row between, and as many as the row that is written has, as checked above.
        unsafe { across(between.as_ptr(), c, xs, out.as_mut_ptr()) };
    }
}

/// Adds to `dx` the gradient of [`read`], whose way it goes backwards.
pub(super) fn read_backward(dy: &[f32], [iw, c]: [usize; 2], [ys, xs]: [&[Between]; 2], dx: &mut [f32]) {
    check(iw, c, [ys, xs], dy);
    let mut between = vec![0f32; iw * c];
    for (dy, &(y0, y1, fy)) in dy.chunks_exact(xs.len() * c).zip(ys) {
        between.fill(0.0);
        // SAFETY: as in `read`.
        unsafe { across_backward(between.as_mut_ptr(), c, xs, dy.as_ptr()) };
        for (y, share) in [(y0, 1.0 - fy), (y1, fy)] {
            dx[y * iw * c..][..iw * c].iter_mut().zip(&between).for_each(|(d, b)| *d += share * b);
        }
    }
}

fn check(iw: usize, c: usize, [ys, xs]: [&[Between]; 2], made: &[f32]) {
    assert!(xs.iter().all(|(low, high, _)| *low.max(high) < iw), "columns of a row of {iw} pixels");
    assert!(made.len() == ys.len() * xs.len() * c, "a place for every pixel");
}

simd_fn!(
    /// A row of pixels of `c` channels from one of other length.
    fn across(from: *const f32, c: usize, xs: &[Between], to: *mut f32) = across_kernel
);

#[inline(always)]
unsafe fn across_kernel<S: Simd>(from: *const f32, c: usize, xs: &[Between], to: *mut f32) {
    let whole = c - c % S::LANES;
    // SAFETY: the pixels that `xs` names can be read, and one for each of `xs` written, says the caller.
    unsafe {
        for (p, place) in xs.iter().enumerate() {
            for i in (0..whole).step_by(S::LANES) {
                mix::<S, true>(from, [c, i], place, to.add(p * c));
            }
            if whole < c {
                mix::<S, false>(from, [c, whole], place, to.add(p * c));
            }
        }
    }
}

/// The vector of channels from `i` on.
#[inline(always)]
unsafe fn mix<S: Simd, const WHOLE: bool>(from: *const f32, [c, i]: [usize; 2], place: &Between, to: *mut f32) {
    let (&(low, high, share), lanes) = (place, c - i);
    // SAFETY: as the caller promises.
    unsafe {
        let at = |x: usize| load::<S, WHOLE>(from.add(x * c + i), lanes);
        let mixed = S::fma(S::splat(share), at(high), S::mul(S::splat(1.0 - share), at(low)));
        store::<S, WHOLE>(to.add(i), mixed, lanes);
    }
}

simd_fn!(
    /// Adds the gradient of [`across`] to a row.
    fn across_backward(row: *mut f32, c: usize, xs: &[Between], dy: *const f32) = across_backward_kernel
);

#[inline(always)]
unsafe fn across_backward_kernel<S: Simd>(row: *mut f32, c: usize, xs: &[Between], dy: *const f32) {
    let whole = c - c % S::LANES;
    // SAFETY: the pixels that `xs` names can be read and written, and one for each of `xs` read, says the caller.
    unsafe {
        for i in (0..whole).step_by(S::LANES) {
            give::<S, true>(row, [c, i], xs, dy);
        }
        if whole < c {
            give::<S, false>(row, [c, whole], xs, dy);
        }
    }
}

/// The vector of channels from `i` on. Neighbours that lie between the same pixels are summed in registers.
#[inline(always)]
unsafe fn give<S: Simd, const WHOLE: bool>(row: *mut f32, [c, i]: [usize; 2], xs: &[Between], dy: *const f32) {
    let lanes = c - i;
    // SAFETY: as the caller promises.
    unsafe {
        let mut p = 0;
        while p < xs.len() {
            let (low, high, _) = xs[p];
            let (mut to_low, mut to_high) = (S::splat(0.0), S::splat(0.0));
            while p < xs.len() && (xs[p].0, xs[p].1) == (low, high) {
                let g = load::<S, WHOLE>(dy.add(p * c + i), lanes);
                to_low = S::fma(S::splat(1.0 - xs[p].2), g, to_low);
                to_high = S::fma(S::splat(xs[p].2), g, to_high);
                p += 1;
            }
            // One after the other: they may be one pixel.
            add_to::<S, WHOLE>(row.add(low * c + i), to_low, lanes);
            add_to::<S, WHOLE>(row.add(high * c + i), to_high, lanes);
        }
    }
}
