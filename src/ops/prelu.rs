//! PReLU with one slope per channel (He et al., "Delving Deep into Rectifiers", 2015, equation 1), of `z = x` or of
//! `z = scale·x + shift` per channel, so that a batch norm in front of it is never written to memory.
//!
//! `y = z` above 0, `slope·z` elsewhere; at 0 the derivative is the slope, as in PyTorch. A slope may have any sign and size,
//! which is why this is no [`super::Activation`]: what went in cannot be told from what comes out.

use super::conv2d::Affine;
use super::mem::{View, build, tensor, update, view};
use super::par::{self, Shared};
use crate::{Error, Result};
use candle_core::Tensor;

/// Values per piece of work.
const GRAIN: usize = 65_536;

/// What a pass reads: rows of one value per channel.
struct Rows<'a> {
    x: View<'a>,
    slope: View<'a>,
    /// The map in front; 1 and 0 where there is none.
    scale: Vec<f32>,
    shift: Vec<f32>,
    count: usize,
    pieces: usize,
}

impl<'a> Rows<'a> {
    fn new(x: &'a Tensor, before: Option<&Affine>, slope: &'a Tensor) -> Result<Self> {
        let channels = slope.elem_count();
        let (scale, shift) = match before {
            Some(map) => (view(&map.scale)?.to_vec(), view(&map.shift)?.to_vec()),
            None => (vec![1.0; channels], vec![0.0; channels]),
        };
        let activated = before.is_some_and(|map| !map.act.is_identity());
        let fits = channels > 0 && x.dims().last() == Some(&channels) && [scale.len(), shift.len()] == [channels; 2];
        if !fits || activated {
            let found = format!("input {:?}, {channels} slopes, map of {} channels", x.dims(), scale.len());
            return Err(Error::shape("prelu", found));
        }
        let (x, slope) = (view(x)?, view(slope)?);
        let count = x.len() / channels;
        Ok(Self { count, pieces: par::pieces(count, (GRAIN / channels).max(1)), x, slope, scale, shift })
    }

    /// First value of piece `i`, and how many there are.
    fn piece(&self, i: usize) -> (usize, usize) {
        let (r, channels) = (par::range(self.count, self.pieces, i), self.slope.len());
        (r.start * channels, r.len() * channels)
    }
}

/// `prelu(scale·x + shift)`, or `prelu(x)` without a map, for `x [.., C]` and `slope [C]`. The map may have no activation.
///
/// # Errors
/// Slopes or a map that do not fit the last dimension of `x`.
pub fn forward(x: &Tensor, before: Option<&Affine>, slope: &Tensor) -> Result<Tensor> {
    on_cuda!(x, on_card(x, before, slope));
    let rows = Rows::new(x, before, slope)?;
    let (values, slope): (&[f32], &[f32]) = (&rows.x, &rows.slope);
    let (scale, shift) = (&rows.scale[..], &rows.shift[..]);
    let channels = slope.len();
    // SAFETY: the pieces are disjoint and cover all values, and every one of a piece is written.
    unsafe {
        build(x.shape().clone(), |out| {
            let out = Shared(out);
            par::each(rows.pieces, |i| {
                let (at, len) = rows.piece(i);
                for start in (at..at + len).step_by(channels) {
                    let to = out.at(start);
                    let row = &values[start..start + channels];
                    for (c, v) in row.iter().enumerate() {
                        let z = scale[c] * v + shift[c];
                        to.add(c).write(if z > 0.0 { z } else { slope[c] * z });
                    }
                }
            });
        })
    }
}

/// Turns the gradient of [`forward`] at its output into that at what the map gave, in place; returns that of the slopes, `[C]`.
///
/// # Errors
/// As [`forward`], and a gradient of another size than `x`.
pub fn backward(dy: &Tensor, x: &Tensor, before: Option<&Affine>, slope: &Tensor) -> Result<Tensor> {
    on_cuda!(x, backward_on_card(dy, x, before, slope));
    let rows = Rows::new(x, before, slope)?;
    if dy.elem_count() != rows.x.len() {
        return Err(Error::shape("prelu", format!("gradient {:?} of {:?}", dy.dims(), x.dims())));
    }
    let (values, slope): (&[f32], &[f32]) = (&rows.x, &rows.slope);
    let (scale, shift) = (&rows.scale[..], &rows.shift[..]);
    let channels = slope.len();
    let mut partial = vec![0f32; rows.pieces * channels];
    let sums = Shared(partial.as_mut_ptr());
    update(dy, |dy| {
        let dy = Shared(dy.as_mut_ptr());
        par::each(rows.pieces, |i| {
            let (at, len) = rows.piece(i);
            // SAFETY: pieces are disjoint, in the gradient and in the sums.
            let (dy, sum) = unsafe {
                (
                    std::slice::from_raw_parts_mut(dy.at(at), len),
                    std::slice::from_raw_parts_mut(sums.at(i * channels), channels),
                )
            };
            for (row, g) in values[at..at + len].chunks_exact(channels).zip(dy.chunks_exact_mut(channels)) {
                for c in 0..channels {
                    let z = scale[c] * row[c] + shift[c];
                    let below = z <= 0.0;
                    sum[c] += if below { g[c] * z } else { 0.0 };
                    g[c] *= if below { slope[c] } else { 1.0 };
                }
            }
        });
    })?;
    tensor(par::sum_rows(&partial, channels).iter().map(|v| *v as f32).collect(), channels)
}

/// On a card the map is written out first: readers there do not apply maps themselves.
#[cfg(feature = "cuda")]
fn on_card(x: &Tensor, before: Option<&Affine>, slope: &Tensor) -> Result<Tensor> {
    let mapped = before.map(|map| super::cuda::norm::apply(x, map, None)).transpose()?;
    super::cuda::pointwise::prelu(mapped.as_ref().unwrap_or(x), slope)
}

#[cfg(feature = "cuda")]
fn backward_on_card(dy: &Tensor, x: &Tensor, before: Option<&Affine>, slope: &Tensor) -> Result<Tensor> {
    let mapped = before.map(|map| super::cuda::norm::apply(x, map, None)).transpose()?;
    let parts = super::cuda::pointwise::prelu_backward(dy, mapped.as_ref().unwrap_or(x), slope)?;
    super::cuda::norm::channel_sums(&parts)
}
