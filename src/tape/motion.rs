//! What moves or rescales whole images, on the tape: the augmentations of inversion beside [`super::place`].

use super::{Op, Tape, Value, Var};
use crate::ops::Activation;
use crate::ops::mem::tensor;
use crate::ops::windows::{self, Window};
use crate::{Error, Result};
use candle_core::{DType, Tensor};

/// All images `[N, H, W, C]` rolled by as many rows and columns; what leaves on one side comes in on the other.
pub fn roll(tape: &Tape, x: &Var, rows: i32, columns: i32) -> Result<Var> {
    let x = &super::cast(tape, x, DType::F32)?;
    let rolled = |t: &Tensor, dy: i32, dx: i32| -> Result<Tensor> {
        Ok(t.roll(dy, 1usize)?.roll(dx, 2usize)?.force_contiguous()?)
    };
    let (y, source) = (rolled(&x.tensor()?, rows, columns)?, x.clone());
    Ok(tape.record(Value::Dense(y), x.needs_grad(), move |dy, grads| grads.add(&source, rolled(&dy, -rows, -columns)?)))
}

/// Window `i` of image `i`, enlarged to the whole.
pub fn windows(tape: &Tape, x: &Var, list: Vec<Window>) -> Result<Var> {
    let x = &super::cast(tape, x, DType::F32)?;
    let (y, source) = (windows::windows(&x.tensor()?, &list)?, x.clone());
    Ok(tape.record(Value::Dense(y), x.needs_grad(), move |dy, grads| {
        grads.add(&source, windows::windows_backward(&dy, &list)?)
    }))
}

/// `scale·x + shift` per channel of `x [.., C]`; the result is f32.
pub fn per_channel(tape: &Tape, x: &Var, scale: &[f32], shift: &[f32]) -> Result<Var> {
    let x = &super::cast(tape, x, DType::F32)?;
    let t = x.tensor()?;
    if [scale.len(), shift.len()].iter().any(|values| t.dims().last() != Some(values)) {
        let found = format!("{} factors and {} shifts for {:?}", scale.len(), shift.len(), t.dims());
        return Err(Error::shape("per_channel", found));
    }
    let on = |values: &[f32]| -> Result<Tensor> { Ok(tensor(values.to_vec(), values.len())?.to_device(t.device())?) };
    let (scale, shift) = (on(scale)?, on(shift)?);
    let y = t.broadcast_mul(&scale)?.broadcast_add(&shift)?;
    let (source, factor) = (x.clone(), scale.clone());
    let y =
        tape.record(Value::Dense(y), x.needs_grad(), move |dy, grads| grads.add(&source, dy.broadcast_mul(&factor)?));
    tape.note([x], y, || Op::Affine { scale, shift, act: Activation::IDENTITY })
}

/// Rows `start..start + count` of `x [N, C]`.
pub fn rows(tape: &Tape, x: &Var, start: usize, count: usize) -> Result<Var> {
    let t = x.tensor()?;
    let (y, source) = (t.narrow(0, start, count)?.force_contiguous()?, x.clone());
    let below = t.dims()[0] - start - count;
    Ok(tape.record(Value::Dense(y), x.needs_grad(), move |dy, grads| {
        grads.add(&source, dy.pad_with_zeros(0, start, below)?.force_contiguous()?)
    }))
}

/// Columns `start..start + count` of `x [N, C]`.
pub fn columns(tape: &Tape, x: &Var, start: usize, count: usize) -> Result<Var> {
    let t = x.tensor()?;
    let (y, source) = (t.narrow(1, start, count)?.force_contiguous()?, x.clone());
    let behind = t.dims()[1] - start - count;
    Ok(tape.record(Value::Dense(y), x.needs_grad(), move |dy, grads| {
        grads.add(&source, dy.pad_with_zeros(1, start, behind)?.force_contiguous()?)
    }))
}

/// Matrices with equally many columns, one below the other.
pub fn stack_rows(tape: &Tape, parts: &[Var]) -> Result<Var> {
    let tensors = parts.iter().map(Var::tensor).collect::<Result<Vec<_>>>()?;
    let y = Tensor::cat(&tensors, 0)?;
    let needs_grad = parts.iter().any(Var::needs_grad);
    let sources = parts.to_vec();
    Ok(tape.record(Value::Dense(y), needs_grad, move |dy, grads| {
        let mut start = 0;
        for part in &sources {
            let count = part.dims()[0];
            grads.add(part, dy.narrow(0, start, count)?.force_contiguous()?)?;
            start += count;
        }
        Ok(())
    }))
}
