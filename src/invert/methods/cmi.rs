//! CMI: Fang et al., "Contrastive Model Inversion for Data-Free Knowledge Distillation", IJCAI 2021.
//!
//! `L = L_BN + CE + 0.5·L_adv + 0.8·L_cr` (equation 8): every batch starts with a fresh generator, and the contrast with the
//! features of all images before (equations 6 and 7) keeps it from making the same ones again. Features are the means of what
//! every batch norm of the teacher reads.

use super::published::pooled;
use crate::invert::labels::Labels;
use crate::invert::recipe::{ContrastRecipe, FreshWeights, GeneratorRecipe, LossRecipe};
use crate::invert::{Lifecycle, Recipe};

pub const SUMMARY: &str =
    "a fresh generator for every batch, in contrast with a bank of past features (CMI, IJCAI 2021)";

/// WRN-40-2 to WRN-16-1 on CIFAR-10.
pub fn recipe() -> Recipe {
    let base = pooled("cmi", 200 * 256);
    Recipe {
        labels: Labels::Sorted,
        generator: GeneratorRecipe {
            lifecycle: Lifecycle::Reset,
            fresh: FreshWeights::Normal,
            inner_steps: 200,
            warmup_steps: 200,
            ..base.generator
        },
        loss: LossRecipe { adversarial: 0.5, contrast: 0.8, ..base.loss },
        contrast: ContrastRecipe { temperature: 0.2, ..ContrastRecipe::default() },
        ..base
    }
}
