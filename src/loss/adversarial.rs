//! What the generator gets for images on which teacher and adversary differ: the choices of the literature behind one name.

use super::jensen_shannon::jensen_shannon;
use super::logit_distance::logit_distance;
use super::{Disagreement, disagreement, masked_disagreement};
use crate::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// How far apart the answers of teacher and adversary are; the generator minimises minus this. Neither answer is detached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Adversarial {
    /// `mean mᵢ·KL(p_T ‖ p_S)`, `mᵢ = 1` where the decisions agree (CMI, FastDFKD, NAYER).
    MaskedKl,
    /// `mean KL(p_T ‖ p_S)` (ZSKT, DFQ).
    Kl,
    /// Mean absolute difference of the logits (DFAD).
    L1,
    /// `ln(1 + L1)`: the gradient fades as the difference grows (DFAD for segmentation).
    LogL1,
    /// Jensen-Shannon divergence at a temperature (Adaptive DeepInversion).
    Js { temperature: f64 },
}

impl Adversarial {
    /// Whether logits are compared as they are, a class that stands for void like all others; probabilities are to be those
    /// [`super::without`] it, which is what the adversary learns ([`super::Matching::heard`]).
    pub fn of_logits(self) -> bool {
        match self {
            Self::MaskedKl | Self::Kl | Self::Js { .. } => false,
            Self::L1 | Self::LogL1 => true,
        }
    }

    /// Minus the distance, with the gradients with respect to both logits `[N, K]`.
    ///
    /// # Errors
    /// Logits of different shapes.
    pub fn loss(self, teacher: &Tensor, adversary: &Tensor) -> Result<Disagreement> {
        match self {
            Self::MaskedKl => masked_disagreement(teacher, adversary),
            Self::Kl => disagreement(teacher, adversary),
            Self::L1 => logit_distance(teacher, adversary, false),
            Self::LogL1 => logit_distance(teacher, adversary, true),
            Self::Js { temperature } => jensen_shannon(teacher, adversary, temperature),
        }
    }
}
