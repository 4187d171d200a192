//! Varied copies for classes of which a pool has too few images.

use super::survey::answers;
use super::vary::vary;
use crate::Result;
use crate::events::check_interrupt;
use crate::loss::{argmax, confidence};
use crate::ops::store::Store;
use crate::rng::Streams;
use crate::teacher::Teacher;
use rand::RngExt;
use rayon::prelude::*;

/// Variations that are tried for each image that is missing.
const TRIES: u64 = 20;
/// Missing images that are worked on at once.
const AT_ONCE: usize = 1024;

/// Copies that a class lacks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Copies {
    pub class: u32,
    pub missing: usize,
    /// The least probability with which the teacher is to see the class in them.
    pub least: f64,
}

/// Appends varied copies of `members` (rows of `pixels`, `[n, H, W, C]`, with images of one class) in which the teacher sees
/// that class too, surely enough. Returns how many there are; each of the missing ones is tried with members drawn at random,
/// and given up after 20 tries.
///
/// # Errors
/// As the teacher's pass and [`Store::extend`]; an interruption.
pub fn fill(
    teacher: &Teacher,
    members: &[usize],
    copies: Copies,
    streams: &Streams,
    pixels: &mut Store<u8>,
    logits: &mut Store<f32>,
) -> Result<usize> {
    let Copies { class, missing, least } = copies;
    if members.is_empty() {
        return Ok(0);
    }
    let dims = [teacher.size[0], teacher.size[1], teacher.channels];
    let len: usize = dims.iter().product();
    let fits = |answer: &[f32]| argmax(answer) == class as usize && f64::from(confidence(answer)) >= least;
    let mut open: Vec<usize> = (0..missing).collect();
    let purpose = format!("collect/fill/{class}");
    for attempt in 0..TRIES {
        let mut still = Vec::new();
        for slots in open.chunks(AT_ONCE) {
            check_interrupt()?;
            let mut varied = vec![0; slots.len() * len];
            let stored = &pixels[..];
            varied.par_chunks_exact_mut(len).zip(slots).for_each(|(out, &slot)| {
                let mut rng = streams.stream(&purpose, slot as u64 * TRIES + attempt);
                let row = members[rng.random_range(0..members.len())];
                vary(&stored[row * len..][..len], dims, &mut rng, out);
            });
            let found = answers(teacher, &varied)?;
            for (i, answer) in found.chunks_exact(teacher.classes).enumerate() {
                if fits(answer) {
                    pixels.extend(&varied[i * len..(i + 1) * len])?;
                    logits.extend(answer)?;
                } else {
                    still.push(slots[i]);
                }
            }
        }
        open = still;
        if open.is_empty() {
            break;
        }
    }
    Ok(missing - open.len())
}
