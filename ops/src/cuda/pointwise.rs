//! Element-wise passes on a card.

use super::gpu::gpu_of;
use super::launch::{LOSS, Launch, POINTWISE, width};
use super::memory::aligned;
use crate::Activation;
use crate::{Error, Result};
use candle_core::{DType, Tensor};

/// The element-wise functions by the numbers that the kernels know.
#[derive(Clone, Copy)]
pub(crate) enum Smooth {
    Sigmoid = 0,
    QuickGelu = 1,
    Silu = 2,
    HardSigmoid = 3,
    HardSwish = 4,
}

fn same(op: &'static str, a: &Tensor, b: &Tensor) -> Result<()> {
    if a.elem_count() == b.elem_count() && a.dtype() == b.dtype() {
        return Ok(());
    }
    Err(Error::shape(op, format!("{:?} {:?} and {:?} {:?}", a.dims(), a.dtype(), b.dims(), b.dtype())))
}

/// Threads for `t`: each takes 16 bytes.
fn threads(t: &Tensor) -> usize {
    t.elem_count().div_ceil(width(t.dtype()))
}

pub(crate) fn activate(x: &Tensor, act: Activation) -> Result<Tensor> {
    let (gpu, x) = (gpu_of(x)?, aligned(x)?);
    let y = gpu.tensor(x.shape().clone(), x.dtype())?;
    let launch = Launch::typed(&gpu, &POINTWISE, "activate", x.dtype()).tensor(&x).tensor(&y);
    launch.size(x.elem_count()).float(act.slope).float(act.cap).each(threads(&x))?;
    Ok(y)
}

/// Gradient through an activation, in place, by its output.
pub(crate) fn mask_by_output(dy: &Tensor, y: &Tensor, act: Activation) -> Result<()> {
    same("activation", dy, y)?;
    let (gpu, y) = (gpu_of(dy)?, aligned(y)?);
    in_place("activation", dy)?;
    let launch = Launch::typed(&gpu, &POINTWISE, "mask", dy.dtype()).tensor(dy).tensor(&y);
    launch.size(dy.elem_count()).float(act.slope).float(act.cap).each(threads(dy))
}

pub(crate) fn add(a: &Tensor, b: &Tensor, act: Activation) -> Result<Tensor> {
    same("add", a, b)?;
    let (gpu, a, b) = (gpu_of(a)?, aligned(a)?, aligned(b)?);
    let y = gpu.tensor(a.shape().clone(), a.dtype())?;
    add_launch(&a, &b, &y, act)?;
    Ok(y)
}

pub(crate) fn add_into(a: &Tensor, b: &Tensor) -> Result<()> {
    same("add", a, b)?;
    in_place("add", a)?;
    add_launch(a, &aligned(b)?, a, Activation::IDENTITY)
}

fn add_launch(a: &Tensor, b: &Tensor, out: &Tensor, act: Activation) -> Result<()> {
    let gpu = gpu_of(a)?;
    let launch = Launch::typed(&gpu, &POINTWISE, "add", a.dtype()).tensor(a).tensor(b).tensor(out);
    launch.size(a.elem_count()).float(act.slope).float(act.cap).each(threads(a))
}

/// A tensor that a pass writes in place must begin where vectors do: a copy would not be seen.
fn in_place(op: &'static str, t: &Tensor) -> Result<()> {
    if super::memory::address(t)?.is_multiple_of(16) {
        return Ok(());
    }
    Err(Error::shape(op, format!("{:?} begins between two vectors", t.dims())))
}

pub(crate) fn scale(x: &Tensor, factor: f32) -> Result<()> {
    in_place("scale", x)?;
    let gpu = gpu_of(x)?;
    let launch = Launch::typed(&gpu, &POINTWISE, "scale", x.dtype()).tensor(x).size(x.elem_count());
    launch.float(factor).each(threads(x))
}

pub(crate) fn smooth(op: Smooth, x: &Tensor) -> Result<Tensor> {
    let (gpu, x) = (gpu_of(x)?, aligned(x)?);
    let y = gpu.tensor(x.shape().clone(), x.dtype())?;
    let launch = Launch::typed(&gpu, &POINTWISE, "smooth", x.dtype()).tensor(&x).tensor(&y);
    launch.size(x.elem_count()).int(op as i32).each(threads(&x))?;
    Ok(y)
}

