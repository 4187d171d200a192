//! Labelled datasets for evaluation and supervised baselines.
//!
//! [`Labelled::read`] takes what people have: one parquet file, a Hugging Face dataset folder, or a folder with one
//! sub-folder of pictures per class. Everything comes out as 8-bit pixels in `[N, H, W, C]` order.

mod decode;
pub(crate) mod framing;
mod hold_back;
mod image_folder;
mod labelled;
mod locate;
mod pages;
mod portion;
mod segmented;
pub(crate) mod table;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use decode::{Collector, in_channels, is_cut_off};
pub use decode::{MAX_PIXEL_BYTES, MAX_SIDE};
pub use framing::{Filter, Framing};
pub(crate) use labelled::{labels_of, push_pictures};
pub(crate) use locate::{comes_first, is_shard_of, pick as pick_shards, says_its_place, shards, shards_for};
pub use portion::Portion;
pub use segmented::{LabelCodes, Segmented, VOID};

use self::table::Table;
use crate::ops::store::Store;
use crate::{Error, Result};
use std::path::Path;

/// The most classes that a label column may have.
pub const MAX_CLASSES: usize = 65_536;

/// Pictures of one size, 8 bits per channel, `[N, H, W, C]` without gaps; `channels` is 1 (grey) or 3 (RGB).
#[derive(Debug, PartialEq)]
pub struct Images {
    /// `len() * height * width * channels` bytes, on disk if they are many.
    pub pixels: Store<u8>,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl Images {
    /// Images of `[height, width, channels]` from their pixels, `[N, H, W, C]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when a side is 0 or over [`MAX_SIDE`], `channels` is neither 1 nor 3, or `pixels` is not a
    /// whole number of images.
    pub fn new(pixels: impl Into<Store<u8>>, channels: usize, height: usize, width: usize) -> Result<Self> {
        let images = Self { pixels: pixels.into(), channels, height, width };
        images.check()?;
        Ok(images)
    }

    /// Mean and standard deviation of every channel, for pixels in 0..1.
    pub fn mean_std(&self) -> (Vec<f64>, Vec<f64>) {
        let n = (self.pixels.len() / self.channels.max(1)).max(1) as f64;
        (0..self.channels)
            .map(|c| {
                let values = self.pixels.iter().skip(c).step_by(self.channels).map(|v| f64::from(*v) / 255.0);
                let (sum, squares) = values.fold((0.0, 0.0), |(s, q), v| (s + v, q + v * v));
                let mean = sum / n;
                (mean, (squares / n - mean * mean).max(0.0).sqrt())
            })
            .unzip()
    }

    /// The conditions of [`Images::new`], for images put together by hand.
    pub(crate) fn check(&self) -> Result<()> {
        let Self { channels, height, width, .. } = *self;
        let sides = 1..=MAX_SIDE;
        if !sides.contains(&height) || !sides.contains(&width) || !matches!(channels, 1 | 3) {
            let found =
                format!("images of [{height}, {width}, {channels}]; sides are 1 to {MAX_SIDE}, channels 1 or 3");
            return Err(Error::shape("images", found));
        }
        if !self.pixels.len().is_multiple_of(self.image_len()) {
            let found =
                format!("{} bytes are no whole number of [{height}, {width}, {channels}] images", self.pixels.len());
            return Err(Error::shape("images", found));
        }
        Ok(())
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.pixels.len().checked_div(self.image_len()).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of one image: `height * width * channels`.
    pub fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// The images at `places`, in that order.
    ///
    /// # Errors
    /// As [`Store::extend`], where they are many.
    ///
    /// # Panics
    /// As [`Images::image`].
    pub fn picked(&self, places: &[usize]) -> Result<Self> {
        let mut pixels = Store::new();
        places.iter().try_for_each(|i| pixels.extend(self.image(*i)))?;
        Self::new(pixels, self.channels, self.height, self.width)
    }

    /// The pixels of image `index`, `[H, W, C]`.
    ///
    /// # Panics
    /// When `index >= len()`, like any slice.
    pub fn image(&self, index: usize) -> &[u8] {
        let len = self.image_len();
        &self.pixels[index * len..(index + 1) * len]
    }
}

/// Rows of a parquet file, as its footer says.
pub(crate) fn rows(file: &Path) -> Result<usize> {
    Ok(Table::open(file)?.rows())
}

/// What to read and how to convert it; the default takes everything as it is.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// `test`, `train`, `validation` (also found as `valid`, `val` or `dev`). Without it: `test`, else `validation`,
    /// else the only split there is. An image folder without a folder per split is a `train` split.
    pub split: Option<String>,
    /// Parquet column with the pictures; without it `image`, `img` or the only column of the kind.
    pub image_column: Option<String>,
    /// Parquet column with the labels; without it `label`, `labels`, `fine_label`, ... or the only integer column.
    pub label_column: Option<String>,
    /// How pictures of other sizes become images of one. Without it all pictures must have one size. Pictures with label images
    /// are stretched, whatever else this says: see [`Segmented`].
    pub framing: Option<Framing>,
    /// 1 turns colour into grey (ITU-R 601 luma, as Pillow does), 3 repeats grey three times; alpha is dropped.
    /// Without it all pictures must be grey or all in colour.
    pub channels: Option<usize>,
    /// At most so many rows: the first of a table, for which its first shards are enough, evenly over the classes of an image
    /// folder.
    pub limit: Option<usize>,
}

/// Pictures with their true labels.
#[derive(Debug)]
pub struct Labelled {
    pub images: Images,
    /// One per image, below `class_names.len()`.
    pub labels: Vec<u32>,
    /// Names from the file or the folders; the numbers `0`, `1`, ... when a table has none.
    pub class_names: Vec<String>,
    /// Folder or file name and split, such as `cifar10/test`.
    pub name: String,
    /// Of the one parquet file that was read. Of several files: of the lines `SHA256  NAME\n` of those that were read,
    /// in name order, as `sha256sum` prints them.
    pub sha256: String,
}

impl Labelled {
    /// Reads a labelled dataset from a parquet file, a Hugging Face dataset folder (`data/test-00000-of-00001.parquet`,
    /// `plain_text/train-*.parquet`, ...; neither README nor YAML is needed) or an image folder (`CLASS/*.png`,
    /// `*.jpg`, `*.jpeg`, `*.webp`, or the same below a folder per split). Several shards are read in name order.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options out of range; [`Error::File`] naming the file, the row (counted from 0) and the
    /// way out for anything in the data that is not as it should be: no such split or column, a null, bytes that are
    /// no picture, mixed sizes, a label without a class, a side over [`MAX_SIDE`] pixels, more than
    /// [`MAX_PIXEL_BYTES`] in all.
    pub fn read(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Self> {
        labelled::read(path.as_ref(), options)
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}
