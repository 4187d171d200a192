//! Layer norm over the last dimension (Ba et al., "Layer Normalization", 2016), forward only.

use super::mem::{build, view};
use super::par::{self, Shared};
use crate::{Error, Result};
use candle_core::Tensor;
use std::mem::MaybeUninit;

/// Values per piece.
const GRAIN: usize = 65_536;

/// `(x - mean) / sqrt(variance + eps) * weight + bias` for every row of `x [.., C]`, `weight [C]`, `bias [C]`; the variance
/// is the biased one.
///
/// Mean and variance take two passes in f64: the difference of two squares, as candle takes it, loses a small variance
/// beside a large mean.
///
/// # Errors
/// [`Error::Shape`] for other shapes, or tensors that are not contiguous f32.
pub fn forward(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let (xv, wv, bv) = (view(x)?, view(weight)?, view(bias)?);
    let c = x.dims().last().copied().unwrap_or(0);
    if c == 0 || wv.len() != c || bv.len() != c {
        let found = format!("{:?} with weight {:?} and bias {:?}", x.dims(), weight.dims(), bias.dims());
        return Err(Error::shape("layer_norm", found));
    }
    let (values, w, b): (&[f32], &[f32], &[f32]) = (&xv, &wv, &bv);
    let rows = values.len() / c;
    let pieces = par::pieces(rows, GRAIN.div_ceil(c));
    // SAFETY: the pieces are disjoint ranges of rows and cover all of them.
    unsafe {
        build(x.shape().clone(), |out| {
            let out = Shared(out);
            par::each(pieces, |i| {
                let range = par::range(rows, pieces, i);
                let to = std::slice::from_raw_parts_mut(out.at(range.start * c).cast(), range.len() * c);
                let from = &values[range.start * c..range.end * c];
                from.chunks_exact(c).zip(to.chunks_exact_mut(c)).for_each(|(x, y)| row(x, w, b, eps, y));
            });
        })
    }
}

fn row(x: &[f32], w: &[f32], b: &[f32], eps: f64, y: &mut [MaybeUninit<f32>]) {
    let n = x.len() as f64;
    let mean = sum(x, |v| v) / n;
    let variance = sum(x, |v| (v - mean) * (v - mean)) / n;
    let scale = 1.0 / (variance + eps).sqrt();
    for (((y, x), w), b) in y.iter_mut().zip(x).zip(w).zip(b) {
        y.write(((f64::from(*x) - mean) * scale) as f32 * w + b);
    }
}

/// Sum of `f` over values, in eight lanes that the compiler can keep in registers.
fn sum(x: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0f64; 8];
    let (chunks, rest) = x.as_chunks::<8>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane += f(f64::from(*v)));
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|v| f(f64::from(*v))).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::tensor;

    /// ```python
    /// x = torch.arange(11.) ** 2 / 10
    /// F.layer_norm(x + mean, (11,), torch.linspace(0.5, 1.5, 11), torch.linspace(-1, 1, 11), 1e-6)
    /// ```
    /// at a mean of 0; a mean of a thousand deviations changes nothing but the roundings of `x` itself.
    const EXPECTED: [f32; 11] = [
        -1.533_001_7,
        -1.421_327_7,
        -1.260_922_2,
        -1.033_510_6,
        -0.720_818_76,
        -0.304_572_4,
        0.233_503,
        0.911_681_8,
        1.748_238_2,
        2.761_446_5,
        3.969_581_1,
    ];

    #[test]
    fn rows_are_normalised_beside_any_mean() {
        for (mean, tolerance) in [(0.0, 2e-6), (4096.0, 2e-3)] {
            let x: Vec<f32> = (0..22).map(|i| (i % 11 * (i % 11)) as f32 / 10.0 + mean).collect();
            let line = |from: f32, to: f32| (0..11).map(|i| from + (to - from) * i as f32 / 10.0).collect();
            let (w, b) = (tensor(line(0.5, 1.5), 11).unwrap(), tensor(line(-1.0, 1.0), 11).unwrap());
            let y = forward(&tensor(x, (2, 1, 11)).unwrap(), &w, &b, 1e-6).unwrap();
            assert_eq!(y.dims(), [2, 1, 11]);
            for (y, expected) in view(&y).unwrap().iter().zip(EXPECTED.iter().cycle()) {
                assert!((y - expected).abs() < tolerance, "{y}, expected {expected} (mean {mean})");
            }
        }
        let (x, w) = (tensor(vec![0.0; 6], (2, 3)).unwrap(), tensor(vec![1.0; 2], 2).unwrap());
        assert!(forward(&x, &w, &w, 1e-6).unwrap_err().to_string().starts_with("layer_norm"));
    }
}
