//! Recipes of the inversion stage: every choice of a method is a key here, with a range and a default.

use crate::augment::CropFlip;
use crate::distill::StudentRecipe;
use crate::loss::{BnForm, Diversity, Modulation, PhiNorm};
use crate::set::buffer::Replacement;
use crate::train::batch_for;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// What happens to the generator between batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    /// Each batch starts from a clone of a meta-learned generator (first-order MAML, FastDFKD).
    Fomaml,
    /// As `fomaml`, but the meta step goes towards the adapted clone (Reptile).
    Reptile,
    /// The same generator goes on from batch to batch.
    CarryOver,
    /// Fresh weights for every batch (CMI).
    Reset,
}

/// Which of a batch's iterates is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// The one with the lowest loss, before its update (the references).
    LowestLoss,
    /// What the generator makes after its last update: one more generator pass.
    AfterLast,
}

/// Where φ acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhiTarget {
    Off,
    /// Weights the one-hot cross-entropy of each sample.
    CrossEntropy,
    /// Weights the priority to stay in the buffer.
    Replacement,
    Both,
}

/// The generator and its optimisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GeneratorRecipe {
    pub latent: usize,
    pub width: usize,
    /// Whether latents carry a one-hot label, scaled by `label_scale`.
    pub conditional: bool,
    pub label_scale: f64,
    pub lifecycle: Lifecycle,
    pub inner_steps: usize,
    /// Every so many batches the generator's first layer is drawn anew, for other compositions: 1 is every batch (NAYER's
    /// noisy layer), 0 never.
    pub reset_first: usize,
    /// Inner steps during warm-up, when the generator is young.
    pub warmup_steps: usize,
    pub lr: f64,
    pub lr_latent: f64,
    /// Meta learning rate as a multiple of `lr`; 0 takes `inner_steps` (the reference).
    pub meta_factor: f64,
    pub betas: (f64, f64),
    pub keep: Keep,
}

/// Weights of the inversion losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossRecipe {
    pub bn: f64,
    pub bn_form: BnForm,
    /// Moving average of past batches in the matched statistics; 0 is off.
    pub bn_momentum: f64,
    pub one_hot: f64,
    pub adversarial: f64,
}

/// φ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PhiRecipe {
    pub target: PhiTarget,
    pub diversity: Diversity,
    pub gamma: f64,
    pub norm: PhiNorm,
}

impl PhiRecipe {
    /// φ itself.
    pub fn modulation(&self) -> Modulation {
        Modulation { diversity: self.diversity, gamma: self.gamma, norm: self.norm }
    }
}

/// The replay buffer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BufferRecipe {
    /// Images kept at most; 0 takes max(10000, 50 per class). The rounds fill what `fill` leaves, and replace when it is full.
    pub samples: usize,
    pub replacement: Replacement,
    pub guard_low: f64,
    pub guard_high: f64,
}

/// A whole recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    pub name: String,
    /// Images per synthesised batch; 0 takes 256, or fewer where they have more than 64x64 pixels ([`batch_for`]).
    pub batch: usize,
    /// Batches before the buffer is filled, from which only the generator learns: its first images are noise.
    pub practice: usize,
    /// Batches, made without an adversary, with which the buffer starts; 0 fills it, and where `buffer.samples` is stated
    /// there are as many as it takes that the rounds fill the rest.
    pub fill: usize,
    /// Rounds after that: each adds one batch (replacing as many images when the buffer is full) and trains the adversary.
    pub rounds: usize,
    /// Adversary updates per round.
    pub adversary_steps: usize,
    pub generator: GeneratorRecipe,
    pub loss: LossRecipe,
    pub phi: PhiRecipe,
    pub buffer: BufferRecipe,
    pub augment: CropFlip,
    /// Views per image (crops and flips) for which the teacher's answers are recorded as soon as it is kept; the adversary
    /// then learns from records, and so may the student. 0 asks the teacher on every batch.
    pub views: usize,
    /// Updates of the student on the finished set when both stages run in one and it starts from the adversary.
    pub finish_steps: usize,
    /// Learning rate, in place of `student.lr`, of a student that starts with the teacher's blocks: it has less to learn and
    /// more to lose.
    pub blocks_lr: f64,
    /// How the adversary learns; with `--on-the-fly` it is the student.
    pub student: StudentRecipe,
}

impl Default for GeneratorRecipe {
    fn default() -> Self {
        Self {
            latent: 256,
            width: 64,
            conditional: true,
            label_scale: 1.5,
            lifecycle: Lifecycle::Fomaml,
            inner_steps: 5,
            reset_first: 0,
            warmup_steps: 5,
            lr: 3e-3,
            lr_latent: 1e-2,
            meta_factor: 0.0,
            betas: (0.5, 0.999),
            keep: Keep::AfterLast,
        }
    }
}

impl Default for LossRecipe {
    fn default() -> Self {
        Self { bn: 30.0, bn_form: BnForm::TeacherUnits, bn_momentum: 0.9, one_hot: 0.4, adversarial: 1.1 }
    }
}

impl Default for PhiRecipe {
    fn default() -> Self {
        Self { target: PhiTarget::CrossEntropy, diversity: Diversity::Relative, gamma: 2.0, norm: PhiNorm::BatchMean }
    }
}

