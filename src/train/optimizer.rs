//! SGD and Adam with PyTorch's semantics, in place.

use crate::nets::{Kind, Weights};
use crate::ops::mem::view;
use crate::ops::step;
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
pub struct Sgd {
    pub momentum: f32,
    pub nesterov: bool,
    pub weight_decay: f32,
    pub decay: Decay,
    velocity: Vec<Option<Vec<f32>>>,
}

impl Sgd {
    pub fn new(momentum: f32, nesterov: bool, weight_decay: f32, decay: Decay) -> Self {
        Self { momentum, nesterov, weight_decay, decay, velocity: Vec::new() }
    }

    /// One update with learning rate `lr`; slots without a gradient stay.
    pub fn step(&mut self, weights: &Weights, grads: &[Option<Tensor>], lr: f32) -> Result<()> {
        self.velocity.resize_with(weights.slots.len(), || None);
        for (((slot, param), grad), velocity) in weights.iter().zip(grads).zip(&mut self.velocity) {
            let Some(grad) = grad else { continue };
            let decays = self.decay == Decay::All || slot.kind.is_weight();
            let first = velocity.is_none();
            let velocity = velocity.get_or_insert_with(|| vec![0f32; slot.len()]);
            let rule = step::SgdRule {
                lr,
                momentum: if first { 0.0 } else { self.momentum },
                look_ahead: if self.nesterov { self.momentum } else { 0.0 },
                nesterov: self.nesterov,
                weight_decay: if decays { self.weight_decay } else { 0.0 },
            };
            step::sgd(param, &view(grad)?, velocity, &rule)?;
        }
        Ok(())
    }
}

/// Adam with bias correction: `p −= lr·m̂ / (√v̂ + ε)`, no weight decay.
pub struct Adam {
    pub betas: (f32, f32),
    pub eps: f32,
    steps: i32,
    state: Vec<Option<(Vec<f32>, Vec<f32>)>>,
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
        let mut count = 0;
        for (i, (param, grad)) in params.into_iter().enumerate() {
            count += 1;
            if self.state.len() <= i {
                self.state.push(None);
            }
            let Some(grad) = grad else { continue };
            let n = param.elem_count();
            let (m, v) = self.state[i].get_or_insert_with(|| (vec![0f32; n], vec![0f32; n]));
            let rule = step::AdamRule {
                lr,
                betas: self.betas,
                eps: self.eps,
                correction: [1.0 - self.betas.0.powi(self.steps), 1.0 - self.betas.1.powi(self.steps)],
            };
            step::adam(param, &view(grad)?, m, v, &rule)?;
        }
        if count != self.state.len() {
            return Err(Error::shape("adam", format!("{count} parameters, {} before", self.state.len())));
        }
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
