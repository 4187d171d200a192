//! Images on both sides of the teacher's borders: what a student needs to know most exactly, and what classes that a pool lacks can
//! be made of.
//!
//! From an image of one class a way is gone towards another one, downhill in the cross-entropy, until the teacher decides for it.
//! The last image before and the first one behind the border are kept, and one that is a step deeper on each side (Frank & Davis,
//! "What makes a good dataset for knowledge distillation?", 2025). Steps follow the rule of the bold driver: a little longer after
//! each success, half as long after a failure.

use super::survey::answers;
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::events::check_interrupt;
use crate::loss::{argmax, cross_entropy, log_softmax};
use crate::ops::mem::{tensor, view};
use crate::ops::store::Store;
use crate::rng::{Streams, permutation};
use crate::teacher::Teacher;
use crate::train::batch_for;
use crate::{Error, Result};

/// Ways that are gone at once, where images are small.
const BATCH: usize = 128;
/// Steps after which a way is given up.
const STEPS: usize = 50;
/// Length of the first step for pixels in 0..1, in an image of 32x32 in colour; in others in proportion to the square root of their
/// number of values.
const FIRST_STEP: f64 = 0.5;
/// Length, in the same unit, below which a way is given up: all pixels of an 8-bit image stay where they are.
const LAST_STEP: f64 = 0.01;
const LONGER: f64 = 1.1;
const SHORTER: f64 = 0.5;
/// Of more classes than this, only those that come next for the image and the rarest ones are targets.
const ALL_CLASSES: usize = 100;
const NEXT: usize = 5;
/// Ways that are tried for each that is wanted.
const TRIES: usize = 3;

/// Images of one way: before the border and behind it, and a step deeper on each side; all rounded to 8 bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Crossing {
    /// The class that was aimed at.
    pub target: u32,
    /// The first that the teacher sees in another class than `target`, the second in `target`.
    pub pair: [Vec<u8>; 2],
    pub deeper: [Vec<u8>; 2],
}

/// A way in progress.
struct Way {
    target: u32,
    /// In 0..1.
    x: Vec<f32>,
    gradient: Vec<f32>,
    loss: f64,
    step: f64,
}

/// Goes from `starts` (8-bit images `[n, H, W, C]`) to the border of `targets`; gives one entry per image, `None` where the border
/// was not found, or the teacher saw the target in it already.
///
/// # Errors
/// A teacher that only answers; an interruption.
pub fn cross(teacher: &Teacher, starts: &[u8], targets: &[u32]) -> Result<Vec<Option<Crossing>>> {
    let len = teacher.size[0] * teacher.size[1] * teacher.channels;
    let mut found = Vec::with_capacity(targets.len());
    let batch = batch_for(BATCH, teacher.size);
    for (starts, targets) in starts.chunks(batch * len).zip(targets.chunks(batch)) {
        found.extend(cross_batch(teacher, starts, targets, len)?);
    }
    Ok(found)
}

fn cross_batch(teacher: &Teacher, starts: &[u8], targets: &[u32], len: usize) -> Result<Vec<Option<Crossing>>> {
    let unit = (len as f64 / 3072.0).sqrt();
    let images: Vec<Vec<f32>> =
        starts.chunks_exact(len).map(|image| image.iter().map(|v| f32::from(*v) / 255.0).collect()).collect();
    let seen = look(teacher, &images, targets)?;
    let mut found: Vec<Option<Crossing>> = targets.iter().map(|_| None).collect();
    let mut ways: Vec<(usize, Way)> = Vec::new();
    for (i, (x, seen)) in images.into_iter().zip(seen).enumerate() {
        if seen.class != targets[i] {
            let Seen { gradient, loss, .. } = seen;
            ways.push((i, Way { target: targets[i], x, gradient, loss, step: FIRST_STEP * unit }));
        }
    }
    for _ in 0..STEPS {
        check_interrupt()?;
        ways.retain(|(_, way)| way.step >= LAST_STEP * unit);
        if ways.is_empty() {
            break;
        }
        let next: Vec<Vec<f32>> = ways.iter().map(|(_, way)| along(&way.x, &way.gradient, way.step)).collect();
        let aims: Vec<u32> = ways.iter().map(|(_, way)| way.target).collect();
        let seen = look(teacher, &next, &aims)?;
        let mut crossed = Vec::new();
        for (at, (((_, way), x), seen)) in ways.iter_mut().zip(next).zip(seen).enumerate() {
            if seen.class == way.target {
                crossed.push((at, x, seen.gradient));
            } else if seen.loss < way.loss {
                (way.x, way.gradient, way.loss) = (x, seen.gradient, seen.loss);
                way.step *= LONGER;
            } else {
                way.step *= SHORTER;
            }
        }
        let own = deeper_before(teacher, &ways, &crossed)?;
        for ((at, x, gradient), before_deep) in crossed.into_iter().zip(own).rev() {
            let (i, way) = ways.swap_remove(at);
            let behind_deep = along(&x, &gradient, way.step);
            found[i] = Some(Crossing {
                target: way.target,
                pair: [bytes(&way.x), bytes(&x)],
                deeper: [bytes(&before_deep), bytes(&behind_deep)],
            });
        }
    }
    Ok(found)
}

