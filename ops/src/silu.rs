//! SiLU, `z·σ(z)` (Elfwing, Uchibe and Doya, "Sigmoid-Weighted Linear Units", 2017; also called swish), of `z = x` or of
//! `z = scale·x + shift` per channel, so that a batch norm in front of it is never written to memory.
//!
//! Cost per value: one read, one write, and some twenty multiply-adds for the exponential, which is not bound by memory.

use super::conv2d::Affine;
use super::mem::{View, build, update, view};
use super::par::{self, Shared};
use super::simd::{self, Simd, simd_fn};
use crate::{Error, Result};
use candle_core::Tensor;

/// Values per piece of work.
const GRAIN: usize = 65_536;

/// `[C]` each.
#[derive(Clone, Copy)]
struct Map<'a> {
    scale: &'a [f32],
    shift: &'a [f32],
}

/// How the values of a tensor are cut: rows of `channels` values behind a map, single values without one.
struct Cut {
    /// Values that stay together.
    unit: usize,
    total: usize,
    pieces: usize,
}

impl Cut {
    fn new(len: usize, map: Option<Map>) -> Self {
        let unit = map.map_or(1, |map| map.scale.len());
        Self { unit, total: len / unit, pieces: par::pieces(len / unit, (GRAIN / unit).max(1)) }
    }

    /// First value of piece `i`, and what it holds as (rows, values per row).
    fn piece(&self, i: usize, mapped: bool) -> (usize, usize, usize) {
        let r = par::range(self.total, self.pieces, i);
        let (rows, row) = if mapped { (r.len(), self.unit) } else { (1, r.len()) };
        (r.start * self.unit, rows, row)
    }
}

/// The map of a norm, which must have no activation of its own.
struct Before<'a>(Option<(View<'a>, View<'a>)>);

impl<'a> Before<'a> {
    fn new(before: Option<&'a Affine>, x: &Tensor) -> Result<Self> {
        let Some(affine) = before else { return Ok(Self(None)) };
        let (scale, shift) = (view(&affine.scale)?, view(&affine.shift)?);
        let channels = x.dims().last().copied().unwrap_or(0);
        if scale.len() != channels || shift.len() != channels || channels == 0 || !affine.act.is_identity() {
            let found = format!("input {:?}, map of {} channels with {:?}", x.dims(), scale.len(), affine.act);
            return Err(Error::shape("silu", found));
        }
        Ok(Self(Some((scale, shift))))
    }

    fn map(&self) -> Option<Map<'_>> {
        self.0.as_ref().map(|(scale, shift)| Map { scale, shift })
    }
}

/// `silu(scale·x + shift)`, or `silu(x)` without a map. The map may have no activation.
///
/// # Errors
/// A map that does not fit the last dimension of `x`.
pub fn forward(x: &Tensor, before: Option<&Affine>) -> Result<Tensor> {
    on_cuda!(x, on_card(x, before));
    let before = Before::new(before, x)?;
    let map = before.map();
    let xv = view(x)?;
    let cut = Cut::new(xv.len(), map);
    let xs: &[f32] = &xv;
    // SAFETY: the pieces are disjoint and cover all values.
    unsafe {
        build(x.shape().clone(), |out| {
            let out = Shared(out);
            par::each(cut.pieces, |i| {
                let (at, rows, row) = cut.piece(i, map.is_some());
                forward_rows(map, xs.as_ptr().add(at), rows, row, out.at(at));
            });
        })
    }
}

/// On a card the map is written out first: readers there do not apply maps themselves.
#[cfg(feature = "cuda")]
fn on_card(x: &Tensor, before: Option<&Affine>) -> Result<Tensor> {
    let mapped = before.map(|map| super::cuda::norm::apply(x, map, None)).transpose()?;
    super::cuda::pointwise::smooth(super::cuda::pointwise::Smooth::Silu, mapped.as_ref().unwrap_or(x))
}

