//! NAYER: Tran et al., "NAYER: Noisy Layer Data Generation for Efficient and Effective Data-free Knowledge Distillation", CVPR
//! 2024.
//!
//! The generator reads the embedding of the label's name (equation 4); noise is a linear layer between the two, drawn anew for
//! every batch (equation 5). The losses are those of FastDFKD. The whole generator starts anew every ten epochs: 100 batches
//! before the rounds, 20 in them.

use super::published::{pooled, student};
use crate::distill::StudentRecipe;
use crate::invert::labels::Labels;
use crate::invert::recipe::{GeneratorRecipe, Input, LossRecipe};
use crate::invert::{Lifecycle, Recipe};
use crate::train::Schedule;

pub const SUMMARY: &str = "a generator that reads the names of the classes, with a noisy layer (NAYER, CVPR 2024)";

/// CIFAR-10 with 300 rounds: 30 steps for each batch of 400; CIFAR-100 takes 40.
pub fn recipe() -> Recipe {
    let (batch, fill, rounds, batches) = (400, 200, 300, 2);
    let base = pooled("nayer", (fill + rounds * batches) * batch);
    Recipe {
        batch,
        fill,
        rounds,
        batches,
        labels: Labels::Sweeps,
        generator: GeneratorRecipe {
            input: Input::LabelEmbedding,
            latent: 1000,
            text_encoder: "openai/clip-vit-base-patch32".into(),
            lifecycle: Lifecycle::CarryOver,
            inner_steps: 30,
            warmup_steps: 30,
            reset_first: 1,
            rebuild: 20,
            warmup_rebuild: 100,
            lr: 4e-3,
            ..base.generator
        },
        loss: LossRecipe { bn: 10.0, bn_momentum: 0.9, one_hot: 0.5, adversarial: 1.33, ..base.loss },
        student: StudentRecipe { schedule: Schedule::Cosine { floor: 1e-3 }, ..student(512, 0.2) },
        ..base
    }
}
