//! What a batch of images is made for, and what the generator reads of that.

use super::Recipe;
use super::layout::pooled;
use super::prior::Prior;
use super::recipe::Input;
use super::synthesis::Synthesiser;
use crate::Result;
use crate::nets::{Task, grain_values, seed_grid};
use crate::ops::mem::tensor;
use crate::rng::{self, Stream};
use crate::teacher::Teacher;
use candle_core::Tensor;

/// What the teacher should see in a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// A class per image.
    pub labels: Vec<u32>,
    /// A class per row of the teacher's answers: `labels` again or, of one that answers for pixels, a label map per image; empty
    /// where its pixels may show what they like.
    pub rows: Vec<u32>,
}

/// Numbers that tell a generator of latents what an image is made for: a one-hot label, or the shares of the classes in the cells
/// of its first map.
pub(super) fn told(teacher: &Teacher, recipe: &Recipe) -> usize {
    match map_grid(teacher, recipe) {
        _ if !recipe.generator.conditional => 0,
        Some([rows, columns]) => rows * columns * teacher.classes,
        None if teacher.network.arch.task == Task::Segmentation => 0,
        None => teacher.classes,
    }
}

/// Numbers that a generator reads for an image: its latents, what it is [`told`], and the grain.
pub(super) fn read(teacher: &Teacher, recipe: &Recipe) -> usize {
    recipe.generator.latent + told(teacher, recipe) + grain(teacher, recipe)
}

fn grain(teacher: &Teacher, recipe: &Recipe) -> usize {
    if recipe.generator.grain { grain_values(teacher.size) } else { 0 }
}

/// The first map of a generator, where images are made for label maps.
fn map_grid(teacher: &Teacher, recipe: &Recipe) -> Option<[usize; 2]> {
    (teacher.network.arch.task == Task::Segmentation && recipe.has_labels()).then(|| seed_grid(teacher.size))
}

