//! Passes that move pixels: pooling, resizing, cropping with flip and normalisation, option-A shortcuts, layout changes.
//!
//! Each works image by image; one image never needs another, so the split over threads is free.

use super::bilinear::{self, Corners};
#[cfg(feature = "cuda")]
use super::cuda::spatial::Subsample;
use super::max_pool::give_to_winners;
use super::mem::{build, view};
use super::par::{self, Shared};
use crate::{Error, Result};
use candle_core::{DType, Tensor};

/// Dimensions of a `[N, H, W, C]` tensor.
pub fn nhwc(op: &'static str, t: &Tensor) -> Result<[usize; 4]> {
    match t.dims() {
        &[n, h, w, c] if n * h * w * c > 0 => Ok([n, h, w, c]),
        d => Err(Error::shape(op, format!("expected a non-empty [N,H,W,C], found {d:?}"))),
    }
}

/// Builds `[n, dims..]` image by image from the images of `x`; `f(i, image, out)` must write all of `out`.
pub(super) fn per_image(
    x: &Tensor,
    dims: [usize; 4],
    f: impl Fn(usize, &[f32], &mut [f32]) + Sync + Send,
) -> Result<Tensor> {
    let xv = view(x)?;
    let values: &[f32] = &xv;
    let n = dims[0];
    let (from, to) = (values.len() / n, dims[1] * dims[2] * dims[3]);
    // SAFETY: every image is zeroed here and then filled by `f`; images are disjoint.
    unsafe {
        build(&dims[..], |out| {
            let out = Shared(out);
            par::each(n, |i| {
                let image = out.at(i * to);
                std::ptr::write_bytes(image, 0, to);
                f(i, &values[i * from..(i + 1) * from], std::slice::from_raw_parts_mut(image, to));
            });
        })
    }
}

/// Mean over all pixels: `[N, H, W, C]` → `[N, C]`.
pub fn global_mean(x: &Tensor) -> Result<Tensor> {
    let [n, h, w, c] = nhwc("global_mean", x)?;
    on_cuda!(x, super::cuda::spatial::global_mean(x));
    let out = per_image(x, [n, 1, 1, c], |_, image, out| {
        for pixel in image.chunks_exact(c) {
            out.iter_mut().zip(pixel).for_each(|(o, v)| *o += v);
        }
        let k = 1.0 / (h * w) as f32;
        out.iter_mut().for_each(|o| *o *= k);
    })?;
    Ok(out.reshape((n, c))?)
}

/// Gradient of [`global_mean`]: `[N, C]` → `[N, H, W, C]` of `dtype`, that of its input.
pub fn global_mean_backward(dy: &Tensor, h: usize, w: usize, dtype: DType) -> Result<Tensor> {
    let (n, c) = dy.dims2()?;
    if n * h * w * c == 0 {
        return Err(Error::shape("global_mean", format!("gradient {:?} for an image of {h}x{w}", dy.dims())));
    }
    on_cuda!(dy, super::cuda::spatial::global_mean_backward(dy, h, w, dtype));
    let _ = dtype;
    let k = 1.0 / (h * w) as f32;
    per_image(dy, [n, h, w, c], |_, dy, out| {
        for pixel in out.chunks_exact_mut(c) {
            pixel.iter_mut().zip(dy).for_each(|(o, v)| *o = v * k);
        }
    })
}

/// Maximum or mean over windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    Max,
    /// The mean; padding counts as zeros if `count_padding` (PyTorch's default), else only real pixels count.
    Average {
        count_padding: bool,
    },
}

/// Windows of a pooling layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    pub kind: PoolKind,
    pub kernel: usize,
    pub stride: usize,
    /// At most half the kernel.
    pub padding: usize,
}

impl Pool {
    fn out(&self, size: usize) -> Result<usize> {
        if self.kernel == 0 || self.stride == 0 || self.padding * 2 > self.kernel {
            return Err(Error::shape("pool", format!("{self:?}: kernel and stride ≥ 1, padding ≤ kernel/2")));
        }
        match (size + 2 * self.padding).checked_sub(self.kernel) {
            Some(rest) => Ok(rest / self.stride + 1),
            None => Err(Error::shape("pool", format!("{self:?} is larger than the input side {size}"))),
        }
    }

    /// Input rows (or columns) of window `o`.
    fn window(&self, o: usize, size: usize) -> std::ops::Range<usize> {
        let start = o * self.stride;
        start.saturating_sub(self.padding)..(start + self.kernel).saturating_sub(self.padding).min(size)
    }

