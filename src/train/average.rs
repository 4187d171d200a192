//! Exponential moving average of a network's weights and running statistics.

use crate::Result;
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::nets::{Network, Weights};

/// `average = decay·average + (1 − decay)·weights`, with the decay of a young average reduced so that it does not stick
/// to the start: `min(decay, (1 + t)/(10 + t))`.
pub struct WeightAverage {
    decay: f64,
    steps: u64,
    pub weights: Weights,
}

impl WeightAverage {
    /// Starts at the current weights.
    pub fn new(network: &Network, decay: f64) -> Result<Self> {
        Ok(Self { decay, steps: 0, weights: network.weights.duplicate()? })
    }

    /// Takes in the weights after a step.
    pub fn update(&mut self, network: &Network) -> Result<()> {
        let t = self.steps as f64;
        let d = self.decay.min((1.0 + t) / (10.0 + t)) as f32;
        self.steps += 1;
        self.weights.blend(&network.weights, d, 1.0 - d)
    }

    /// A network with the averaged weights.
    pub fn network(&self, like: &Network) -> Result<Network> {
        Ok(Network { arch: like.arch.clone(), weights: self.weights.duplicate()? })
    }
}

impl Resumable for WeightAverage {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("steps", self.steps)?;
        to.part("weights", &self.weights)
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        self.steps = from.value("steps")?;
        from.restore("weights", &mut self.weights)
    }
}
