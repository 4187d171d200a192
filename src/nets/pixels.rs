//! No generator at all: the "latents" are the images, in the teacher's normalised space, as DeepInversion optimises them.

use super::{Architecture, Body, Forward};
use crate::Result;
use crate::tape::{self, Var};

struct Pixels {
    mean: Vec<f32>,
    std: Vec<f32>,
}

/// The structure without parameters: normalised images `[N, H, W, C]` → pixels `std·x + mean`.
pub fn pixels(mean: &[f32], std: &[f32]) -> Architecture {
    Architecture::new(|_| Pixels { mean: mean.to_vec(), std: std.to_vec() })
}

impl Body for Pixels {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        tape::per_channel(f.tape, &x, &self.std, &self.mean)
    }
}
