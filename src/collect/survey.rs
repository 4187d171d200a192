//! What the teacher says to every image of a pool: one pass, of which only the answers are kept.

use super::pool::{Place, Pool};
use crate::events::{Observer, Record};
use crate::loss::argmax;
use crate::ops::store::Store;
use crate::set::confidence;
use crate::set::fingerprint::perceptual;
use crate::teacher::Teacher;
use crate::train::batch_for;
use crate::{Error, Result};
use rayon::prelude::*;
use std::collections::HashSet;

/// Images per pass through the teacher, where they are small.
pub(super) const BATCH: usize = 256;

/// The images of a pool that could be read, with the teacher's answers.
pub struct Survey {
    /// Ascending.
    pub places: Vec<Place>,
    /// `[n, classes]`
    pub logits: Store<f32>,
    pub classes: usize,
    /// Images that were left out because an earlier one shows the same.
    pub repeated: usize,
}

impl Survey {
    /// Asks the teacher about all images of `pool`; with `distinct`, only about the first of those that show the same (by their
    /// [`perceptual`] fingerprint).
    ///
    /// # Errors
    /// As [`Pool::visit`]; [`Error::Failed`] where nothing can be read, or an answer is not finite.
    pub fn of(pool: &mut Pool, teacher: &Teacher, distinct: bool, observer: &mut dyn Observer) -> Result<Self> {
        let (total, dims, classes) = (pool.len(), pool.dims(), teacher.classes);
        let mut survey = Self { places: Vec::with_capacity(total), logits: Store::new(), classes, repeated: 0 };
        let mut seen = HashSet::new();
        pool.visit(&mut |places, pixels| {
            if distinct {
                let (new, kept) = first_seen(places, pixels, dims, &mut seen);
                survey.repeated += places.len() - new.len();
                survey.logits.extend(&answers(teacher, &kept)?)?;
                survey.places.extend_from_slice(&new);
            } else {
                survey.logits.extend(&answers(teacher, pixels)?)?;
                survey.places.extend_from_slice(places);
            }
            let done = survey.places.len() + survey.repeated;
            observer.record(&Record { stage: "pool", done, total, images: places.len(), values: Vec::new() });
            Ok(())
        })?;
        if survey.places.is_empty() {
            let found = "none of the images could be read".into();
            return Err(Error::Failed { found, hint: "see the reasons with -v, or name another source".into() });
        }
        Ok(survey)
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The teacher's logits of one image.
    ///
    /// # Panics
    /// When `row >= len()`, like any slice.
    pub fn answer(&self, row: usize) -> &[f32] {
        &self.logits[row * self.classes..(row + 1) * self.classes]
    }

    /// The class that the teacher sees in each image.
    pub fn decisions(&self) -> Vec<u32> {
        (0..self.len()).map(|row| argmax(self.answer(row)) as u32).collect()
    }

    /// How surely the teacher sees its class in an image: the highest probability.
    pub fn confidence(&self, row: usize) -> f32 {
        confidence(self.answer(row))
    }
}

/// Those of some images whose fingerprint was not seen before.
fn first_seen(
    places: &[Place],
    pixels: &[u8],
    dims: [usize; 3],
    seen: &mut HashSet<[u128; 2]>,
) -> (Vec<Place>, Vec<u8>) {
    let len: usize = dims.iter().product();
    let prints: Vec<[u128; 2]> = pixels.par_chunks_exact(len).map(|image| perceptual(image, dims)).collect();
    let new: Vec<usize> = (0..places.len()).filter(|&i| seen.insert(prints[i])).collect();
    let kept = new.iter().flat_map(|&i| &pixels[i * len..(i + 1) * len]).copied().collect();
    (new.into_iter().map(|i| places[i]).collect(), kept)
}

/// The teacher's logits for 8-bit images `[n, H, W, C]`.
///
/// # Errors
/// [`Error::Failed`] for an answer that is not finite.
pub(super) fn answers(teacher: &Teacher, pixels: &[u8]) -> Result<Vec<f32>> {
    let logits = teacher.answers_bytes(pixels, batch_for(BATCH, teacher.size))?;
    match logits.iter().all(|v| v.is_finite()) {
        true => Ok(logits),
        false => {
            let found = "the teacher gives answers that are no numbers".to_string();
            Err(Error::Failed { found, hint: "check its weights and normalisation".into() })
        }
    }
}
