//! What a student reads.

use crate::Result;
use crate::ops::place::{Placement, place_bytes};
use crate::ops::{Compute, spatial};
use candle_core::Tensor;

/// What the input of a student needs.
#[derive(Clone, Debug)]
pub struct Input {
    /// Height, width, channels.
    pub dims: [usize; 3],
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
    pub classes: usize,
    /// The class that stands for void, if one does.
    pub void: Option<usize>,
    /// Height and width of what the student sees of it.
    pub sees: [usize; 2],
}

impl Input {
    /// The larger of the images and of what the student sees of them, per side: what a pass has to hold.
    pub fn largest(&self) -> [usize; 2] {
        [self.dims[0].max(self.sees[0]), self.dims[1].max(self.sees[1])]
    }

    /// The student's view of images `[N, H, W, C]`: they are halved by averaging while they are twice too large, then resized
    /// bilinearly.
    pub fn seen(&self, x: Tensor) -> Result<Tensor> {
        let [height, width] = self.sees;
        let mut x = x;
        loop {
            let [_, h, w, _] = spatial::nhwc("student's view", &x)?;
            if [h, w] == [height, width] {
                return Ok(x);
            }
            let halve = |from: usize, to: usize| if from >= 2 * to { from.div_ceil(2) } else { to };
            x = spatial::bilinear(&x, halve(h, height), halve(w, width))?;
        }
    }

    /// 8-bit images, moved to their places and normalised, where `compute` is.
    pub fn placed(&self, images: &[&[u8]], places: &[Placement], compute: &Compute) -> Result<Tensor> {
        Ok(place_bytes(images, self.dims, places, &self.mean, &self.std, &compute.device)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::mem::{tensor, view};

    #[test]
    fn a_smaller_view_has_the_mean_of_all_pixels() {
        let input = Input { dims: [8, 8, 1], mean: vec![0.0], std: vec![1.0], classes: 2, void: None, sees: [2, 2] };
        let x = tensor((0..64).map(|i| if i == 0 { 16.0 } else { 0.0 }).collect(), (1, 8, 8, 1)).unwrap();
        assert_eq!(view(&input.seen(x).unwrap()).unwrap().to_vec(), [1.0, 0.0, 0.0, 0.0]);
    }
}
