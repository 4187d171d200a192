//! Whether the batches of a student fit into memory.

use super::{Input, StudentRecipe};
use crate::Result;
use crate::nets::{Mode, Network};
use crate::teacher::Teacher;
use crate::train::{BN_MOMENTUM, Need, answer_bytes};

/// As large as its answers are in an update: those of the teacher, the gradient, and the tape's copy of it.
const LISTS: usize = 3;

/// Whether a student's batch of `recipe` fits into memory, with the answers of `teacher` if it gives them live.
///
/// # Errors
/// As [`Need::check`]; a recipe out of range.
pub fn check_memory(student: &Network, teacher: Option<&Teacher>, input: &Input, recipe: &StudentRecipe) -> Result<()> {
    recipe.check()?;
    needed(student, teacher, input)?.check("student.batch", recipe.batch, input.largest())
}

/// What an update needs per image.
fn needed(student: &Network, teacher: Option<&Teacher>, input: &Input) -> Result<Need> {
    let ([h, w, c], [height, width]) = (input.dims, input.sees);
    let answers = answer_bytes(student.arch.task, input.sees, input.classes);
    let update = Need::of(student, &[height, width, c], Mode::Train { momentum: BN_MOMENTUM }, true)?;
    let update = update.beside(LISTS, answers);
    let Some(teacher) = teacher else { return Ok(update) };
    let pass = Need::of(&teacher.network, &[h, w, c], Mode::Frozen, false)?;
    // A tape sees nothing of networks that only answer; at least there is what goes in, and what comes out.
    Ok(update.then(if teacher.network.arch.trains() { pass } else { pass.beside(1, answers) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;

    fn model(name: &str, side: usize) -> Model {
        Model::random(name, [3, side, side], 5)
    }

    fn input(side: usize, sees: usize) -> Input {
        let (mean, std) = (vec![0.5; 3], vec![0.25; 3]);
        Input { dims: [side, side, 3], mean, std, classes: 5, void: None, sees: [sees; 2] }
    }

    #[test]
    fn answers_for_pixels_are_held() {
        let student = model("espnet-c-p1-q1", 32).network;
        let found = needed(&student, None, &input(32, 32)).unwrap();
        let tape = Need::of(&student, &[32, 32, 3], Mode::Train { momentum: BN_MOMENTUM }, true).unwrap();
        assert_eq!(found.kept - tape.kept, 3.0 * f64::from(32 * 32 * 5 * 4));
    }

    /// Its pass over images of 224x224 takes more than an update of a small student on 16x16.
    #[test]
    fn a_teacher_that_only_answers_takes_memory_too() {
        let (student, input) = (model("resnet8", 16).network, input(224, 16));
        let teacher = Teacher::of(&model("convnext_atto", 224));
        assert!(!teacher.network.arch.trains());
        let alone = needed(&student, None, &input).unwrap();
        let both = needed(&student, Some(&teacher), &input).unwrap();
        assert!(both.total() > alone.total(), "{both:?} {alone:?}");
        assert_eq!(both.total(), f64::from((224 * 224 * 3 + 5) * 4));
    }
}
