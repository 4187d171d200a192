//! Batch normalisation on the tape: training, frozen, and frozen with its input moments exposed for matching.

use super::{Grads, Op, Tape, Value, Var};
use crate::ops::conv2d::{Affine, Sums};
use crate::ops::norm::{self, BackwardAffine};
use crate::ops::{Activation, mem};
use crate::{Error, Result};
use candle_core::Tensor;

/// Weights and running statistics of one layer, each `[C]`.
pub struct BatchNorm {
    pub weight: Var,
    pub bias: Var,
    pub running_mean: Tensor,
    pub running_var: Tensor,
    pub eps: f64,
}

/// Which statistics normalise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormMode {
    /// Those of the batch; running statistics move by `momentum` towards them (variance unbiased, as in PyTorch).
    Train { momentum: f64 },
    /// The running ones.
    Frozen,
    /// The running ones, and the batch moments come out as a value that gradients may flow into.
    Match,
}

/// A normalised value; in [`NormMode::Match`] with the moments `[2, C]` (mean, biased variance) of the layer's input.
pub struct Normalised {
    pub y: Var,
    pub moments: Option<Var>,
}

/// `act(bn(x) + residual)`. Without a residual the result is lazy: its readers apply the map.
///
/// `sums` are those of `x`, as a convolution returns them; without them they are taken in a pass over `x`.
pub fn batch_norm(
    tape: &Tape,
    x: &Var,
    sums: Option<Sums>,
    bn: &BatchNorm,
    mode: NormMode,
    act: Activation,
    residual: Option<&Var>,
) -> Result<Normalised> {
    let x = x.dense()?;
    let u = x.tensor()?;
    let channels = bn.running_mean.elem_count();
    if u.dims().last() != Some(&channels) {
        return Err(Error::shape("batch_norm", format!("{channels} channels, input {:?}", u.dims())));
    }
    #[cfg(feature = "cuda")]
    if u.device().is_cuda() {
        return super::norm_on_card::batch_norm(tape, x, u, bn, mode, act, residual);
    }
    if tape.is_tracing() && matches!(mode, NormMode::Train { .. }) {
        return Err(Error::shape(
            "trace",
            "batch norms with the statistics of a batch are no part of a frozen network",
        ));
    }
    let stats = match mode {
        NormMode::Frozen => None,
        _ => Some(Moments::of(match sums {
            Some(s) => s,
            None => norm::sums(&u)?,
        })),
    };
    if let (NormMode::Train { momentum }, Some(s)) = (mode, &stats) {
        s.update_running(bn, momentum)?;
    }
    let (mean, var) = match (mode, &stats) {
        (NormMode::Train { .. }, Some(s)) => (s.mean.clone(), s.var.clone()),
        _ => (wide(&bn.running_mean)?, wide(&bn.running_var)?),
    };
    let (weight, bias) = (wide(&bn.weight.tensor()?)?, wide(&bn.bias.tensor()?)?);
    let rstd: Vec<f64> = var.iter().map(|v| 1.0 / (v + bn.eps).sqrt()).collect();
    let scale: Vec<f64> = weight.iter().zip(&rstd).map(|(w, r)| w * r).collect();
    let shift: Vec<f64> = (0..channels).map(|c| bias[c] - scale[c] * mean[c]).collect();
    let affine = Affine { scale: narrow(&scale)?, shift: narrow(&shift)?, act };

    let value = match residual {
        Some(r) => Value::Dense(norm::apply(&u, &affine, Some(&r.tensor()?))?),
        None => Value::Lazy { raw: u.clone(), affine: affine.clone() },
    };
    let params_need = bn.weight.needs_grad() || bn.bias.needs_grad();
    let needs_grad = x.needs_grad() || params_need || residual.is_some_and(Var::needs_grad);
    tape.hold(&value, needs_grad);
    let noted = |id| {
        let op = || Op::Affine { scale: affine.scale.clone(), shift: affine.shift.clone(), act };
        tape.note(std::iter::once(&x).chain(residual), Var { id, traced: None, value }, op)
    };
    if !needs_grad {
        let moments = stats.filter(|_| mode == NormMode::Match).map(|s| s.tensor()).transpose()?;
        return Ok(Normalised { y: noted(None)?, moments: moments.map(Var::constant) });
    }

    let y_id = tape.next_id();
    let y = noted(Some(y_id))?;
    let moments = match (&stats, mode) {
        (Some(s), NormMode::Match) => Some(tape.leaf(s.tensor()?)),
        _ => None,
    };
    let mut outputs = vec![y_id];
    outputs.extend(moments.as_ref().and_then(|m| m.id));
    let node = Node {
        x,
        u,
        affine,
        scale,
        rstd,
        mean,
        stats,
        mode,
        weight: bn.weight.clone(),
        bias: bn.bias.clone(),
        output: residual.map(|_| y.tensor()).transpose()?,
        residual: residual.cloned(),
        moments: moments.clone(),
    };
    tape.push(outputs, Box::new(move |grads| node.backward(y_id, grads)));
    Ok(Normalised { y, moments })
}

