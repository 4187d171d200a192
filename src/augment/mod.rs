//! Random crops, flips, mixing and RandAugment of training images.

mod operations;
#[cfg(test)]
mod operations_tests;
mod rand_augment;

pub use operations::Operation;
pub use rand_augment::RandAugment;

use crate::Result;
use crate::ops::place::{Placement, mix, mixed};
use crate::ops::windows::Window;
use crate::rng::{Stream, permutation};
use crate::tape::{self, Tape, Var};
use candle_core::Tensor;
use rand::RngExt;
use rand_distr::{Beta, Distribution};
use serde::{Deserialize, Serialize};

/// Crop after zero-padding, and mirroring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CropFlip {
    /// Pixels of zero padding on each side before a crop of the original size.
    pub crop: usize,
    /// Whether half of the images are mirrored.
    pub flip: bool,
}

impl Default for CropFlip {
    fn default() -> Self {
        Self { crop: 4, flip: true }
    }
}

impl CropFlip {
    /// One random placement per image.
    pub fn draw(&self, n: usize, rng: &mut Stream) -> Vec<Placement> {
        let reach = self.crop as i32;
        (0..n)
            .map(|_| Placement {
                dy: rng.random_range(-reach..=reach),
                dx: rng.random_range(-reach..=reach),
                flip: self.flip && rng.random::<bool>(),
            })
            .collect()
    }
}

/// One mixing coefficient and partner per image (Zhang et al., "mixup", 2018): `λ·a + (1 − λ)·b`.
pub struct Mixing {
    pub lambda: f32,
    pub partner: Vec<usize>,
}

impl Mixing {
    /// λ from Beta(α, α) and a random permutation of the batch.
    pub fn draw(alpha: f64, n: usize, rng: &mut Stream) -> Self {
        let lambda = Beta::new(alpha, alpha).map_or(1.0, |b| b.sample(rng)) as f32;
        let partner = permutation(n, rng);
        Self { lambda, partner }
    }

    /// Mixes rows of equal length.
    pub fn apply(&self, values: &[f32]) -> Vec<f32> {
        mixed(values, &self.partner, self.lambda)
    }

    /// Mixes the images of a batch.
    pub fn images(&self, x: &Tensor) -> Result<Tensor> {
        mix(x, &self.partner, self.lambda)
    }
}

/// How inversion moves images before the teacher sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Motion {
    /// Each image is cropped at random after padding with zeros, as in training.
    Crop,
    /// A random part of each image, `scale` of its area or more and of an aspect of 3:4 to 4:3, is enlarged to the whole.
    ResizedCrop,
    /// All images are rolled by the same offset, and mirrored all or none (DeepInversion).
    Roll,
    /// Images stay as they are.
    None,
}

/// The augmentation of inversion; it is differentiable in the image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    pub motion: Motion,
    /// Pixels of padding before a crop, or the largest offset of a roll.
    pub crop: usize,
    /// Whether images may be mirrored.
    pub flip: bool,
    /// Smallest share of the area that a resized crop shows.
    pub scale: f64,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self { motion: Motion::Crop, crop: 4, flip: true, scale: 0.75 }
    }
}

impl Augmentation {
    /// Images as they are.
    pub const NONE: Self = Self { motion: Motion::None, crop: 0, flip: false, scale: 1.0 };

    /// Random movements of `n` images of `size` (height, width).
    pub fn draw(&self, n: usize, size: [usize; 2], rng: &mut Stream) -> Moves {
        let still = CropFlip { crop: 0, flip: self.flip && self.motion != Motion::None };
        match self.motion {
            Motion::Crop => Moves::of(CropFlip { crop: self.crop, flip: self.flip }.draw(n, rng)),
            Motion::None => Moves::of(vec![Placement::default(); n]),
            Motion::ResizedCrop => {
                let windows = (0..n).map(|_| window(self.scale as f32, size, rng)).collect();
                Moves { windows: Some(windows), ..Moves::of(still.draw(n, rng)) }
            }
            Motion::Roll => {
                let reach = self.crop as i32;
                let offset = [rng.random_range(-reach..=reach), rng.random_range(-reach..=reach)];
                let flip = self.flip && rng.random::<bool>();
                Moves { roll: Some(offset), ..Moves::of(vec![Placement { flip, ..Placement::default() }; n]) }
            }
        }
    }
}

/// A random window of at least `scale` of the area.
fn window(scale: f32, [h, w]: [usize; 2], rng: &mut Stream) -> Window {
    let (h, w) = (h as f32, w as f32);
    let area = h * w * (scale + (1.0 - scale) * rng.random::<f32>());
    let most = (4f32 / 3.0).ln();
    let aspect = (most * (2.0 * rng.random::<f32>() - 1.0)).exp();
    let (height, width) = ((area / aspect).sqrt().min(h), (area * aspect).sqrt().min(w));
    let (top, left) = (rng.random::<f32>() * (h - height), rng.random::<f32>() * (w - width));
    Window { top, left, height, width }
}

/// Drawn movements of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Moves {
    roll: Option<[i32; 2]>,
    windows: Option<Vec<Window>>,
    places: Vec<Placement>,
}

impl Moves {
    /// Crops and flips alone.
    pub fn of(places: Vec<Placement>) -> Self {
        Self { roll: None, windows: None, places }
    }

    /// Moves and normalises images `[N, H, W, C]` in `[0, 1]`.
    pub fn apply(&self, tape: &Tape, images: &Var, mean: &[f32], std: &[f32]) -> Result<Var> {
        let mut x = images.clone();
        if let Some([rows, columns]) = self.roll {
            x = tape::roll(tape, &x, rows, columns)?;
        }
        if let Some(windows) = &self.windows {
            x = tape::windows(tape, &x, windows.clone())?;
        }
        tape::place(tape, &x, &self.places, mean, std)
    }
}
