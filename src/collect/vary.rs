//! Varied copies of an image: turned, cropped, mirrored, in another light. They fill the quota of a class of which a pool has
//! too few images.

use super::generated::byte;
use crate::rng::Stream;
use rand::RngExt;

/// The largest turn, in radians.
const TURN: f32 = 0.35;
/// The smallest part that is seen, of a side.
const PART: f32 = 0.65;
/// Light and contrast change by up to so much.
const LIGHT: f32 = 0.25;

/// Writes a random variation of `image` (`[height, width, channels]`) into `out`; beyond the border the image is mirrored.
pub(super) fn vary(image: &[u8], [height, width, channels]: [usize; 3], rng: &mut Stream, out: &mut [u8]) {
    let zoom = rng.random_range(PART..=1.0);
    let (sin, cos) = rng.random_range(-TURN..=TURN).sin_cos();
    let flip = if rng.random() { -1.0 } else { 1.0 };
    let room = 1.0 - zoom;
    let shift = [rng.random_range(-room..=room), rng.random_range(-room..=room)];
    let gain: Vec<f32> = (0..channels).map(|_| 1.0 + rng.random_range(-LIGHT..=LIGHT) / 2.0).collect();
    let (contrast, light) = (1.0 + rng.random_range(-LIGHT..=LIGHT), rng.random_range(-LIGHT..=LIGHT) / 2.0);
    let (half_h, half_w) = (height as f32 / 2.0, width as f32 / 2.0);
    for (at, pixel) in out.chunks_exact_mut(channels).enumerate() {
        let v = ((at / width) as f32 + 0.5) / half_h - 1.0;
        let u = flip * (((at % width) as f32 + 0.5) / half_w - 1.0);
        let (x, y) = (zoom * (cos * u - sin * v) + shift[0], zoom * (sin * u + cos * v) + shift[1]);
        let (x, y) = ((x + 1.0) * half_w - 0.5, (y + 1.0) * half_h - 0.5);
        let (left, top) = (x.floor(), y.floor());
        let (a, b) = (x - left, y - top);
        let corner = |dy: isize, dx: isize, channel: usize| {
            let (row, column) = (mirrored(top as isize + dy, height), mirrored(left as isize + dx, width));
            f32::from(image[(row * width + column) * channels + channel]) / 255.0
        };
        for (channel, value) in pixel.iter_mut().enumerate() {
            let above = corner(0, 0, channel) * (1.0 - a) + corner(0, 1, channel) * a;
            let below = corner(1, 0, channel) * (1.0 - a) + corner(1, 1, channel) * a;
            let found = above * (1.0 - b) + below * b;
            *value = byte(((found - 0.5) * contrast + 0.5 + light) * gain[channel]);
        }
    }
}

/// A position within `0..side`, mirrored at the borders.
fn mirrored(at: isize, side: usize) -> usize {
    let period = 2 * side as isize;
    let at = at.rem_euclid(period);
    if at < side as isize { at as usize } else { (period - 1 - at) as usize }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    #[test]
    fn borders_are_mirrored() {
        assert_eq!([-2, -1, 0, 3, 4, 5, 8].map(|at| mirrored(at, 4)), [1, 0, 0, 3, 3, 2, 0]);
    }

    #[test]
    fn variations_resemble_the_image_and_differ() {
        let image: Vec<u8> =
            (0..32 * 32).flat_map(|i| if i / 32 < 16 { [230, 40, 40] } else { [30, 60, 200] }).collect();
        let one = |index| {
            let mut out = vec![0; image.len()];
            vary(&image, [32, 32, 3], &mut Streams::new(0).stream("vary", index), &mut out);
            out
        };
        let copies: Vec<Vec<u8>> = (0..20).map(one).collect();
        for (i, copy) in copies.iter().enumerate() {
            assert!(copies[..i].iter().all(|other| other != copy) && *copy != image);
            // Red above, blue below.
            let mean = |rows: std::ops::Range<usize>, channel: usize| {
                let values: Vec<f64> = rows
                    .flat_map(|y| (0..32).map(move |x| (y * 32 + x) * 3 + channel))
                    .map(|at| f64::from(copy[at]))
                    .collect();
                values.iter().sum::<f64>() / values.len() as f64
            };
            assert!(mean(0..4, 0) > mean(0..4, 2) && mean(28..32, 2) > mean(28..32, 0), "copy {i}");
        }
        assert_eq!(copies[3], one(3));
    }
}
