//! White noise: what a teacher says to it shows where its decisions fall without any structure in the image.

use super::generated::Draw;
use crate::rng::Stream;
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use serde_json::{Value, json};

/// Which noise.
#[derive(Clone, Debug, PartialEq)]
pub enum Noise {
    /// Every value on its own from the normal distribution with a mean and a standard deviation per channel, for pixels in
    /// 0..1: those that the teacher's images are normalised with. What lies outside 0..1 is cut off.
    Gaussian { mean: Vec<f32>, std: Vec<f32> },
    /// Every value on its own, evenly from 0 to 255.
    Uniform,
}

impl Draw for Noise {
    fn name(&self) -> &'static str {
        match self {
            Self::Gaussian { .. } => "noise",
            Self::Uniform => "noise:uniform",
        }
    }

    fn describe(&self) -> Value {
        match self {
            Self::Gaussian { mean, std } => json!({ "mean": mean, "std": std }),
            Self::Uniform => json!({}),
        }
    }

    fn draw(&self, rng: &mut Stream, [_, _, channels]: [usize; 3], out: &mut [u8]) {
        match self {
            Self::Uniform => rng.fill(out),
            Self::Gaussian { mean, std } => {
                for pixel in out.chunks_exact_mut(channels) {
                    for ((value, mean), std) in pixel.iter_mut().zip(mean).zip(std) {
                        let z: f32 = StandardNormal.sample(rng);
                        *value = super::generated::byte(mean + std * z);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Images;
    use crate::rng::Streams;

    #[test]
    fn noise_has_the_moments_that_were_asked_for() {
        let noise = Noise::Gaussian { mean: vec![0.5, 0.4, 0.6], std: vec![0.1, 0.15, 0.05] };
        let mut pixels = vec![0; 100 * 100 * 3];
        noise.draw(&mut Streams::new(3).stream("noise", 0), [100, 100, 3], &mut pixels);
        let (mean, std) = Images::new(pixels, 3, 100, 100).unwrap().mean_std();
        for (found, expected) in mean.iter().chain(&std).zip([0.5, 0.4, 0.6, 0.1, 0.15, 0.05]) {
            assert!((found - expected).abs() < 0.005, "{found} {expected}");
        }
        let mut pixels = vec![0; 100 * 100 * 3];
        Noise::Uniform.draw(&mut Streams::new(3).stream("noise", 0), [100, 100, 3], &mut pixels);
        let (mean, std) = Images::new(pixels, 3, 100, 100).unwrap().mean_std();
        // 1/√12
        assert!(mean.iter().all(|m| (m - 0.5).abs() < 0.01) && std.iter().all(|s| (s - 0.2887).abs() < 0.01));
    }
}
