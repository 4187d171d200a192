//! Pooling, resizing and layout changes on a card.

use super::gpu::gpu_of;
use super::launch::{LAYOUT, Launch, SPATIAL, width};
use super::memory::aligned;
use crate::bilinear::Corners;
use crate::spatial::{Pool, PoolKind};
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use std::ops::Range;

/// Mean over all pixels: `[N, H, W, C]` → `[N, C]` f32.
pub(crate) fn global_mean(x: &Tensor) -> Result<Tensor> {
    let (gpu, (n, h, w, c)) = (gpu_of(x)?, x.dims4()?);
    let out = gpu.tensor((n, c), DType::F32)?;
    let launch = Launch::typed(&gpu, &SPATIAL, "global_mean", x.dtype()).tensor(x).tensor(&out);
    launch.size(n).size(h * w).size(c).each(n * c)?;
    Ok(out)
}

/// `[N, C]` f32 → `[N, H, W, C]` of `dtype`.
pub(crate) fn global_mean_backward(dy: &Tensor, h: usize, w: usize, dtype: DType) -> Result<Tensor> {
    let (gpu, (n, c)) = (gpu_of(dy)?, dy.dims2()?);
    let out = gpu.tensor((n, h, w, c), dtype)?;
    let launch = Launch::typed(&gpu, &SPATIAL, "global_mean_backward", dtype).tensor(dy).tensor(&out);
    launch.size(n).size(h * w).size(c).each(out.elem_count())?;
    Ok(out)
}

fn kind(p: &Pool) -> i32 {
    match p.kind {
        PoolKind::Max => 0,
        PoolKind::Average { count_padding: true } => 1,
        PoolKind::Average { count_padding: false } => 2,
    }
}

pub(crate) fn pool(x: &Tensor, p: &Pool, [oh, ow]: [usize; 2]) -> Result<Tensor> {
    let (gpu, (n, h, w, c)) = (gpu_of(x)?, x.dims4()?);
    let out = gpu.tensor((n, oh, ow, c), x.dtype())?;
    let launch = Launch::typed(&gpu, &SPATIAL, "pool", x.dtype()).tensor(x).tensor(&out);
    let launch = launch.size(n).size(h).size(w).size(oh).size(ow).size(c);
    launch.size(p.kernel).size(p.stride).size(p.padding).int(kind(p)).each(out.elem_count())?;
    Ok(out)
}

pub(crate) fn pool_backward(dy: &Tensor, x: &Tensor, p: &Pool) -> Result<Tensor> {
    let (gpu, (n, h, w, c), (_, oh, ow, _)) = (gpu_of(x)?, x.dims4()?, dy.dims4()?);
    let out = gpu.tensor((n, h, w, c), x.dtype())?;
    let launch = Launch::typed(&gpu, &SPATIAL, "pool_backward", x.dtype()).tensor(dy).tensor(x).tensor(&out);
    let launch = launch.size(n).size(h).size(w).size(oh).size(ow).size(c);
    launch.size(p.kernel).size(p.stride).size(p.padding).int(kind(p)).each(out.elem_count())?;
    Ok(out)
}

/// One of the kernels between images of two sizes.
struct Resize<'a> {
    name: &'static str,
    /// Size of what the operation itself reads (its gradient is written by the backward kernel).
    image: [usize; 2],
    /// Size of what the operation itself writes.
    windows: [usize; 2],
    /// What the kernel wants to know beside the sizes.
    flag: Option<i32>,
    from: &'a Tensor,
}

impl Resize<'_> {
    /// Writes an image of size `out`.
    fn run(self, out: [usize; 2]) -> Result<Tensor> {
        let Self { name, image, windows, flag, from } = self;
        let (gpu, (n, _, _, c)) = (gpu_of(from)?, from.dims4()?);
        let out = gpu.tensor((n, out[0], out[1], c), from.dtype())?;
        let launch = Launch::typed(&gpu, &SPATIAL, name, from.dtype()).tensor(from).tensor(&out).size(n);
        let launch = launch.size(image[0]).size(image[1]).size(windows[0]).size(windows[1]).size(c);
        let launch = flag.into_iter().fold(launch, Launch::int);
        launch.each(out.elem_count())?;
        Ok(out)
    }
}

fn size(x: &Tensor) -> Result<[usize; 2]> {
    let (_, h, w, _) = x.dims4()?;
    Ok([h, w])
}

pub(crate) fn adaptive_mean(x: &Tensor, windows: [usize; 2]) -> Result<Tensor> {
    Resize { name: "adaptive", image: size(x)?, windows, flag: None, from: x }.run(windows)
}

pub(crate) fn adaptive_mean_backward(dy: &Tensor, to: [usize; 2]) -> Result<Tensor> {
    Resize { name: "adaptive_backward", image: to, windows: size(dy)?, flag: None, from: dy }.run(to)
}

fn aligned_corners(corners: Corners) -> Option<i32> {
    Some((corners == Corners::Aligned).into())
}

pub(crate) fn bilinear(x: &Tensor, to: [usize; 2], corners: Corners) -> Result<Tensor> {
    Resize { name: "bilinear", image: size(x)?, windows: to, flag: aligned_corners(corners), from: x }.run(to)
}

pub(crate) fn bilinear_backward(dy: &Tensor, to: [usize; 2], corners: Corners) -> Result<Tensor> {
    let flag = aligned_corners(corners);
    Resize { name: "bilinear_backward", image: to, windows: size(dy)?, flag, from: dy }.run(to)
}