    fn weight(&self, rows: usize, cols: usize) -> f32 {
        match self.kind {
            PoolKind::Average { count_padding: true } => 1.0 / (self.kernel * self.kernel) as f32,
            _ => 1.0 / (rows * cols) as f32,
        }
    }
}

/// Whether `v` replaces the maximum so far; NaN does, so that it is seen in the result.
fn beats(v: f32, best: f32) -> bool {
    v > best || v.is_nan() && !best.is_nan()
}

/// Pooling of `[N, H, W, C]`; kernel and stride may differ.
pub fn pool(x: &Tensor, p: &Pool) -> Result<Tensor> {
    let [n, h, w, c] = nhwc("pool", x)?;
    let (oh, ow) = (p.out(h)?, p.out(w)?);
    on_cuda!(x, super::cuda::spatial::pool(x, p, [oh, ow]));
    per_image(x, [n, oh, ow, c], |_, image, out| {
        for (o, pixel) in out.chunks_exact_mut(c).enumerate() {
            let (rows, cols) = (p.window(o / ow, h), p.window(o % ow, w));
            if p.kind == PoolKind::Max {
                pixel.fill(f32::NEG_INFINITY);
            }
            for y in rows.clone() {
                for x in cols.clone() {
                    let from = &image[(y * w + x) * c..][..c];
                    match p.kind {
                        PoolKind::Max => {
                            pixel.iter_mut().zip(from).for_each(|(o, v)| *o = if beats(*v, *o) { *v } else { *o })
                        }
                        PoolKind::Average { .. } => pixel.iter_mut().zip(from).for_each(|(o, v)| *o += v),
                    }
                }
            }
            if p.kind != PoolKind::Max {
                let k = p.weight(rows.len(), cols.len());
                pixel.iter_mut().for_each(|o| *o *= k);
            }
        }
    })
}

/// Gradient of [`pool`]; of equal maxima the first in row order gets it all, as in PyTorch.
pub fn pool_backward(dy: &Tensor, x: &Tensor, p: &Pool) -> Result<Tensor> {
    let [n, h, w, c] = nhwc("pool", x)?;
    let [_, oh, ow, _] = nhwc("pool", dy)?;
    if p.out(h)? != oh || p.out(w)? != ow || dy.dims()[0] != n || dy.dims()[3] != c {
        return Err(Error::shape("pool", format!("gradient {:?} of input {:?}", dy.dims(), x.dims())));
    }
    on_cuda!(x, super::cuda::spatial::pool_backward(dy, x, p));
    let xv = view(x)?;
    let values: &[f32] = &xv;
    per_image(dy, [n, h, w, c], |i, dy, dx| {
        let image = &values[i * h * w * c..][..h * w * c];
        let mut pixels = Vec::with_capacity(p.kernel * p.kernel);
        for (o, dy) in dy.chunks_exact(c).enumerate() {
            let (rows, cols) = (p.window(o / ow, h), p.window(o % ow, w));
            pixels.clear();
            pixels.extend(rows.clone().flat_map(|y| cols.clone().map(move |x| (y * w + x) * c)));
            if p.kind == PoolKind::Max {
                // SAFETY: the window lies inside the image, whose size `dx` has too.
                unsafe { give_to_winners(&pixels, c, image.as_ptr(), dy.as_ptr(), dx.as_mut_ptr()) };
                continue;
            }
            let k = p.weight(rows.len(), cols.len());
            for &at in &pixels {
                dx[at..][..c].iter_mut().zip(dy).for_each(|(dx, g)| *dx += g * k);
            }
        }
    })
}

/// Bilinear resizing to `h × w` (half-pixel centres, no antialiasing).
pub fn bilinear(x: &Tensor, h: usize, w: usize) -> Result<Tensor> {
    bilinear::resize(x, [h, w], Corners::Half)
}

/// Nearest-neighbour enlargement by 2 in both directions.
pub fn nearest2(x: &Tensor) -> Result<Tensor> {
    let [n, h, w, c] = nhwc("nearest2", x)?;
    on_cuda!(x, super::cuda::spatial::nearest2(x));
    per_image(x, [n, 2 * h, 2 * w, c], |_, image, out| {
        for (o, pixel) in out.chunks_exact_mut(c).enumerate() {
            let (y, x) = (o / (2 * w) / 2, o % (2 * w) / 2);
            pixel.copy_from_slice(&image[(y * w + x) * c..][..c]);
        }
    })
}

