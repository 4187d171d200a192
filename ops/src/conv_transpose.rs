//! Transposed 2-d convolution over `[N, H, W, C]`: the gradient of a convolution with respect to its input, as a layer.
//!
//! All three passes are those of the convolution that it transposes, with the roles changed: what a convolution writes is
//! read here. Its weights `[K, K, C_out, C_in]` are laid out as those of that convolution, and so they are in files:
//! PyTorch's `ConvTranspose2d` has `[C_in, C_out, K, K]`, as a `Conv2d` from `C_out` to `C_in` channels has.

use super::conv2d::{self, After, Conv2dSpec};
use super::spatial::nhwc;
use crate::{Error, Result};
use candle_core::Tensor;

/// Hyper-parameters, the same for rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTransposeSpec {
    pub kernel: usize,
    /// The enlargement.
    pub stride: usize,
    /// Rows and columns that are cut off on every side.
    pub padding: usize,
    /// Rows and columns added at the end, fewer than `stride`.
    pub output_padding: usize,
}

impl ConvTransposeSpec {
    /// A kernel with a stride; nothing is cut off or added.
    pub const fn new(kernel: usize, stride: usize) -> Self {
        Self { kernel, stride, padding: 0, output_padding: 0 }
    }

    /// The convolution whose input gradient this is.
    fn convolution(&self) -> Conv2dSpec {
        Conv2dSpec::new(self.kernel).stride(self.stride).padding(self.padding)
    }

    /// A side of the result.
    fn out(&self, side: usize) -> Option<usize> {
        let full = side.checked_sub(1)?.checked_mul(self.stride)?.checked_add(self.kernel + self.output_padding)?;
        full.checked_sub(2 * self.padding).filter(|out| *out > 0 && self.output_padding < self.stride)
    }
}

/// `[N, H, W, C_in]` → `[N, H', W', C_out]` with `H' = (H − 1)·stride − 2·padding + kernel + output_padding`.
///
/// # Errors
/// Shapes that do not fit.
pub fn forward(x: &Tensor, w: &Tensor, spec: &ConvTransposeSpec) -> Result<Tensor> {
    let [n, h, width, c_in] = nhwc("conv_transpose", x)?;
    let fail = || Error::shape("conv_transpose", format!("input {:?}, weights {:?}, {spec:?}", x.dims(), w.dims()));
    let &[kh, kw, c_out, weight_in] = w.dims() else { return Err(fail()) };
    let ([oh, ow], true) = ([spec.out(h), spec.out(width)], [kh, kw, weight_in] == [spec.kernel, spec.kernel, c_in])
    else {
        return Err(fail());
    };
    let (oh, ow) = oh.zip(ow).ok_or_else(fail)?;
    conv2d::backward_input(x, w, &spec.convolution(), &[n, oh, ow, c_out], None)
}

/// Gradient of [`forward`] with respect to its input.
pub fn backward_input(dy: &Tensor, w: &Tensor, spec: &ConvTransposeSpec) -> Result<Tensor> {
    Ok(conv2d::forward(dy, None, w, &spec.convolution(), &After::NOTHING)?.0)
}

/// Gradient of [`forward`] with respect to its weights, of dimensions `weights`.
pub fn backward_weights(dy: &Tensor, x: &Tensor, spec: &ConvTransposeSpec, weights: &[usize]) -> Result<Tensor> {
    conv2d::backward_weights(dy, None, x, &spec.convolution(), weights)
}