/// The kernel for vectors of 16 bytes where the channels of `x` are a multiple of them, else the one for single values, with the
/// number of values per thread.
fn by_vectors(names: [&'static str; 2], x: &Tensor) -> (&'static str, usize) {
    let (vector, channels) = (width(x.dtype()), x.dims().last().copied().unwrap_or(1));
    if channels.is_multiple_of(vector) { (names[0], vector) } else { (names[1], 1) }
}

pub(crate) fn nearest2(x: &Tensor) -> Result<Tensor> {
    let (gpu, x, (n, h, w, c)) = (gpu_of(x)?, aligned(x)?, x.dims4()?);
    let out = gpu.tensor((n, 2 * h, 2 * w, c), x.dtype())?;
    let (name, each) = by_vectors(["nearest2", "nearest21"], &x);
    let launch = Launch::typed(&gpu, &LAYOUT, name, x.dtype()).tensor(&x).tensor(&out);
    launch.size(n).size(h).size(w).size(c).each(out.elem_count() / each)?;
    Ok(out)
}

/// Sums of four, to images of `size`.
pub(crate) fn nearest2_backward(dy: &Tensor, [h, w]: [usize; 2]) -> Result<Tensor> {
    let (gpu, dy, (n, _, _, c)) = (gpu_of(dy)?, aligned(dy)?, dy.dims4()?);
    let out = gpu.tensor((n, h, w, c), dy.dtype())?;
    let (name, each) = by_vectors(["nearest2_backward", "nearest2_backward1"], &dy);
    let launch = Launch::typed(&gpu, &LAYOUT, name, dy.dtype()).tensor(&dy).tensor(&out);
    launch.size(n).size(h).size(w).size(c).each(out.elem_count() / each)?;
    Ok(out)
}

/// Sizes of an option-A shortcut: the image, its output, and the stride.
pub(crate) struct Subsample {
    pub input: [usize; 3],
    pub output: [usize; 3],
    pub stride: usize,
}

impl Subsample {
    fn launch(&self, name: &str, from: &Tensor, to: &Tensor) -> Result<()> {
        let ([h, w, c], [oh, ow, c_out]) = (self.input, self.output);
        let gpu = gpu_of(from)?;
        let launch = Launch::typed(&gpu, &LAYOUT, name, from.dtype()).tensor(from).tensor(to).size(from.dims()[0]);
        let launch = launch.size(h).size(w).size(c).size(oh).size(ow).size(c_out);
        launch.size(self.stride).size((c_out - c) / 2).each(to.elem_count())
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [h, w, c] = self.output;
        let out = gpu_of(x)?.tensor((x.dims()[0], h, w, c), x.dtype())?;
        self.launch("subsample", x, &out)?;
        Ok(out)
    }

    pub fn backward(&self, dy: &Tensor) -> Result<Tensor> {
        let [h, w, c] = self.input;
        let out = gpu_of(dy)?.tensor((dy.dims()[0], h, w, c), dy.dtype())?;
        self.launch("subsample_backward", dy, &out)?;
        Ok(out)
    }
}

/// `[N, outer, inner]` → `[N, inner, outer]`, under whatever dimensions `shape` says.
pub(crate) fn transpose_inner(x: &Tensor, [n, outer, inner]: [usize; 3], shape: &[usize]) -> Result<Tensor> {
    if x.elem_count() != n * outer * inner || x.elem_count() != shape.iter().product::<usize>() {
        return Err(Error::shape("flatten", format!("{:?} as {n}x{outer}x{inner} to {shape:?}", x.dims())));
    }
    let gpu = gpu_of(x)?;
    let out = gpu.tensor(shape, x.dtype())?;
    let launch = Launch::typed(&gpu, &LAYOUT, "transpose_inner", x.dtype()).tensor(x).tensor(&out);
    launch.size(n).size(outer).size(inner).each(out.elem_count())?;
    Ok(out)
}

fn move_channels(x: &Tensor, from: usize, out: &Tensor, to: usize, count: usize) -> Result<()> {
    let width = |t: &Tensor| t.dims().last().copied().unwrap_or(1);
    let (gpu, rows) = (gpu_of(x)?, x.elem_count() / width(x));
    if x.dtype() != out.dtype() {
        return Err(Error::shape("concat", format!("{:?} beside {:?}", x.dtype(), out.dtype())));
    }
    let launch = Launch::typed(&gpu, &LAYOUT, "move_channels", x.dtype()).tensor(x).tensor(out).size(rows).size(count);
    launch.size(width(x)).size(from).size(width(out)).size(to).each(rows * count)
}

/// Channels of images of one size, `[n, h, w]`, side by side.
pub(crate) fn concat(parts: &[Tensor], [n, h, w]: [usize; 3]) -> Result<Tensor> {
    let Some(first) = parts.first() else { return Err(Error::shape("concat", "nothing to join")) };
    let total: usize = parts.iter().map(|part| part.dims()[3]).sum();
    let out = gpu_of(first)?.tensor((n, h, w, total), first.dtype())?;
    let mut at = 0;
    for part in parts {
        let count = part.dims()[3];
        move_channels(&aligned(part)?, 0, &out, at, count)?;
        at += count;
    }
    Ok(out)
}

pub(crate) fn select(x: &Tensor, range: Range<usize>) -> Result<Tensor> {
    let (n, h, w, _) = x.dims4()?;
    let out = gpu_of(x)?.tensor((n, h, w, range.len()), x.dtype())?;
    move_channels(x, range.start, &out, 0, range.len())?;
    Ok(out)
}
