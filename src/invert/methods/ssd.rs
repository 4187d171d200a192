//! SSD-KD: Liu et al., "Small Scale Data-Free Knowledge Distillation", CVPR 2024. There is no code of the authors; the formulas
//! of φ and of the priorities are reconstructed ([`crate::loss::Modulation`], [`crate::set::priority`]), everything else was
//! found by measuring (`docs/TRIED.md`).

use crate::invert::recipe::{GeneratorRecipe, LossRecipe};
use crate::invert::{Layout, LayoutPrior, Recipe};

pub const SUMMARY: &str =
    "small class-modulated set with a replay buffer and priority sampling (after SSD-KD, CVPR 2024); the default";

/// The default recipe.
pub fn recipe() -> Recipe {
    Recipe::default()
}

/// For pixels, where smooth label maps hold images back from what batch norms ask: maps that look like a scene, with all classes
/// alike, and a stronger pull of the norms. A step of a generator of half the width costs no more than an update of the student
/// (`docs/SEGMENTATION.md`, what was tried).
pub fn for_pixels(recipe: Recipe) -> Recipe {
    Recipe {
        adversary_steps: 25,
        layout: Layout::Scene,
        layout_prior: LayoutPrior::Even,
        generator: GeneratorRecipe { width: 32, ..recipe.generator },
        loss: LossRecipe { bn: 100.0, ..recipe.loss },
        ..recipe
    }
}
