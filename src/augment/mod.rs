//! Random crops, flips, mixing and RandAugment of training images.

mod operations;
#[cfg(test)]
mod operations_tests;
mod rand_augment;

pub use operations::Operation;
pub use rand_augment::RandAugment;

use crate::Result;
use crate::ops::place::{Placement, mix, mixed};
use crate::ops::windows::{self, Window};
use crate::rng::{Stream, permutation};
use crate::tape::{self, Tape, Var};
use candle_core::Tensor;
use rand::RngExt;
use rand_distr::{Beta, Distribution};
use rayon::prelude::*;
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

/// A random part of every image of a batch, enlarged to the whole.
pub struct Zoom(Vec<Window>);

impl Zoom {
    /// Parts of at least `scale` of the area of `n` images of `size` (height, width); none where `scale` is 1.
    pub fn draw(scale: f64, n: usize, size: [usize; 2], rng: &mut Stream) -> Option<Self> {
        (scale < 1.0).then(|| Self((0..n).map(|_| window(scale as f32, size, rng)).collect()))
    }

    /// The parts of images `[N, H, W, C]`, bilinearly.
    pub fn images(&self, x: &Tensor) -> Result<Tensor> {
        Ok(windows::windows(x, &self.0)?)
    }

    /// The part of the labels of image `i`, from the nearest pixels.
    pub fn labels(&self, i: usize, labels: &[u8], size: [usize; 2]) -> Vec<u8> {
        self.0[i].nearest(labels, size)
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
        Ok(mix(x, &self.partner, self.lambda)?)
    }
}

/// How inversion moves images before the teacher sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Motion {
    /// Each image is cropped at random after padding with zeros, as in training.
    Crop,
    /// A random part of each image, `scale` of its area or more and stretched by 3:4 to 4:3, is enlarged to the whole.
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