#[cfg(feature = "cuda")]
fn backward_on_card(dy: &Tensor, x: &Tensor, before: Option<&Affine>) -> Result<()> {
    let mapped = before.map(|map| super::cuda::norm::apply(x, map, None)).transpose()?;
    super::cuda::pointwise::smooth_backward(super::cuda::pointwise::Smooth::Silu, dy, mapped.as_ref().unwrap_or(x))
}

/// Turns the gradient of [`forward`] at its output into that at what the map gave, in place.
///
/// # Errors
/// As [`forward`], and a gradient of another size than `x`.
pub fn backward(dy: &Tensor, x: &Tensor, before: Option<&Affine>) -> Result<()> {
    on_cuda!(x, backward_on_card(dy, x, before));
    let before = Before::new(before, x)?;
    let map = before.map();
    let xv = view(x)?;
    if dy.elem_count() != xv.len() {
        return Err(Error::shape("silu", format!("gradient {:?} of input {:?}", dy.dims(), x.dims())));
    }
    let cut = Cut::new(xv.len(), map);
    let xs: &[f32] = &xv;
    update(dy, |d| {
        let d = Shared(d.as_mut_ptr());
        par::each(cut.pieces, |i| {
            let (at, rows, row) = cut.piece(i, map.is_some());
            // SAFETY: disjoint pieces of equally long slices.
            unsafe { backward_rows(map, xs.as_ptr().add(at), rows, row, d.at(at)) };
        });
    })
}

/// σ(z) to a few units in the last place.
///
/// With the parts of e^−z of [`simd::exponent`], for whose r eight terms of the series suffice. Beyond ±87 z counts as ±87.
#[inline(always)]
unsafe fn sigmoid<S: Simd>(z: S::V) -> S::V {
    /// 1/7!, ..., 1/1!, 1/0!
    const SERIES: [f32; 8] = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    // SAFETY: no pointers; the instruction set is that of the caller.
    unsafe {
        let [pow, r] = simd::exponent::<S>(S::mul(z, S::splat(-1.0)));
        let mut e = S::splat(SERIES[0]);
        for c in &SERIES[1..] {
            e = S::fma(e, r, S::splat(*c));
        }
        let one = S::splat(1.0);
        S::div(one, S::fma(e, pow, one))
    }
}

/// d(z·σ(z))/dz = σ(z)·(1 + z·(1 − σ(z)))
#[inline(always)]
unsafe fn slope<S: Simd>(z: S::V) -> S::V {
    // SAFETY: as above.
    unsafe {
        let (s, one) = (sigmoid::<S>(z), S::splat(1.0));
        let rest = S::fma(s, S::splat(-1.0), one);
        S::mul(s, S::fma(z, rest, one))
    }
}

#[inline(always)]
unsafe fn mapped<S: Simd>(map: Option<Map>, x: *const f32, i: usize) -> S::V {
    // SAFETY: a vector of values and of the map's channels lies at `i`, says the caller.
    unsafe {
        let x = S::load(x.add(i));
        match map {
            Some(map) => S::fma(x, S::load(map.scale.as_ptr().add(i)), S::load(map.shift.as_ptr().add(i))),
            None => x,
        }
    }
}

/// Values of a row that fill no vector, in a buffer that does.
#[inline(always)]
fn tail(map: Option<Map>, x: &[f32], first: usize) -> [f32; 16] {
    let mut z = [0f32; 16];
    for (k, (z, x)) in z.iter_mut().zip(x).enumerate() {
        *z = map.map_or(*x, |map| x.mul_add(map.scale[first + k], map.shift[first + k]));
    }
    z
}

simd_fn!(fn forward_rows(map: Option<Map>, x: *const f32, rows: usize, row: usize, out: *mut f32) = forward_kernel);

