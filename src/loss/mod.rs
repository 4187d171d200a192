//! Losses: each returns its value and the gradient with respect to its inputs, in closed form.
//!
//! Logits are `[N, K]`, or `[N, H, W, K]` of networks that answer for every pixel; either way a loss sees rows of K values and
//! divides by their number (`rows.rs`). Softmax and divergence of a row are computed in f32 (`ops/logits`), what is not asked for
//! often in f64; sums over rows are f64, in an order that does not depend on threads. Where logits lie on a card, gradients are
//! computed there in f32, and values wait there until somebody reads them.

mod activation;
mod adversarial;
mod attention;
#[cfg(feature = "cuda")]
mod bn_on_card;
mod bn_stats;
mod contrast;
mod cross_entropy;
mod disagreement;
mod distillation;
mod entropy;
mod image_prior;
mod jensen_shannon;
mod labelled_pixels;
mod logit_distance;
#[cfg(test)]
mod method_tests;
mod modulation;
#[cfg(test)]
mod pixel_tests;
mod relative_error;
mod rows;
#[cfg(test)]
mod signal_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod void_tests;

pub use activation::activation;
pub use adversarial::Adversarial;
pub use attention::attention;
pub use bn_stats::{BnForm, BnStatsLoss, LayerStatistics};
pub use contrast::contrast;
pub use cross_entropy::{UNLABELLED, cross_entropy, soft_cross_entropy};
pub use disagreement::{Disagreement, disagreement, masked_disagreement};
pub(crate) use distillation::matched;
pub use distillation::{Compared, Matching, compared, matching_loss};
pub use entropy::{answer_entropy, class_balance};
pub use image_prior::{Variation, image_norm, total_variation};
pub use jensen_shannon::jensen_shannon;
pub use labelled_pixels::{class_weights, labelled_pixels};
pub use logit_distance::logit_distance;
pub use modulation::{Diversity, Held, Modulation, PhiNorm};
pub use relative_error::relative_error;
pub use rows::{Verdicts, agreement, argmax, decisions, sureness, verdicts, without};
pub(crate) use rows::{confidence, log_softmax, softmax};

use crate::Result;
use crate::ops::mem;
use candle_core::Tensor;

/// A number that may still lie on a card, in parts.
pub enum Value {
    Known(f64),
    /// The sum of these.
    Sum(Tensor),
}

impl Value {
    /// The number; waits for the card.
    pub fn get(&self) -> Result<f64> {
        match self {
            Self::Known(value) => Ok(*value),
            Self::Sum(parts) => Ok(mem::view(&mem::host(parts)?)?.iter().map(|v| f64::from(*v)).sum()),
        }
    }
}

/// A scalar loss and its gradient.
pub struct Loss {
    pub value: Value,
    pub grad: Tensor,
}

#[cfg(feature = "cuda")]
impl Loss {
    /// What a card has found of the rows of `logits`.
    pub(crate) fn on_card(found: crate::ops::cuda::loss::Rowwise, logits: &Tensor) -> Result<Self> {
        Ok(Self { value: Value::Sum(found.values), grad: found.grad.reshape(logits.shape())? })
    }
}
