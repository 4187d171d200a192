//! Varied copies for classes of which a pool has too few images.

use super::survey::answers;
use super::vary::vary;
use crate::Result;
use crate::events::check_interrupt;
use crate::loss::argmax;
use crate::ops::store::Store;
use crate::rng::Streams;
use crate::teacher::Teacher;
use rayon::prelude::*;

/// Variations that are tried for each image that is missing.
const TRIES: u64 = 20;
/// Missing images that are worked on at once.
const AT_ONCE: usize = 1024;

/// Appends varied copies of `members` (images of one class, `[m, H, W, C]`) that the teacher sees in class `class` too, up to
/// `missing` of them. Returns how many there are; each of the missing ones is given up after 20 tries.
///
/// # Errors
/// As the teacher's pass and [`Store::extend`]; an interruption.
pub fn fill(
    teacher: &Teacher,
    members: &[u8],
    class: u32,
    missing: usize,
    streams: &Streams,
    pixels: &mut Store<u8>,
    logits: &mut Store<f32>,
) -> Result<usize> {
    let dims = [teacher.size[0], teacher.size[1], teacher.channels];
    let len: usize = dims.iter().product();
    let count = members.len() / len;
    let mut open: Vec<usize> = if count == 0 { Vec::new() } else { (0..missing).collect() };
    let purpose = format!("collect/fill/{class}");
    for attempt in 0..TRIES {
        let mut still = Vec::new();
        for slots in open.chunks(AT_ONCE) {
            check_interrupt()?;
            let mut copies = vec![0; slots.len() * len];
            copies.par_chunks_exact_mut(len).zip(slots).for_each(|(out, &slot)| {
                let image = &members[slot % count * len..][..len];
                let mut rng = streams.stream(&purpose, slot as u64 * TRIES + attempt);
                vary(image, dims, &mut rng, out);
            });
            let found = answers(teacher, &copies)?;
            for (i, answer) in found.chunks_exact(teacher.classes).enumerate() {
                if argmax(answer) == class as usize {
                    pixels.extend(&copies[i * len..(i + 1) * len])?;
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
    Ok(if count == 0 { 0 } else { missing - open.len() })
}