#[inline(always)]
unsafe fn forward_kernel<S: Simd>(map: Option<Map>, x: *const f32, rows: usize, row: usize, out: *mut f32) {
    let whole = row - row % S::LANES;
    // SAFETY: `x` and `out` hold rows·row values and the map `row`; vectors end inside the row, or read the buffer, which
    // has room for the widest.
    unsafe {
        for r in 0..rows {
            let (x, out) = (x.add(r * row), out.add(r * row));
            let mut i = 0;
            while i < whole {
                let z = mapped::<S>(map, x, i);
                S::store(out.add(i), S::mul(z, sigmoid::<S>(z)));
                i += S::LANES;
            }
            if i < row {
                let mut buffer = tail(map, std::slice::from_raw_parts(x.add(i), row - i), i);
                let z = S::load(buffer.as_ptr());
                S::store(buffer.as_mut_ptr(), S::mul(z, sigmoid::<S>(z)));
                std::ptr::copy_nonoverlapping(buffer.as_ptr(), out.add(i), row - i);
            }
        }
    }
}

simd_fn!(fn backward_rows(map: Option<Map>, x: *const f32, rows: usize, row: usize, d: *mut f32) = backward_kernel);

#[inline(always)]
unsafe fn backward_kernel<S: Simd>(map: Option<Map>, x: *const f32, rows: usize, row: usize, d: *mut f32) {
    let whole = row - row % S::LANES;
    // SAFETY: as for the forward kernel, with `d` in place of `out`.
    unsafe {
        for r in 0..rows {
            let (x, d) = (x.add(r * row), d.add(r * row));
            let mut i = 0;
            while i < whole {
                let z = mapped::<S>(map, x, i);
                S::store(d.add(i), S::mul(S::load(d.add(i)), slope::<S>(z)));
                i += S::LANES;
            }
            if i < row {
                let mut buffer = tail(map, std::slice::from_raw_parts(x.add(i), row - i), i);
                let z = S::load(buffer.as_ptr());
                S::store(buffer.as_mut_ptr(), slope::<S>(z));
                let d = std::slice::from_raw_parts_mut(d.add(i), row - i);
                d.iter_mut().zip(buffer).for_each(|(d, slope)| *d *= slope);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::tensor;
    use crate::simd;

    /// Over the whole range of f32, at the ends of the exponential's, and where it is not a number.
    #[test]
    fn values_and_slopes_are_those_of_f64_on_every_path() {
        let _alone = simd::CHOICE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut z: Vec<f32> = (-2000..=2000).map(|i| i as f32 / 16.0).collect();
        z.extend([0.0, -0.0, 87.0, -87.0, 88.5, -88.5, 1e-30, -1e-30, 1e30, -1e30, 6.0, f32::MIN_POSITIVE]);
        let x = tensor(z.clone(), z.len()).unwrap();
        for level in simd::Level::available() {
            simd::force(Some(level));
            let y = forward(&x, None).unwrap();
            let slope = tensor(vec![1.0; z.len()], z.len()).unwrap();
            backward(&slope, &x, None).unwrap();
            let (y, slope) = (view(&y).unwrap(), view(&slope).unwrap());
            for (i, z) in z.iter().map(|z| f64::from(*z)).enumerate() {
                let s = 1.0 / (1.0 + (-z).exp());
                let (value, derivative) = (z * s, s * (1.0 + z * (1.0 - s)));
                let off = (f64::from(y[i]) - value).abs();
                assert!(off <= 4e-7 * value.abs() + 1e-7 * z.abs().min(1.0), "{} at {z}: {off:e}", level.name());
                let off = (f64::from(slope[i]) - derivative).abs();
                assert!(off <= 1e-6, "{}, slope at {z}: {off:e}", level.name());
            }
            let nan = forward(&tensor(vec![f32::NAN; 17], 17).unwrap(), None).unwrap();
            assert!(view(&nan).unwrap().iter().all(|v| v.is_nan()), "{}", level.name());
        }
        simd::force(None);
    }
}
