//! RandAugment: every image goes through operations drawn at random, all of one strength (Cubuk et al., "RandAugment: practical
//! automated data augmentation with a reduced search space", 2020), with the operations and ranges of torchvision.

use super::operations::Operation;
use crate::data::Images;
use crate::rng::Stream;
use rand::RngExt;
use rayon::prelude::*;

/// The strength of all operations, as a share of their range: step 9 of 0 to 30, as torchvision has it unless told otherwise.
const STRENGTH: f64 = 9.0 / 30.0;
/// The most that an image is sheared (the tangent), moved (of the side), turned (degrees) and changed in light and colour.
const SHEAR: f64 = 0.3;
const TRANSLATE: f64 = 150.0 / 331.0;
const ROTATE: f64 = 30.0;
const ENHANCE: f64 = 0.9;
/// The most bits that are taken off.
const BITS: f64 = 4.0;

/// How many operations every image goes through, one after the other; the same one may come twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandAugment {
    pub operations: usize,
}

impl RandAugment {
    /// More operations than this leave nothing of an image.
    pub const MOST: usize = 16;

    /// Varied copies of the images `indices`, `[H, W, C]` each. What is drawn depends on `rng` and their shape alone.
    ///
    /// # Panics
    /// For an index that is not below `images.len()`, like any slice.
    pub fn images(self, images: &Images, indices: &[usize], rng: &mut Stream) -> Vec<Vec<u8>> {
        let dims = [images.height, images.width, images.channels];
        let drawn: Vec<Vec<Operation>> =
            indices.iter().map(|_| (0..self.operations).map(|_| draw(dims, rng)).collect()).collect();
        let copies = indices.par_iter().zip(&drawn).map(|(&index, operations)| {
            let image = images.image(index).to_vec();
            operations.iter().fold(image, |image, operation| operation.apply(&image, dims))
        });
        copies.collect()
    }
}

/// One of the 14 operations, each as likely as any other, in a random direction where it has two.
fn draw([height, width, _]: [usize; 3], rng: &mut Stream) -> Operation {
    let which = rng.random_range(0..14);
    let sign = if rng.random::<bool>() { -1.0 } else { 1.0 };
    let enhanced = 1.0 + sign * ENHANCE * STRENGTH;
    let moved = |side: usize| (sign * (TRANSLATE * STRENGTH * side as f64).floor()) as i32;
    match which {
        0 => Operation::Identity,
        1 => Operation::ShearX((sign * SHEAR * STRENGTH) as f32),
        2 => Operation::ShearY((sign * SHEAR * STRENGTH) as f32),
        3 => Operation::TranslateX(moved(width)),
        4 => Operation::TranslateY(moved(height)),
        5 => Operation::Rotate((sign * ROTATE * STRENGTH) as f32),
        6 => Operation::Brightness(enhanced),
        7 => Operation::Colour(enhanced),
        8 => Operation::Contrast(enhanced),
        9 => Operation::Sharpness(enhanced),
        10 => Operation::Posterize(8 - (BITS * STRENGTH).round() as u32),
        11 => Operation::Solarize((255.0 * (1.0 - STRENGTH)) as f32),
        12 => Operation::AutoContrast,
        _ => Operation::Equalize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;
    use std::collections::BTreeSet;

    #[test]
    fn all_operations_come_up_in_both_directions() {
        let mut rng = Streams::new(0).stream("augment", 0);
        let names: BTreeSet<String> = (0..2000).map(|_| format!("{:?}", draw([32, 32, 3], &mut rng))).collect();
        // The strengths are those of `RandAugment()._augmentation_space(31, (32, 32))` at 9.
        for name in [
            "Identity",
            "ShearX(0.09)",
            "ShearX(-0.09)",
            "ShearY(0.09)",
            "TranslateX(4)",
            "TranslateX(-4)",
            "TranslateY(-4)",
            "Rotate(9.0)",
            "Rotate(-9.0)",
            "Brightness(1.27)",
            "Brightness(0.73)",
            "Colour(0.73)",
            "Contrast(1.27)",
            "Sharpness(0.73)",
            "Posterize(7)",
            "Solarize(178.5)",
            "AutoContrast",
            "Equalize",
        ] {
            assert!(names.contains(name), "{name} is not among {names:?}");
        }
        assert_eq!(names.len(), 14 + 9, "nine have two directions");
    }

    #[test]
    fn copies_depend_on_the_stream_alone() {
        let pixels: Vec<u8> = (0..6 * 8 * 8 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let images = Images::new(pixels, 3, 8, 8).unwrap();
        let copies = |operations, indices: &[usize]| {
            RandAugment { operations }.images(&images, indices, &mut Streams::new(1).stream("augment", 7))
        };
        let all = copies(4, &[0, 1, 2, 3, 4, 5]);
        assert_eq!(copies(4, &[0, 1, 2, 3, 4, 5]), all);
        assert_eq!(copies(4, &[0, 1, 2]), all[..3]);
        assert!((0..6).filter(|&i| all[i] != images.image(i)).count() >= 5);
        assert!(copies(0, &[3])[0] == images.image(3));
    }
}
