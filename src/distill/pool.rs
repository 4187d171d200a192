//! Images that a student learns from, and the teacher's answers on them.

use super::views::record_missing;
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

/// Views with those of them that were drawn: images and views.
type Drawn<'a> = (&'a Views, Vec<(usize, usize)>);

/// Where the teacher's answers on augmented images come from.
pub enum Answers<'a> {
    /// The teacher runs on every batch.
    Live(&'a Teacher),
    /// Recorded for a fixed list of views per image.
    Stored(&'a Views),
    /// The same; those that are drawn and not recorded yet are asked of the teacher.
    Recording(&'a mut Views, &'a Teacher),
}

impl Answers<'_> {
    /// The views that a student sees, if it sees nothing else.
    pub(super) fn views(&self) -> Option<&Views> {
        match self {
            Answers::Live(_) => None,
            Answers::Stored(views) => Some(views),
            Answers::Recording(views, _) => Some(views),
        }
    }

    /// A random view of each of the `images` at `rows`, and where their answers are, if these are recorded.
    fn draw(&mut self, images: &Images, rows: &[usize], rng: &mut Stream) -> Result<Option<Drawn<'_>>> {
        let mut drawn = |views: &Views| -> Vec<_> {
            rows.iter().map(|&row| (row, rng.random_range(0..views.list.len()))).collect()
        };
        match self {
            Answers::Live(_) => Ok(None),
            Answers::Stored(views) => Ok(Some((views, drawn(views)))),
            Answers::Recording(views, teacher) => {
                let drawn = drawn(views);
                record_missing(teacher, images, views, &drawn)?;
                Ok(Some((views, drawn)))
            }
        }
    }
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
        &mut self,
        indices: &[usize],
        recipe: &StudentRecipe,
        input: &Input,
        compute: &Compute,
        rng: &mut Stream,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (places, answers) = match self.answers.draw(self.images, indices, rng)? {
            None => (recipe.augment.draw(indices.len(), rng), None),
            Some((views, drawn)) => {
                let places = drawn.iter().map(|&(_, view)| placement(views.list[view])).collect();
                let k = input.classes;
                let logits = drawn.iter().flat_map(|&(row, view)| &views.logits[views.at(row, view, k)]);
                let logits: Vec<f32> = logits.copied().collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::CropFlip;
    use crate::distill::{record_all, view_list};
    use crate::model::Model;
    use crate::ops::mem::view;
    use crate::rng::Streams;
    use crate::set::priority::PriorityRule;

    /// What is recorded of a view is what the teacher says of the very pixels that the student then sees.
    #[test]
    fn recorded_answers_are_of_what_is_seen() {
        let model = Model::random("resnet8", [3, 16, 16], 4);
        let teacher = Teacher::of(&model);
        let pixels: Vec<u8> = (0..6 * 16 * 16 * 3u64).map(|i| (i * i % 8191 * (1 + i / 768) % 256) as u8).collect();
        let images = Images::new(pixels, 3, 16, 16).unwrap();
        let mut rng = Streams::new(2).stream("test", 0);
        let list = view_list(12, &CropFlip::default(), &mut rng);
        let mut views = Views { logits: vec![f32::NAN; 6 * list.len() * 4].into(), list };
        record_all(&teacher, &images, &mut views, 0..6).unwrap();
        let mut priorities = Priorities::new(PriorityRule::default(), 6);
        let answers = Answers::Stored(&views);
        let mut pool = Pool { images: &images, gallery: None, rows: None, priorities: &mut priorities, answers };
        let rows: Vec<usize> = (0..48).map(|i| i % 6).collect();
        let recipe = StudentRecipe { batch: 48, ..StudentRecipe::default() };
        let (x, recorded) = pool.batch(&rows, &recipe, &teacher.input(), &Compute::cpu(), &mut rng).unwrap();
        let (now, recorded) = (teacher.answers(&x).unwrap(), recorded.unwrap());
        let (now, recorded) = (view(&now).unwrap(), view(&recorded).unwrap());
        let off = now.iter().zip(recorded.iter()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 1e-4, "{off}");
    }
}
