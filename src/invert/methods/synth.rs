//! Our own: what was measured to be best, free to combine (`docs/TRIED.md`).

use super::ssd;
use crate::invert::{BufferRecipe, FillWith, Recipe};

pub const SUMMARY: &str = "our own: as ssd, but the buffer starts with procedural images; for pixels it is ssd";

/// The choices of `ssd`, but for what the buffer starts with: 10,240 procedural images (of Frank & Davis, "What makes a good
/// dataset for knowledge distillation?", 2025, whose students learn much from such) take the time of four inverted batches (from
/// WRN-16-2), where `ssd` begins with 20. Inverted images then fill the rest of the buffer before they replace any.
pub fn recipe() -> Recipe {
    let buffer = BufferRecipe { samples: 15_360, ..BufferRecipe::default() };
    Recipe { name: "synth".into(), fill: 40, fill_with: FillWith::Shaders, buffer, ..Recipe::default() }
}

/// For pixels, what `ssd` chooses there, without procedural images, from which students learn less (`docs/SEGMENTATION.md`, what was
/// tried).
pub fn for_pixels(recipe: Recipe) -> Recipe {
    let Recipe { fill, fill_with, buffer, .. } = Recipe::default();
    Recipe { fill, fill_with, buffer, ..ssd::for_pixels(recipe) }
}
