//! Values that a recipe has and nothing reads.

use super::Recipe;
use super::choices::{Feed, FillWith, Input};

/// A key whose value has no part in the inversion of its recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    pub key: &'static str,
    pub why: &'static str,
    /// What to change in its place.
    pub hint: &'static str,
}

impl Recipe {
    /// Those keys of the generator that nothing reads: whoever changes them means others.
    pub fn unread(&self) -> Vec<Unread> {
        let fills = self.fill > 0 && self.feed == Feed::Buffer && self.fill_with == FillWith::Generator;
        let unread = |when: bool, key, why, hint| when.then_some(Unread { key, why, hint });
        let (steps, warmup) = ("generator.inner_steps", "generator.warmup_steps");
        let (lr, latent) = ("generator.lr", "generator.lr_latent");
        let learned = matches!(self.generator.input, Input::Latents | Input::Pixels);
        [
            unread(self.rounds == 0, steps, "it is of rounds, and the recipe has none", "say generator.warmup_steps"),
            unread(
                self.practice == 0 && !fills,
                warmup,
                "it is of the batches before the rounds, and the recipe has none",
                "say generator.inner_steps",
            ),
            unread(
                self.generator.input == Input::Pixels,
                lr,
                "there is no generator, the pixels themselves learn",
                "say generator.lr_latent, which is their rate",
            ),
            unread(!learned, latent, "the generator's input stays as it is drawn", "say generator.lr"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
