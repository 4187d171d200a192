//! The synthetic set: images, labels and the teacher's answers, in memory and as a Hugging Face dataset folder.
//!
//! | file | content |
//! |---|---|
//! | `data/train-00000-of-0000N.parquet` | `image` (lossless PNG), `label`, `teacher_logits`, `teacher_confidence`, `priority`, optionally `view_logits` |
//! | `README.md` | the dataset card; its YAML head makes `datasets.load_dataset(folder)` work |
//! | `preview.png` | a grid of examples, one row per class |
//! | `synth.json` | provenance, and under `set` the counts, sizes and views; written last |

mod areas;
pub mod buffer;
pub(crate) mod card;
mod classes;
pub mod fingerprint;
mod folder;
pub mod preview;
pub mod priority;
mod rows;
mod views;

#[cfg(test)]
mod buffer_tests;
#[cfg(test)]
mod tests;

pub(crate) use classes::{balancing_weights, class_weights};
pub use views::{View, Views};

use crate::data::{Images, MAX_CLASSES, MAX_PIXEL_BYTES};
use crate::files::hex;
use crate::loss::{argmax, confidence};
use crate::nets::Task;
use crate::ops::store::Store;
use crate::{Error, Result};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;

/// The most views that a set may record per image.
pub const MAX_VIEWS: usize = 1024;

/// `n` synthetic images with what a teacher says about them.
#[derive(Debug, PartialEq)]
pub struct SyntheticSet {
    /// `[n, H, W, C]`, 8 bits; another set of the same images shares them.
    pub images: Arc<Images>,
    /// The class each image was made for, `[n]`, below `class_names.len()`.
    pub labels: Vec<u32>,
    /// The teacher's logits for the stored 8-bit image without augmentation, `[n, classes]`, finite. Of a teacher that answers for
    /// every pixel they are the logarithms of its mean probabilities over the pixels: answers per pixel are not stored.
    pub logits: Store<f32>,
    /// Sampling priority as it was in the replay buffer, or the weights of [`SyntheticSet::sampling_weights`]; `[n]`, finite
    /// and not negative.
    pub priority: Vec<f32>,
    /// `[classes]`
    pub class_names: Vec<String>,
    /// Recorded answers for a fixed list of augmented views, if any.
    pub views: Option<Views>,
    /// The whole content of `synth.json`, an object. [`SyntheticSet::write`] fills in its entry `set`; everything else
    /// is the caller's (`teacher`, `source`, `recipe`, `seed`, `device`, `versions`, `wall_seconds`, `metrics`, ...).
    pub provenance: serde_json::Value,
}

impl SyntheticSet {
    /// Writes the set into `folder`, which is created when missing and must not yet have a `data` folder. Every file
    /// appears whole; `synth.json`, without which [`SyntheticSet::read`] refuses, comes last. For a result folder that
    /// appears at once, write into a [`crate::files::Staging`].
    ///
    /// # Errors
    /// [`Error::Shape`] when the parts do not fit each other, [`Error::Invalid`] for values that cannot be stored (not
    /// finite, label out of range), [`Error::File`] for a provenance that is too long to be read, [`Error::Io`] for a full or
    /// read-only disk.
    pub fn write(&self, folder: impl AsRef<Path>) -> Result<()> {
        self.check()?;
        folder::write(self, folder.as_ref(), folder::SHARD_PIXEL_BYTES)
    }

