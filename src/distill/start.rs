//! Where a student's weights start.

use crate::Result;
use crate::nets::{Network, Slot};
use crate::ops::mem::{update, view};

/// The slots of `student` that have a twin of the same name and shape in `from`.
pub fn shared_slots<'a>(student: &'a Network, from: &'a Network) -> impl Iterator<Item = &'a Slot> {
    let twin = |slot: &Slot| from.weights.iter().any(|(s, _)| s.name == slot.name && s.shape == slot.shape);
    student.weights.iter().map(|(slot, _)| slot).filter(move |slot| slot.kind.trainable() && twin(slot))
}

/// Copies every tensor of `from` whose name and shape a tensor of `student` shares; returns how many were copied.
///
/// With the teacher as `from` this is the `teacher-blocks` start, with the adversary of the same architecture it is the
/// `adversary` start. Neither belongs in a comparison of methods.
pub fn start_from(student: &Network, from: &Network) -> Result<usize> {
    let mut copied = 0;
    for (slot, tensor) in student.weights.iter() {
        let twin = from.weights.iter().find(|(s, _)| s.name == slot.name && s.shape == slot.shape);
        if let Some((_, source)) = twin {
            let source = view(source)?;
            update(tensor, |t| t.copy_from_slice(&source))?;
            copied += 1;
        }
    }
    Ok(copied)
}
