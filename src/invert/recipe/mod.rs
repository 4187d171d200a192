//! Recipes of the inversion stage: every choice of a method is a key here, with a range and a default.

mod check;
mod choices;
mod generator;
mod losses;
mod unread;

pub use choices::{
    AdversaryMode, Feed, FillWith, FreshWeights, Input, Keep, Lifecycle, Output, PhiTarget, Quantise, Target,
};
pub use generator::GeneratorRecipe;
pub use losses::{ContrastRecipe, LossRecipe, PhiRecipe};
pub use unread::Unread;

use super::labels::Labels;
use super::layout::Layout;
use super::methods;
use super::prior::LayoutPrior;
use crate::augment::Augmentation;
use crate::distill::{StudentRecipe, USUAL_BATCH_OF_PIXELS};
use crate::loss::Adversarial;
use crate::nets::Task;
use crate::set::buffer::Replacement;
use crate::train::batch_of;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The replay buffer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BufferRecipe {
    /// Images kept at most; 0 takes max(10000, 50 per class). The rounds add to what `fill` makes, and replace when it is full.
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
    /// Images per synthesised batch; 0 takes 256 (80 where every pixel has an answer), or fewer where they have more than 64x64 pixels
    /// ([`batch_of`]).
    pub batch: usize,
    /// Batches before the buffer is filled, from which only the generator learns: its first images are noise.
    pub practice: usize,
    /// Batches with which the buffer starts, made without an adversary. More than it holds are not made: [`Recipe::WHOLE`].
    pub fill: usize,
    /// What these batches hold.
    pub fill_with: FillWith,
    /// Rounds after that: each adds its batches (replacing as many images when the buffer is full) and trains the adversary.
    pub rounds: usize,
    /// Batches per round.
    pub batches: usize,
    /// Adversary updates per round.
    pub adversary_steps: usize,
    /// What the adversary learns from: of the batch that was just made, whole; else `student.batch` images.
    pub feed: Feed,
    /// Whether the adversary is the student and leaves the rounds trained, without a second stage, as the papers have it.
    pub on_the_fly: bool,
    pub labels: Labels,
    /// What every pixel should show, where the teacher answers for pixels and `loss.target` is the label.
    pub layout: Layout,
    /// Which classes these maps have more of: with `teacher`, practice (where there is one, and batch norms are matched) asks for
    /// none, and its images tell.
    pub layout_prior: LayoutPrior,
    pub quantise: Quantise,
    pub generator: GeneratorRecipe,
    pub loss: LossRecipe,
    pub contrast: ContrastRecipe,
    pub phi: PhiRecipe,
    pub buffer: BufferRecipe,
    /// What happens to images before the teacher sees them.
    pub augment: Augmentation,
    /// Views per image (crops and flips) that the adversary sees in place of fresh ones: the teacher's answer to each is recorded
    /// when it is first drawn, or as soon as the image is kept where the set shall hold them, from which a student may then learn.
    /// If the student's crops and mirror images are fewer, all of them. 0 asks the teacher on every batch, as one that answers for pixels
    /// always is.
    pub views: usize,
    /// Updates of the student on the finished set when both stages run in one and it starts from the adversary.
    pub finish_steps: usize,
    /// Share of the student's learning rate where it starts with the teacher's blocks: it has less to learn and more to lose.
    pub blocks_share: f64,
    /// How the adversary learns; with `--on-the-fly` it is the student.
    pub student: StudentRecipe,
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
            fill_with: FillWith::Generator,
            rounds: 20,
            batches: 1,
            adversary_steps: 80,
            feed: Feed::Buffer,
            on_the_fly: false,
            labels: Labels::Balanced,
            layout: Layout::Smooth,
            layout_prior: LayoutPrior::Teacher,
            quantise: Quantise::Round,
            generator: GeneratorRecipe::default(),
            loss: LossRecipe::default(),
            contrast: ContrastRecipe::default(),
            phi: PhiRecipe::default(),
            buffer: BufferRecipe::default(),
            augment: Augmentation::default(),
            views: 8,
            finish_steps: 1000,
            blocks_share: 0.4,
            student: StudentRecipe::default(),
        }
    }
}

