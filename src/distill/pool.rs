//! Images that a student learns from, and the teacher's answers on them.

use super::{Input, StudentRecipe};
use crate::Result;
use crate::augment::RandAugment;
use crate::data::Images;
use crate::ops::Compute;
use crate::ops::mem::tensor;
use crate::ops::place::{Gallery, Placement};
use crate::rng::Stream;
use crate::set::priority::Priorities;
use crate::set::{View, Views};
use crate::teacher::Teacher;
use candle_core::Tensor;
use rand::RngExt;

/// Where the teacher's answers on augmented images come from.
pub enum Answers<'a> {
    /// The teacher runs on every batch.
    Live(&'a Teacher),
    /// Recorded for a fixed list of views per image.
    Stored(&'a Views),
}

/// What a step may draw from.
pub struct Pool<'a> {
    pub images: &'a Images,
    /// The same images where the student computes, if they do not change.
    pub gallery: Option<&'a Gallery<'a>>,
    /// Those of the images that may be drawn, in the order of the priorities; `None`: all.
    pub rows: Option<&'a [usize]>,
    pub priorities: &'a mut Priorities,
    pub answers: Answers<'a>,
}

impl Pool<'_> {
    /// The images that stand at `places` among those that may be drawn.
    pub(super) fn rows_at(&self, places: &[usize]) -> Vec<usize> {
        self.rows.map_or_else(|| places.to_vec(), |rows| places.iter().map(|&place| rows[place]).collect())
    }

    /// The images at `indices`, augmented as `recipe` says and normalised, and their answers if those are recorded.
    pub(super) fn batch(
        &self,
        indices: &[usize],
        recipe: &StudentRecipe,
        input: &Input,
        compute: &Compute,
        rng: &mut Stream,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (places, answers) = match &self.answers {
            Answers::Live(_) => (recipe.augment.draw(indices.len(), rng), None),
            Answers::Stored(views) => {
                let k = input.classes;
                let mut places = Vec::with_capacity(indices.len());
                let mut logits = Vec::with_capacity(indices.len() * k);
                for &i in indices {
                    let v = rng.random_range(0..views.list.len());
                    places.push(placement(views.list[v]));
                    let at = (i * views.list.len() + v) * k;
                    logits.extend_from_slice(&views.logits[at..at + k]);
                }
                (places, Some(compute.bring(&tensor(logits, (indices.len(), k))?)?))
            }
        };
        let varied = match recipe.rand_augment {
            0 => None,
            operations => Some(RandAugment { operations }.images(self.images, indices, rng)),
        };
        let x = match self.gallery.filter(|_| varied.is_none()) {
            Some(gallery) => gallery.place(indices, &places, &input.mean, &input.std)?,
            None => {
                let slices = varied.as_ref().map_or_else(
                    || indices.iter().map(|&i| self.images.image(i)).collect(),
                    |varied| varied.iter().map(Vec::as_slice).collect::<Vec<_>>(),
                );
                input.placed(&slices, &places, compute)?
            }
        };
        Ok((x, answers))
    }
}

/// Where a view puts its image.
pub(super) fn placement(View { dy, dx, flip }: View) -> Placement {
    Placement { dy: i32::from(dy), dx: i32::from(dx), flip }
}
