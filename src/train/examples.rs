//! What supervised training learns from: a label per image, or one per pixel.

use super::{Goal, SupervisedRecipe};
use crate::augment::{Mixing, Zoom};
use crate::data::{Images, Labelled, Segmented, VOID};
use crate::distill::Input;
use crate::files::sha256_bytes;
use crate::loss::{argmax, class_weights, decisions};
use crate::nets::Task;
use crate::ops::mem::{host, view};
use crate::ops::place::{Gallery, Placement};
use crate::rng::Stream;
use crate::{Error, Result};
use candle_core::Tensor;

/// Labelled images of either kind.
#[derive(Clone, Copy)]
pub enum Examples<'a> {
    Images(&'a Labelled),
    /// With the number of classes, and the value that stands for void in the label images, beside 255.
    Pixels {
        data: &'a Segmented,
        classes: usize,
        void: Option<u8>,
    },
}

impl<'a> From<&'a Labelled> for Examples<'a> {
    fn from(data: &'a Labelled) -> Self {
        Self::Images(data)
    }
}

impl<'a> Examples<'a> {
    /// What a network has to answer for.
    pub fn task(&self) -> Task {
        match self {
            Self::Images(_) => Task::Classification,
            Self::Pixels { .. } => Task::Segmentation,
        }
    }

    pub fn images(&self) -> &'a Images {
        match self {
            Self::Images(data) => &data.images,
            Self::Pixels { data, .. } => &data.images,
        }
    }

    pub fn name(&self) -> &'a str {
        match self {
            Self::Images(data) => &data.name,
            Self::Pixels { data, .. } => &data.name,
        }
    }

    /// Of the labels alone: a file may have several columns of them.
    pub fn labels_sha256(&self) -> String {
        match self {
            Self::Images(data) => {
                sha256_bytes(&data.labels.iter().flat_map(|label| label.to_le_bytes()).collect::<Vec<u8>>())
            }
            Self::Pixels { data, .. } => sha256_bytes(&data.labels),
        }
    }

    pub fn sha256(&self) -> &'a str {
        match self {
            Self::Images(data) => &data.sha256,
            Self::Pixels { data, .. } => &data.sha256,
        }
    }

    pub fn classes(&self) -> usize {
        match self {
            Self::Images(data) => data.class_names.len(),
            Self::Pixels { classes, .. } => *classes,
        }
    }

    /// Names of the classes, if they have any.
    pub fn class_names(&self) -> Option<Vec<String>> {
        match self {
            Self::Images(data) => Some(data.class_names.clone()),
            Self::Pixels { .. } => None,
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.images().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.images().is_empty()
    }

    /// # Errors
    /// [`Error::Invalid`] if images or labels are not what the network takes, or the recipe asks for what such labels have not.
    pub(super) fn check(&self, input: &Input, recipe: &SupervisedRecipe) -> Result<()> {
        let images = self.images();
        let found = [images.height, images.width, images.channels];
        if found != input.dims {
            let hint = format!("the network takes {:?}; resize the images or choose another network", input.dims);
            return Err(Error::invalid(self.name(), format!("images of {found:?}"), hint));
        }
        if self.classes() != input.classes {
            let found = format!("labels of {} classes", self.classes());
            return Err(Error::invalid(self.name(), found, format!("the network has {} classes", input.classes)));
        }
        if self.len() < 2 {
            return Err(Error::invalid(self.name(), format!("{} image", self.len()), "training takes two or more"));
        }
        let Self::Pixels { data, classes, .. } = self else {
            if recipe.focal > 0.0 || recipe.class_weights {
                let key = if recipe.focal > 0.0 { "focal" } else { "class_weights" };
                return Err(Error::invalid(key, "it is for labels of pixels, and these are of images", "leave it out"));
            }
            return Ok(());
        };
        if let Some(label) = data.labels.iter().find(|label| **label != VOID && usize::from(**label) >= *classes) {
            let found = format!("label {label} of {classes} classes");
            return Err(Error::invalid(self.name(), found, "say how many classes there are"));
        }
        if data.labels.iter().all(|label| *label == VOID) {
            let hint = "choose other data, or other codes of labels (--first-label, --void)";
            return Err(Error::invalid(self.name(), "all of its pixels are void", hint));
        }
        if recipe.mixup > 0.0 || recipe.label_smoothing > 0.0 {
            let key = if recipe.mixup > 0.0 { "mixup" } else { "label_smoothing" };
            return Err(Error::invalid(key, "the labels are of pixels, which are not mixed", "set it to 0"));
        }
        Ok(())
    }

    /// The weight of each class that the recipe asks for.
    pub(super) fn class_weights(&self, recipe: &SupervisedRecipe) -> Option<Vec<f32>> {
        match self {
            Self::Pixels { data, classes, .. } if recipe.class_weights => {
                Some(class_weights(&data.labels, VOID, *classes))
            }
            _ => None,
        }
    }

    /// Augmented, normalised images of `batch`, and what the network should say to them.
    pub(super) fn batch(
        &self,
        gallery: &Gallery,
        batch: &[usize],
        input: &Input,
        recipe: &SupervisedRecipe,
        rng: &mut Stream,
    ) -> Result<(Tensor, Targets)> {
        let places = recipe.augment.draw(batch.len(), rng);
        let mut x = gallery.place(batch, &places, &input.mean, &input.std)?;
        let size = [input.dims[0], input.dims[1]];
        let zoom = Zoom::draw(recipe.scale, batch.len(), size, rng);
        if let Some(zoom) = &zoom {
            x = zoom.images(&x)?;
        }
        let data = match self {
            Self::Images(data) => data,
            Self::Pixels { data, .. } => {
                let labels = batch.iter().zip(&places).enumerate();
                let seen = |(i, (&row, place)): (usize, (&usize, &Placement))| {
                    let placed = place.labels(data.label(row), size, VOID);
                    match &zoom {
                        Some(zoom) => zoom.labels(i, &placed, size),
                        None => placed,
                    }
                };
                return Ok((x, Targets::Pixels(labels.flat_map(seen).collect())));
            }
        };
        let k = input.classes;
        let even = recipe.label_smoothing / k as f64;
        let mut targets = vec![even as f32; batch.len() * k];
        for (row, &i) in targets.chunks_exact_mut(k).zip(batch) {
            row[data.labels[i] as usize] += (1.0 - recipe.label_smoothing) as f32;
        }
        if recipe.mixup > 0.0 {
            let mixing = Mixing::draw(recipe.mixup, batch.len(), rng);
            x = mixing.images(&x)?;
            targets = mixing.apply(&targets);
        }
        Ok((x, Targets::Shares(targets.into_iter().map(f64::from).collect())))
    }

    /// How many of the labels the logits have right, and how many there are.
    pub(super) fn hits(&self, logits: &Tensor, targets: &Targets, batch: &[usize]) -> Result<(usize, usize)> {
        match (self, targets) {
            (Self::Images(data), _) => {
                let k = data.class_names.len();
                let logits = host(logits)?;
                let logits = view(&logits)?;
                let rows = logits.chunks_exact(k).zip(batch);
                Ok((rows.filter(|(r, i)| argmax(r) == data.labels[**i] as usize).count(), batch.len()))
            }
            (Self::Pixels { .. }, Targets::Pixels(labels)) => {
                let labelled = labels.iter().filter(|label| **label != VOID).count();
                let answers = decisions(logits)?;
                Ok((answers.iter().zip(labels).filter(|(a, y)| **a == u32::from(**y)).count(), labelled))
            }
            (Self::Pixels { .. }, Targets::Shares(_)) => Err(Error::shape("supervised", "labels of images for pixels")),
        }
    }
}

