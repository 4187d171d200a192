//! Values that a recipe has and nothing reads.

use super::choices::{Feed, FillWith, Input};
use super::{GeneratorRecipe, Recipe};
use crate::overlay::is_of;
use crate::{Error, Result};

/// A key whose value has no part in the inversion of its recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    pub key: &'static str,
    pub why: &'static str,
    /// What to change in its place.
    pub hint: &'static str,
}

impl Unread {
    /// # Errors
    /// [`Error::Invalid`] if one of `pairs` (`KEY=VALUE`) is of the key.
    pub fn refuse(&self, pairs: &[String]) -> Result<()> {
        let Self { key, why, hint } = self;
        match pairs.iter().any(|pair| is_of(pair, key)) {
            true => Err(Error::invalid(format!("--set {key}"), *why, *hint)),
            false => Ok(()),
        }
    }
}

impl Recipe {
    /// Those keys of the generator that nothing reads: whoever changes them means others.
    pub fn unread(&self) -> Vec<Unread> {
        let GeneratorRecipe { input, .. } = self.generator;
        let fills = self.fill > 0 && self.feed == Feed::Buffer && self.fill_with == FillWith::Generator;
        let unread = |when: bool, key, why, hint| when.then_some(Unread { key, why, hint });
        let no_rounds = "it is of rounds, and the recipe has none";
        let no_warmup = "it is of the batches before the rounds, and the recipe has none";
        let no_generator = "there is no generator, the pixels themselves learn";
        let no_latents = "the generator's input stays as it is drawn";
        [
            unread(self.rounds == 0, "generator.inner_steps", no_rounds, "say generator.warmup_steps"),
            unread(self.practice == 0 && !fills, "generator.warmup_steps", no_warmup, "say generator.inner_steps"),
            unread(
                input == Input::Pixels,
                "generator.lr",
                no_generator,
                "say generator.lr_latent, which is their rate",
            ),
            unread(
                !matches!(input, Input::Latents | Input::Pixels),
                "generator.lr_latent",
                no_latents,
                "say generator.lr",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
