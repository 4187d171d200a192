//! What a batch of images is ordered with.

use crate::nets::Network;
use std::time::Duration;

/// Which batch is to be made, and with what.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// Its place in the run, from 0.
    pub index: usize,
    /// Batches that the run will have: what the rates over the run are shares of; none for those of the recipe.
    pub batches: Option<usize>,
    /// Inner steps on generator and latents.
    pub steps: usize,
    /// Images of the buffer per teacher class, for φ.
    pub histogram: &'a [usize],
    /// Whom teacher's answers are compared with; without one that term is 0.
    pub adversary: Option<&'a Network>,
    /// Whether images are made for label maps, if the recipe has any.
    pub maps: bool,
    /// A batch that would take longer is refused after its first steps, not made.
    pub limit: Option<Duration>,
}

impl<'a> Order<'a> {
    /// The batch `index` of the recipe's plan in `steps` inner steps: no adversary, no time limit.
    pub fn new(index: usize, steps: usize, histogram: &'a [usize]) -> Self {
        Self { index, batches: None, steps, histogram, adversary: None, maps: true, limit: None }
    }

    /// The same against an adversary.
    pub fn against(self, adversary: &'a Network) -> Self {
        Self { adversary: Some(adversary), ..self }
    }
}