pub(crate) fn smooth_backward(op: Smooth, dy: &Tensor, kept: &Tensor) -> Result<()> {
    same("pointwise", dy, kept)?;
    in_place("pointwise", dy)?;
    let (gpu, kept) = (gpu_of(dy)?, aligned(kept)?);
    let launch = Launch::typed(&gpu, &POINTWISE, "smooth_backward", dy.dtype()).tensor(dy).tensor(&kept);
    launch.size(dy.elem_count()).int(op as i32).each(threads(dy))
}

/// `x` above 0, `slope·x` elsewhere, for `x [.., C]` and `slope [C]`.
pub(crate) fn prelu(x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    check_slopes(x, slope)?;
    let gpu = gpu_of(x)?;
    let y = gpu.tensor(x.shape().clone(), x.dtype())?;
    let launch = Launch::typed(&gpu, &POINTWISE, "prelu", x.dtype()).tensor(x).tensor(slope).tensor(&y);
    launch.size(x.elem_count()).size(slope.elem_count()).each(x.elem_count())?;
    Ok(y)
}

/// Turns the gradient of [`prelu`] into that of `x`, in place; returns what each value adds to the gradient of its slope.
pub(crate) fn prelu_backward(dy: &Tensor, x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    check_slopes(x, slope)?;
    same("prelu", dy, x)?;
    let gpu = gpu_of(x)?;
    let parts = gpu.tensor(x.shape().clone(), x.dtype())?;
    let launch = Launch::typed(&gpu, &POINTWISE, "prelu_backward", x.dtype()).tensor(dy).tensor(x).tensor(slope);
    launch.tensor(&parts).size(x.elem_count()).size(slope.elem_count()).each(x.elem_count())?;
    Ok(parts)
}

fn check_slopes(x: &Tensor, slope: &Tensor) -> Result<()> {
    if slope.dtype() == DType::F32 && x.dims().last() == Some(&slope.elem_count()) {
        return Ok(());
    }
    let found = format!("slopes {:?} {:?} of {:?}", slope.dims(), slope.dtype(), x.dims());
    Err(Error::shape("prelu", found))
}

fn check_gates(s: &Tensor) -> Result<()> {
    match s.dtype() {
        DType::F32 => Ok(()),
        other => Err(Error::shape("gate", format!("factors are {other:?}, expected F32"))),
    }
}

pub(crate) fn gate(x: &Tensor, s: &Tensor, [n, pixels, c]: [usize; 3]) -> Result<Tensor> {
    check_gates(s)?;
    let gpu = gpu_of(x)?;
    let y = gpu.tensor(x.shape().clone(), x.dtype())?;
    let launch = Launch::typed(&gpu, &POINTWISE, "gate", x.dtype()).tensor(x).tensor(s).tensor(&y);
    launch.size(n * pixels * c).size(pixels).size(c).each(n * pixels * c)?;
    Ok(y)
}

pub(crate) fn gate_backward(dy: &Tensor, x: &Tensor, s: &Tensor, [n, pixels, c]: [usize; 3]) -> Result<Tensor> {
    check_gates(s)?;
    same("gate", dy, x)?;
    let gpu = gpu_of(x)?;
    let ds = gpu.tensor((n, c), DType::F32)?;
    let launch = Launch::typed(&gpu, &POINTWISE, "gate_backward", x.dtype()).tensor(dy).tensor(x).tensor(s);
    launch.tensor(&ds).size(pixels).size(c).grid([c.div_ceil(32), n], [32, 8])?;
    Ok(ds)
}

/// Columns `start..` of a matrix become 0.
pub(crate) fn clear_columns(x: &Tensor, start: usize) -> Result<()> {
    let (gpu, (rows, width)) = (gpu_of(x)?, x.dims2()?);
    if start >= width {
        return Ok(());
    }
    let launch = Launch::new(&gpu, &LOSS, "clear_columns").tensor(x).size(rows).size(width).size(start);
    launch.each(rows * (width - start))
}
