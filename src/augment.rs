//! Random crops, flips and mixing of training images.

use crate::Result;
use crate::ops::place::{Placement, mix, mixed};
use crate::rng::{Stream, permutation};
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
