//! SSD-KD: Liu et al., "Small Scale Data-Free Knowledge Distillation", CVPR 2024. There is no code of the authors; the formulas
//! of φ and of the priorities are reconstructed ([`crate::loss::Modulation`], [`crate::set::priority`]), everything else was
//! found by measuring (`docs/ROADMAP.md`).

use crate::invert::Recipe;

pub const SUMMARY: &str =
    "small class-modulated set with a replay buffer and priority sampling (after SSD-KD, CVPR 2024); the default";

/// The default recipe.
pub fn recipe() -> Recipe {
    Recipe::default()
}
