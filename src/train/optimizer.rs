//! SGD and Adam with PyTorch's semantics, in place.

use crate::checkpoint::{Resumable, Saved, Saver};
use crate::nets::{Kind, Slot, Weights, copy_values};
use crate::ops::mem::tensor;
use crate::ops::{muon, step};
use crate::{Error, Result};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// Which parameters weight decay pulls on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// All, batch norms and biases too (PyTorch's default).
    All,
    /// Convolution and linear weights only.
    WeightsOnly,
}

/// SGD: `g = grad + wd·p; v = μ·v + g` (`v = g` at first); `p −= lr·v`, or `lr·(g + μ·v)` with Nesterov.
///
/// With [`Sgd::turning`], weights of convolutions whose length a norm takes away follow Muon instead (`ops::muon`).
pub struct Sgd {
    pub momentum: f32,
    pub nesterov: bool,
    pub weight_decay: f32,
    pub decay: Decay,
    /// Length of a step of what turns, as a share of the weights' length, per unit of the learning rate; 0: nothing turns.
    turn: f32,
    velocity: Vec<Option<Tensor>>,
}

impl Sgd {
    pub fn new(momentum: f32, nesterov: bool, weight_decay: f32, decay: Decay) -> Self {
        Self { momentum, nesterov, weight_decay, decay, turn: 0.0, velocity: Vec::new() }
    }

    /// The same, with steps of `turn` of the weights' length per unit of the learning rate for what can be turned; 0 is SGD for all.
    pub fn turning(self, turn: f32) -> Self {
        Self { turn, ..self }
    }

    /// One update with learning rate `lr`; slots without a gradient stay.
    pub fn step(&mut self, weights: &Weights, grads: &[Option<Tensor>], lr: f32) -> Result<()> {
        self.velocity.resize_with(weights.slots.len(), || None);
        for ((_, param), velocity) in weights.iter().zip(&mut self.velocity) {
            velocity.as_mut().map_or(Ok(()), |v| follow(v, param))?;
        }
        let all = self.decay == Decay::All;
        let slots = weights.iter().zip(grads).zip(&mut self.velocity).enumerate();
        let (mut turned, mut updates) = (Vec::new(), Vec::new());
        for (i, (((slot, param), grad), velocity)) in slots {
            let Some(grad) = grad else { continue };
            let update = step::Update { param, grad, velocity, decays: all || slot.kind.is_weight() };
            match self.turn > 0.0 && turns(&weights.slots, i) {
                true => turned.push(update),
                false => updates.push(update),
            }
        }
        let Self { momentum, nesterov, weight_decay, turn, .. } = *self;
        step::sgd_all(&mut updates, &step::SgdRule { lr, momentum, nesterov, weight_decay })?;
        Ok(muon::muon_all(&mut turned, &muon::MuonRule { lr, per_rate: turn, momentum, nesterov })?)
    }
}

/// Whether the tensor of slot `i` is a matrix whose length means nothing: weights of a convolution that is not depthwise (those of all groups
/// are one matrix), without a bias (unless a norm comes right behind it), in a network that has a norm further on.
fn turns(slots: &[Slot], i: usize) -> bool {
    let matrix = slots[i].kind == Kind::ConvWeight && slots[i].shape[2..].iter().all(|side| *side > 1);
    let kind = |at: usize| slots.get(at).map(|slot| slot.kind);
    let biased = kind(i + 1) == Some(Kind::Bias) && kind(i + 2) != Some(Kind::NormWeight);
    matrix && !biased && slots[i..].iter().any(|slot| slot.kind == Kind::NormWeight)
}

impl Resumable for Sgd {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("tensors", self.velocity.len())?;
        let velocities = self.velocity.iter().enumerate();
        velocities.filter_map(|(i, v)| v.as_ref().map(|v| (i, v))).try_for_each(|(i, v)| to.tensor(&name(i), v))
    }

    /// In place where there is a velocity already: a recorded step knows its tensors. Those between them that do not learn
    /// (running statistics) have none.
    fn restore(&mut self, from: &Saved) -> Result<()> {
        let count = self.velocity.len().max(tensors(from)?);
        self.velocity.resize_with(count, || None);
        for (i, velocity) in self.velocity.iter_mut().enumerate() {
            match (velocity.as_mut(), from.has(&name(i))) {
                (Some(v), true) => copy_values(v, &from.tensor(&name(i))?)?,
                // As before the first update.
                (Some(v), false) => copy_values(v, &tensor(vec![0.0; v.elem_count()], v.dims())?)?,
                (None, true) => *velocity = Some(from.tensor(&name(i))?),
                (None, false) => {}
            }
        }
        Ok(())
    }
}