impl Default for BufferRecipe {
    fn default() -> Self {
        Self { samples: 0, replacement: Replacement::Priority, guard_low: 0.5, guard_high: 1.5 }
    }
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            name: "ssd".into(),
            batch: 0,
            practice: 10,
            fill: 20,
            rounds: 20,
            adversary_steps: 80,
            generator: GeneratorRecipe::default(),
            loss: LossRecipe::default(),
            phi: PhiRecipe::default(),
            buffer: BufferRecipe::default(),
            augment: CropFlip { crop: 4, flip: true },
            views: 8,
            finish_steps: 1000,
            blocks_lr: 0.2,
            student: StudentRecipe::default(),
        }
    }
}

impl Recipe {
    /// Every recipe: name, one line about it, and how to make it.
    pub const ALL: &'static [(&'static str, &'static str, fn() -> Recipe)] = &[(
        "ssd",
        "small class-modulated set with a replay buffer and priority sampling (after SSD-KD, CVPR 2024); the default",
        Recipe::default,
    )];

    /// The recipe called `name`.
    ///
    /// # Errors
    /// A name that is not in [`Recipe::ALL`].
    pub fn named(name: &str) -> Result<Self> {
        match Self::ALL.iter().find(|(n, ..)| *n == name) {
            Some((.., make)) => Ok(make()),
            None => {
                let known: Vec<&str> = Self::ALL.iter().map(|(n, ..)| *n).collect();
                Err(Error::invalid(
                    "recipe",
                    format!("there is no recipe {name:?}"),
                    format!("take one of: {}", known.join(", ")),
                ))
            }
        }
    }

    /// Names of the recipes that match no batch-norm statistics.
    pub fn without_batch_norm() -> Vec<&'static str> {
        Self::ALL.iter().filter(|(.., make)| make().loss.bn == 0.0).map(|(name, ..)| *name).collect()
    }

    /// The recipe with its batches for images of `size` (height, width), where it leaves them open.
    pub fn fitted(self, size: [usize; 2]) -> Self {
        let batch = if self.batch > 0 { self.batch } else { batch_for(256, size) };
        let student = self.student.fitted(size);
        Self { batch, student, ..self }
    }

    /// Batches before the rounds that fill a buffer for `classes` classes, of a recipe with a batch.
    pub(super) fn fill(&self, classes: usize) -> usize {
        let whole = self.samples(classes).div_ceil(self.batch.max(1));
        let fill = match self.fill {
            0 => whole,
            fill if self.buffer.samples > 0 => fill.max(whole.saturating_sub(self.rounds)),
            fill => fill,
        };
        fill.min(whole)
    }

    /// How a student learns that starts with the teacher's blocks, or without them.
    pub fn student(&self, teacher_blocks: bool) -> StudentRecipe {
        let lr = if teacher_blocks { self.blocks_lr } else { self.student.lr };
        StudentRecipe { lr, ..self.student.clone() }
    }

    /// Images that the buffer holds for `classes` classes.
    pub fn samples(&self, classes: usize) -> usize {
        if self.buffer.samples > 0 { self.buffer.samples } else { 10_000.max(50 * classes) }
    }

    /// # Errors
    /// The first value that is out of its range, with the range.
    pub fn check(&self) -> Result<()> {
        let range = |key: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid(key, format!("{value}"), format!("must be within {low} to {high}")))
        };
        let g = &self.generator;
        range("batch", self.batch as f64, 2.0 * f64::from(self.batch > 0), 65_536.0)?;
        range("views", self.views as f64, 0.0, crate::set::MAX_VIEWS as f64)?;
        range("generator.latent", g.latent as f64, 1.0, 1e6)?;
        range("generator.width", g.width as f64, 2.0, 8192.0)?;
        range("generator.label_scale", g.label_scale, 0.0, 1e3)?;
        range("generator.inner_steps", g.inner_steps as f64, 1.0, 1e6)?;
        range("generator.warmup_steps", g.warmup_steps as f64, 1.0, 1e6)?;
        range("generator.lr", g.lr, 0.0, 10.0)?;
        range("generator.lr_latent", g.lr_latent, 0.0, 10.0)?;
        range("generator.meta_factor", g.meta_factor, 0.0, 1e3)?;
        range("generator.betas.0", g.betas.0, 0.0, 0.99999)?;
        range("generator.betas.1", g.betas.1, 0.0, 0.99999)?;
        range("loss.bn", self.loss.bn, 0.0, 1e6)?;
        range("loss.bn_momentum", self.loss.bn_momentum, 0.0, 0.9999)?;
        range("loss.one_hot", self.loss.one_hot, 0.0, 1e6)?;
        range("loss.adversarial", self.loss.adversarial, 0.0, 1e6)?;
        range("blocks_lr", self.blocks_lr, 0.0, 100.0)?;
        range("phi.gamma", self.phi.gamma, 0.0, 100.0)?;
        range("buffer.guard_low", self.buffer.guard_low, 0.0, 1.0)?;
        range("buffer.guard_high", self.buffer.guard_high, 1.0, 1e9)?;
        self.student.check()
    }
}