impl Synthesiser<'_> {
    /// What a batch of `n` images is made for.
    pub fn wish(&self, n: usize, rng: &mut Stream) -> Wish {
        let (teacher, recipe) = (self.teacher, &self.recipe);
        let known = teacher.known();
        let mut labels = recipe.labels.draw(n, known.len(), rng);
        labels.iter_mut().for_each(|label| *label = known[*label as usize]);
        let rows = match teacher.network.arch.task {
            Task::Classification => labels.clone(),
            Task::Segmentation if recipe.has_labels() => {
                let prior = Prior::of(known, &self.seen_areas);
                recipe.layout.draw(&labels, &prior, teacher.size, rng)
            }
            Task::Segmentation => Vec::new(),
        };
        Wish { labels, rows }
    }

    /// What the generator reads: normal draws `[N, latent (+ told) (+ grain)]`, with what it is [`told`] if it is conditional and
    /// with noise if it has grain; embeddings `[N, E]`; or normalised images `[N, H, W, C]`.
    pub(super) fn latents(&self, wish: &Wish, rng: &mut Stream) -> Result<Tensor> {
        let (g, n) = (&self.recipe.generator, wish.labels.len());
        if let Some(embeddings) = &self.embeddings {
            let rows = wish.labels.iter().flat_map(|y| embeddings.of(*y).iter().copied()).collect();
            return Ok(self.compute().bring(&tensor(rows, (n, embeddings.width))?)?);
        }
        if g.input == Input::Pixels {
            let ([h, w], c) = (self.teacher.size, self.teacher.channels);
            return Ok(self.compute().bring(&tensor(rng::normal(rng, n * h * w * c), (n, h, w, c))?)?);
        }
        let (told, grain) = (told(self.teacher, &self.recipe), grain(self.teacher, &self.recipe));
        let width = g.latent + told + grain;
        let noise = rng::normal(rng, n * g.latent);
        let mut values = Vec::with_capacity(n * width);
        for (i, z) in noise.chunks_exact(g.latent).enumerate() {
            values.extend_from_slice(z);
            if told > 0 {
                self.tell(wish, i, &mut values);
            }
            values.extend(rng::normal(rng, grain));
        }
        Ok(self.compute().bring(&tensor(values, (n, width))?)?)
    }

    /// Appends what the generator is told of image `i`.
    fn tell(&self, wish: &Wish, i: usize, values: &mut Vec<f32>) {
        let (scale, classes) = (self.recipe.generator.label_scale as f32, self.teacher.classes);
        match map_grid(self.teacher, &self.recipe) {
            Some(grid) => {
                let [h, w] = self.teacher.size;
                let shares = pooled(&wish.rows[i * h * w..(i + 1) * h * w], [h, w], grid, classes);
                values.extend(shares.into_iter().map(|share| scale * share));
            }
            None => {
                let label = wish.labels[i] as usize;
                values.extend((0..classes).map(|c| if c == label { scale } else { 0.0 }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invert::{Draws, PhiTarget};
    use crate::loss::{Diversity, PhiNorm};
    use crate::model::Model;
    use crate::ops::mem::view;
    use crate::rng::Streams;

    fn recipe() -> Recipe {
        let mut recipe = Recipe { batch: 8, ..Recipe::default() };
        (recipe.generator.width, recipe.generator.latent) = (8, 6);
        recipe
    }

    #[test]
    fn labels_stand_beside_latents_in_their_scale() {
        let model = Model::random("resnet8", [3, 16, 16], 4);
        let teacher = Teacher::of(&model);
        let mut recipe = recipe();
        recipe.generator.label_scale = 2.5;
        let synthesiser = Synthesiser::new(&teacher, &recipe, Streams::new(0)).unwrap();
        let rng = &mut Streams::new(1).stream("test", 0);
        let wish = synthesiser.wish(8, rng);
        let z = synthesiser.latents(&wish, rng).unwrap();
        for (row, label) in view(&z).unwrap().chunks(10).zip(&wish.labels) {
            let expected: Vec<f32> = (0..4).map(|k| if k == *label { 2.5 } else { 0.0 }).collect();
            assert_eq!(row[6..], expected);
        }
    }

    #[test]
    fn later_practice_weighs_more() {
        let model = Model::random("resnet8", [3, 16, 16], 4);
        let teacher = Teacher::of(&model);
        let mut synthesiser = Synthesiser::new(&teacher, &recipe(), Streams::new(0)).unwrap();
        synthesiser.learn_prior(0, &[40.0, 0.0, 0.0, 0.0]);
        synthesiser.learn_prior(2, &[0.0, 40.0, 0.0, 0.0]);
        let seen = &synthesiser.seen_areas;
        assert!((seen[0] - 1.0).abs() < 1e-6 && (seen[1] - 3.0).abs() < 1e-6, "{seen:?}");
    }

    /// Of n images of each class every weight is n/(1 + n).
    #[test]
    fn rarity_is_that_of_the_buffer() {
        let model = Model::random("resnet8", [3, 16, 16], 4);
        let teacher = Teacher::of(&model);
        let mut recipe = recipe();
        recipe.phi.target = PhiTarget::CrossEntropy;
        (recipe.phi.diversity, recipe.phi.gamma, recipe.phi.norm) = (Diversity::Relative, 0.0, PhiNorm::None);
        let synthesiser = Synthesiser::new(&teacher, &recipe, Streams::new(0)).unwrap();
        let rng = &mut Streams::new(1).stream("test", 0);
        let wish = synthesiser.wish(8, rng);
        let z = synthesiser.latents(&wish, rng).unwrap();
        let term = |held: usize| {
            let generator = synthesiser.generator.duplicate().unwrap();
            let pass = synthesiser.inner_step(&generator, &z, &wish.rows, &Draws::still(8), &[held; 4], None).unwrap();
            let label_columns = pass.latent_grad.unwrap();
            assert!(view(&label_columns).unwrap().chunks(10).all(|row| row[6..].iter().all(|g| *g == 0.0)));
            pass.terms.one_hot
        };
        assert!((term(99) / term(9) - 1.1).abs() < 1e-4, "{} {}", term(99), term(9));
    }
}
