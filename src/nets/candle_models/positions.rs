//! Position embeddings for another number of patches, as DINOv2 takes them: bicubic interpolation of their grid, PyTorch's
//! `interpolate(mode="bicubic", align_corners=False)` with the kernel of Keys (1981), a = -0.75.

use crate::Result;
use crate::ops::mem::{tensor, view};
use candle_core::Tensor;

/// `[1, 1 + from², C]` (class token first) to `[1, 1 + to², C]`.
pub(super) fn resized(positions: &Tensor, from: usize, to: usize) -> Result<Tensor> {
    let values = view(positions)?;
    let c = values.len() / (1 + from * from);
    let (class, grid) = values.split_at(c);
    let taps: Vec<[(usize, f32); 4]> = (0..to).map(|i| taps(i, from, to)).collect();
    let mut out = Vec::with_capacity((1 + to * to) * c);
    out.extend_from_slice(class);
    for rows in &taps {
        for columns in &taps {
            let start = out.len();
            out.resize(start + c, 0f32);
            for (y, wy) in rows {
                for (x, wx) in columns {
                    let from = &grid[(y * from + x) * c..][..c];
                    out[start..].iter_mut().zip(from).for_each(|(o, v)| *o += wy * wx * v);
                }
            }
        }
    }
    Ok(tensor(out, (1, 1 + to * to, c))?)
}

/// Source positions and weights of output `i`; positions outside are those of the border.
fn taps(i: usize, from: usize, to: usize) -> [(usize, f32); 4] {
    let at = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
    let (floor, t) = (at.floor(), at - at.floor());
    let last = from as f64 - 1.0;
    [-1.0, 0.0, 1.0, 2.0].map(|step| ((floor + step).clamp(0.0, last) as usize, cubic(t - step) as f32))
}

fn cubic(distance: f64) -> f64 {
    const A: f64 = -0.75;
    let d = distance.abs();
    match d {
        d if d <= 1.0 => ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0,
        d if d < 2.0 => ((d - 5.0) * d + 8.0) * d * A - 4.0 * A,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// g = torch.tensor([0., 3, 1, 4, 1, 5, 9, 2, 6]).view(1, 1, 3, 3)
    /// F.interpolate(g, size=(2, 2), mode="bicubic", align_corners=False)
    /// F.interpolate(g, size=(4, 4), mode="bicubic", align_corners=False)[0, 0, 1]
    /// ```
    #[test]
    fn the_grid_is_interpolated_as_pytorch_does() {
        let values = vec![7.0, 0.0, 3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0];
        let positions = tensor(values.clone(), (1, 10, 1)).unwrap();
        let close = |found: &[f32], expected: &[f32]| {
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
            }
        };
        close(&view(&resized(&positions, 3, 3).unwrap()).unwrap(), &values);
        let smaller = resized(&positions, 3, 2).unwrap();
        assert_eq!(smaller.dims(), [1, 5, 1]);
        close(&view(&smaller).unwrap(), &[7.0, 1.156_555, 2.078_857, 6.431_365, 4.738_373]);
        close(&view(&resized(&positions, 3, 4).unwrap()).unwrap()[5..9], &[2.037_876, 1.552_501, 2.229_353, 3.580_649]);
    }
}
