//! What becomes of the generator between batches: clones, meta steps, fresh weights.

use super::recipe::{FreshWeights, Lifecycle};
use super::synthesis::Synthesiser;
use crate::Result;
use crate::nets::{Architecture, Init, Kind, Network, Slot, Weights};
use crate::ops::norm::add_into;
use crate::rng::Stream;
use crate::train::{Adam, trainable};
use candle_core::Tensor;
use std::sync::Arc;

/// Standard deviation of weights that are drawn anew.
const SPREAD: f32 = 0.02;

impl Synthesiser<'_> {
    /// The generator that the steps of batch `index` work on.
    pub(super) fn working_copy(&self, index: usize) -> Result<Network> {
        match self.recipe.generator.lifecycle {
            Lifecycle::CarryOver => Ok(self.generator.clone()),
            Lifecycle::Reset => self.fresh_generator(index),
            Lifecycle::Fomaml | Lifecycle::Reptile => self.generator.duplicate(),
        }
    }

    /// The generator starts anew, with its optimizer.
    pub fn rebuild(&mut self, index: usize) -> Result<()> {
        self.generator = self.fresh_generator(index)?;
        let betas = self.recipe.generator.betas;
        self.meta = Adam::new((betas.0 as f32, betas.1 as f32));
        Ok(())
    }

    fn fresh_generator(&self, index: usize) -> Result<Network> {
        let mut rng = self.streams.stream("invert/generator", index as u64 + 1);
        let weights = drawn(&self.arch, self.recipe.generator.fresh, &mut rng)?;
        Network { arch: self.arch.clone(), weights }.to(self.compute())
    }

    /// Draws the first layer anew: the noisy layers if there are some, else the linear layer and the batch norm behind it.
    pub(super) fn reset_first_layer(&mut self, index: usize) -> Result<()> {
        let mut rng = self.streams.stream("invert/first-layer", index as u64);
        let fresh = drawn(&self.arch, self.recipe.generator.fresh, &mut rng)?;
        let noisy = |slot: &Slot| slot.name.starts_with("noisy.");
        let first = |slot: &Slot| slot.name.starts_with("l1.") || slot.name.starts_with("conv_blocks.0.");
        match self.arch.slots.iter().any(noisy) {
            true => self.generator.weights.copy_where(&fresh, noisy),
            false => self.generator.weights.copy_where(&fresh, |slot| first(slot) && slot.kind.trainable()),
        }
    }

    /// What the finished batch leaves in the generator that stays.
    pub(super) fn meta_step(&mut self, fast: &Network, grads: &[Option<Tensor>], steps: usize, lr: f64) -> Result<()> {
        let g = &self.recipe.generator;
        let factor = if g.meta_factor > 0.0 { g.meta_factor } else { steps as f64 };
        let lr = (lr * factor) as f32;
        match g.lifecycle {
            Lifecycle::Fomaml => self.meta.step(trainable(&self.generator.weights, grads), lr),
            Lifecycle::Reptile => {
                let way = self.generator.weights.duplicate()?;
                way.blend(&fast.weights, 1.0, -1.0)?;
                let grads: Vec<Option<Tensor>> = way.iter().map(|(_, t)| Some(t.clone())).collect();
                self.meta.step(trainable(&self.generator.weights, &grads), lr)
            }
            // The clone shares the generator's tensors: it is trained already.
            Lifecycle::CarryOver => Ok(()),
            Lifecycle::Reset => self.generator.weights.copy_from(&fast.weights),
        }
    }
}

/// Fresh weights; noisy layers always as NAYER draws them.
fn drawn(arch: &Arc<Architecture>, fresh: FreshWeights, rng: &mut Stream) -> Result<Weights> {
    let init = |slot: &Slot| match (fresh, slot.kind) {
        (FreshWeights::Uniform, _) => slot.init,
        _ if slot.name.starts_with("noisy.") => slot.init,
        (_, Kind::ConvWeight | Kind::LinearWeight) => Init::Normal(SPREAD),
        (_, Kind::Bias) => Init::Constant(0.0),
        (FreshWeights::Normal, Kind::NormWeight) => Init::Around(1.0, SPREAD),
        (FreshWeights::Centred, Kind::NormWeight) => Init::Normal(SPREAD),
        _ => slot.init,
    };
    let slots = arch.slots.iter().map(|slot| Slot { init: init(slot), ..slot.clone() }).collect();
    Weights::init(Arc::new(slots), rng)
}

/// Adds the gradients of a step to those of the steps before.
pub(super) fn accumulate(sum: &mut Vec<Option<Tensor>>, grads: Vec<Option<Tensor>>) -> Result<()> {
    if sum.is_empty() {
        *sum = grads;
        return Ok(());
    }
    for (s, g) in sum.iter_mut().zip(grads) {
        match (s.as_ref(), g) {
            (Some(s), Some(g)) => add_into(s, &g)?,
            (None, g) => *s = g,
            _ => {}
        }
    }
    Ok(())
}
