//! Row kernels: `count` pixels of `channels` values, whole vectors of channels first, then part of one with those that remain.

use super::BackwardAffine;
use crate::activation::Activation;
use crate::simd::{Simd, add_to, load, simd_fn, store};
use std::ops::Range;

/// The affine map of some rows.
pub(super) struct Rows<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub act: Activation,
    pub count: usize,
}

/// Rows that are summed before their sum is added to the total: in f32 the error grows with the number of additions to
/// one accumulator, and a variance is the small difference of large sums. They stay in cache for all of their channels.
const BLOCK: usize = 256;

/// The blocks of `count` rows.
#[inline(always)]
fn blocks(count: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).step_by(BLOCK).map(move |r| r..(r + BLOCK).min(count))
}

simd_fn!(pub(super) fn sums(x: *const f32, count: usize, c: usize, out: *mut f32) = sums_kernel);

#[inline(always)]
unsafe fn sums_kernel<S: Simd>(x: *const f32, count: usize, c: usize, out: *mut f32) {
    let whole = c - c % S::LANES;
    // SAFETY: `x` holds count·c values, `out` 2·c; vectors start below `whole` and end inside the row.
    unsafe {
        std::ptr::write_bytes(out, 0, 2 * c);
        for block in blocks(count) {
            for i in (0..whole).step_by(S::LANES) {
                sum_columns::<S, true>(x, block.clone(), c, out, i);
            }
            if whole < c {
                sum_columns::<S, false>(x, block, c, out, whole);
            }
        }
    }
}

/// Adds the sums of a block's vector of channels from `i` on.
#[inline(always)]
unsafe fn sum_columns<S: Simd, const WHOLE: bool>(
    x: *const f32,
    block: Range<usize>,
    c: usize,
    out: *mut f32,
    i: usize,
) {
    let lanes = c - i;
    // SAFETY: as the caller promises.
    unsafe {
        let (mut s, mut q) = (S::splat(0.0), S::splat(0.0));
        for r in block {
            let v = load::<S, WHOLE>(x.add(r * c + i), lanes);
            s = S::add(s, v);
            q = S::fma(v, v, q);
        }
        add_to::<S, WHOLE>(out.add(i), s, lanes);
        add_to::<S, WHOLE>(out.add(c + i), q, lanes);
    }
}

simd_fn!(
    pub(super) fn apply(rows: &Rows, x: *const f32, residual: Option<*const f32>, out: *mut f32) = apply_kernel
);

#[inline(always)]
unsafe fn apply_kernel<S: Simd>(rows: &Rows, x: *const f32, residual: Option<*const f32>, out: *mut f32) {
    let c = rows.scale.len();
    let whole = c - c % S::LANES;
    // SAFETY: `x`, `residual` and `out` hold count·c values, scale and shift c; vectors end inside the row.
    unsafe {
        for r in 0..rows.count {
            for i in (0..whole).step_by(S::LANES) {
                apply_columns::<S, true>(rows, x, residual, out, [r, i]);
            }
            if whole < c {
                apply_columns::<S, false>(rows, x, residual, out, [r, whole]);
            }
        }
    }
}

/// The vector of channels from `i` on of row `r`.
#[inline(always)]
unsafe fn apply_columns<S: Simd, const WHOLE: bool>(
    rows: &Rows,
    x: *const f32,
    residual: Option<*const f32>,
    out: *mut f32,
    [r, i]: [usize; 2],
) {
    let c = rows.scale.len();
    let (at, lanes) = (r * c + i, c - i);
    // SAFETY: as the caller promises.
    unsafe {
        let load = |p: *const f32| load::<S, WHOLE>(p, lanes);
        let (slope, cap) = (S::splat(rows.act.slope), S::splat(rows.act.cap));
        let mut z = S::fma(load(x.add(at)), load(rows.scale.as_ptr().add(i)), load(rows.shift.as_ptr().add(i)));
        if let Some(residual) = residual {
            z = S::add(z, load(residual.add(at)));
        }
        store::<S, WHOLE>(out.add(at), S::min(cap, S::max(S::mul(z, slope), z)), lanes);
    }
}

/// `d` through the derivative of the activation whose output is `y`.
#[inline(always)]
unsafe fn masked<S: Simd>(d: S::V, y: S::V, slope: S::V, cap: S::V) -> S::V {
    // SAFETY: no pointers; the instruction set is that of the caller.
    unsafe {
        let zero = S::splat(0.0);
        let d = S::if_gt(y, zero, d, S::mul(d, slope));
        S::if_gt(cap, y, d, zero)
    }
}

simd_fn!(pub(super) fn mask(d: *mut f32, y: *const f32, n: usize, act: Activation) = mask_kernel);

#[inline(always)]
unsafe fn mask_kernel<S: Simd>(d: *mut f32, y: *const f32, n: usize, act: Activation) {
    // SAFETY: `d` and `y` hold n values; a vector is only used where all its lanes lie below n.
    unsafe {
        let (slope, cap) = (S::splat(act.slope), S::splat(act.cap));
        let mut i = 0;
        while i + S::LANES <= n {
            S::store(d.add(i), masked::<S>(S::load(d.add(i)), S::load(y.add(i)), slope, cap));
            i += S::LANES;
        }
        while i < n {
            *d.add(i) *= act.derivative(*y.add(i));
            i += 1;
        }
    }
}

