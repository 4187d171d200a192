//! Where a student's weights start.

use crate::Result;
use crate::nets::{Network, Slot};
use crate::ops::mem::{update, view};
use candle_core::Tensor;

/// The slots of `student` that have a twin of the same name and shape in `from`, with both tensors.
fn twins<'a>(student: &'a Network, from: &'a Network) -> impl Iterator<Item = (&'a Slot, &'a Tensor, &'a Tensor)> {
    student.weights.iter().filter_map(|(slot, to)| {
        let twin = from.weights.iter().find(|(s, _)| s.name == slot.name && s.shape == slot.shape);
        twin.map(|(_, source)| (slot, to, source))
    })
}

/// Trainable parameters of `student` that [`start_from`] would copy.
pub fn shared_parameters(student: &Network, from: &Network) -> usize {
    twins(student, from).map(|(slot, ..)| slot).filter(|slot| slot.kind.trainable()).map(Slot::len).sum()
}

/// Copies every tensor of `from` whose name and shape a tensor of `student` shares; returns how many were copied.
///
/// With the teacher as `from` this is the `teacher-blocks` start, with the adversary of the same architecture it is the
/// `adversary` start. Neither belongs in a comparison of methods.
pub fn start_from(student: &Network, from: &Network) -> Result<usize> {
    let mut copied = 0;
    for (_, to, source) in twins(student, from) {
        let source = view(source)?;
        update(to, |t| t.copy_from_slice(&source))?;
        copied += 1;
    }
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;

    #[test]
    fn running_statistics_start_as_those_of_the_other_network() {
        let [student, from] = [0, 1].map(|_| Model::random("resnet8", [3, 16, 16], 4).network.duplicate().unwrap());
        for (slot, tensor) in from.weights.iter() {
            update(tensor, |t| t.fill(slot.len() as f32 / 7.0)).unwrap();
        }
        assert_eq!(start_from(&student, &from).unwrap(), from.weights.iter().count());
        for ((slot, a), (_, b)) in student.weights.iter().zip(from.weights.iter()) {
            assert_eq!(view(a).unwrap().to_vec(), view(b).unwrap().to_vec(), "{}", slot.name);
        }
    }
}
