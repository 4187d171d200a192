//! The buffer of an inversion: how it begins, how images get into it, and what the adversary draws from it.

use super::{Feed, PhiTarget, Recipe};
use crate::Result;
use crate::data::Images;
use crate::distill::{Answers, Pool, view_list};
use crate::loss::{Verdicts, argmax};
use crate::nets::Task;
use crate::rng::Streams;
use crate::set::buffer::{Batch, BufferRule, ReplayBuffer};
use crate::teacher::Teacher;

/// An empty one, with places for the answers to `views` views of an image.
pub(super) fn empty_buffer(
    teacher: &Teacher,
    recipe: &Recipe,
    views: usize,
    streams: &Streams,
) -> Result<ReplayBuffer> {
    let rule = BufferRule {
        capacity: recipe.samples(teacher.classes),
        replacement: recipe.buffer.replacement,
        guards: (recipe.buffer.guard_low, recipe.buffer.guard_high),
        modulation: matches!(recipe.phi.target, PhiTarget::Replacement | PhiTarget::Both)
            .then(|| recipe.phi.modulation()),
        task: teacher.network.arch.task,
        void: teacher.void,
    };
    let views = match views {
        0 => Vec::new(),
        count => view_list(count, &recipe.student.augment, &mut streams.stream("invert/views", 0)),
    };
    let [h, w] = teacher.size;
    ReplayBuffer::new(rule, recipe.student.priority, [h, w, teacher.channels], teacher.classes, views)
}

/// Asks the teacher about 8-bit images and puts them into the buffer; the places that were written. Where they were not made for
/// one label each, their labels are the teacher's answers.
pub(super) fn store(
    buffer: &mut ReplayBuffer,
    teacher: &Teacher,
    images: Images,
    labels: Option<Vec<u32>>,
    round: u64,
) -> Result<Vec<usize>> {
    let Verdicts { logits, confidence } = teacher.verdicts(&images.pixels, images.len())?;
    let answers = || logits.chunks_exact(teacher.classes).map(|row| argmax(row) as u32).collect();
    let labels = labels.filter(|_| teacher.network.arch.task == Task::Classification).unwrap_or_else(answers);
    let (pixels, labels) = (&images.pixels, &labels);
    buffer.insert(&Batch { pixels, labels, logits: &logits, confidence: &confidence, round })
}

/// What the adversary learns from.
pub(super) fn pool_of<'a>(buffer: &'a mut ReplayBuffer, teacher: &'a Teacher, recipe: &Recipe) -> Pool<'a> {
    let answers = match &mut buffer.views {
        Some(views) if recipe.feed == Feed::Buffer => Answers::Recording(views, teacher),
        _ => Answers::Live(teacher),
    };
    Pool { images: &buffer.images, gallery: None, rows: None, priorities: &mut buffer.priorities, answers }
}