/// What a state calls the numbers of tensor `i`.
fn name(i: usize) -> String {
    format!("{i:05}")
}

/// How many tensors a state is about; no network has as many as that.
fn tensors(from: &Saved) -> Result<usize> {
    match from.value("tensors")? {
        count if count <= 1_000_000 => Ok(count),
        count => Err(from.fault("tensors", &format!("it is {count}"))),
    }
}

/// Moves a tensor that was restored to where its parameter lies.
fn follow(state: &mut Tensor, param: &Tensor) -> Result<()> {
    if !state.device().same_device(param.device()) {
        *state = state.to_device(param.device())?;
    }
    Ok(())
}

/// Adam with bias correction: `p −= lr·m̂ / (√v̂ + ε)`, no weight decay.
pub struct Adam {
    pub betas: (f32, f32),
    pub eps: f32,
    steps: i32,
    state: Vec<Option<[Tensor; 2]>>,
}

impl Adam {
    pub fn new(betas: (f32, f32)) -> Self {
        Self { betas, eps: 1e-8, steps: 0, state: Vec::new() }
    }

    /// One update of `params` (tensors beside their gradients), with learning rate `lr`.
    ///
    /// # Errors
    /// If the list changes its length between calls.
    pub fn step<'a>(
        &mut self,
        params: impl IntoIterator<Item = (&'a Tensor, Option<&'a Tensor>)>,
        lr: f32,
    ) -> Result<()> {
        self.steps += 1;
        let params: Vec<_> = params.into_iter().collect();
        if self.steps == 1 {
            self.state.resize_with(params.len(), || None);
        }
        for ((param, _), state) in params.iter().zip(&mut self.state) {
            state.iter_mut().flatten().try_for_each(|moment| follow(moment, param))?;
        }
        if params.len() != self.state.len() {
            return Err(Error::shape("adam", format!("{} parameters, {} before", params.len(), self.state.len())));
        }
        let slots = params.into_iter().zip(&mut self.state);
        let mut updates: Vec<step::Moments> =
            slots.filter_map(|((param, grad), state)| grad.map(|grad| step::Moments { param, grad, state })).collect();
        let rule = step::AdamRule {
            lr,
            betas: self.betas,
            eps: self.eps,
            correction: [1.0 - self.betas.0.powi(self.steps), 1.0 - self.betas.1.powi(self.steps)],
        };
        Ok(step::adam_all(&mut updates, &rule)?)
    }
}

impl Resumable for Adam {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("steps", self.steps)?;
        to.value("tensors", self.state.len())?;
        for (i, state) in self.state.iter().enumerate() {
            if let Some([mean, square]) = state {
                to.tensor(&format!("{}.mean", name(i)), mean)?;
                to.tensor(&format!("{}.square", name(i)), square)?;
            }
        }
        Ok(())
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        self.steps = from.value("steps")?;
        let moments = |i: usize| -> Result<Option<[Tensor; 2]>> {
            let [mean, square] = [format!("{}.mean", name(i)), format!("{}.square", name(i))];
            from.has(&mean).then(|| Ok([from.tensor(&mean)?, from.tensor(&square)?])).transpose()
        };
        self.state = (0..tensors(from)?).map(moments).collect::<Result<_>>()?;
        Ok(())
    }
}

/// Trainable tensors of a network with their gradients, for [`Adam::step`].
pub fn trainable<'a>(
    weights: &'a Weights,
    grads: &'a [Option<Tensor>],
) -> impl Iterator<Item = (&'a Tensor, Option<&'a Tensor>)> {
    weights.iter().zip(grads).filter(|((s, _), _)| Kind::trainable(s.kind)).map(|((_, t), g)| (t, g.as_ref()))
}
