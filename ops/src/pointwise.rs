//! Element-wise passes.

use super::activation::Activation;
use super::mem::{build, update, view};
use super::par::{self, Shared};
use crate::{Error, Result};
use candle_core::Tensor;
use std::mem::MaybeUninit;

const GRAIN: usize = 65_536;

/// Element-wise functions that no convolution and no norm carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UnaryOp {
    /// 1 / (1 + e^−x)
    Sigmoid,
    /// x · sigmoid(1.702·x) (Hendrycks and Gimpel, "Gaussian Error Linear Units", the sigmoid approximation)
    QuickGelu,
    /// min(max(x + 3, 0), 6) / 6 (Howard et al., "Searching for MobileNetV3", 2019, section 5.2); its derivative is 0 at both
    /// kinks, as in PyTorch.
    HardSigmoid,
    /// x · HardSigmoid(x); its derivative is 0 at -3 and 1 at 3, as in PyTorch.
    HardSwish,
}

impl UnaryOp {
    /// Whether the derivative is taken from the output (else from the input).
    pub fn backward_reads_output(self) -> bool {
        self == Self::Sigmoid
    }

    #[cfg(feature = "cuda")]
    fn on_card(self) -> super::cuda::pointwise::Smooth {
        match self {
            Self::Sigmoid => super::cuda::pointwise::Smooth::Sigmoid,
            Self::QuickGelu => super::cuda::pointwise::Smooth::QuickGelu,
            Self::HardSigmoid => super::cuda::pointwise::Smooth::HardSigmoid,
            Self::HardSwish => super::cuda::pointwise::Smooth::HardSwish,
        }
    }

    fn value(self, x: f32) -> f32 {
        match self {
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
            Self::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Self::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        }
    }

    fn derivative(self, kept: f32) -> f32 {
        match self {
            Self::Sigmoid => kept * (1.0 - kept),
            Self::QuickGelu => {
                let s = 1.0 / (1.0 + (-1.702 * kept).exp());
                s + 1.702 * kept * s * (1.0 - s)
            }
            Self::HardSigmoid if kept.abs() < 3.0 => 1.0 / 6.0,
            Self::HardSigmoid => 0.0,
            Self::HardSwish if kept <= -3.0 => 0.0,
            Self::HardSwish if kept >= 3.0 => 1.0,
            Self::HardSwish => kept / 3.0 + 0.5,
        }
    }
}

/// A new tensor `f(a[i])`.
fn map(a: &Tensor, f: impl Fn(f32) -> f32 + Sync + Send) -> Result<Tensor> {
    let av = view(a)?;
    let (n, values): (usize, &[f32]) = (av.len(), &av);
    let pieces = par::pieces(n, GRAIN);
    // SAFETY: the ranges are disjoint and cover all elements.
    unsafe {
        build(a.shape().clone(), |out| {
            let out = Shared(out);
            par::each(pieces, |i| {
                let r = par::range(n, pieces, i);
                for (k, v) in r.clone().zip(&values[r]) {
                    out.at(k).write(f(*v));
                }
            });
        })
    }
}

/// `f(&mut a[i], b[i])` in place.
fn zip_in_place(a: &Tensor, b: &Tensor, f: impl Fn(&mut f32, f32) + Sync + Send) -> Result<()> {
    let bv = view(b)?;
    if a.elem_count() != bv.len() {
        return Err(Error::shape("pointwise", format!("{:?} and {:?}", a.dims(), b.dims())));
    }
    let (n, values): (usize, &[f32]) = (bv.len(), &bv);
    let pieces = par::pieces(n, GRAIN);
    update(a, |a| {
        let a = Shared(a.as_mut_ptr());
        par::each(pieces, |i| {
            let r = par::range(n, pieces, i);
            // SAFETY: disjoint ranges.
            let to = unsafe { std::slice::from_raw_parts_mut(a.at(r.start), r.len()) };
            to.iter_mut().zip(&values[r]).for_each(|(a, b)| f(a, *b));
        });
    })
}

/// `x ← factor·x`
pub fn scale(x: &Tensor, factor: f32) -> Result<()> {
    on_cuda!(x, super::cuda::pointwise::scale(x, factor));
    if factor == 1.0 {
        return Ok(());
    }
    update(x, |v| par::each_chunk(v, GRAIN, |(_, v)| v.iter_mut().for_each(|v| *v *= factor)))
}

/// Columns `start..` of a matrix become 0.
pub fn clear_columns(x: &Tensor, start: usize) -> Result<()> {
    let (_, columns) = x.dims2()?;
    if columns <= start {
        return Ok(());
    }
    on_cuda!(x, super::cuda::pointwise::clear_columns(x, start));
    update(x, |x| x.chunks_exact_mut(columns).for_each(|row| row[start..].fill(0.0)))
}

/// `op(x)`.
pub fn forward(op: UnaryOp, x: &Tensor) -> Result<Tensor> {
    on_cuda!(x, super::cuda::pointwise::smooth(op.on_card(), x));
    map(x, move |v| op.value(v))
}

/// Multiplies `dy` by the derivative of `op`, in place; `kept` is the output or the input, as the op asks.
pub fn backward(op: UnaryOp, dy: &Tensor, kept: &Tensor) -> Result<()> {
    on_cuda!(dy, super::cuda::pointwise::smooth_backward(op.on_card(), dy, kept));
    zip_in_place(dy, kept, move |d, k| *d *= op.derivative(k))
}

/// `act(x)`.
pub fn activate(x: &Tensor, act: Activation) -> Result<Tensor> {
    on_cuda!(x, super::cuda::pointwise::activate(x, act));
    map(x, move |v| act.apply(v))
}

/// `act(a + b)`.
pub fn add(a: &Tensor, b: &Tensor, act: Activation) -> Result<Tensor> {
    on_cuda!(a, super::cuda::pointwise::add(a, b, act));
    let (av, bv) = (view(a)?, view(b)?);
    if a.dims() != b.dims() {
        return Err(Error::shape("add", format!("{:?} and {:?}", a.dims(), b.dims())));
    }
    let (n, a_values, b_values): (usize, &[f32], &[f32]) = (av.len(), &av, &bv);
    let pieces = par::pieces(n, GRAIN);
    // SAFETY: the ranges are disjoint and cover all elements.
    unsafe {
        build(a.shape().clone(), |out| {
            let out = Shared(out);
            par::each(pieces, |i| {
                let r = par::range(n, pieces, i);
                let to = std::slice::from_raw_parts_mut(out.at(r.start).cast::<MaybeUninit<f32>>(), r.len());
                for ((o, a), b) in to.iter_mut().zip(&a_values[r.clone()]).zip(&b_values[r]) {
                    o.write(act.apply(a + b));
                }
            });
        })
    }
}
