//! Activations and gates that are passes of their own.

use super::{Op, Tape, Value, Var};
use crate::Result;
use crate::ops::{gate as passes, prelu as rectifier, silu as activation};

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

/// PReLU with one slope per channel, `slope [C]`: `x` above 0, `slope·x` elsewhere. Behind a batch norm without activation it
/// applies the norm's map itself.
pub fn prelu(tape: &Tape, x: &Var, slope: &Var) -> Result<Var> {
    let (input, map) = match x.source() {
        (raw, Some(map)) if map.act.is_identity() => (raw.clone(), Some(map.clone())),
        _ => (x.tensor()?, None),
    };
    let values = slope.tensor()?;
    let y = rectifier::forward(&input, map.as_ref(), &values)?;
    let needs_grad = x.needs_grad() || slope.needs_grad();
    let (source, parameter) = (x.clone(), slope.clone());
    let y = tape.record(Value::Dense(y), needs_grad, move |dy, grads| {
        let dslope = rectifier::backward(&dy, &input, map.as_ref(), &values)?;
        grads.add(&parameter, dslope)?;
        grads.add(&source, dy)
    });
    let slope = slope.weight()?;
    tape.note([x], y, || Op::Prelu { slope })
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
