//! Activations and gates that are passes of their own.

use super::{Op, Tape, Value, Var};
use crate::Result;
use crate::ops::{gate as passes, silu as activation};

/// SiLU, `x·σ(x)`. Behind a batch norm without activation it applies the norm's map itself, so both are one pass.
pub fn silu(tape: &Tape, x: &Var) -> Result<Var> {
    let (input, map) = match x.source() {
        (raw, Some(map)) if map.act.is_identity() => (raw.clone(), Some(map.clone())),
        _ => (x.tensor()?, None),
    };
    let y = activation::forward(&input, map.as_ref())?;
    let source = x.clone();
    let y = tape.record(Value::Dense(y), x.needs_grad(), move |dy, grads| {
        activation::backward(&dy, &input, map.as_ref())?;
        grads.add(&source, dy)
    });
    tape.note([x], y, || Op::Silu)
}

/// One factor per image and channel: `x·s` for `x [N, H, W, C]` and `s [N, C]`.
pub fn gate(tape: &Tape, x: &Var, s: &Var) -> Result<Var> {
    let (input, factors) = (x.tensor()?, s.tensor()?);
    let y = passes::forward(&input, &factors)?;
    let (image, gate) = (x.clone(), s.clone());
    let needs_grad = x.needs_grad() || s.needs_grad();
    let y = tape.record(Value::Dense(y), needs_grad, move |dy, grads| {
        let ds = passes::backward(&dy, &input, &factors)?;
        grads.add(&gate, ds)?;
        grads.add(&image, dy)
    });
    tape.note([x, s], y, || Op::Gate)
}