simd_fn!(
    pub(super) fn backward_sums(rows: &Rows, d: *const f32, x: *const f32, out: *mut f32) = backward_sums_kernel
);

#[inline(always)]
unsafe fn backward_sums_kernel<S: Simd>(rows: &Rows, d: *const f32, x: *const f32, out: *mut f32) {
    let c = rows.scale.len();
    let whole = c - c % S::LANES;
    // SAFETY: `d` and `x` hold count·c values, scale and shift c, `out` 2·c; vectors end inside the row.
    unsafe {
        std::ptr::write_bytes(out, 0, 2 * c);
        for block in blocks(rows.count) {
            for i in (0..whole).step_by(S::LANES) {
                backward_sum_columns::<S, true>(rows, block.clone(), [d, x], out, i);
            }
            if whole < c {
                backward_sum_columns::<S, false>(rows, block, [d, x], out, whole);
            }
        }
    }
}

/// Adds the sums of a block's vector of channels from `i` on.
#[inline(always)]
unsafe fn backward_sum_columns<S: Simd, const WHOLE: bool>(
    rows: &Rows,
    block: Range<usize>,
    [d, x]: [*const f32; 2],
    out: *mut f32,
    i: usize,
) {
    let c = rows.scale.len();
    let lanes = c - i;
    // SAFETY: as the caller promises.
    unsafe {
        let load = |p: *const f32| load::<S, WHOLE>(p, lanes);
        let (slope, cap) = (S::splat(rows.act.slope), S::splat(rows.act.cap));
        let (scale, shift) = (load(rows.scale.as_ptr().add(i)), load(rows.shift.as_ptr().add(i)));
        let (mut s, mut q) = (S::splat(0.0), S::splat(0.0));
        for r in block {
            let at = r * c + i;
            let v = load(x.add(at));
            let g = masked::<S>(load(d.add(at)), S::fma(v, scale, shift), slope, cap);
            s = S::add(s, g);
            q = S::fma(g, v, q);
        }
        add_to::<S, WHOLE>(out.add(i), s, lanes);
        add_to::<S, WHOLE>(out.add(c + i), q, lanes);
    }
}

simd_fn!(
    pub(super) fn backward_apply(
        rows: &Rows, d: Option<*const f32>, x: *const f32, k: &BackwardAffine, out: *mut f32
    ) = backward_apply_kernel
);

#[inline(always)]
unsafe fn backward_apply_kernel<S: Simd>(
    rows: &Rows,
    d: Option<*const f32>,
    x: *const f32,
    k: &BackwardAffine,
    out: *mut f32,
) {
    let c = rows.scale.len();
    let whole = c - c % S::LANES;
    // SAFETY: `d`, `x` and `out` hold count·c values, scale, shift and `k` c each; vectors end inside the row.
    unsafe {
        for r in 0..rows.count {
            for i in (0..whole).step_by(S::LANES) {
                backward_apply_columns::<S, true>(rows, d, x, k, out, [r, i]);
            }
            if whole < c {
                backward_apply_columns::<S, false>(rows, d, x, k, out, [r, whole]);
            }
        }
    }
}

/// The vector of channels from `i` on of row `r`.
#[inline(always)]
unsafe fn backward_apply_columns<S: Simd, const WHOLE: bool>(
    rows: &Rows,
    d: Option<*const f32>,
    x: *const f32,
    k: &BackwardAffine,
    out: *mut f32,
    [r, i]: [usize; 2],
) {
    let c = rows.scale.len();
    let (at, lanes) = (r * c + i, c - i);
    // SAFETY: as the caller promises.
    unsafe {
        let load = |p: *const f32| load::<S, WHOLE>(p, lanes);
        let v = load(x.add(at));
        let mut dx = S::fma(v, load(k.b.as_ptr().add(i)), load(k.c.as_ptr().add(i)));
        if let Some(d) = d {
            let (slope, cap) = (S::splat(rows.act.slope), S::splat(rows.act.cap));
            let (scale, shift) = (load(rows.scale.as_ptr().add(i)), load(rows.shift.as_ptr().add(i)));
            let g = masked::<S>(load(d.add(at)), S::fma(v, scale, shift), slope, cap);
            dx = S::fma(g, load(k.a.as_ptr().add(i)), dx);
        }
        store::<S, WHOLE>(out.add(at), dx, lanes);
    }
}

simd_fn!(pub(super) fn add(a: *mut f32, b: *const f32, n: usize) = add_kernel);

#[inline(always)]
unsafe fn add_kernel<S: Simd>(a: *mut f32, b: *const f32, n: usize) {
    // SAFETY: `a` and `b` hold n values; a vector is only used where all its lanes lie below n.
    unsafe {
        let mut i = 0;
        while i + S::LANES <= n {
            S::store(a.add(i), S::add(S::load(a.add(i)), S::load(b.add(i))));
            i += S::LANES;
        }
        while i < n {
            *a.add(i) += *b.add(i);
            i += 1;
        }
    }
}