/// What a network should say to a batch.
pub(super) enum Targets {
    /// Rows of probabilities, `[N·K]`.
    Shares(Vec<f64>),
    /// `[N·H·W]`, with [`VOID`].
    Pixels(Vec<u8>),
}

impl Targets {
    pub fn goal<'a>(&'a self, weights: Option<&'a [f32]>, focal: f64) -> Goal<'a> {
        match self {
            Self::Shares(targets) => Goal::Shares(targets),
            Self::Pixels(labels) => Goal::Pixels { labels, weights, focal },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Images;
    use crate::rng::Streams;
    use candle_core::Device;

    /// The targets of four images of classes 0 to 3.
    fn targets(recipe: &SupervisedRecipe) -> Vec<f64> {
        let labelled = Labelled {
            images: Images::new((0..48).collect::<Vec<u8>>(), 3, 2, 2).unwrap(),
            labels: (0..4).collect(),
            class_names: (0..4).map(|k| k.to_string()).collect(),
            name: "four".into(),
            sha256: String::new(),
        };
        let examples = Examples::from(&labelled);
        let (mean, std) = (vec![0.5; 3], vec![0.25; 3]);
        let input = Input { dims: [2, 2, 3], mean, std, classes: 4, void: None, sees: [2, 2] };
        let gallery = Gallery::new(&labelled.images.pixels, [2, 2, 3], &Device::Cpu).unwrap();
        let rng = &mut Streams::new(1).stream("targets", 0);
        match examples.batch(&gallery, &[0, 1, 2, 3], &input, recipe, rng).unwrap().1 {
            Targets::Shares(shares) => shares,
            Targets::Pixels(_) => panic!("labels of images"),
        }
    }

    /// A fifth of the target is spread over all four classes, the own one among them.
    #[test]
    fn smoothed_labels_are_shares_of_one() {
        let shares = targets(&SupervisedRecipe { label_smoothing: 0.2, ..SupervisedRecipe::default() });
        for (label, row) in shares.chunks(4).enumerate() {
            for (class, share) in row.iter().enumerate() {
                let expected = if class == label { 0.85 } else { 0.05 };
                assert!((share - expected).abs() < 1e-6, "{row:?}");
            }
        }
    }

    /// All rows are mixed in one proportion, with a partner or with themselves.
    #[test]
    fn labels_are_mixed_like_their_images() {
        let shares = targets(&SupervisedRecipe { mixup: 1.0, ..SupervisedRecipe::default() });
        let mixed: Vec<f64> =
            shares.chunks(4).enumerate().map(|(label, row)| row[label]).filter(|own| *own < 0.999).collect();
        assert!(!mixed.is_empty() && mixed.iter().all(|own| (own - mixed[0]).abs() < 1e-6), "{shares:?}");
        assert!(shares.chunks(4).all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-6), "{shares:?}");
    }
}
