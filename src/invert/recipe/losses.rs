//! What the images are made to be: the losses of inversion with their weights.

use super::choices::{AdversaryMode, PhiTarget, Target};
use crate::loss::{Adversarial, BnForm, Diversity, Modulation, PhiNorm, Variation};
use serde::{Deserialize, Serialize};

/// Weights and forms of the inversion losses; a weight of 0 switches a loss off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossRecipe {
    pub bn: f64,
    pub bn_form: BnForm,
    /// Moving average of past batches in the matched statistics; 0 is off.
    pub bn_momentum: f64,
    /// What the deviation of the first batch norm is multiplied by.
    pub bn_first: f64,
    /// Weight of `target`.
    pub one_hot: f64,
    pub target: Target,
    pub adversarial: f64,
    pub adversarial_form: Adversarial,
    pub adversary_mode: AdversaryMode,
    /// Evenness of the classes within a batch (DAFL's information entropy, natural logarithm).
    pub balance: f64,
    /// Strength of the teacher's last features (DAFL).
    pub activation: f64,
    /// Total variation of the normalised, augmented images (DeepInversion).
    pub variation: f64,
    pub variation_form: Variation,
    /// Euclidean norm of the normalised, augmented images (DeepInversion).
    pub image_norm: f64,
    /// Difference to all images before (CMI).
    pub contrast: f64,
}

impl LossRecipe {
    /// Whether what reaches the teacher's batch norms is looked at: to match their statistics, or as the features of a contrast.
    pub(crate) fn reads_batch_norms(&self) -> bool {
        self.bn > 0.0 || self.contrast > 0.0
    }
}

impl Default for LossRecipe {
    fn default() -> Self {
        Self {
            bn: 30.0,
            bn_form: BnForm::TeacherUnits,
            bn_momentum: 0.9,
            bn_first: 1.0,
            one_hot: 0.4,
            target: Target::Label,
            adversarial: 1.1,
            adversarial_form: Adversarial::MaskedKl,
            adversary_mode: AdversaryMode::Eval,
            balance: 0.0,
            activation: 0.0,
            variation: 0.0,
            variation_form: Variation::L2,
            image_norm: 0.0,
            contrast: 0.0,
        }
    }
}

/// Contrast with the images before (CMI), where `loss.contrast` is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContrastRecipe {
    pub temperature: f64,
    /// Features of the head that compares.
    pub width: usize,
    /// Learning rate of the head.
    pub lr: f64,
    /// Images whose features are remembered.
    pub bank: usize,
    /// Remembered images that each batch is compared with, at most.
    pub negatives: usize,
    /// Smallest share of the area that the second view of an image shows.
    pub scale: f64,
}

impl Default for ContrastRecipe {
    fn default() -> Self {
        Self { temperature: 0.2, width: 256, lr: 1e-3, bank: 40_960, negatives: 4096, scale: 0.25 }
    }
}

/// φ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PhiRecipe {
    pub target: PhiTarget,
    pub diversity: Diversity,
    pub gamma: f64,
    pub norm: PhiNorm,
}

/// Without the difficulty of the paper (γ = 2): it took two points from the diversity (`docs/RESULTS.md`).
impl Default for PhiRecipe {
    fn default() -> Self {
        Self { target: PhiTarget::CrossEntropy, diversity: Diversity::Relative, gamma: 0.0, norm: PhiNorm::BatchMean }
    }
}

impl PhiRecipe {
    /// φ itself.
    pub fn modulation(&self) -> Modulation {
        Modulation { diversity: self.diversity, gamma: self.gamma, norm: self.norm }
    }
}
