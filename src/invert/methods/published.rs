//! What the published methods have in common and the default recipe has not.

use crate::augment::{Augmentation, CropFlip};
use crate::distill::StudentRecipe;
use crate::invert::labels::Labels;
use crate::invert::recipe::{BufferRecipe, GeneratorRecipe, Keep, LossRecipe, PhiRecipe, PhiTarget};
use crate::invert::{Feed, Lifecycle, Recipe};
use crate::loss::{BnForm, Matching};
use crate::set::buffer::Replacement;
use crate::set::priority::PriorityRule;
use crate::train::Schedule;

/// A method of the line of CMI and FastDFKD: labels drawn one by one, images in a pool that only grows and of which the student
/// draws evenly, the student in the rounds. All loss weights but those of batch norms (1, sum of norms) and labels (1) are 0.
pub fn pooled(name: &str, images: usize) -> Recipe {
    Recipe {
        name: name.into(),
        batch: 256,
        practice: 0,
        fill: 0,
        rounds: 200,
        adversary_steps: 400,
        on_the_fly: true,
        labels: Labels::Uniform,
        generator: GeneratorRecipe {
            width: 128,
            conditional: false,
            lr: 1e-3,
            lr_latent: 1e-3,
            keep: Keep::LowestLoss,
            ..GeneratorRecipe::default()
        },
        loss: LossRecipe {
            bn: 1.0,
            bn_form: BnForm::SumOfNorms,
            bn_momentum: 0.0,
            one_hot: 1.0,
            adversarial: 0.0,
            ..LossRecipe::default()
        },
        phi: PhiRecipe { target: PhiTarget::Off, ..PhiRecipe::default() },
        buffer: BufferRecipe { samples: images, replacement: Replacement::Oldest, guard_low: 0.0, guard_high: 1e9 },
        augment: Augmentation::default(),
        views: 0,
        student: student(256, 0.1),
        ..Recipe::default()
    }
}

/// A min-max game of a generator that goes on from batch to batch and a student that sees each image once: one generator step on
/// noise, then `updates` of the student. All loss weights are 0.
pub fn generative(name: &str, batch: usize, updates: usize) -> Recipe {
    let pooled = pooled(name, 10_000);
    Recipe {
        batch,
        adversary_steps: updates,
        feed: Feed::Fresh,
        generator: GeneratorRecipe {
            input: crate::invert::Input::Noise,
            lifecycle: Lifecycle::CarryOver,
            keep_optimizer: true,
            inner_steps: 1,
            warmup_steps: 1,
            keep: Keep::AfterLast,
            ..pooled.generator
        },
        loss: LossRecipe { bn: 0.0, one_hot: 0.0, ..pooled.loss },
        augment: Augmentation::NONE,
        student: StudentRecipe {
            augment: CropFlip { crop: 0, flip: false },
            matching: Matching::Kl { temperature: 1.0 },
            ..student(batch, 0.1)
        },
        ..pooled
    }
}

/// A student without anything that these papers do not have: SGD, a cosine, the teacher's answers.
pub fn student(batch: usize, lr: f64) -> StudentRecipe {
    StudentRecipe {
        // 200 epochs of 400 updates.
        steps: 80_000,
        batch,
        lr,
        nesterov: false,
        weight_decay: 1e-4,
        muon: 0.0,
        schedule: Schedule::Cosine { floor: 0.0 },
        matching: Matching::Kl { temperature: 20.0 },
        mixup_until: 0.0,
        average: 0.0,
        reestimate: 0,
        priority: PriorityRule { alpha: 0.0, beta: 0.0, ..PriorityRule::default() },
        ..StudentRecipe::default()
    }
}