/// A random window of at least `scale` of the area, which is stretched by up to 4:3 in either direction as it is enlarged to the whole,
/// and no more than fits into the image.
fn window(scale: f32, [h, w]: [usize; 2], rng: &mut Stream) -> Window {
    let (h, w) = (h as f32, w as f32);
    let share = scale + (1.0 - scale) * rng.random::<f32>();
    let most = (4f32 / 3.0).ln();
    // Of a square image, width to height.
    let aspect = (most * (2.0 * rng.random::<f32>() - 1.0)).exp().clamp(share, 1.0 / share);
    let (height, width) = (h * (share / aspect).sqrt().min(1.0), w * (share * aspect).sqrt().min(1.0));
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

    /// Moves labels of pixels, `[N, h, w]`, as their images are moved; what comes in from outside is `void`.
    pub fn labels<T: Copy + Send + Sync>(&self, labels: &[T], [h, w]: [usize; 2], void: T) -> Vec<T> {
        let one = |(i, map): (usize, &[T])| {
            let mut map = map.to_vec();
            if let Some([rows, columns]) = self.roll {
                map.rotate_right(rows.rem_euclid(h as i32) as usize * w);
                map.chunks_exact_mut(w).for_each(|row| row.rotate_right(columns.rem_euclid(w as i32) as usize));
            }
            if let Some(windows) = &self.windows {
                map = windows[i].nearest(&map, [h, w]);
            }
            self.places[i].labels(&map, [h, w], void)
        };
        labels.par_chunks_exact(h * w).enumerate().flat_map_iter(one).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::mem::{tensor, view};
    use crate::rng::Streams;

    /// Labels drawn into an image, with 1 where nothing is, are where the image says they are after every movement, as far as no
    /// two of them are mixed.
    #[test]
    fn labels_move_with_their_images() {
        let (n, h, w) = (6, 12, 20);
        let labels: Vec<u8> = (0..n * h * w).map(|i| (i / w % h / 4 * 5 + i % w / 4) as u8).collect();
        let image: Vec<f32> = labels.iter().map(|label| f32::from(*label) + 1.0).collect();
        for motion in [Motion::Crop, Motion::ResizedCrop, Motion::Roll, Motion::None] {
            let rule = Augmentation { motion, crop: 5, flip: true, scale: 0.3 };
            let moves = rule.draw(n, [h, w], &mut Streams::new(3).stream("moves", 0));
            let tape = Tape::new();
            let x = Var::constant(tensor(image.clone(), (n, h, w, 1)).unwrap());
            let moved = moves.apply(&tape, &x, &[0.0], &[1.0]).unwrap().tensor().unwrap();
            let moved = view(&moved).unwrap().to_vec();
            let found = moves.labels(&labels, [h, w], 255);
            assert_eq!(found.len(), n * h * w);
            let whole = moved.iter().zip(&found).filter(|(value, _)| value.fract() == 0.0);
            let (mut same, mut all) = (0, 0);
            for (value, label) in whole {
                all += 1;
                same += usize::from(*value == if *label == 255 { 0.0 } else { f32::from(*label) + 1.0 });
            }
            assert!(all > n * h * w / 4, "{motion:?}: {all}");
            // Between labels that differ by 2 and more, a mixture may be a whole number too.
            assert!(same as f64 > 0.97 * all as f64, "{motion:?}: {same} of {all}");
            assert!(motion == Motion::ResizedCrop || same == n * h * w, "{motion:?}: {same}");
            assert_eq!(found.contains(&255), motion == Motion::Crop, "{motion:?}");
        }
    }

    /// Also of images that are not square: a part is as often made wider as higher.
    #[test]
    fn parts_are_as_large_as_asked_and_stretched_either_way() {
        let mut rng = Streams::new(0).stream("window", 0);
        for (size, scale) in [([32, 32], 0.75), ([120, 160], 0.5), ([100, 300], 0.2)] {
            let [h, w] = size.map(|side| side as f32);
            let stretches: Vec<f32> = (0..2000)
                .map(|_| {
                    let Window { top, left, height, width } = window(scale, size, &mut rng);
                    assert!(height * width > 0.9999 * scale * h * w, "{height}x{width} of {size:?}");
                    assert!(top >= 0.0 && left >= 0.0 && top + height < h * 1.0001 && left + width < w * 1.0001);
                    (width / w) / (height / h)
                })
                .collect();
            let (least, most) = stretches.iter().fold((f32::MAX, 0f32), |(a, b), s| (a.min(*s), b.max(*s)));
            assert!((0.7499..0.8).contains(&least) && (1.25..1.3334).contains(&most), "{size:?}: {least} to {most}");
            let wider = stretches.iter().filter(|s| **s > 1.0).count();
            assert!((900..1100).contains(&wider), "{size:?}: {wider} of 2000");
        }
    }

    #[test]
    fn a_zoom_of_one_is_none() {
        let mut rng = Streams::new(0).stream("zoom", 0);
        assert!(Zoom::draw(1.0, 3, [8, 8], &mut rng).is_none());
        let zoom = Zoom::draw(0.2, 3, [8, 8], &mut rng).unwrap();
        let x = tensor((0..3 * 64).map(|i| (i % 64) as f32).collect(), (3, 8, 8, 1)).unwrap();
        assert_eq!(zoom.images(&x).unwrap().dims(), [3, 8, 8, 1]);
        let labels: Vec<u8> = (0..64).collect();
        let seen = zoom.labels(1, &labels, [8, 8]);
        assert!(seen.iter().collect::<std::collections::BTreeSet<_>>().len() < 64, "a part is enlarged");
    }

    #[test]
    fn crops_reach_both_ways_and_half_are_mirrored() {
        let mut rng = Streams::new(0).stream("crops", 0);
        let places = CropFlip { crop: 4, flip: true }.draw(4000, &mut rng);
        for shift in -4..=4 {
            let (dy, dx) =
                (places.iter().filter(|p| p.dy == shift).count(), places.iter().filter(|p| p.dx == shift).count());
            assert!((350..540).contains(&dy) && (350..540).contains(&dx), "{shift}: {dy} {dx}");
        }
        let flips = places.iter().filter(|p| p.flip).count();
        assert!((1850..2150).contains(&flips), "{flips}");
        let roll = Augmentation { motion: Motion::Roll, ..Augmentation::default() };
        let flips = (0..200).filter(|_| roll.draw(1, [8, 8], &mut rng).places[0].flip).count();
        assert!((70..130).contains(&flips), "{flips} rolls of 200 are mirrored");
    }

    /// The variance of Beta(α, α) is 1/(4·(2α + 1)).
    #[test]
    fn mixtures_follow_alpha() {
        let mut rng = Streams::new(0).stream("mix", 0);
        for alpha in [0.2, 1.0, 8.0] {
            let all: Vec<f64> = (0..4000).map(|_| f64::from(Mixing::draw(alpha, 1, &mut rng).lambda)).collect();
            let var = all.iter().map(|l| (l - 0.5).powi(2)).sum::<f64>() / 4000.0;
            let expected = 0.25 / (2.0 * alpha + 1.0);
            assert!((var / expected - 1.0).abs() < 0.1, "{alpha}: {var}, expected {expected}");
        }
    }
}
