//! FastDFKD: Fang et al., "Up to 100× Faster Data-free Knowledge Distillation", AAAI 2022.
//!
//! A meta-learned generator (equations 7 and 8) needs few steps per batch. `L = 10·L_BN + 0.5·CE + 1.33·L_adv` with the moving
//! average of statistics, the pair ResNet-34 to ResNet-18; 1.0/0.5 for VGG-11, 1.1/0.4 for WRN-40-2. At batch 140 of 220 the
//! first layer is drawn anew.

use super::published::{pooled, student};
use crate::distill::StudentRecipe;
use crate::invert::recipe::{FreshWeights, GeneratorRecipe, LossRecipe};
use crate::invert::{Lifecycle, Recipe};
use crate::train::Schedule;

pub const SUMMARY: &str = "a meta-learned generator, 5 inner steps per batch (FastDFKD, AAAI 2022)";

/// Five inner steps per batch.
pub fn recipe() -> Recipe {
    with_steps("fast", 5, 3e-3, 1e-2)
}

/// Two.
pub fn two_steps() -> Recipe {
    with_steps("fast2", 2, 5e-3, 1.5e-2)
}

/// Ten.
pub fn ten_steps() -> Recipe {
    with_steps("fast10", 10, 2e-3, 1e-2)
}

/// Five, and Reptile.
pub fn reptile() -> Recipe {
    let fast = recipe();
    let generator = GeneratorRecipe { lifecycle: Lifecycle::Reptile, ..fast.generator };
    Recipe { name: "fast-reptile".into(), generator, ..fast }
}

fn with_steps(name: &str, steps: usize, lr: f64, lr_latent: f64) -> Recipe {
    let base = pooled(name, 220 * 256);
    Recipe {
        fill: 20,
        generator: GeneratorRecipe {
            lifecycle: Lifecycle::Fomaml,
            inner_steps: steps,
            warmup_steps: steps,
            lr,
            lr_latent,
            reset_first: 140,
            reset_once: true,
            fresh: FreshWeights::Centred,
            ..base.generator
        },
        loss: LossRecipe { bn: 10.0, bn_momentum: 0.9, one_hot: 0.5, adversarial: 1.33, ..base.loss },
        student: StudentRecipe { schedule: Schedule::Cosine { floor: 1e-3 }, ..student(256, 0.2) },
        ..base
    }
}
