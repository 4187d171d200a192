//! Procedural images: each is what a small random program computes from the coordinates of its points.
//!
//! Every image has a program of its own, drawn from its random stream: one to three layers, each a pattern (a random formula, a
//! fractal, noise, cells, tiles, ...) seen through up to three warps of the plane, coloured, laid over each other, lit. Baradad
//! et al. ("Procedural image programs for representation learning", 2022) showed what such images teach, with programs that
//! people had written; these are drawn.

mod colouring;
mod expression;
mod fractal;
mod maths;
mod pattern;
mod program;
mod warp;

pub use program::Program;

use super::generated::{Draw, average};
use crate::rng::Stream;
use serde_json::{Value, json};

/// Points that are worked on together: interpreting the program costs little beside them, and they stay in the first cache.
const LANES: usize = 128;
type Lanes = [f32; LANES];

/// Samples per pixel and side: two where images are small, so that fine patterns become grey instead of noise.
fn samples([height, width, _]: [usize; 3]) -> usize {
    if height.min(width) <= 96 { 2 } else { 1 }
}

/// Programs that are tried for an image that is not one colour all over.
const TRIES: usize = 8;
/// Standard deviation of pixel values, in levels, below which an image shows nothing.
const LEAST_CONTRAST: f64 = 10.0;

/// The generator of procedural images.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shaders;

impl Draw for Shaders {
    fn name(&self) -> &'static str {
        "shaders"
    }

    fn describe(&self) -> Value {
        json!({ "version": 1 })
    }

    fn draw(&self, rng: &mut Stream, dims: [usize; 3], out: &mut [u8]) {
        let samples = samples(dims);
        for _ in 0..TRIES {
            let colours = Program::random(rng).colours(dims[0] * samples, dims[1] * samples);
            average(&colours, samples, dims, out);
            if contrast(out, dims[2]) >= LEAST_CONTRAST {
                break;
            }
        }
    }
}

/// Standard deviation over the pixels of one image, of the channel where it is largest, in levels.
fn contrast(pixels: &[u8], channels: usize) -> f64 {
    let n = (pixels.len() / channels).max(1) as f64;
    let of = |channel: usize| {
        let values = pixels.iter().skip(channel).step_by(channels).map(|v| f64::from(*v));
        let (sum, squares) = values.fold((0.0, 0.0), |(s, q), v| (s + v, q + v * v));
        (squares / n - (sum / n).powi(2)).max(0.0).sqrt()
    };
    (0..channels).map(of).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;
    use std::collections::BTreeSet;

    fn stream(index: u64) -> Stream {
        Streams::new(0).stream("collect/shaders", index)
    }

    /// Structures have no numbers in them: what differs is which operations there are and how they are arranged.
    #[test]
    fn hundreds_of_programs_differ_in_structure() {
        let structures: BTreeSet<String> = (0..400).map(|i| Program::random(&mut stream(i)).structure()).collect();
        assert!(structures.len() >= 380, "{} of 400", structures.len());
        assert!(structures.iter().all(|s| !s.contains(|c: char| c.is_ascii_digit())), "{structures:?}");
    }

    #[test]
    fn images_show_something_and_differ() {
        let draw = |index| {
            let mut pixels = vec![0; 24 * 32 * 3];
            Shaders.draw(&mut stream(index), [24, 32, 3], &mut pixels);
            pixels
        };
        let images: Vec<Vec<u8>> = (0..100).map(draw).collect();
        assert_eq!(images[17], draw(17));
        let distinct: BTreeSet<&Vec<u8>> = images.iter().collect();
        assert_eq!(distinct.len(), images.len());
        let shown = images.iter().filter(|image| contrast(image, 3) >= LEAST_CONTRAST).count();
        assert!(shown >= 98, "{shown} of 100 images show something");
        let grey = |image: &[u8]| image.chunks(3).all(|p| p.iter().max().unwrap() - p.iter().min().unwrap() < 16);
        let colourful = images.iter().filter(|image| !grey(image)).count();
        assert!(colourful >= 80, "{colourful} of 100 images have colours");
    }

    #[test]
    fn an_image_is_the_same_program_at_any_size() {
        let mut small = vec![0; 16 * 16 * 3];
        let mut large = vec![0; 64 * 64 * 3];
        let mut distances = Vec::new();
        for index in 0..20 {
            Shaders.draw(&mut stream(index), [16, 16, 3], &mut small);
            Shaders.draw(&mut stream(index), [64, 64, 3], &mut large);
            let mean = |p: &[u8]| p.iter().map(|v| f64::from(*v)).sum::<f64>() / p.len() as f64;
            distances.push((mean(&small) - mean(&large)).abs());
        }
        distances.sort_by(f64::total_cmp);
        assert!(distances[10] < 8.0, "{distances:?}");
    }
}