    /// Reads a folder that [`SyntheticSet::write`] made; nothing is repaired. What was written comes back bit by bit.
    ///
    /// # Errors
    /// [`Error::File`] naming the file and the row (counted from 0) when counts, picture sizes, logits lengths, label
    /// ranges or the stored confidence disagree, or a number is not finite.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        folder::read(folder.as_ref())
    }

    /// SHA-256 of images, labels, answers, priorities and views: what a student learns from, without its description.
    pub fn sha256(&self) -> String {
        let Images { height, width, channels, .. } = *self.images;
        let views = self.views.as_ref().map_or(&[][..], |v| &v.list);
        let mut hash = Sha256::new();
        hash.update(json!([[height, width, channels], self.class_names, views]).to_string());
        hash.update(&self.images.pixels[..]);
        hash.update(bytemuck::cast_slice(&self.labels));
        hash.update(bytemuck::cast_slice(&self.logits[..]));
        hash.update(bytemuck::cast_slice(&self.priority));
        hash.update(self.views.as_ref().map_or(&[][..], |v| bytemuck::cast_slice(&v.logits[..])));
        hex(&hash.finalize())
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// What the teacher of the set answers for, as its provenance has it: images, unless it says otherwise.
    pub fn task(&self) -> Task {
        self.provenance["task"].as_str().and_then(Task::of).unwrap_or(Task::Classification)
    }

    /// The class that stands for void, where the teacher answers for pixels and has one beside two others.
    pub fn void(&self) -> Option<usize> {
        let config = &self.provenance["teacher"]["config"]["pretrained_cfg"];
        let void = config["ignore_index"].as_u64().and_then(|index| usize::try_from(index).ok());
        let classes = self.class_names.len();
        void.filter(|class| self.task() == Task::Segmentation && classes > 2 && *class < classes)
    }

    /// The teacher's logits of one image, `[classes]`.
    ///
    /// # Panics
    /// When `index >= len()`, like any slice.
    pub fn answer(&self, index: usize) -> &[f32] {
        let classes = self.class_names.len();
        &self.logits[index * classes..(index + 1) * classes]
    }

    /// One image as the bytes of a PNG file, losslessly.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the encoder refuses it.
    ///
    /// # Panics
    /// When `index >= len()`, like any slice.
    pub fn png(&self, index: usize) -> Result<Vec<u8>> {
        rows::png(self, index)
    }

    /// The highest softmax probability of the teacher's answer to each image, `[n]`, 0 to 1.
    pub fn teacher_confidence(&self) -> Vec<f32> {
        (0..self.len()).map(|i| confidence(self.answer(i))).collect()
    }

    /// How often each image is meant to be drawn, `[n]`, in units of the mean: the priorities of a set whose provenance says so
    /// (entry `sampling`), as `synth collect` writes it; `None` for all others.
    pub fn sampling_weights(&self) -> Option<&[f32]> {
        (self.provenance["sampling"]["weights"] == "priority").then_some(&self.priority[..])
    }

    /// What an even draw among the sampling weights is in proportion to, `[n]`: the soft balance of the classes alone, where the
    /// set has one (entry `balance` of its provenance); `None` where it is the same for all images.
    pub fn even_weights(&self) -> Option<Vec<f32>> {
        let rho = self.provenance["balance"]["rho"].as_f64()?;
        Some(balancing_weights(&self.labels, self.class_names.len(), rho))
    }

    /// Whether any of its images was made by inversion, or may have been, as far as its provenance says.
    pub fn is_inverted(&self) -> bool {
        is_inverted(&self.provenance)
    }

    /// The share of an even draw among the sampling weights at a point of training, 0 (its begin) to 1 (its end), as the set's
    /// provenance asks for it: constant at first, then rising to 1. Relatedness helps to converge, and in the end everything
    /// that a pool holds helps.
    pub fn even_share(&self, progress: f64) -> f64 {
        let about = &self.provenance["sampling"]["even_share"];
        let (Some(first), Some(from)) = (about["first"].as_f64(), about["rises_from"].as_f64()) else { return 0.0 };
        let risen = ((progress - from) / (1.0 - from).max(1e-9)).clamp(0.0, 1.0);
        first.clamp(0.0, 1.0) + (1.0 - first.clamp(0.0, 1.0)) * risen
    }

    /// Images per class, `[classes]`.
    pub fn histogram(&self) -> Vec<usize> {
        let mut counts = vec![0; self.class_names.len()];
        for &label in &self.labels {
            if let Some(count) = counts.get_mut(label as usize) {
                *count += 1;
            }
        }
        counts
    }

    /// Share of images of which the teacher's highest logit is the label, 0 to 1.
    pub fn agreement(&self) -> f64 {
        let agree = (0..self.len()).filter(|&i| argmax(self.answer(i)) == self.labels[i] as usize).count();
        agree as f64 / self.len().max(1) as f64
    }

    /// Whether the parts fit each other and can be stored.
    fn check(&self) -> Result<()> {
        let (n, classes) = (self.labels.len(), self.class_names.len());
        self.images.check()?;
        let lengths = [
            ("images", self.images.len(), n),
            ("logits", self.logits.len(), n * classes),
            ("priority", self.priority.len(), n),
            ("view logits", self.views.as_ref().map_or(0, |v| v.logits.len()), n * self.view_count() * classes),
        ];
        for (what, found, expected) in lengths {
            if found != expected {
                let found = format!("{what}: {found} instead of {expected}, for {n} labels and {classes} classes");
                return Err(Error::shape("synthetic set", found));
            }
        }
        let refuse = |found: String, hint: &str| Err(Error::invalid("synthetic set", found, hint));
        if n == 0 || !(1..=MAX_CLASSES).contains(&classes) {
            return refuse(format!("{n} images of {classes} classes"), "store at least one of each");
        }
        if self.views.as_ref().is_some_and(|v| v.list.is_empty() || v.list.len() > MAX_VIEWS) {
            return refuse(format!("{} views", self.view_count()), "record 1 to 1024 views, or none at all");
        }
        let Images { height, width, channels, .. } = *self.images;
        let most = most_images([height, width, channels], classes, self.view_count());
        if n > most {
            return refuse(format!("{n} images, which could not be read again"), &format!("store at most {most}"));
        }
        if let Some(row) = self.labels.iter().position(|&l| l as usize >= classes) {
            return refuse(format!("image {row}: label {} of {classes} classes", self.labels[row]), "relabel it");
        }
        let numbers = self.logits.iter().chain(self.views.iter().flat_map(|v| v.logits.iter()));
        if numbers.chain(&self.priority).any(|v| !v.is_finite()) || self.priority.iter().any(|&p| p < 0.0) {
            return refuse("logits or priorities that are not finite, or below 0".into(), "the run went wrong before");
        }
        if self.sampling_weights().is_some_and(|weights| weights.iter().all(|weight| *weight == 0.0)) {
            return refuse("every priority is 0, and images are drawn by them".into(), "give some more");
        }
        if !self.provenance.is_object() {
            return refuse("its provenance is no JSON object".into(), "pass an object");
        }
        Ok(())
    }

    /// Recorded views per image.
    fn view_count(&self) -> usize {
        self.views.as_ref().map_or(0, |v| v.list.len())
    }
}

