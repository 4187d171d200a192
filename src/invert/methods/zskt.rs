//! ZSKT: Micaelli and Storkey, "Zero-shot Knowledge Transfer via Adversarial Belief Matching", NeurIPS 2019.
//!
//! A min-max game over KL(T ‖ S) (equation 1): one step of the generator, then ten student updates on images of the same noise.
//! The adversary is the student itself.

use super::published::generative;
use crate::distill::StudentRecipe;
use crate::invert::recipe::{AdversaryMode, GeneratorRecipe, LossRecipe, Output};
use crate::invert::{Feed, Recipe};
use crate::loss::Adversarial;
use crate::train::Schedule;

pub const SUMMARY: &str =
    "generator and student fight over the divergence of answers (ZSKT, NeurIPS 2019); no batch norms needed";

/// CIFAR-10: 80,000 rounds.
pub fn recipe() -> Recipe {
    let base = generative("zskt", 128, 10);
    Recipe {
        rounds: 80_000,
        feed: Feed::Batch,
        generator: GeneratorRecipe {
            latent: 100,
            output: Output::Norm,
            betas: (0.9, 0.999),
            over_run: Schedule::Cosine { floor: 0.0 },
            ..base.generator
        },
        loss: LossRecipe {
            adversarial: 1.0,
            adversarial_form: Adversarial::Kl,
            adversary_mode: AdversaryMode::Train,
            ..base.loss
        },
        student: StudentRecipe { weight_decay: 0.0, ..base.student },
        ..base
    }
}
