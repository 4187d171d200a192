//! PReLU with one slope per channel (He et al., "Delving Deep into Rectifiers", 2015, equation 1), of `z = x` or of
//! `z = scale·x + shift` per channel, so that a batch norm in front of it is never written to memory.
//!
//! `y = z` above 0, `slope·z` elsewhere; at 0 the derivative is the slope, as in PyTorch. A slope may have any sign and size,
//! which is why this is no [`super::Activation`]: what went in cannot be told from what comes out.

use super::conv2d::Affine;
use super::mem::{View, build, tensor, update, view};
use super::par::{self, Shared};
use super::simd::{Simd, simd_fn};
use crate::{Error, Result};
use candle_core::Tensor;

/// Values per piece of work.
const GRAIN: usize = 65_536;
/// The most lanes of any [`Simd`]; those of the others divide it.
const MOST_LANES: usize = 16;

/// What a pass reads: rows of one value per channel.
struct Rows<'a> {
    x: View<'a>,
    channels: usize,
    per_value: PerValue,
    count: usize,
    pieces: usize,
}

/// Slope and map of each of the values after the start of a row, up to where a row and a vector of any [`Simd`] end together: the
/// channels of these networks (12, 19, 131, ..) are seldom whole vectors, so rows are read across their ends.
struct PerValue {
    slope: Vec<f32>,
    /// The map in front; 1 and 0 where there is none.
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl PerValue {
    fn new(slope: &[f32], before: Option<(&[f32], &[f32])>) -> Self {
        let channels = slope.len();
        let rows = (1..=MOST_LANES).find(|rows| (rows * channels).is_multiple_of(MOST_LANES)).unwrap_or(MOST_LANES);
        let (scale, shift) = match before {
            Some((scale, shift)) => (scale.repeat(rows), shift.repeat(rows)),
            None => (vec![1.0; rows * channels], vec![0.0; rows * channels]),
        };
        Self { slope: slope.repeat(rows), scale, shift }
    }

    /// What the map makes of the vector at `x`, whose first value stands at `i` of the period.
    ///
    /// # Safety
    /// As the functions of [`Simd`]; the vector ends inside the period.
    #[inline(always)]
    unsafe fn mapped<S: Simd>(&self, x: *const f32, i: usize) -> S::V {
        // SAFETY: promised by the caller.
        unsafe { S::fma(S::load(x), S::load(self.scale.as_ptr().add(i)), S::load(self.shift.as_ptr().add(i))) }
    }
}

impl<'a> Rows<'a> {
    fn new(x: &'a Tensor, before: Option<&Affine>, slope: &Tensor) -> Result<Self> {
        let channels = slope.elem_count();
        let map = before.map(|map| Ok::<_, Error>((view(&map.scale)?, view(&map.shift)?))).transpose()?;
        let of_map =
            map.as_ref().map_or(channels, |(scale, shift)| if scale.len() == shift.len() { scale.len() } else { 0 });
        let activated = before.is_some_and(|map| !map.act.is_identity());
        let fits = channels > 0 && x.dims().last() == Some(&channels) && of_map == channels;
        if !fits || activated {
            let found = format!("input {:?}, {channels} slopes, map of {of_map} channels", x.dims());
            return Err(Error::shape("prelu", found));
        }
        let (x, slope) = (view(x)?, view(slope)?);
        let per_value = PerValue::new(&slope, map.as_ref().map(|(scale, shift)| (&scale[..], &shift[..])));
        let count = x.len() / channels;
        Ok(Self { count, pieces: par::pieces(count, (GRAIN / channels).max(1)), x, channels, per_value })
    }

