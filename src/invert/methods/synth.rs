//! Our own: what was measured to be best, free to combine (`docs/ROADMAP.md`).

use crate::invert::Recipe;

pub const SUMMARY: &str = "our own: what measured best of all of these";

/// The choices of `ssd` that were measured, and none that were not found to help.
pub fn recipe() -> Recipe {
    Recipe { name: "synth".into(), ..Recipe::default() }
}
