//! DAFL: Chen et al., "Data-Free Learning of Student Networks", ICCV 2019.
//!
//! The teacher is the discriminator: it should be sure (equation 4), excited (equation 5) and see all classes alike (equation 6),
//! `L = 0.05·CE(own decision) + 5·Σ p̄ log₁₀ p̄ − 0.01·mean |f|`, the weights for CIFAR-10 (0.5, 20 and 0.1 for CIFAR-100). No
//! batch norms are matched and nobody disagrees. One student update on the images of every generator step.

use super::published::generative;
use crate::distill::StudentRecipe;
use crate::invert::recipe::{GeneratorRecipe, Keep, LossRecipe, Output, Target};
use crate::invert::{Feed, Recipe};
use crate::train::Schedule;
use std::f64::consts::LN_10;

pub const SUMMARY: &str =
    "a generator that makes the teacher sure, excited and even (DAFL, ICCV 2019); no batch norms needed";

/// CIFAR-10: 2,000 epochs of 120 updates.
pub fn recipe() -> Recipe {
    let base = generative("dafl", 1024, 1);
    Recipe {
        rounds: 240_000,
        feed: Feed::Batch,
        generator: GeneratorRecipe {
            latent: 1000,
            output: Output::Tanh,
            lr: 0.02,
            betas: (0.9, 0.999),
            keep: Keep::Last,
            ..base.generator
        },
        loss: LossRecipe {
            target: Target::Decision,
            one_hot: 0.05,
            balance: 5.0 / LN_10,
            activation: 0.01,
            ..base.loss
        },
        student: StudentRecipe {
            weight_decay: 5e-4,
            schedule: Schedule::Step { at: vec![0.4, 0.8], gamma: 0.1 },
            ..base.student
        },
        ..base
    }
}
