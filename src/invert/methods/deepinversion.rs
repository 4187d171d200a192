//! DeepInversion: Yin et al., "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion", CVPR 2020.
//!
//! The pixels themselves are optimised: `L = CE + 10·L_BN + 2.5e-5·TV + 3e-8·‖x‖` (equations 2 to 4), the weights of the
//! experiments on CIFAR-10. There is no student in the loop: the whole set is made first.

use super::published::pooled;
use crate::augment::{Augmentation, Motion};
use crate::invert::labels::Labels;
use crate::invert::recipe::{GeneratorRecipe, Input, Keep, LossRecipe};
use crate::invert::{Lifecycle, Recipe};
use crate::loss::Variation;

pub const SUMMARY: &str = "pixels optimised against batch-norm statistics and image priors (DeepInversion, CVPR 2020)";

/// CIFAR-10.
pub fn recipe() -> Recipe {
    let base = pooled("deepinversion", 50_000);
    Recipe {
        fill: Recipe::WHOLE,
        rounds: 0,
        on_the_fly: false,
        labels: Labels::Sorted,
        generator: GeneratorRecipe {
            input: Input::Pixels,
            lifecycle: Lifecycle::CarryOver,
            inner_steps: 2000,
            warmup_steps: 2000,
            lr_latent: 0.1,
            betas: (0.9, 0.999),
            keep: Keep::LowestLoss,
            ..base.generator
        },
        loss: LossRecipe { bn: 10.0, variation: 2.5e-5, variation_form: Variation::L2, image_norm: 3e-8, ..base.loss },
        augment: Augmentation { motion: Motion::Roll, crop: 2, flip: false, ..Augmentation::default() },
        ..base
    }
}
