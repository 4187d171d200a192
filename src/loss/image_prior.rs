//! Image priors of DeepInversion: neighbouring pixels are alike, and pixels are not extreme (Yin et al., "Dreaming to
//! Distill", 2020, equation 3, after Mahendran and Vedaldi, 2015).

use super::{Loss, Value};
use crate::Result;
use crate::ops::{mem, par, spatial::nhwc};
use candle_core::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How the differences of neighbours are summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variation {
    /// Mean absolute difference.
    L1,
    /// Euclidean norm over the whole batch, as the authors' code has it: grows with the square root of the batch.
    L2,
}

/// The neighbours (rows, columns) that a pixel is compared with.
const NEIGHBOURS: [(usize, isize); 4] = [(0, 1), (1, 0), (1, -1), (1, 1)];

/// Total variation of images `[N, H, W, C]`: the sum over right, lower, lower left and lower right neighbours.
pub fn total_variation(images: &Tensor, how: Variation) -> Result<Loss> {
    let [_, h, w, c] = nhwc("total_variation", images)?;
    let host = mem::host(images)?;
    let (x, len) = (mem::view(&host)?, (h * w * c).max(1));
    let pairs = NEIGHBOURS.map(|(dy, dx)| Pairs::of([h, w, c], dy, dx));
    let of_images: Vec<[f64; 4]> =
        x.par_chunks_exact(len).map(|image| pairs.each_ref().map(|pairs| pairs.sum(image, how))).collect();
    let sums: [f64; 4] = std::array::from_fn(|k| of_images.iter().map(|image| image[k]).sum());
    let scales: [f64; 4] = std::array::from_fn(|k| match how {
        Variation::L1 => 1.0 / (of_images.len() * pairs[k].count()).max(1) as f64,
        Variation::L2 if sums[k] == 0.0 => 0.0,
        Variation::L2 => 1.0 / sums[k].sqrt(),
    });
    let mut grad = vec![0f32; x.len()];
    par::each_chunk(&mut grad, len, |(i, grad)| {
        for (pairs, scale) in pairs.iter().zip(scales) {
            pairs.add_slopes(&x[i * len..][..len], how, scale as f32, grad);
        }
    });
    let value = sums.iter().zip(scales).map(|(sum, scale)| sum * scale).sum();
    finished(value, grad, images)
}

/// Mean Euclidean norm of images `[N, H, W, C]`.
pub fn image_norm(images: &Tensor) -> Result<Loss> {
    let [n, h, w, c] = nhwc("image_norm", images)?;
    let host = mem::host(images)?;
    let (x, len) = (mem::view(&host)?, (h * w * c).max(1));
    let squares = |image: &[f32]| image.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
    let norms: Vec<f64> = x.par_chunks_exact(len).map(|image| squares(image).sqrt()).collect();
    let mut grad = vec![0f32; x.len()];
    par::each_chunk(&mut grad, len, |(i, grad)| {
        let scale = if norms[i] > 0.0 { (1.0 / (norms[i] * n as f64)) as f32 } else { 0.0 };
        grad.iter_mut().zip(&x[i * len..]).for_each(|(g, v)| *g = scale * v);
    });
    finished(norms.iter().sum::<f64>() / n as f64, grad, images)
}

fn finished(value: f64, grad: Vec<f32>, images: &Tensor) -> Result<Loss> {
    Ok(Loss { value: Value::Known(value), grad: mem::tensor(grad, images.dims())?.to_device(images.device())? })
}

/// All pairs of a pixel and a neighbour in an image `[H, W, C]`, channel by channel: stretches of the image beside stretches of it.
struct Pairs {
    /// Where the first stretch of the pixels begins, and that of their neighbours.
    from: usize,
    to: usize,
    stretches: usize,
    /// From one stretch to the next, and the length of each.
    step: usize,
    len: usize,
}

impl Pairs {
    /// Pixels and their neighbours `dy` rows and `dx` columns further.
    fn of([h, w, c]: [usize; 3], dy: usize, dx: isize) -> Self {
        let (left, right) = (dx.min(0).unsigned_abs(), dx.max(0).unsigned_abs());
        let len = w.saturating_sub(left + right) * c;
        let stretches = if len > 0 { h.saturating_sub(dy) } else { 0 };
        Self { from: left * c, to: (dy * w + right) * c, stretches, step: w * c, len }
    }

    fn count(&self) -> usize {
        self.stretches * self.len
    }

    /// The places of pixels and neighbours of each stretch.
    fn places(&self) -> impl Iterator<Item = [Range<usize>; 2]> {
        let Self { from, to, step, len, .. } = *self;
        (0..self.stretches).map(move |i| [from, to].map(|at| at + i * step..at + i * step + len))
    }

    /// Σ|d| or Σd² of the differences d.
    fn sum(&self, x: &[f32], how: Variation) -> f64 {
        let of = |[from, to]: [Range<usize>; 2]| match how {
            Variation::L1 => summed(&x[from], &x[to], |d| f64::from(d.abs())),
            Variation::L2 => summed(&x[from], &x[to], |d| f64::from(d).powi(2)),
        };
        self.places().map(of).sum()
    }

    /// Adds what each difference gives to the gradient of both of its pixels.
    fn add_slopes(&self, x: &[f32], how: Variation, scale: f32, grad: &mut [f32]) {
        let slope = |a: f32, b: f32| match how {
            Variation::L1 if a == b => 0.0,
            Variation::L1 => scale.copysign(a - b),
            Variation::L2 => scale * (a - b),
        };
        for [from, to] in self.places() {
            let pairs = || x[from.clone()].iter().zip(&x[to.clone()]);
            grad[from.clone()].iter_mut().zip(pairs()).for_each(|(g, (a, b))| *g += slope(*a, *b));
            grad[to.clone()].iter_mut().zip(pairs()).for_each(|(g, (a, b))| *g -= slope(*a, *b));
        }
    }
}

/// Σ f(a − b), in several sums at a time.
fn summed(a: &[f32], b: &[f32], f: impl Fn(f32) -> f64) -> f64 {
    const SUMS: usize = 8;
    let mut sums = [0f64; SUMS];
    let (a, b) = (a.chunks_exact(SUMS), b.chunks_exact(SUMS));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| f(a - b)).sum();
    for (a, b) in a.zip(b) {
        for i in 0..SUMS {
            sums[i] += f(a[i] - b[i]);
        }
    }
    sums.iter().sum::<f64>() + rest
}