/// Gradient of [`nearest2`].
pub fn nearest2_backward(dy: &Tensor) -> Result<Tensor> {
    let [n, h, w, c] = nhwc("nearest2", dy)?;
    if h % 2 != 0 || w % 2 != 0 {
        return Err(Error::shape("nearest2", format!("gradient {:?} has an odd side", dy.dims())));
    }
    on_cuda!(dy, super::cuda::spatial::nearest2_backward(dy, [h / 2, w / 2]));
    per_image(dy, [n, h / 2, w / 2, c], |_, dy, dx| {
        for (o, g) in dy.chunks_exact(c).enumerate() {
            let (y, x) = (o / w / 2, o % w / 2);
            let to = &mut dx[(y * (w / 2) + x) * c..][..c];
            to.iter_mut().zip(g).for_each(|(o, v)| *o += v);
        }
    })
}

/// The option-A shortcut: every `stride`-th pixel from index 0, channels zero-padded half before and half after.
pub fn subsample_pad(x: &Tensor, stride: usize, c_out: usize) -> Result<Tensor> {
    let [n, h, w, c] = nhwc("shortcut", x)?;
    if stride == 0 || c_out < c {
        return Err(Error::shape("shortcut", format!("input {:?}, stride {stride}, {c_out} channels", x.dims())));
    }
    let (oh, ow, before) = (h.div_ceil(stride), w.div_ceil(stride), (c_out - c) / 2);
    on_cuda!(x, Subsample { input: [h, w, c], output: [oh, ow, c_out], stride }.forward(x));
    per_image(x, [n, oh, ow, c_out], |_, image, out| {
        for (o, pixel) in out.chunks_exact_mut(c_out).enumerate() {
            let from = (o / ow * stride * w + o % ow * stride) * c;
            pixel[before..before + c].copy_from_slice(&image[from..from + c]);
        }
    })
}

/// Gradient of [`subsample_pad`] for an input `[N, h, w, c]`.
pub fn subsample_pad_backward(dy: &Tensor, stride: usize, [h, w, c]: [usize; 3]) -> Result<Tensor> {
    let [n, oh, ow, c_out] = nhwc("shortcut", dy)?;
    if stride == 0 || c_out < c || h.div_ceil(stride) != oh || w.div_ceil(stride) != ow {
        return Err(Error::shape("shortcut", format!("gradient {:?} of {h}x{w}x{c}, stride {stride}", dy.dims())));
    }
    on_cuda!(dy, Subsample { input: [h, w, c], output: [oh, ow, c_out], stride }.backward(dy));
    let before = (c_out - c) / 2;
    per_image(dy, [n, h, w, c], |_, dy, dx| {
        for (o, g) in dy.chunks_exact(c_out).enumerate() {
            let to = (o / ow * stride * w + o % ow * stride) * c;
            dx[to..to + c].copy_from_slice(&g[before..before + c]);
        }
    })
}

/// `[N, H, W, C]` → `[N, C·H·W]` in channel, row, column order (PyTorch's flatten).
pub fn flatten_chw(x: &Tensor) -> Result<Tensor> {
    let [n, h, w, c] = nhwc("flatten", x)?;
    on_cuda!(x, super::cuda::spatial::transpose_inner(x, [n, h * w, c], &[n, c * h * w]));
    let t = per_image(x, [n, c, h, w], |_, image, out| {
        for (p, pixel) in image.chunks_exact(c).enumerate() {
            pixel.iter().enumerate().for_each(|(ch, v)| out[ch * h * w + p] = *v);
        }
    })?;
    Ok(t.reshape((n, c * h * w))?)
}

/// `[N, C·H·W]` in channel, row, column order → `[N, H, W, C]`.
pub fn unflatten_chw(x: &Tensor, [h, w, c]: [usize; 3]) -> Result<Tensor> {
    let (n, len) = x.dims2()?;
    if len != h * w * c || n * len == 0 {
        return Err(Error::shape("unflatten", format!("{len} values per row as {c}x{h}x{w}")));
    }
    on_cuda!(x, super::cuda::spatial::transpose_inner(x, [n, c, h * w], &[n, h, w, c]));
    per_image(x, [n, h, w, c], |_, from, out| {
        for (p, pixel) in out.chunks_exact_mut(c).enumerate() {
            pixel.iter_mut().enumerate().for_each(|(ch, o)| *o = from[ch * h * w + p]);
        }
    })
}
