//! Adaptive DeepInversion: the second half of Yin et al., CVPR 2020 (see [`super::deepinversion`]).
//!
//! Images also make the answers of teacher and student differ (equations 8 and 9): one batch, then updates of the student on
//! all images so far, again and again.

use super::deepinversion;
use crate::augment::{Augmentation, Motion};
use crate::invert::Recipe;
use crate::invert::recipe::{GeneratorRecipe, LossRecipe};
use crate::loss::{Adversarial, Variation};

pub const SUMMARY: &str = "deepinversion in competition with the student (Adaptive DeepInversion, CVPR 2020)";

/// The settings of the FastDFKD authors' comparison on CIFAR: 200 batches of 1,000 steps.
pub fn recipe() -> Recipe {
    let base = deepinversion::recipe();
    let mut buffer = base.buffer;
    buffer.samples = 200 * 256;
    Recipe {
        name: "adi".into(),
        fill: 0,
        rounds: 200,
        adversary_steps: 400,
        on_the_fly: true,
        generator: GeneratorRecipe { inner_steps: 1000, warmup_steps: 1000, betas: (0.5, 0.99), ..base.generator },
        loss: LossRecipe {
            adversarial: 1.0,
            adversarial_form: Adversarial::Js { temperature: 3.0 },
            variation: 1e-3,
            variation_form: Variation::L1,
            image_norm: 0.0,
            ..base.loss
        },
        buffer,
        augment: Augmentation { motion: Motion::Roll, crop: 4, flip: true, ..Augmentation::default() },
        ..base
    }
}
