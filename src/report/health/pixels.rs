//! Whether the images differ from each other and look like pictures: contrast, saturation, distances.

use crate::data::Images;
use serde::{Deserialize, Serialize};

/// Images that are compared with each other; of more, so many are taken, evenly spaced.
const COMPARED: usize = 512;
/// Bytes after which memory of a set that lives on disk is given back.
const PART: usize = 64 << 20;
/// Larger images are averaged down to about this side before they are compared.
const SIDE: usize = 32;
/// Root-mean-square difference below which two images count as the same picture: 5 of 255 levels, about what JPEG
/// leaves and far below the differences between photographs (about 0.3).
const SAME: f64 = 0.02;

/// Statistics of the 8-bit images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pixels {
    /// Over all images, positions and channels.
    pub mean: f64,
    pub std: f64,
    /// Standard deviation over the images at one position and channel, mean over positions and channels.
    pub std_across_images: f64,
    /// Share of values that are 0 or 255.
    pub saturated: f64,
    /// Mean root-mean-square difference of two images of one class (0 without such a pair), and of two classes.
    pub within_class: f64,
    pub between_classes: f64,
    /// Share of the compared images that have a near twin among them.
    pub near_twins: f64,
}

impl Pixels {
    pub(super) fn of(images: &Images, labels: &[u32]) -> Self {
        let (mean, std, std_across_images) = moments(images);
        let count = |part: &[u8]| {
            images.pixels.rest();
            part.iter().filter(|v| matches!(v, 0 | 255)).count()
        };
        let extreme: usize = images.pixels.chunks(PART).map(count).sum();
        let (within_class, between_classes, near_twins) = compare(images, labels);
        let saturated = extreme as f64 / images.pixels.len().max(1) as f64;
        Self { mean, std, std_across_images, saturated, within_class, between_classes, near_twins }
    }
}

/// Mean and standard deviation of all values, and the mean over positions of the standard deviation over images.
fn moments(images: &Images) -> (f64, f64, f64) {
    let (n, len) = (images.len().max(1) as f64, images.image_len());
    let (mut sum, mut squares) = (vec![0u64; len], vec![0u64; len]);
    for (i, image) in images.pixels.chunks_exact(len.max(1)).enumerate() {
        if i.is_multiple_of((PART / len.max(1)).max(1)) {
            images.pixels.rest();
        }
        for ((s, q), &v) in sum.iter_mut().zip(&mut squares).zip(image) {
            *s += u64::from(v);
            *q += u64::from(v) * u64::from(v);
        }
    }
    let std = |s: f64, q: f64, n: f64| (q / n - (s / n).powi(2)).max(0.0).sqrt() / 255.0;
    let all = n * len.max(1) as f64;
    let (s, q) = (sum.iter().sum::<u64>() as f64, squares.iter().sum::<u64>() as f64);
    let across = sum.iter().zip(&squares).map(|(s, q)| std(*s as f64, *q as f64, n)).sum::<f64>() / len.max(1) as f64;
    (s / all / 255.0, std(s, q, all), across)
}

/// Mean distance within and between classes, and the share of images with a near twin.
fn compare(images: &Images, labels: &[u32]) -> (f64, f64, f64) {
    let n = images.len().min(labels.len());
    let count = n.min(COMPARED);
    let chosen: Vec<usize> = (0..count).map(|i| i * n / count.max(1)).collect();
    let small: Vec<Vec<f32>> = chosen.iter().map(|&i| thumbnail(images, i)).collect();
    let mut sums = [(0.0, 0usize); 2];
    let mut twin = vec![false; count];
    for i in 0..count {
        for j in 0..i {
            let squares: f32 = small[i].iter().zip(&small[j]).map(|(a, b)| (a - b) * (a - b)).sum();
            let distance = f64::from(squares / small[i].len().max(1) as f32).sqrt();
            let kind = usize::from(labels[chosen[i]] != labels[chosen[j]]);
            sums[kind] = (sums[kind].0 + distance, sums[kind].1 + 1);
            if distance < SAME {
                (twin[i], twin[j]) = (true, true);
            }
        }
    }
    let [within, between] = sums.map(|(sum, pairs)| sum / pairs.max(1) as f64);
    (within, between, twin.iter().filter(|t| **t).count() as f64 / count.max(1) as f64)
}

/// Image `index` in 0..1, averaged over square cells if it is large.
fn thumbnail(images: &Images, index: usize) -> Vec<f32> {
    let (h, w, c) = (images.height, images.width, images.channels);
    let cell = (h.max(w) / SIDE).max(1);
    let (rows, columns) = (h.div_ceil(cell), w.div_ceil(cell));
    let (mut sum, mut count) = (vec![0f32; rows * columns * c], vec![0f32; rows * columns * c]);
    for (at, &v) in images.image(index).iter().enumerate() {
        let (y, x, channel) = (at / (w * c), at / c % w, at % c);
        let to = (y / cell * columns + x / cell) * c + channel;
        sum[to] += f32::from(v) / 255.0;
        count[to] += 1.0;
    }
    sum.iter().zip(&count).map(|(s, n)| s / n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Black, black, white and white images of two classes.
    #[test]
    fn distances_saturation_and_twins_of_flat_images() {
        let images = Images::new([[0u8; 12], [0; 12], [255; 12], [255; 12]].concat(), 3, 2, 2).unwrap();
        let p = Pixels::of(&images, &[0, 0, 1, 1]);
        assert_eq!((p.mean, p.std, p.std_across_images, p.saturated), (0.5, 0.5, 0.5, 1.0));
        assert_eq!((p.within_class, p.between_classes, p.near_twins), (0.0, 1.0, 1.0));
    }

    #[test]
    fn texture_shared_by_all_images_is_no_diversity() {
        let texture: Vec<u8> = (0..48).map(|v| v * 5).collect();
        let images = Images::new(texture.repeat(3), 3, 4, 4).unwrap();
        let p = Pixels::of(&images, &[0, 1, 2]);
        assert!(p.std > 0.2 && p.std_across_images == 0.0 && p.between_classes == 0.0 && p.near_twins == 1.0);
    }

    #[test]
    fn large_images_are_averaged_before_they_are_compared() {
        let pixels: Vec<u8> = (0..64 * 65).map(|i| if i % 65 < 64 { 255 } else { 0 }).collect();
        let images = Images::new(pixels, 1, 64, 65).unwrap();
        let small = thumbnail(&images, 0);
        assert_eq!(small.len(), 32 * 33);
        assert!(small.chunks(33).all(|row| row[..32].iter().all(|v| *v == 1.0) && row[32] == 0.0));
    }

    #[test]
    fn twins_differ_by_up_to_five_levels() {
        let images = Images::new([[100u8; 12], [104; 12], [110; 12]].concat(), 3, 2, 2).unwrap();
        assert!((Pixels::of(&images, &[0, 0, 0]).near_twins - 2.0 / 3.0).abs() < 1e-9);
        let images = Images::new([[0u8; 12], [128; 12]].concat(), 3, 2, 2).unwrap();
        assert_eq!(Pixels::of(&images, &[0, 0]).saturated, 0.5);
    }
}