/// For every way that has crossed: its image before the border, a step deeper into the class that the teacher sees in it.
fn deeper_before(
    teacher: &Teacher,
    ways: &[(usize, Way)],
    crossed: &[(usize, Vec<f32>, Vec<f32>)],
) -> Result<Vec<Vec<f32>>> {
    if crossed.is_empty() {
        return Ok(Vec::new());
    }
    let before: Vec<Vec<f32>> = crossed.iter().map(|(at, ..)| ways[*at].1.x.clone()).collect();
    let none: Vec<u32> = vec![0; before.len()];
    let classes: Vec<u32> = look(teacher, &before, &none)?.into_iter().map(|seen| seen.class).collect();
    let towards = look(teacher, &before, &classes)?;
    let step = |((x, seen), (at, ..)): ((&Vec<f32>, Seen), &(usize, Vec<f32>, Vec<f32>))| {
        along(x, &seen.gradient, ways[*at].1.step)
    };
    Ok(before.iter().zip(towards).zip(crossed).map(step).collect())
}

/// What the teacher says to an image.
struct Seen {
    class: u32,
    /// Cross-entropy with the target, and its gradient.
    loss: f64,
    gradient: Vec<f32>,
}

/// Shows the teacher images as they would be stored.
fn look(teacher: &Teacher, images: &[Vec<f32>], targets: &[u32]) -> Result<Vec<Seen>> {
    let [h, w] = teacher.size;
    let rounded: Vec<f32> = images.iter().flatten().map(|v| (v * 255.0).round() / 255.0).collect();
    let x = tensor(rounded, (images.len(), h, w, teacher.channels))?;
    let (logits, gradient) =
        teacher.answers_and_gradient(&x, |logits| Ok(cross_entropy(logits, targets, None)?.grad))?;
    let (logits, gradient) = (view(&logits)?, view(&gradient)?);
    let each = |((row, gradient), &target): ((&[f32], &[f32]), &u32)| {
        let wide: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
        let loss = -log_softmax(&wide, 1.0)[target as usize];
        Seen { class: argmax(row) as u32, loss, gradient: gradient.to_vec() }
    };
    let rows = logits.chunks_exact(teacher.classes).zip(gradient.chunks_exact(h * w * teacher.channels));
    Ok(rows.zip(targets).map(each).collect())
}

/// A step of a length against a gradient, within 0..1.
fn along(x: &[f32], gradient: &[f32], step: f64) -> Vec<f32> {
    let length = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt().max(1e-30);
    let share = (step / length) as f32;
    x.iter().zip(gradient).map(|(x, g)| (x - share * g).clamp(0.0, 1.0)).collect()
}

fn bytes(x: &[f32]) -> Vec<u8> {
    x.iter().map(|v| super::generated::byte(*v)).collect()
}

/// A search for images on both sides of borders, in steps of one batch of ways. Every way starts from an image that is drawn at
/// random and aims at the class that is rarest so far; four images come of it.
#[derive(Default)]
pub struct Search {
    wanted: usize,
    added: usize,
    /// Images that ways may start from.
    starts: usize,
    /// Ways that were tried.
    tried: usize,
    /// Images per class, those that are aimed at among them.
    histogram: Vec<usize>,
}

impl Search {
    /// A search for `wanted` images, starting from those that have these `logits` `[n, classes]`.
    ///
    /// # Errors
    /// A teacher that only answers; no image, or a single class.
    pub fn new(teacher: &Teacher, logits: &[f32], wanted: usize) -> Result<Self> {
        teacher.needs_gradients("boundary")?;
        let (classes, starts) = (teacher.classes, logits.len() / teacher.classes);
        if classes < 2 || starts == 0 {
            let found = format!("{starts} images of {classes} classes");
            return Err(Error::invalid("--boundary", found, "there is no border"));
        }
        let mut histogram = vec![0usize; classes];
        logits.chunks_exact(classes).for_each(|row| histogram[argmax(row)] += 1);
        Ok(Self { wanted, added: 0, starts, tried: 0, histogram })
    }

