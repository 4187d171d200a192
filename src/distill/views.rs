//! Recorded answers: about a view of an image the teacher is asked at most once.

use super::pool::placement;
use crate::augment::CropFlip;
use crate::data::Images;
use crate::ops::Compute;
use crate::ops::mem::{host, view};
use crate::ops::place::Placement;
use crate::rng::Stream;
use crate::set::{View, Views};
use crate::teacher::Teacher;
use crate::train::batch_for;
use crate::{Error, Result};
use rand::RngExt;

/// Images of up to 64x64 pixels per forward pass.
pub(super) const BATCH: usize = 250;

/// How many different views there are within the reach of `augment`.
pub fn views_within(augment: &CropFlip) -> usize {
    (2 * augment.crop.min(i8::MAX as usize) + 1).pow(2) * (1 + usize::from(augment.flip))
}

/// # Errors
/// More views than there are within the reach of `augment`.
pub fn check_views(count: usize, augment: &CropFlip) -> Result<()> {
    let most = views_within(augment);
    if count <= most {
        return Ok(());
    }
    let hint = format!("take at most {most}: so many crops and mirror images of an image there are");
    Err(Error::invalid("--views", count.to_string(), hint))
}

/// `count` different views within the reach of `augment`: the plain one first, the others drawn; if `augment` knows
/// fewer, all of them.
pub fn view_list(count: usize, augment: &CropFlip, rng: &mut Stream) -> Vec<View> {
    let reach = i8::try_from(augment.crop).unwrap_or(i8::MAX);
    let flips: &[bool] = if augment.flip { &[false, true] } else { &[false] };
    let mut all = Vec::new();
    for dy in -reach..=reach {
        for dx in -reach..=reach {
            all.extend(flips.iter().map(|&flip| View { dy, dx, flip }).filter(|v| *v != View::PLAIN));
        }
    }
    let mut list = vec![View::PLAIN];
    while list.len() < count.max(1) && !all.is_empty() {
        list.push(all.swap_remove(rng.random_range(0..all.len())));
    }
    list
}

/// Asks the teacher about every view of the images `rows` that is not recorded yet.
///
/// # Errors
/// Images that the teacher does not take.
pub fn record_all(
    teacher: &Teacher,
    images: &Images,
    views: &mut Views,
    rows: impl IntoIterator<Item = usize>,
) -> Result<()> {
    let count = views.list.len();
    let all: Vec<_> = rows.into_iter().flat_map(|row| (0..count).map(move |view| (row, view))).collect();
    record_missing(teacher, images, views, &all)
}

/// Asks the teacher about those of `drawn` (images and views) that are not recorded yet.
///
/// # Errors
/// Images that the teacher does not take.
pub(super) fn record_missing(
    teacher: &Teacher,
    images: &Images,
    views: &mut Views,
    drawn: &[(usize, usize)],
) -> Result<()> {
    let k = teacher.classes;
    let mut missing: Vec<_> = drawn.iter().copied().filter(|&(row, view)| !views.has(row, view, k)).collect();
    missing.sort_unstable();
    missing.dedup();
    for chunk in missing.chunks(batch_for(BATCH, teacher.size)) {
        let (mut rows, mut places): (Vec<_>, Vec<_>) =
            chunk.iter().map(|&(row, v)| (row, placement(views.list[v]))).unzip();
        let count = pass_size(chunk.len(), teacher.network.compute());
        rows.resize(count, chunk[0].0);
        places.resize(count, Placement::default());
        let answers = host(&teacher.answers(&teacher.normalised(images, &rows, &places)?)?)?;
        for (answer, &(row, v)) in view(&answers)?.chunks_exact(k).zip(chunk) {
            let at = views.at(row, v, k);
            views.logits[at].copy_from_slice(answer);
        }
    }
    Ok(())
}

/// How many images a pass of `wanted` ones takes. On a card it is filled up to a power of two: each size of a batch has its own
/// algorithms and recorded passes there, and small ones take hardly more time.
fn pass_size(wanted: usize, compute: &Compute) -> usize {
    if compute.is_cpu() { wanted } else { wanted.next_power_of_two().max(32) }
}
