//! Windows of images, enlarged to the whole: the random resized crop of training transforms, differentiable in the image.

use super::bilinear::{self, Between};
use super::mem::host;
use super::spatial::{nhwc, per_image};
use crate::{Error, Result};
use candle_core::Tensor;

/// A part of an image, in pixels from its upper left corner; it lies inside the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    pub top: f32,
    pub left: f32,
    pub height: f32,
    pub width: f32,
}

impl Window {
    /// Where the pixels of a side of `size` lie on a side of the window that starts at `start` and has `length` (half-pixel
    /// centres, edges repeated).
    fn between(start: f32, length: f32, size: usize) -> Vec<Between> {
        let place = |o: usize| {
            let at = start + (o as f32 + 0.5) * length / size as f32 - 0.5;
            let at = at.clamp(0.0, (size - 1) as f32);
            let low = at.floor() as usize;
            (low, (low + 1).min(size - 1), at - low as f32)
        };
        (0..size).map(place).collect()
    }

    /// The rows and the columns of the enlarged window.
    fn grid(&self, [h, w]: [usize; 2]) -> [Vec<Between>; 2] {
        [Self::between(self.top, self.height, h), Self::between(self.left, self.width, w)]
    }

    /// What belongs to the pixels of an image `[h, w]`, for those of the enlarged window: that of the pixel whose square holds
    /// the centre of the new one.
    pub fn nearest<T: Copy>(&self, values: &[T], [h, w]: [usize; 2]) -> Vec<T> {
        let at = |start: f32, length: f32, o: usize, size: usize| {
            ((start + (o as f32 + 0.5) * length / size as f32) as usize).min(size - 1)
        };
        let columns: Vec<usize> = (0..w).map(|x| at(self.left, self.width, x, w)).collect();
        let row = |y: usize| &values[at(self.top, self.height, y, h) * w..][..w];
        (0..h).flat_map(|y| columns.iter().map(move |x| row(y)[*x])).collect()
    }
}

/// Window `i` of image `i`, enlarged bilinearly to the size of the image. Images `[N, H, W, C]` are f32; those on a card are
/// brought to the host and back.
pub fn windows(x: &Tensor, windows: &[Window]) -> Result<Tensor> {
    each(x, windows, bilinear::read)
}

/// Gradient of [`windows`] with respect to the images.
pub fn windows_backward(dy: &Tensor, windows: &[Window]) -> Result<Tensor> {
    each(dy, windows, bilinear::read_backward)
}

/// What `of` makes of every image, which has `[width, channels]` and lies at rows and columns of the window.
fn each(
    x: &Tensor,
    windows: &[Window],
    of: impl Fn(&[f32], [usize; 2], [&[Between]; 2], &mut [f32]) + Sync + Send,
) -> Result<Tensor> {
    let [n, h, w, c] = nhwc("windows", x)?;
    let outside = |v: &Window| {
        let inside = v.top >= 0.0 && v.left >= 0.0 && v.height > 0.0 && v.width > 0.0;
        !inside || v.top + v.height > h as f32 + 1e-3 || v.left + v.width > w as f32 + 1e-3
    };
    if windows.len() != n || windows.iter().any(outside) {
        return Err(Error::shape(
            "windows",
            format!("{} windows of {n} images {h}x{w}, or one outside", windows.len()),
        ));
    }
    let made = per_image(&host(x)?, [n, h, w, c], |i, image, out| {
        let [ys, xs] = windows[i].grid([h, w]);
        of(image, [w, c], [&ys, &xs], out);
    })?;
    Ok(made.to_device(x.device())?)
}
