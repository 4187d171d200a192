//! DFAD: Fang et al., "Data-Free Adversarial Distillation", 2019.
//!
//! A min-max game over the mean absolute difference of logits (equations 4 and 5), five student updates on fresh images for every
//! step of the generator. The student's batch norms train in the generator's step too.

use super::published::generative;
use crate::distill::StudentRecipe;
use crate::invert::Recipe;
use crate::invert::recipe::{AdversaryMode, GeneratorRecipe, LossRecipe, Output};
use crate::loss::{Adversarial, Matching};
use crate::train::Schedule;

pub const SUMMARY: &str = "generator and student fight over the distance of logits (DFAD, 2019); no batch norms needed";

/// CIFAR-10: 500 epochs of 50 rounds, both rates a tenth after 100 and 200 epochs.
pub fn recipe() -> Recipe {
    let base = generative("dfad", 256, 5);
    let schedule = Schedule::Step { at: vec![0.2, 0.4], gamma: 0.1 };
    Recipe {
        rounds: 25_000,
        generator: GeneratorRecipe {
            output: Output::Tanh,
            betas: (0.9, 0.999),
            over_run: schedule.clone(),
            ..base.generator
        },
        loss: LossRecipe {
            adversarial: 1.0,
            adversarial_form: Adversarial::L1,
            adversary_mode: AdversaryMode::Train,
            ..base.loss
        },
        student: StudentRecipe { weight_decay: 5e-4, matching: Matching::L1, schedule, ..base.student },
        ..base
    }
}
