//! DFQ: Choi et al., "Data-Free Network Quantization with Adversarial Knowledge Distillation", CVPRW 2020.
//!
//! Adversarial distillation with priors: `L = −KL(T ‖ S) + α·(L_BN + mean entropy of answers + Σ p̄ ln p̄)`, α = 0.01, where L_BN
//! is the divergence of normal distributions (equations 5 to 8). The generator first learns by the priors alone. The FastDFKD
//! authors' version, whose numbers are in most tables, is `assets/recipes/dfq-comparison.toml`.

use super::published::generative;
use crate::distill::StudentRecipe;
use crate::invert::Recipe;
use crate::invert::recipe::{GeneratorRecipe, LossRecipe, Output, Target};
use crate::loss::{Adversarial, BnForm};
use crate::train::Schedule;

pub const SUMMARY: &str = "adversarial distillation with batch-norm and entropy priors (DFQ, CVPRW 2020)";

/// What the priors weigh.
const ALPHA: f64 = 0.01;

/// CIFAR-10: 50 epochs of practice, then 200 of rounds of 10 student updates; 40 batches in each, as in the comparisons of others.
pub fn recipe() -> Recipe {
    let base = generative("dfq", 256, 10);
    Recipe {
        practice: 2000,
        rounds: 8000,
        generator: GeneratorRecipe {
            latent: 512,
            output: Output::Tanh,
            over_run: Schedule::Cosine { floor: 0.0 },
            ..base.generator
        },
        loss: LossRecipe {
            bn: ALPHA,
            bn_form: BnForm::GaussianKl,
            target: Target::Sureness,
            one_hot: ALPHA,
            balance: ALPHA,
            adversarial: 1.0,
            adversarial_form: Adversarial::Kl,
            ..base.loss
        },
        student: StudentRecipe { nesterov: true, weight_decay: 0.0, ..base.student },
        ..base
    }
}
