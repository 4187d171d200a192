//! Convolution and linear layers on the tape.

use super::{Op, Tape, Value, Var};
use crate::ops::conv_transpose::{self as transposed, ConvTransposeSpec};
use crate::ops::conv2d::{self, After, Conv2dSpec, Sums};
use crate::ops::{Activation, norm};
use crate::{Error, Result};
use candle_core::Tensor;

/// A convolution's result and, if asked for and at hand, its sums per channel.
pub struct ConvOutput {
    pub y: Var,
    pub sums: Option<Sums>,
}

/// `act(conv(x) + bias + residual)`; `x` may be lazy: its map is applied while reading.
///
/// `x [N,H,W,C]`, `w [KH,KW,C/groups,C_out]`, `bias [C_out]`, `residual` as the output.
#[allow(clippy::too_many_arguments)]
pub fn conv2d(
    tape: &Tape,
    x: &Var,
    w: &Var,
    spec: &Conv2dSpec,
    bias: Option<&Var>,
    residual: Option<&Var>,
    act: Activation,
    sums: bool,
) -> Result<ConvOutput> {
    let ConvOutput { y, sums } = convolve(tape, x, w, spec, bias, residual, act, sums)?;
    let (weight, bias) = (w.weight()?, bias.map(Var::weight).transpose()?);
    let y = tape.note(std::iter::once(x).chain(residual), y, || Op::Conv { weight, bias, spec: *spec, act })?;
    Ok(ConvOutput { y, sums })
}

/// [`conv2d`] without a record.
#[allow(clippy::too_many_arguments)]
fn convolve(
    tape: &Tape,
    x: &Var,
    w: &Var,
    spec: &Conv2dSpec,
    bias: Option<&Var>,
    residual: Option<&Var>,
    act: Activation,
    sums: bool,
) -> Result<ConvOutput> {
    let (raw, before) = x.source();
    let wt = w.tensor()?;
    let bias_tensor = bias.map(Var::tensor).transpose()?;
    let residual_tensor = residual.map(Var::tensor).transpose()?;
    let after = After { bias: bias_tensor.as_ref(), residual: residual_tensor.as_ref(), act, sums };
    let (y, sums) = conv2d::forward(raw, before, &wt, spec, &after)?;

    let needs = |v: Option<&Var>| v.is_some_and(Var::needs_grad);
    let needs_grad = x.needs_grad() || w.needs_grad() || needs(bias) || needs(residual);
    if !needs_grad {
        return Ok(ConvOutput { y: Var::constant(y), sums });
    }
    let (x, w, spec) = (x.clone(), w.clone(), *spec);
    let (bias, residual) = (bias.cloned(), residual.cloned());
    let output = (!act.is_identity()).then(|| y.clone());
    let y = tape.record(Value::Dense(y), true, move |dy, grads| {
        if let Some(y) = &output {
            norm::mask_by_output(&dy, y, act)?;
        }
        if let Some(b) = bias.filter(Var::needs_grad) {
            grads.add(&b, norm::channel_sums(&dy)?.reshape(b.dims())?)?;
        }
        let (raw, before) = x.source();
        if w.needs_grad() {
            grads.add(&w, conv2d::backward_weights(raw, before, &dy, &spec, w.dims())?)?;
        }
        if x.needs_grad() {
            let others = grads.take(&x);
            grads.add(&x, conv2d::backward_input(&dy, &w.tensor()?, &spec, x.dims(), others.as_ref())?)?;
        }
        match residual {
            Some(r) => grads.add(&r, dy),
            None => Ok(()),
        }
    });
    Ok(ConvOutput { y, sums })
}

/// A transposed convolution: `x [N,H,W,C_in]`, `w [K,K,C_out,C_in]` → `[N,H',W',C_out]`.
pub fn conv_transpose(tape: &Tape, x: &Var, w: &Var, spec: &ConvTransposeSpec) -> Result<Var> {
    let (input, weight) = (x.tensor()?, w.tensor()?);
    let y = transposed::forward(&input, &weight, spec)?;
    let needs_grad = x.needs_grad() || w.needs_grad();
    let (source, kernel, spec) = (x.clone(), w.clone(), *spec);
    let y = tape.record(Value::Dense(y), needs_grad, move |dy, grads| {
        if kernel.needs_grad() {
            grads.add(&kernel, transposed::backward_weights(&dy, &input, &spec, weight.dims())?)?;
        }
        if source.needs_grad() {
            grads.add(&source, transposed::backward_input(&dy, &weight, &spec)?)?;
        }
        Ok(())
    });
    let weight = w.weight()?;
    tape.note([x], y, || Op::ConvTranspose { weight, spec })
}

/// `x·w + bias` for `x [N, in]`, `w [in, out]` or the same as a 1x1 kernel `[1, 1, in, out]`, `bias [out]`: a 1x1
/// convolution over the rows.
pub fn linear(tape: &Tape, x: &Var, w: &Var, bias: Option<&Var>) -> Result<Var> {
    let (&[n, c_in], &[w_in, c_out] | &[1, 1, w_in, c_out]) = (x.dims(), w.dims()) else {
        return Err(Error::shape("linear", format!("input {:?}, weights {:?}", x.dims(), w.dims())));
    };
    if c_in != w_in {
        return Err(Error::shape("linear", format!("input {:?}, weights {:?}", x.dims(), w.dims())));
    }
    // Rows become "images" of one line, so that they spread over the threads.
    let line = (1..=64.min(n)).rev().find(|l| n % l == 0).unwrap_or(1);
    let rows = reshaped(tape, x, &[n / line, 1, line, c_in])?;
    let kernel = reshaped(tape, w, &[1, 1, c_in, c_out])?;
    let out = convolve(tape, &rows, &kernel, &Conv2dSpec::new(1), bias, None, Activation::IDENTITY, false)?;
    let y = reshaped(tape, &out.y, &[n, c_out])?;
    let (weight, bias) = (w.weight()?, bias.map(Var::weight).transpose()?);
    tape.note([x], y, || Op::Linear { weight, bias })
}

/// The same values under other dimensions.
pub(crate) fn reshaped(tape: &Tape, x: &Var, dims: &[usize]) -> Result<Var> {
    let value: Tensor = x.tensor()?.reshape(dims)?;
    let input = x.clone();
    Ok(tape.record(Value::Dense(value), x.needs_grad(), move |dy, grads| {
        let back = dy.reshape(input.dims())?;
        grads.add(&input, back)
    }))
}
