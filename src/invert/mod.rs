//! The inversion stage: from a frozen teacher to a small, class-modulated set of images.

mod contrast;
mod course;
mod embeddings;
mod keeping;
mod labels;
mod layout;
mod lifecycle;
mod memory;
mod methods;
mod objective;
mod order;
mod plan;
mod prior;
mod recipe;
mod setup;
mod synthesis;
mod wish;

pub use contrast::{Contrast, ContrastPass};
pub use embeddings::LabelEmbeddings;
pub use labels::{Labels, balanced_labels};
pub use layout::Layout;
pub use objective::InnerPass;
pub use order::Order;
pub use plan::Plan;
pub use prior::LayoutPrior;
pub use recipe::{
    AdversaryMode, BufferRecipe, ContrastRecipe, Feed, FillWith, FreshWeights, GeneratorRecipe, Input, Keep, Lifecycle,
    LossRecipe, Output, PhiRecipe, PhiTarget, Quantise, Recipe, Target, Unread,
};
pub use synthesis::{Draws, Synthesised, Synthesiser, Terms};
pub use wish::Wish;

use crate::checkpoint::{Clock, Resumable};
use crate::distill::Input as StudentInput;
use crate::events::Observer;
use crate::nets::{Network, Task};
use crate::set::buffer::ReplayBuffer;
use crate::signs::Signs;
use crate::teacher::Teacher;
use crate::{Error, Result};
use course::{Course, STAGE};
use std::time::Duration;

/// What is said to an inversion beside its recipe.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// Embeddings of the class names, for a generator that reads them; without them it reads orthogonal ones.
    pub embeddings: Option<&'a LabelEmbeddings>,
    /// Whether the answers to all views of an image are recorded as soon as it is kept, for a set that holds them. Else each is
    /// when the adversary first draws it.
    pub all_views: bool,
    pub seed: u64,
    /// Time for the whole of it, in place of the recipe's number of rounds.
    pub limit: Option<Duration>,
}

/// What inversion leaves.
pub struct Inversion {
    /// With answers to all views only if these were asked for.
    pub buffer: ReplayBuffer,
    pub generator: Network,
    /// The adversary (with `on the fly`: the student) as trained, and as one would keep it.
    pub adversary: Network,
    pub finished: Network,
    /// Whether the buffer began with drawn images.
    pub drawn: bool,
    /// Batches done of each phase: those of the recipe, or as many as the time limit allowed.
    pub plan: Plan,
    /// Images synthesised in all, of which the buffer keeps some.
    pub synthesised: usize,
    pub synthesis_time: Duration,
    pub adversary_time: Duration,
    /// All of it, over all processes.
    pub clock: Clock,
    /// How often the rates of the generator and of the adversary had to be halved because a loss was no number.
    pub halvings: [u32; 2],
    pub signs: Signs,
}

impl Inversion {
    /// Places in the buffer of the images that the generator has made, where it began with others.
    pub fn made_by_generator(&self) -> Vec<usize> {
        let first = if self.drawn { (self.plan.practice + self.plan.fill) as u64 } else { 0 };
        (0..self.buffer.len()).filter(|&place| self.buffer.entries[place].round >= first).collect()
    }
}

/// Runs a recipe against a teacher, with `adversary` as the student in training.
///
/// 1. Practice: batches from which only the generator learns.
/// 2. Fill: batches without an adversary, or of procedural images, fill the buffer.
/// 3. Rounds: batches against the adversary replace part of the buffer; the adversary learns.
///
/// With a time limit, the number of rounds is what fits into it (at least one), whatever the recipe says; practice and fill
/// are cut to a third of the time (at least one batch each) where they would take more, or to all of it where there are no rounds.
/// A student on the fly that learns from the buffer spends what time is left on further updates.
///
/// # Errors
/// A recipe out of range, a teacher it cannot be run on, a loss that is no number again and again, an interruption.
pub fn invert(
    teacher: &Teacher,
    adversary: Network,
    recipe: &Recipe,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Inversion> {
    recipe.check()?;
    if recipe.views > 0 && teacher.network.arch.task == Task::Segmentation {
        let found = "the teacher answers for every pixel, and such answers are not recorded";
        return Err(Error::invalid("views", found, "leave it at 0: `distill` asks the teacher itself"));
    }
    let recipe = &recipe.clone().fitted_for(teacher.network.arch.task, teacher.size);
    let mut course = Course::new(teacher, adversary, recipe, options)?;
    if let Some(saved) = observer.earlier(STAGE)? {
        course.restore(&saved)?;
    }
    while course.batch < course.plan.total() || course.adversary_is_behind()? {
        observer.between(STAGE, &course)?;
        let done = match course.adversary_is_behind()? {
            true => course.adversary_step(observer),
            false => course.synthesise(observer),
        };
        if matches!(done, Err(Error::Interrupted)) {
            // In the middle of a batch, which is made anew when the run goes on.
            observer.between(STAGE, &course)?;
        }
        done?;
    }
    observer.ended(STAGE, &course)?;
    course.finish()
}

impl Teacher {
    /// What a student must be fed: the same as the teacher.
    pub fn input(&self) -> StudentInput {
        StudentInput {
            dims: [self.size[0], self.size[1], self.channels],
            mean: self.mean.clone(),
            std: self.std.clone(),
            classes: self.classes,
            void: self.void,
            sees: self.size,
        }
    }
}