/// Mean and biased variance per channel.
struct Moments {
    count: f64,
    mean: Vec<f64>,
    var: Vec<f64>,
}

impl Moments {
    fn of(s: Sums) -> Self {
        let n = s.count as f64;
        let mean: Vec<f64> = s.sum.iter().map(|v| v / n).collect();
        let var = s.sum_sq.iter().zip(&mean).map(|(q, m)| (q / n - m * m).max(0.0)).collect();
        Self { count: n, mean, var }
    }

    fn tensor(&self) -> Result<Tensor> {
        let values = self.mean.iter().chain(&self.var).map(|v| *v as f32).collect();
        Ok(mem::tensor(values, (2, self.mean.len()))?)
    }

    fn update_running(&self, bn: &BatchNorm, momentum: f64) -> Result<()> {
        let unbias = self.count / (self.count - 1.0).max(1.0);
        let step = |running: &mut [f32], batch: &[f64], factor: f64| {
            for (r, b) in running.iter_mut().zip(batch) {
                *r = ((1.0 - momentum) * f64::from(*r) + momentum * b * factor) as f32;
            }
        };
        mem::update(&bn.running_mean, |r| step(r, &self.mean, 1.0))?;
        Ok(mem::update(&bn.running_var, |r| step(r, &self.var, unbias))?)
    }
}

fn wide(t: &Tensor) -> Result<Vec<f64>> {
    Ok(mem::view(t)?.iter().map(|v| f64::from(*v)).collect())
}

fn narrow(v: &[f64]) -> Result<Tensor> {
    Ok(mem::tensor(v.iter().map(|v| *v as f32).collect(), v.len())?)
}

/// What the backward pass keeps.
struct Node {
    x: Var,
    u: Tensor,
    affine: Affine,
    scale: Vec<f64>,
    rstd: Vec<f64>,
    /// The mean that normalised.
    mean: Vec<f64>,
    stats: Option<Moments>,
    mode: NormMode,
    weight: Var,
    bias: Var,
    output: Option<Tensor>,
    residual: Option<Var>,
    moments: Option<Var>,
}

impl Node {
    fn backward(self, y_id: usize, grads: &mut Grads) -> Result<()> {
        let dy = grads.take_id(y_id);
        // With a residual the activation is undone by the written output, and what passes it is the residual's too.
        let mut affine = self.affine.clone();
        if let (Some(dy), Some(y)) = (&dy, &self.output) {
            norm::mask_by_output(dy, y, affine.act)?;
            affine.act = Activation::IDENTITY;
        }
        let train = matches!(self.mode, NormMode::Train { .. });
        let params_need = self.weight.needs_grad() || self.bias.needs_grad();
        let mut k = self.frozen_coefficients(grads)?;
        if let Some(dy) = dy.as_ref().filter(|_| train || params_need) {
            let (sum, sum_x) = norm::backward_sums(dy, &self.u, &affine)?;
            let dw: Vec<f64> = (0..sum.len()).map(|c| self.rstd[c] * (sum_x[c] - self.mean[c] * sum[c])).collect();
            grads.add(&self.weight, narrow(&dw)?)?;
            grads.add(&self.bias, narrow(&sum)?)?;
            if let (true, Some(stats)) = (train, &self.stats) {
                // dx = scale·(g − Σg/n − x̂·Σ(g·x̂)/n)
                for c in 0..sum.len() {
                    let b = -self.scale[c] * self.rstd[c] * dw[c] / stats.count;
                    k.b[c] = b as f32;
                    k.c[c] = (-self.scale[c] * sum[c] / stats.count - b * self.mean[c]) as f32;
                }
            }
        }
        let residual = self.residual.as_ref().filter(|r| r.needs_grad());
        if self.x.needs_grad() {
            let keep = residual.is_some();
            grads.add(&self.x, norm::backward_apply(dy.as_ref(), keep, &self.u, &affine, &k)?)?;
        }
        match (residual, dy) {
            (Some(r), Some(dy)) => grads.add(r, dy),
            _ => Ok(()),
        }
    }

    /// `dx = scale·g` plus what the gradient of the moments asks for: (dmean + 2·dvar·(x − mean)) / n.
    fn frozen_coefficients(&self, grads: &mut Grads) -> Result<BackwardAffine> {
        let channels = self.scale.len();
        let a = self.scale.iter().map(|v| *v as f32).collect();
        let mut k = BackwardAffine { a, b: vec![0.0; channels], c: vec![0.0; channels] };
        let gradient = self.moments.as_ref().and_then(|m| grads.take(m));
        if let (Some(g), Some(stats)) = (gradient, &self.stats) {
            let g = mem::view(&g)?;
            for c in 0..channels {
                let (dmean, dvar) = (f64::from(g[c]), f64::from(g[channels + c]));
                k.b[c] = (2.0 * dvar / stats.count) as f32;
                k.c[c] = ((dmean - 2.0 * dvar * stats.mean[c]) / stats.count) as f32;
            }
        }
        Ok(k)
    }
}
