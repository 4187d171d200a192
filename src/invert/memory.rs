//! Whether the batches of a recipe fit into memory.

use super::wish::read;
use super::{Input, Recipe};
use crate::Result;
use crate::distill::check_memory as check_updates;
use crate::nets::{Mode, Network};
use crate::teacher::Teacher;
use crate::train::{BN_MOMENTUM, Need, answer_bytes};

/// Looks at an inner step and at an update of the adversary before either is made.
///
/// # Errors
/// As [`Need::check`].
pub(super) fn check_memory(teacher: &Teacher, generator: &Network, adversary: &Network, recipe: &Recipe) -> Result<()> {
    let ([h, w], g) = (teacher.size, &recipe.generator);
    let image = [h, w, teacher.channels];
    let mode = if recipe.loss.reads_batch_norms() { Mode::Match } else { Mode::Frozen };
    let answers = answer_bytes(teacher.network.arch.task, teacher.size, teacher.classes);
    // A gradient of each loss of the answers (what they should say, and two of the disagreement), and the tape's copies.
    let lists = 2 * (usize::from(recipe.loss.one_hot > 0.0) + 2 * usize::from(recipe.loss.adversarial > 0.0));
    let asked = Need::of(&teacher.network, &image, mode, true)?;
    let mut need = asked.beside(lists, answers);
    // A second view is seen by the teacher on the same tape.
    if recipe.loss.contrast > 0.0 {
        need = asked.with(need);
    }
    // What reads labels' names is of about the same size; pixels have no generator.
    if matches!(g.input, Input::Latents | Input::Noise) {
        need = Need::of(generator, &[read(teacher, recipe)], Mode::Train { momentum: BN_MOMENTUM }, true)?.with(need);
    }
    if recipe.loss.adversarial > 0.0 {
        need = need.with(Need::of(adversary, &image, Mode::Frozen, true)?);
    }
    need.check("batch", recipe.batch, teacher.size)?;
    check_updates(adversary, Some(teacher), &teacher.input(), &recipe.student)
}
