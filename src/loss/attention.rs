//! Attention maps: where in a map there is most, whatever its channels say (Zagoruyko & Komodakis, "Paying more attention to
//! attention", 2017). Two networks can be compared by them though their widths differ.

use super::rows::Weights;
use super::{Loss, Value};
use crate::ops::{mem, spatial::nhwc};
use crate::{Error, Result};
use candle_core::Tensor;
use rayon::prelude::*;

/// Lengths below this are 0.
const LEAST: f64 = 1e-12;

/// Mean over images and pixels of `(q_s − q_t)²`, with `q` the sum of squares over the channels, divided by its length over the
/// image; images weigh as `weights` say. The gradient is with respect to the student's map.
///
/// `student` `[N, h, w, C]` and `teacher` `[N, h, w, D]` have the same grid.
///
/// # Errors
/// Maps of different grids, or another number of weights.
pub fn attention(student: &Tensor, teacher: &Tensor, weights: Option<&[f32]>) -> Result<Loss> {
    let ([n, h, w, c], [m, th, tw, d]) = (nhwc("attention", student)?, nhwc("attention", teacher)?);
    if [n, h, w] != [m, th, tw] {
        return Err(Error::shape("attention", format!("{:?} against {:?}", student.dims(), teacher.dims())));
    }
    let weights = Weights::of(weights, student)?;
    let (s, t) = (mem::host(student)?, mem::host(teacher)?);
    let (s, t) = (mem::view(&s)?, mem::view(&t)?);
    let (pixels, mut grad) = (h * w, vec![0f32; n * h * w * c]);
    let images = grad.par_chunks_exact_mut(pixels * c).enumerate();
    let values: Vec<f64> = images
        .map(|(i, grad)| {
            let share = weights.share(i * pixels);
            one_image(&s[i * pixels * c..][..pixels * c], &t[i * pixels * d..][..pixels * d], pixels, share, grad)
        })
        .collect();
    let grad = mem::tensor(grad, student.dims())?.to_device(student.device())?;
    Ok(Loss { value: Value::Known(values.iter().sum()), grad: mem::cast(&grad, student.dtype())? })
}

/// `share` times the squared distance of one image; writes its gradient.
fn one_image(s: &[f32], t: &[f32], pixels: usize, share: f64, grad: &mut [f32]) -> f64 {
    let ((own, length), (goal, _)) = (unit_energy(s, pixels), unit_energy(t, pixels));
    let slope: Vec<f64> = own.iter().zip(&goal).map(|(q, p)| 2.0 * share * (q - p)).collect();
    // Through the division by the length: only what is across q is left.
    let along: f64 = slope.iter().zip(&own).map(|(g, q)| g * q).sum();
    let channels = s.len() / pixels;
    let pixel = s.chunks_exact(channels).zip(grad.chunks_exact_mut(channels));
    for (((x, grad), g), q) in pixel.zip(&slope).zip(&own) {
        let energy = if length > LEAST { (g - q * along) / length } else { 0.0 };
        grad.iter_mut().zip(x).for_each(|(out, x)| *out = (2.0 * energy * f64::from(*x)) as f32);
    }
    share * own.iter().zip(&goal).map(|(q, p)| (q - p).powi(2)).sum::<f64>()
}

/// The sum of squares over the channels of every pixel, divided by its length over the image, and that length.
fn unit_energy(x: &[f32], pixels: usize) -> (Vec<f64>, f64) {
    let channels = x.len() / pixels;
    let mut energy: Vec<f64> =
        x.chunks_exact(channels).map(|pixel| pixel.iter().map(|v| f64::from(*v).powi(2)).sum()).collect();
    let length = energy.iter().map(|e| e * e).sum::<f64>().sqrt();
    energy.iter_mut().for_each(|e| *e /= length.max(LEAST));
    (energy, length)
}
