//! What the teacher says to every image of a pool: one pass, of which only the answers are kept.

use super::pool::{Place, Pool, Progress};
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::events::{Observer, Record, or_put_away};
use crate::loss::{argmax, confidence};
use crate::ops::store::Store;
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
    /// How far the pool was gone through.
    pub progress: Progress,
    /// Fingerprints of all images, if repetitions are left out.
    seen: HashSet<[u128; 2]>,
}

/// The name of the stage in records and states.
pub(super) const STAGE: &str = "pool";

impl Survey {
    /// Asks the teacher about all images of `pool`; with `distinct`, only about the first of those that show the same (by their
    /// [`perceptual`] fingerprint). Goes on from the state that `observer` has, if it has one.
    ///
    /// # Errors
    /// As [`Pool::visit`]; [`Error::Failed`] where nothing can be read, or an answer is not finite.
    pub fn of(pool: &mut Pool, teacher: &Teacher, distinct: bool, observer: &mut dyn Observer) -> Result<Self> {
        let mut survey = Self::of_answers(Vec::with_capacity(pool.len()), Store::new(), teacher.classes);
        if let Some(saved) = observer.earlier(STAGE)? {
            survey.restore(&saved)?;
            if !pool.knows(&survey.progress) {
                return Err(saved.fault("progress", "it is of another pool"));
            }
        }
        let gone = survey.go_through(pool, teacher, distinct, observer);
        or_put_away(gone, STAGE, &survey, observer)?;
        observer.ended(STAGE, &survey)?;
        if survey.places.is_empty() {
            let found = format!("none of the images could be read{}", survey.progress.reasons());
            return Err(Error::Failed { found, hint: "name another source".into() });
        }
        Ok(survey)
    }

    /// Answers that are there already.
    pub(super) fn of_answers(places: Vec<Place>, logits: Store<f32>, classes: usize) -> Self {
        Self { places, logits, classes, repeated: 0, progress: Progress::default(), seen: HashSet::new() }
    }

    fn go_through(
        &mut self,
        pool: &mut Pool,
        teacher: &Teacher,
        distinct: bool,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let (total, dims) = (pool.len(), pool.dims());
        let mut progress = self.progress.clone();
        pool.visit(&mut progress, &mut |progress, places, pixels| {
            if distinct {
                let (new, kept) = first_seen(places, pixels, dims, &mut self.seen);
                self.repeated += places.len() - new.len();
                self.logits.extend(&answers(teacher, &kept)?)?;
                self.places.extend_from_slice(&new);
            } else {
                self.logits.extend(&answers(teacher, pixels)?)?;
                self.places.extend_from_slice(places);
            }
            self.progress.clone_from(progress);
            let done = self.places.len() + self.repeated;
            observer.record(&Record { stage: STAGE, done, total, images: places.len(), values: Vec::new() });
            observer.between(STAGE, &*self)
        })?;
        self.progress = progress;
        Ok(())
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

impl Resumable for Survey {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.part("progress", &self.progress)?;
        to.value("repeated", self.repeated)?;
        to.owned("parts", &self.places.iter().map(|place| place.part).collect::<Vec<u32>>());
        to.owned("numbers", &self.places.iter().map(|place| place.number as u64).collect::<Vec<u64>>());
        to.array("logits", &self.logits);
        let halves = self.seen.iter().flatten().flat_map(|half| [*half as u64, (half >> 64) as u64]);
        to.owned("seen", &halves.collect::<Vec<u64>>());
        Ok(())
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        from.restore("progress", &mut self.progress)?;
        self.repeated = from.value("repeated")?;
        let (parts, numbers): (Vec<u32>, Vec<u64>) = (from.array("parts")?, from.array("numbers")?);
        let pairs = parts.into_iter().zip(numbers);
        self.places = pairs.map(|(part, number)| Place { part, number: number as usize }).collect();
        self.logits = from.store("logits")?;
        if self.logits.len() != self.places.len() * self.classes {
            return Err(from.fault("logits", "there are not as many as places"));
        }
        let whole = |[low, high]: [u64; 2]| u128::from(low) | (u128::from(high) << 64);
        let prints: Vec<u64> = from.array("seen")?;
        self.seen = prints.as_chunks::<4>().0.iter().map(|&[a, b, c, d]| [whole([a, b]), whole([c, d])]).collect();
        Ok(())
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
