//! Fingerprints of images: equal for the same picture, also after what compression or a change of light leave of it.

use crate::data::Images;
use rayon::prelude::*;
use std::collections::HashMap;

/// Cells per side, between which brightness is compared: 8 comparisons in each of 9 rows and columns.
const CELLS: usize = 9;

/// Whether each of 9x9 cells is brighter than the next one in its row, and in its column: 144 bits (the difference hash of
/// Krawetz, 2013, in both directions), of an image `[height, width, channels]`. Where none is, as in an image of one colour, a hash of
/// the pixels stands in for them.
pub fn perceptual(pixels: &[u8], [height, width, channels]: [usize; 3]) -> [u128; 2] {
    let mut cells = [0f32; CELLS * CELLS];
    for row in 0..CELLS {
        for column in 0..CELLS {
            let (top, left) = (row * height / CELLS, column * width / CELLS);
            let bottom = ((row + 1) * height / CELLS).max(top + 1);
            let right = ((column + 1) * width / CELLS).max(left + 1);
            let sum: u32 = (top..bottom)
                .flat_map(|y| &pixels[(y * width + left) * channels..(y * width + right) * channels])
                .map(|v| u32::from(*v))
                .sum();
            cells[row * CELLS + column] = sum as f32 / ((bottom - top) * (right - left)) as f32;
        }
    }
    let mut bits = [0u128; 2];
    for a in 0..CELLS {
        for b in 0..CELLS - 1 {
            let right = cells[a * CELLS + b] > cells[a * CELLS + b + 1];
            let below = cells[b * CELLS + a] > cells[(b + 1) * CELLS + a];
            bits[0] = bits[0] << 1 | u128::from(right);
            bits[1] = bits[1] << 1 | u128::from(below);
        }
    }
    if bits == [0, 0] {
        bits[0] = 1 << 127 | u128::from(fnv(pixels));
    }
    bits
}

/// The hash of Fowler, Noll and Vo (FNV-1a).
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Images that are not the first of their kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// Rows whose pixels an earlier row has.
    pub exact: Vec<usize>,
    /// Rows whose fingerprint an earlier row has, those of `exact` among them.
    pub near: Vec<usize>,
}

/// Looks for repeated images.
pub fn repeated(images: &Images) -> Repeated {
    let dims = [images.height, images.width, images.channels];
    let prints: Vec<[u128; 2]> = (0..images.len()).into_par_iter().map(|i| perceptual(images.image(i), dims)).collect();
    let mut found = Repeated { exact: Vec::new(), near: Vec::new() };
    let mut seen: HashMap<[u128; 2], Vec<usize>> = HashMap::new();
    for (row, print) in prints.into_iter().enumerate() {
        let earlier = seen.entry(print).or_default();
        if !earlier.is_empty() {
            found.near.push(row);
        }
        match earlier.iter().any(|&other| images.image(other) == images.image(row)) {
            true => found.exact.push(row),
            false => earlier.push(row),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::{Draw, Shaders};
    use crate::rng::Streams;

    #[test]
    fn the_same_picture_is_found_again_and_others_are_not() {
        let dims = [32, 32, 3];
        let mut pixels: Vec<u8> = Vec::new();
        for index in 0..60 {
            let mut image = vec![0; 3072];
            Shaders.draw(&mut Streams::new(4).stream("x", index), dims, &mut image);
            pixels.extend(image);
        }
        let copy = pixels[5 * 3072..6 * 3072].to_vec();
        let darker: Vec<u8> = pixels.iter().map(|v| (f32::from(*v) * 0.9) as u8).collect();
        pixels.extend_from_slice(&copy);
        let found = repeated(&Images::new(pixels.clone(), 3, 32, 32).unwrap());
        assert_eq!((&found.exact[..], &found.near[..]), (&[60][..], &[60][..]));
        // Rounding makes cells that are nearly alike compare otherwise.
        pixels.extend_from_slice(&darker);
        let found = repeated(&Images::new(pixels, 3, 32, 32).unwrap());
        assert!(found.near.len() > 31 && found.exact == [60], "{} of 60 are found", found.near.len() - 1);
    }

    #[test]
    fn brightness_is_compared_from_cell_to_cell() {
        let ramp: Vec<u8> = (0..18 * 18).map(|i| (i % 18 * 10) as u8).collect();
        let [across, down] = perceptual(&ramp, [18, 18, 1]);
        assert_eq!((across >> 127, down), (1, 0), "it grows to the right and stays downwards");
        let back: Vec<u8> = ramp.iter().map(|v| 255 - v).collect();
        assert_eq!(perceptual(&back, [18, 18, 1]), [(1 << 72) - 1, 0]);
        assert_ne!(perceptual(&[5], [1, 1, 1]), perceptual(&[6], [1, 1, 1]), "two colours are two pictures");
    }
}
