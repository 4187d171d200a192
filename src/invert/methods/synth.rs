//! Our own: what was measured to be best, free to combine (`docs/ROADMAP.md`).

use crate::invert::Recipe;

pub const SUMMARY: &str = "our own, free to combine; so far the choices of ssd, which nothing measured beats";

/// The choices of `ssd`: rate 0.5, a second stage with live answers on mixed images, statistics in the teacher's units. What else
/// was tried made no difference that one seed could show, or was worse.
pub fn recipe() -> Recipe {
    Recipe { name: "synth".into(), ..Recipe::default() }
}
