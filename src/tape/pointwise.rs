//! Element-wise functions on the tape.

use super::{Op, Tape, Value, Var};
use crate::Result;
use crate::ops::pointwise;
use crate::ops::{Activation, mem, norm};
use candle_core::DType;

pub use crate::ops::pointwise::UnaryOp;

/// The same values as `dtype`, which is f32 but for maps on a card.
pub fn cast(tape: &Tape, x: &Var, dtype: DType) -> Result<Var> {
    let from = x.dtype();
    if from == dtype {
        return Ok(x.clone());
    }
    let source = x.clone();
    let y = mem::cast(&x.tensor()?, dtype)?;
    Ok(tape.record(Value::Dense(y), x.needs_grad(), move |dy, grads| grads.add(&source, mem::cast(&dy, from)?)))
}

/// An element-wise function (a sigmoid, say); the result is f32.
pub fn unary(tape: &Tape, x: &Var, op: UnaryOp) -> Result<Var> {
    element_wise(tape, &cast(tape, x, DType::F32)?, op)
}

/// Hard swish, `x·min(max(x + 3, 0), 6) / 6`, in the precision of `x`.
pub fn hard_swish(tape: &Tape, x: &Var) -> Result<Var> {
    element_wise(tape, x, UnaryOp::HardSwish)
}

fn element_wise(tape: &Tape, x: &Var, op: UnaryOp) -> Result<Var> {
    let input = x.tensor()?;
    let y = pointwise::forward(op, &input)?;
    let kept = if op.backward_reads_output() { y.clone() } else { input };
    let source = x.clone();
    let y = tape.record(Value::Dense(y), x.needs_grad(), move |dy, grads| {
        pointwise::backward(op, &dy, &kept)?;
        grads.add(&source, dy)
    });
    tape.note([x], y, || Op::Unary { op })
}

/// A piecewise-linear activation in a pass of its own (where no convolution or norm could carry it).
pub fn activate(tape: &Tape, x: &Var, act: Activation) -> Result<Var> {
    if act.is_identity() {
        return Ok(x.clone());
    }
    let y = pointwise::activate(&x.tensor()?, act)?;
    let (output, source) = (y.clone(), x.clone());
    let y = tape.record(Value::Dense(y), x.needs_grad(), move |dy, grads| {
        norm::mask_by_output(&dy, &output, act)?;
        grads.add(&source, dy)
    });
    tape.note([x], y, || Op::Activate { act })
}

/// `act(a + b)`.
pub fn add(tape: &Tape, a: &Var, b: &Var, act: Activation) -> Result<Var> {
    let y = pointwise::add(&a.tensor()?, &b.tensor()?, act)?;
    let output = (!act.is_identity()).then(|| y.clone());
    let inputs = [a, b];
    let (a, b) = (a.clone(), b.clone());
    let needs_grad = a.needs_grad() || b.needs_grad();
    let y = tape.record(Value::Dense(y), needs_grad, move |dy, grads| {
        if let Some(y) = &output {
            norm::mask_by_output(&dy, y, act)?;
        }
        if a.needs_grad() && b.needs_grad() {
            grads.add(&a, dy.copy()?)?;
            return grads.add(&b, dy);
        }
        grads.add(if a.needs_grad() { &a } else { &b }, dy)
    });
    tape.note(inputs, y, || Op::Add { act })
}
