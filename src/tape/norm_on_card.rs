//! Batch normalisation on a card: as `norm`, with statistics and coefficients that never leave it. Results are written out at
//! once, because cuDNN cannot apply a map to what it reads.

use super::{BatchNorm, Grads, NormMode, Normalised, Op, Tape, Value, Var};
use crate::Result;
use crate::ops::Activation;
use crate::ops::cuda::norm::{Done, Layer, Prepared, Wanted, apply, backward};
use candle_core::Tensor;

/// See [`super::batch_norm`]; `u` is the value of `x`.
pub(super) fn batch_norm(
    tape: &Tape,
    x: Var,
    u: Tensor,
    bn: &BatchNorm,
    mode: NormMode,
    act: Activation,
    residual: Option<&Var>,
) -> Result<Normalised> {
    let (weight, bias) = (bn.weight.tensor()?, bn.bias.tensor()?);
    let (running_mean, running_var) = (&bn.running_mean, &bn.running_var);
    let layer = Layer { weight: &weight, bias: &bias, running_mean, running_var, eps: bn.eps };
    let prepared = match mode {
        NormMode::Frozen => Prepared::frozen(&layer)?,
        NormMode::Match => Prepared::of_batch(&u, &layer, None)?,
        NormMode::Train { momentum } => Prepared::of_batch(&u, &layer, Some(momentum))?,
    };
    let affine = prepared.affine(act)?;
    let y = apply(&u, &affine, residual.map(Var::tensor).transpose()?.as_ref())?;
    let noted = |id| {
        let op = || Op::Affine { scale: affine.scale.clone(), shift: affine.shift.clone(), act };
        let y = Var { id, traced: None, value: Value::Dense(y.clone()) };
        tape.note(std::iter::once(&x).chain(residual), y, op)
    };
    let matched = prepared.moments.clone().filter(|_| mode == NormMode::Match);
    let params_need = bn.weight.needs_grad() || bn.bias.needs_grad();
    if !(x.needs_grad() || params_need || residual.is_some_and(Var::needs_grad)) {
        return Ok(Normalised { y: noted(None)?, moments: matched.map(Var::constant) });
    }
    let y_id = tape.next_id();
    let out = noted(Some(y_id))?;
    let moments = matched.map(|m| tape.leaf(m));
    let mut outputs = vec![y_id];
    outputs.extend(moments.as_ref().and_then(|m| m.id));
    let node = Node {
        u,
        prepared,
        act,
        train: matches!(mode, NormMode::Train { .. }),
        output: residual.map(|_| y.clone()),
        moments: moments.clone(),
        weight: bn.weight.clone(),
        bias: bn.bias.clone(),
        residual: residual.filter(|r| r.needs_grad()).cloned(),
        x,
    };
    tape.push(outputs, Box::new(move |grads| node.backward(y_id, grads)));
    Ok(Normalised { y: out, moments })
}

/// What the backward pass keeps.
struct Node {
    x: Var,
    u: Tensor,
    prepared: Prepared,
    act: Activation,
    train: bool,
    output: Option<Tensor>,
    moments: Option<Var>,
    weight: Var,
    bias: Var,
    residual: Option<Var>,
}

impl Node {
    fn backward(self, y_id: usize, grads: &mut Grads) -> Result<()> {
        let dy = grads.take_id(y_id);
        let dmoments = self.moments.as_ref().and_then(|m| grads.take(m));
        let done =
            Done { x: &self.u, prepared: &self.prepared, act: self.act, y: self.output.as_ref(), train: self.train };
        let wanted = Wanted {
            input: self.x.needs_grad(),
            parameters: self.weight.needs_grad() || self.bias.needs_grad(),
            residual: self.residual.is_some() && dy.is_some(),
        };
        let found = backward(&done, dy, dmoments.as_ref(), &wanted)?;
        if let Some([weight, bias]) = found.parameters {
            grads.add(&self.weight, weight)?;
            grads.add(&self.bias, bias)?;
        }
        if let Some(dx) = found.input {
            grads.add(&self.x, dx)?;
        }
        match (self.residual, found.residual) {
            (Some(r), Some(dr)) => grads.add(&r, dr),
            _ => Ok(()),
        }
    }
}
