//! The published methods: each file states the choices in which its method differs from the default recipe, with their
//! source. What they share is the engine in [`super`].
//!
//! `docs/METHODS.md` has the losses of each in one table, and every difference from the authors' code.

mod adi;
mod cmi;
mod dafl;
mod deepinversion;
mod dfad;
mod dfq;
mod fast;
mod nayer;
mod published;
mod ssd;
mod synth;
mod zskt;

use super::Recipe;

/// Every recipe: name, one line about it, and how to make it.
pub const ALL: &[(&str, &str, fn() -> Recipe)] = &[
    ("ssd", ssd::SUMMARY, ssd::recipe),
    ("synth", synth::SUMMARY, synth::recipe),
    ("fast", fast::SUMMARY, fast::recipe),
    ("fast2", "fast with 2 inner steps per batch", fast::two_steps),
    ("fast10", "fast with 10 inner steps per batch", fast::ten_steps),
    ("fast-reptile", "fast whose meta steps go towards the adapted clone (Reptile)", fast::reptile),
    ("cmi", cmi::SUMMARY, cmi::recipe),
    ("deepinversion", deepinversion::SUMMARY, deepinversion::recipe),
    ("adi", adi::SUMMARY, adi::recipe),
    ("dafl", dafl::SUMMARY, dafl::recipe),
    ("dfad", dfad::SUMMARY, dfad::recipe),
    ("dfq", dfq::SUMMARY, dfq::recipe),
    ("zskt", zskt::SUMMARY, zskt::recipe),
    ("nayer", nayer::SUMMARY, nayer::recipe),
];

/// What a method of ours chooses for pixels, beside what holds for all of them ([`Recipe::of_task`]).
pub fn for_pixels(recipe: Recipe) -> Recipe {
    match recipe.name.as_str() {
        "ssd" => ssd::for_pixels(recipe),
        "synth" => synth::for_pixels(recipe),
        _ => recipe,
    }
}

#[cfg(test)]
mod tests;
