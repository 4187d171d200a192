//! What an inversion is put together from: the generator of a recipe, and what the teacher's batch norms remember.

use super::embeddings::LabelEmbeddings;
use super::recipe::{Input, Output, Recipe};
use super::wish::told;
use crate::Result;
use crate::loss::LayerStatistics;
use crate::nets::{Architecture, Forward, GeneratorConfig, ImageHead, LabelInput, Mode, Task, generator, pixels};
use crate::ops::mem::tensor;
use crate::tape::{Tape, Var};
use crate::teacher::Teacher;

/// The generator of a recipe.
pub(super) fn architecture(
    teacher: &Teacher,
    recipe: &Recipe,
    embeddings: Option<&LabelEmbeddings>,
) -> Result<Architecture> {
    let g = &recipe.generator;
    let (mean, std) = (teacher.mean.clone(), teacher.std.clone());
    if g.input == Input::Pixels {
        return Ok(pixels(&mean, &std));
    }
    // A map is more channels; a label is more latents.
    let maps = match teacher.network.arch.task {
        Task::Segmentation if embeddings.is_none() && told(teacher, recipe) > 0 => teacher.classes,
        _ => 0,
    };
    generator(&GeneratorConfig {
        latent: if embeddings.is_some() || maps > 0 { g.latent } else { g.latent + told(teacher, recipe) },
        maps,
        grain: g.grain,
        width: g.width,
        channels: teacher.channels,
        size: teacher.size,
        head: match g.output {
            Output::Sigmoid => ImageHead::Sigmoid,
            Output::Tanh => ImageHead::Tanh { mean, std },
            Output::Norm => ImageHead::Norm { mean, std },
        },
        labels: embeddings.map(|e| LabelInput {
            embedding: e.width,
            classes: teacher.known().len(),
            batch: recipe.batch,
        }),
    })
}

/// What the statistics of every 2-d batch norm of the teacher should be in a batch of images, in the order in which a forward pass
/// meets them: the running ones. These hold unbiased variances, and what is matched is biased: with one value per image and
/// channel, as in a pooled branch, that is (N − 1)/N of them; with more the difference is nothing.
pub(super) fn batch_norm_targets(teacher: &Teacher, batch: usize) -> Result<Vec<LayerStatistics>> {
    if teacher.network.arch.norm_layers() == 0 {
        return Ok(Vec::new());
    }
    let tape = Tape::new();
    let mut f = Forward::new(&tape, &teacher.network.weights, Mode::Match);
    let [h, w] = teacher.size;
    let blank = tensor(vec![0.0; h * w * teacher.channels], (1, h, w, teacher.channels))?;
    let blank = teacher.network.compute().bring(&blank)?;
    teacher.network.forward(&mut f, Var::constant(blank))?;
    f.moments
        .iter()
        .map(|seen| {
            let (mean, mut var) = teacher.network.weights.running_statistics(seen.norm)?;
            if seen.values == 1 && batch > 1 {
                let share = (batch - 1) as f32 / batch as f32;
                var.iter_mut().for_each(|v| *v *= share);
            }
            Ok(LayerStatistics { mean, var, eps: seen.eps as f32 })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;

    /// Of the statistics of DeepLabV3, one layer's are of one value per image: the pooled branch.
    #[test]
    fn the_variance_of_one_value_per_image_is_biased() {
        let teacher = Teacher::of(&Model::random("deeplabv3_mobilenet_v2_035", [3, 32, 48], 3));
        let [alone, eight] = [1, 8].map(|batch| batch_norm_targets(&teacher, batch).unwrap());
        let other = |(a, b): &(&LayerStatistics, &LayerStatistics)| a.var != b.var;
        let others: Vec<_> = alone.iter().zip(&eight).filter(other).collect();
        assert_eq!((others.len(), &others[0].0.mean), (1, &others[0].1.mean));
        assert!(others[0].0.var.iter().zip(&others[0].1.var).all(|(a, b)| (a * 0.875 - b).abs() < 1e-6));
    }
}