    /// Images that were added so far.
    pub fn added(&self) -> usize {
        self.added
    }

    /// Goes one batch of ways, and appends what comes of them to the images that the search started from. `false`: there are as
    /// many as were wanted, or as many ways were tried as may be.
    ///
    /// # Errors
    /// As [`cross`]; [`Store::extend`]. The search is then where it was.
    pub fn step(
        &mut self,
        teacher: &Teacher,
        pixels: &mut Store<u8>,
        logits: &mut Store<f32>,
        streams: &Streams,
    ) -> Result<bool> {
        let (classes, len) = (teacher.classes, teacher.size[0] * teacher.size[1] * teacher.channels);
        let missing = self.wanted - self.added;
        let ways = BATCH.min(missing.div_ceil(4)).min(TRIES * self.wanted.div_ceil(4) - self.tried);
        if ways == 0 {
            return Ok(false);
        }
        let order = permutation(self.starts, &mut streams.stream("collect/boundary", 0));
        let rows: Vec<usize> = (self.tried..self.tried + ways).map(|i| order[i % order.len()]).collect();
        let mut histogram = self.histogram.clone();
        let targets: Vec<u32> = rows
            .iter()
            .map(|&row| {
                let target = rarest_target(&logits[row * classes..(row + 1) * classes], &histogram);
                histogram[target] += 2;
                target as u32
            })
            .collect();
        let starts: Vec<u8> = rows.iter().flat_map(|&row| &pixels[row * len..(row + 1) * len]).copied().collect();
        let mut found = Vec::new();
        for (crossing, target) in cross(teacher, &starts, &targets)?.into_iter().zip(&targets) {
            match crossing {
                Some(Crossing { pair, deeper, .. }) => found.extend(pair.into_iter().chain(deeper)),
                None => histogram[*target as usize] -= 2,
            }
        }
        found.truncate(missing);
        let added = found.concat();
        logits.extend(&answers(teacher, &added)?)?;
        pixels.extend(&added)?;
        *self = Self { added: self.added + found.len(), tried: self.tried + ways, histogram, ..*self };
        Ok(self.added < self.wanted)
    }
}

impl Resumable for Search {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("counts", [self.wanted, self.added, self.starts, self.tried])?;
        to.value("histogram", &self.histogram)
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        let [wanted, added, starts, tried] = from.value("counts")?;
        *self = Self { wanted, added, starts, tried, histogram: from.value("histogram")? };
        Ok(())
    }
}

/// The class to aim at from an image with this answer: the rarest but its own; of many classes only those count that come next for
/// the image, and the rarest ones.
fn rarest_target(answer: &[f32], histogram: &[usize]) -> usize {
    let own = argmax(answer);
    let mut candidates: Vec<usize> = (0..answer.len()).filter(|class| *class != own).collect();
    if answer.len() > ALL_CLASSES {
        candidates.sort_by(|a, b| answer[*b].total_cmp(&answer[*a]));
        let mut rare = candidates.split_off(NEXT);
        rare.sort_by_key(|class| histogram[*class]);
        candidates.extend(rare.into_iter().take(NEXT));
    }
    // Among equally rare ones the one that is nearest.
    candidates
        .into_iter()
        .min_by(|a, b| histogram[*a].cmp(&histogram[*b]).then(answer[*b].total_cmp(&answer[*a])))
        .unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_rare_classes_and_near_ones_among_equals() {
        assert_eq!(rarest_target(&[5.0, 1.0, 2.0, 0.0], &[9, 4, 4, 4]), 2);
        assert_eq!(rarest_target(&[5.0, 1.0, 2.0, 0.0], &[0, 4, 4, 3]), 3);
        let answer: Vec<f32> = (0..300).map(|i| i as f32).collect();
        let mut histogram = vec![7; 300];
        (histogram[20], histogram[297]) = (0, 3);
        assert_eq!(rarest_target(&answer, &histogram), 20);
        histogram[20] = 7;
        assert_eq!(rarest_target(&answer, &histogram), 297);
    }

    #[test]
    fn steps_have_their_length_and_stay_in_range() {
        let x = vec![0.5; 4];
        let moved = along(&x, &[3.0, 0.0, -4.0, 0.0], 0.25);
        assert!(moved.iter().zip([0.35, 0.5, 0.7, 0.5]).all(|(a, b)| (a - b).abs() < 1e-6), "{moved:?}");
        assert_eq!(along(&x, &[-1.0, 0.0, 0.0, 0.0], 9.0), [1.0, 0.5, 0.5, 0.5]);
        assert_eq!(along(&x, &[0.0; 4], 1.0), x);
    }
}