/// The most images of `dims` (height, width, channels) that a set can have, with answers for `classes` classes to each image and
/// to `views` of it: their pixels, and their answers, take what one dataset may.
pub(crate) fn most_images(dims: [usize; 3], classes: usize, views: usize) -> usize {
    let product = |sizes: &[usize]| sizes.iter().map(|&size| size as u128).product::<u128>();
    let each = product(&dims).max(product(&[classes, 1 + views, size_of::<f32>()]));
    usize::try_from(u128::from(MAX_PIXEL_BYTES) / each.max(1)).unwrap_or(usize::MAX)
}

/// Columns that the tables of a set have, and others do not.
pub(crate) const OWN_COLUMNS: [&str; 2] = ["teacher_logits", "priority"];
/// The mark of a source whose images inversion may have made.
pub(crate) const UNKNOWN: &str = "unknown";

/// Whether images of a set with this `synth.json` were made by inversion, or may have been: by a recipe, or taken from a set of
/// such.
pub(crate) fn is_inverted(provenance: &serde_json::Value) -> bool {
    let marked = |source: &serde_json::Value| source["inverted"] == true || source["inverted"] == UNKNOWN;
    let sources = provenance["sources"].as_array();
    provenance["recipe"].is_object() || sources.is_some_and(|all| all.iter().any(marked))
}

/// Whether a set with this `synth.json`, or with these `sources`, holds pictures that others have made: of a folder, an archive or a
/// dataset.
pub(crate) fn has_pictures_of_others(provenance: &serde_json::Value) -> bool {
    let of_others = |source: &serde_json::Value| {
        let kind = source["kind"].as_str().unwrap_or_default();
        matches!(kind, "folder" | "tar" | "dataset") && source["inverted"] != true
    };
    provenance["sources"].as_array().is_some_and(|all| all.iter().any(of_others))
}

/// Whether the set at `path` (its folder, its `data`, or a table in there) says so of itself; what is no set says nothing.
pub(crate) fn holds_inverted(path: &Path) -> Option<bool> {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let data = full.ancestors().take(2).filter(|folder| folder.ends_with("data"));
    let mut folders = std::iter::once(full.as_path()).chain(data.filter_map(Path::parent));
    let (provenance, _) = folders.find_map(|folder| folder::read_json(folder).ok())?;
    Some(is_inverted(&provenance))
}