impl Recipe {
    /// A `fill` that no buffer is larger than.
    pub const WHOLE: usize = 1_000_000_000;

    /// Every recipe: name, one line about it, and how to make it.
    pub const ALL: &'static [(&'static str, &'static str, fn() -> Recipe)] = methods::ALL;

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
        self.fitted_for(Task::Classification, size)
    }

    /// The recipe with its batches for a teacher of `task` and images of `size` (height, width), where it leaves them open: where there
    /// is an answer for every pixel, a batch is as large as a student's.
    pub fn fitted_for(self, task: Task, size: [usize; 2]) -> Self {
        let usual = match task {
            Task::Classification => 256,
            Task::Segmentation => USUAL_BATCH_OF_PIXELS,
        };
        let batch = if self.batch > 0 { self.batch } else { batch_of(task, usual, size) };
        let mut student = self.student.fitted_for(task, size);
        if self.feed == Feed::Batch {
            student.batch = batch;
        }
        Self { batch, student, ..self }
    }

    /// The recipe as it is for teachers of `task`, before anything is changed in it: for pixels, answers are not recorded, a generator
    /// that goes on is told the map that its images should show (weights that many maps share cannot learn one that they are
    /// not told), one that reads embeddings of labels is asked for the teacher's own decisions, the distance of logits is the
    /// bounded one, as DFAD has it there, and a student that learns from the buffer is one for pixels ([`StudentRecipe::of_task`]).
    /// What a method chooses there beside that is in its file.
    pub fn of_task(mut self, task: Task) -> Self {
        if task == Task::Classification {
            return self;
        }
        let g = &mut self.generator;
        match g.input {
            Input::LabelEmbedding if self.loss.target == Target::Label => self.loss.target = Target::Decision,
            Input::Latents | Input::Noise => g.conditional |= g.lifecycle != Lifecycle::Reset,
            _ => {}
        }
        if self.loss.adversarial_form == Adversarial::L1 {
            self.loss.adversarial_form = Adversarial::LogL1;
        }
        if self.feed == Feed::Buffer {
            self.student = self.student.of_task(task);
        }
        methods::for_pixels(Self { views: 0, ..self })
    }

    /// The recipe for a set of `samples` images of `size` for a teacher of `task`: what its rounds would not add, the buffer starts with, if
    /// somebody learns from it.
    pub fn of_samples(mut self, samples: usize, task: Task, size: [usize; 2]) -> Self {
        self.buffer.samples = samples;
        if self.feed == Feed::Buffer {
            let whole = samples.div_ceil(self.clone().fitted_for(task, size).batch);
            self.fill = self.fill.max(whole.saturating_sub(self.rounds.saturating_mul(self.batches)));
        }
        self
    }

    /// Batches before the rounds that fill a buffer for `classes` classes, of a recipe with a batch; none where nobody learns
    /// from the buffer.
    pub(super) fn fill(&self, classes: usize) -> usize {
        if self.feed != Feed::Buffer {
            return 0;
        }
        self.fill.min(self.samples(classes).div_ceil(self.batch.max(1)))
    }

    /// Whether images are made for labels; else an image's label is the teacher's answer.
    pub fn has_labels(&self) -> bool {
        self.loss.target == Target::Label && self.loss.one_hot > 0.0
    }

    /// Whether practice asks a teacher of `task` what classes its images show, and asks for no label maps so far.
    pub(super) fn practice_tells(&self, task: Task) -> bool {
        let maps = task == Task::Segmentation && self.has_labels();
        maps && self.layout_prior == LayoutPrior::Teacher && self.loss.bn > 0.0
    }

    /// Updates of the adversary in all.
    pub fn adversary_updates(&self) -> usize {
        self.rounds * self.adversary_steps
    }

    /// How a student learns that starts with the teacher's blocks, or without them.
    pub fn student(&self, teacher_blocks: bool) -> StudentRecipe {
        let share = if teacher_blocks { self.blocks_share } else { 1.0 };
        StudentRecipe { lr_share: share * self.student.lr_share, ..self.student.clone() }
    }

    /// Images that the buffer holds for `classes` classes.
    pub fn samples(&self, classes: usize) -> usize {
        if self.buffer.samples > 0 { self.buffer.samples } else { 10_000.max(50 * classes) }
    }
}
