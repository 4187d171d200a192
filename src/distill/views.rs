//! Recorded answers: the teacher runs once over a fixed list of views of every image, and never again.

use super::pool::placement;
use crate::Result;
use crate::augment::CropFlip;
use crate::data::Images;
use crate::ops::mem::{host, view};
use crate::ops::store::Store;
use crate::rng::Stream;
use crate::set::{View, Views};
use crate::teacher::Teacher;
use crate::train::batch_for;
use rand::RngExt;

/// Images of up to 64x64 pixels per forward pass.
pub(super) const BATCH: usize = 250;

/// How many different views there are within the reach of `augment`.
pub fn views_within(augment: &CropFlip) -> usize {
    (2 * augment.crop.min(i8::MAX as usize) + 1).pow(2) * (1 + usize::from(augment.flip))
}

/// `count` different views within the reach of `augment`: the plain one first, the others drawn; if `augment` knows
/// fewer, all of them.
pub fn view_list(count: usize, augment: &CropFlip, rng: &mut Stream) -> Vec<View> {
    let reach = i8::try_from(augment.crop).unwrap_or(i8::MAX);
    let flips: &[bool] = if augment.flip { &[false, true] } else { &[false] };
    let mut all = Vec::new();
    for dy in -reach..=reach {
        for dx in -reach..=reach {
            all.extend(
                flips.iter().map(|&flip| View { dy, dx, flip }).filter(|v| (v.dy, v.dx, v.flip) != (0, 0, false)),
            );
        }
    }
    let mut list = vec![View { dy: 0, dx: 0, flip: false }];
    while list.len() < count.max(1) && !all.is_empty() {
        list.push(all.swap_remove(rng.random_range(0..all.len())));
    }
    list
}

/// The teacher's answers on every view of every image.
pub fn record_views(teacher: &Teacher, images: &Images, list: Vec<View>) -> Result<Views> {
    let (n, k, v) = (images.len(), teacher.classes, list.len());
    let mut logits = Store::new();
    logits.grow(n * v * k)?;
    for (j, view_of) in list.iter().enumerate() {
        for chunk in (0..n).collect::<Vec<_>>().chunks(batch_for(BATCH, teacher.size)) {
            let x = teacher.normalised(images, chunk, &vec![placement(*view_of); chunk.len()])?;
            let answers = host(&teacher.answers(&x)?)?;
            for (row, &i) in view(&answers)?.chunks_exact(k).zip(chunk) {
                logits[(i * v + j) * k..][..k].copy_from_slice(row);
            }
        }
    }
    Ok(Views { list, logits })
}
