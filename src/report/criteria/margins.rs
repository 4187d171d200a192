//! How far images are from the border to the class that comes second.

use super::evenly;
use crate::Result;
use crate::loss::argmax;
use crate::nets::Task;
use crate::ops::mem::{tensor, view};
use crate::set::SyntheticSet;
use crate::teacher::Teacher;
use crate::train::batch_for;
use serde::Serialize;

/// Images whose distance is estimated, each by a way back through the teacher.
const ESTIMATED: usize = 256;
const BATCH: usize = 64;
/// A difference of probabilities below which an image tells of the border.
const NEAR: f64 = 0.5;
/// Bins of the histogram, each a tenth.
const BINS: usize = 10;

/// Distances to the border.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Margins {
    /// Shares of images by the difference of the two highest probabilities, in tenths.
    pub histogram: [f64; BINS],
    /// Share of images of which that is below a half.
    pub near: f64,
    /// Median over some images of the estimated distance to the border: the difference of the two highest logits over the length
    /// of its gradient, in units of pixels in 0..1; with a teacher that has gradients and answers for images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distance: Option<f64>,
}

impl Margins {
    /// `shares` is how much every image counts, `[n]`.
    pub(super) fn of(set: &SyntheticSet, shares: &[f64], teacher: Option<&Teacher>) -> Result<Self> {
        let mut histogram = [0.0; BINS];
        let mut near = 0.0;
        for (row, share) in set.logits.chunks_exact(set.class_names.len().max(1)).zip(shares) {
            let p = super::super::health::probabilities(row);
            let margin = second(&p).map_or(1.0, |(first, second)| p[first] - p[second]);
            histogram[((margin * BINS as f64) as usize).min(BINS - 1)] += share;
            near += if margin < NEAR { *share } else { 0.0 };
        }
        let has_border = |teacher: &&Teacher| {
            let arch = &teacher.network.arch;
            arch.trains() && arch.task == Task::Classification && teacher.classes > 1
        };
        let distance = match teacher.filter(has_border) {
            Some(teacher) => median(distances(set, teacher)?),
            None => None,
        };
        Ok(Self { histogram, near, distance })
    }
}

/// Where the largest and the second largest value are.
fn second<T: PartialOrd + Copy>(row: &[T]) -> Option<(usize, usize)> {
    let first = argmax(row);
    let others = (0..row.len()).filter(|&i| i != first);
    others.reduce(|best, i| if row[i] > row[best] { i } else { best }).map(|second| (first, second))
}

fn distances(set: &SyntheticSet, teacher: &Teacher) -> Result<Vec<f64>> {
    let (images, k) = (&set.images, teacher.classes);
    let mut distances = Vec::new();
    for rows in evenly(set.len(), ESTIMATED).chunks(batch_for(BATCH, teacher.size)) {
        let pixels: Vec<f32> = rows.iter().flat_map(|&i| images.image(i)).map(|v| f32::from(*v) / 255.0).collect();
        let x = tensor(pixels, (rows.len(), images.height, images.width, images.channels))?;
        let mut gaps = Vec::new();
        let (_, gradient) = teacher.answers_and_gradient(&x, |logits| {
            let host = crate::ops::mem::host(logits)?;
            let values = view(&host)?;
            let mut seed = vec![0f32; values.len()];
            for (row, seed) in values.chunks_exact(k).zip(seed.chunks_exact_mut(k)) {
                if let Some((first, second)) = second(row) {
                    gaps.push(f64::from(row[first] - row[second]));
                    (seed[first], seed[second]) = (1.0, -1.0);
                }
            }
            Ok(teacher.network.compute().bring(&tensor(seed, (rows.len(), k))?)?)
        })?;
        let lengths = view(&gradient)?
            .chunks_exact(images.image_len())
            .map(|g| g.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt())
            .collect::<Vec<_>>();
        distances
            .extend(gaps.iter().zip(lengths).filter(|(_, length)| *length > 0.0).map(|(gap, length)| gap / length));
    }
    Ok(distances)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_largest_is_found_among_equals() {
        assert_eq!(second(&[1.0, 3.0, 3.0, 2.0]), Some((1, 2)));
        assert_eq!(second(&[4, 1]), Some((0, 1)));
        assert_eq!(second(&[4]), None);
    }
}
