//! Image priors of DeepInversion: neighbouring pixels are alike, and pixels are not extreme (Yin et al., "Dreaming to
//! Distill", 2020, equation 3, after Mahendran and Vedaldi, 2015).

use super::{Loss, Value};
use crate::Result;
use crate::ops::{mem, spatial::nhwc};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

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
    let [n, h, w, c] = nhwc("total_variation", images)?;
    let host = mem::host(images)?;
    let x = mem::view(&host)?;
    let mut grad = vec![0f64; x.len()];
    let mut value = 0.0;
    for (dy, dx) in NEIGHBOURS {
        let pairs = Pairs { n, h, w, c, dy, dx };
        let difference = |(a, b): (usize, usize)| f64::from(x[a]) - f64::from(x[b]);
        let (mut sum, mut count) = (0.0, 0usize);
        pairs.each(|pair| {
            let d = difference(pair);
            sum += if how == Variation::L1 { d.abs() } else { d * d };
            count += 1;
        });
        let scale = match how {
            Variation::L1 => 1.0 / count.max(1) as f64,
            Variation::L2 if sum == 0.0 => 0.0,
            Variation::L2 => 1.0 / sum.sqrt(),
        };
        value += sum * scale;
        pairs.each(|pair| {
            let d = difference(pair);
            let slope = match how {
                Variation::L1 if d == 0.0 => 0.0,
                Variation::L1 => scale * d.signum(),
                Variation::L2 => scale * d,
            };
            grad[pair.0] += slope;
            grad[pair.1] -= slope;
        });
    }
    finished(value, grad, images)
}

/// Mean Euclidean norm of images `[N, H, W, C]`.
pub fn image_norm(images: &Tensor) -> Result<Loss> {
    let [n, h, w, c] = nhwc("image_norm", images)?;
    let host = mem::host(images)?;
    let x = mem::view(&host)?;
    let mut value = 0.0;
    let mut grad = Vec::with_capacity(x.len());
    for image in x.chunks_exact(h * w * c) {
        let norm = image.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        value += norm / n as f64;
        let scale = if norm > 0.0 { 1.0 / (norm * n as f64) } else { 0.0 };
        grad.extend(image.iter().map(|v| scale * f64::from(*v)));
    }
    finished(value, grad, images)
}

fn finished(value: f64, grad: Vec<f64>, images: &Tensor) -> Result<Loss> {
    let grad = mem::tensor(grad.into_iter().map(|v| v as f32).collect(), images.dims())?;
    Ok(Loss { value: Value::Known(value), grad: grad.to_device(images.device())? })
}

/// All pairs of a pixel and its neighbour at (dy, dx), channel by channel.
struct Pairs {
    n: usize,
    h: usize,
    w: usize,
    c: usize,
    dy: usize,
    dx: isize,
}

impl Pairs {
    fn each(&self, mut f: impl FnMut((usize, usize))) {
        let Self { n, h, w, c, dy, dx } = *self;
        let columns = dx.min(0).unsigned_abs()..w - dx.max(0).unsigned_abs().min(w);
        for i in 0..n {
            for y in 0..h.saturating_sub(dy) {
                for x in columns.clone() {
                    let from = ((i * h + y) * w + x) * c;
                    let to = ((i * h + y + dy) * w + x.wrapping_add_signed(dx)) * c;
                    (0..c).for_each(|ch| f((from + ch, to + ch)));
                }
            }
        }
    }
}