    /// First value of piece `i`, and how many there are.
    fn piece(&self, i: usize) -> (usize, usize) {
        let r = par::range(self.count, self.pieces, i);
        (r.start * self.channels, r.len() * self.channels)
    }
}

/// `prelu(scale·x + shift)`, or `prelu(x)` without a map, for `x [.., C]` and `slope [C]`. The map may have no activation.
///
/// # Errors
/// Slopes or a map that do not fit the last dimension of `x`.
pub fn forward(x: &Tensor, before: Option<&Affine>, slope: &Tensor) -> Result<Tensor> {
    on_cuda!(x, on_card(x, before, slope));
    let rows = Rows::new(x, before, slope)?;
    // SAFETY: the pieces are disjoint and cover all values, and every one of a piece is written.
    unsafe {
        build(x.shape().clone(), |out| {
            let out = Shared(out);
            par::each(rows.pieces, |i| {
                let (at, len) = rows.piece(i);
                forward_values(&rows.per_value, rows.x.as_ptr().add(at), len, out.at(at));
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
    let period = rows.per_value.slope.len();
    let mut partial = vec![0f32; rows.pieces * period];
    let sums = Shared(partial.as_mut_ptr());
    update(dy, |dy| {
        let dy = Shared(dy.as_mut_ptr());
        par::each(rows.pieces, |i| {
            let (at, len) = rows.piece(i);
            // SAFETY: pieces are disjoint, in the gradient and in the sums.
            unsafe { backward_values(&rows.per_value, rows.x.as_ptr().add(at), len, dy.at(at), sums.at(i * period)) }
        });
    })?;
    tensor(par::sum_rows(&partial, rows.channels).iter().map(|v| *v as f32).collect(), rows.channels)
}

simd_fn!(
    /// [`forward`] of `len` values from the start of a row.
    fn forward_values(per: &PerValue, x: *const f32, len: usize, out: *mut f32) = forward_kernel
);

#[inline(always)]
unsafe fn forward_kernel<S: Simd>(per: &PerValue, x: *const f32, len: usize, out: *mut f32) {
    let period = per.slope.len();
    // SAFETY: `x` and `out` hold len values, the lists of `per` a period of whole vectors; a vector is only used where all its
    // lanes lie below len.
    unsafe {
        for start in (0..len).step_by(period) {
            let end = (len - start).min(period);
            let mut i = 0;
            while i + S::LANES <= end {
                let z = per.mapped::<S>(x.add(start + i), i);
                let below = S::mul(z, S::load(per.slope.as_ptr().add(i)));
                S::store(out.add(start + i), S::if_gt(z, S::splat(0.0), z, below));
                i += S::LANES;
            }
            while i < end {
                let z = (*x.add(start + i)).mul_add(per.scale[i], per.shift[i]);
                *out.add(start + i) = if z > 0.0 { z } else { z * per.slope[i] };
                i += 1;
            }
        }
    }
}

simd_fn!(
    /// [`backward`] of `len` values from the start of a row; adds what the slopes get to `sums`, one per value of the period.
    fn backward_values(per: &PerValue, x: *const f32, len: usize, dy: *mut f32, sums: *mut f32) = backward_kernel
);

#[inline(always)]
unsafe fn backward_kernel<S: Simd>(per: &PerValue, x: *const f32, len: usize, dy: *mut f32, sums: *mut f32) {
    let period = per.slope.len();
    // SAFETY: as in `forward_kernel`; `sums` holds a period.
    unsafe {
        for start in (0..len).step_by(period) {
            let end = (len - start).min(period);
            let mut i = 0;
            while i + S::LANES <= end {
                let z = per.mapped::<S>(x.add(start + i), i);
                let (g, none) = (S::load(dy.add(start + i)), S::splat(0.0));
                let below = S::mul(g, S::load(per.slope.as_ptr().add(i)));
                S::store(dy.add(start + i), S::if_gt(z, none, g, below));
                let of_slope = S::if_gt(z, none, none, S::mul(g, z));
                S::store(sums.add(i), S::add(S::load(sums.add(i)), of_slope));
                i += S::LANES;
            }
            while i < end {
                let z = (*x.add(start + i)).mul_add(per.scale[i], per.shift[i]);
                let g = *dy.add(start + i);
                let (kept, of_slope) = if z > 0.0 { (g, 0.0) } else { (g * per.slope[i], g * z) };
                *dy.add(start + i) = kept;
                *sums.add(i) += of_slope;
                i += 1;
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activation, simd};

    /// Channels that are no whole vectors, several pieces, and ends inside a period.
    #[test]
    fn values_and_gradients_are_those_of_f64_on_every_path() {
        let _alone = simd::CHOICE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let noise = |i: usize| ((i * 2_654_435_761) % 4001) as f32 / 2000.0 - 1.0;
        for level in simd::Level::available() {
            simd::force(Some(level));
            for (channels, rows) in [(1, 7), (5, 3), (12, 17_001), (19, 8_000), (131, 1_003), (64, 100)] {
                let list = |from: usize, len: usize| -> Vec<f32> { (from..from + len).map(noise).collect() };
                let n = rows * channels;
                let (values, dy) = (list(3, n), list(77_777, n));
                let (slopes, scale, shift) = (list(5, channels), list(11, channels), list(29, channels));
                let x = tensor(values.clone(), (rows, channels)).unwrap();
                let slope = tensor(slopes.clone(), channels).unwrap();
                let of = |list: &[f32]| tensor(list.to_vec(), channels).unwrap();
                let map = Affine { scale: of(&scale), shift: of(&shift), act: Activation::IDENTITY };
                let y = forward(&x, Some(&map), &slope).unwrap();
                let d = tensor(dy.clone(), (rows, channels)).unwrap();
                let of_slopes = backward(&d, &x, Some(&map), &slope).unwrap();
                let (y, d, of_slopes) = (view(&y).unwrap(), view(&d).unwrap(), view(&of_slopes).unwrap());
                let (mut expected, mut mass) = (vec![0f64; channels], vec![0f64; channels]);
                for i in 0..n {
                    let c = i % channels;
                    let z = f64::from(values[i]) * f64::from(scale[c]) + f64::from(shift[c]);
                    // So near to 0 the side is that of the rounding.
                    let side = if z.abs() < 1e-6 { 0.0 } else { z };
                    let (value, derivative) =
                        if side > 0.0 { (z, 1.0) } else { (z * f64::from(slopes[c]), f64::from(slopes[c])) };
                    let of_slope = if side > 0.0 { 0.0 } else { f64::from(dy[i]) * z };
                    (expected[c], mass[c]) = (expected[c] + of_slope, mass[c] + of_slope.abs());
                    let apart = (f64::from(y[i]) - value).abs();
                    assert!(apart < 1e-6, "{}, {channels} channels, value {i}: {apart:e}", level.name());
                    let apart = (f64::from(d[i]) - derivative * f64::from(dy[i])).abs();
                    assert!(
                        side == 0.0 || apart < 1e-6,
                        "{}, {channels} channels, gradient {i}: {apart:e}",
                        level.name()
                    );
                }
                for (c, expected) in expected.iter().enumerate() {
                    let apart = (f64::from(of_slopes[c]) - expected).abs();
                    assert!(
                        apart < 1e-6 * mass[c] + 1e-6,
                        "{}, {channels} channels, slope {c}: {apart:e}",
                        level.name()
                    );
                }
            }
        }
        simd::force(None);
    }
}
