//! The kernels of [`super`]: blocks of as many rows as a vector has lanes, turned round so that lanes are rows.

use super::{Pair, Slope};
use crate::simd::{self, Simd, simd_fn};

/// Lanes of the widest vector.
pub(super) const WIDEST: usize = 16;
/// Where the logarithm of the ratio of two answers exceeds its mean by more than this, `e^δ` may be beyond f32 though its product with
/// `p` is not: a class that the teacher rules out (void) and the student does not.
const NEAR: f32 = 4.0;
/// A row in which the logarithm of `p e^δ` is more than this is left to f64.
const FAR: f32 = 60.0;

/// Parts of e^z: those of [`simd::exponent`], and `e^r − 1 − r`, of which seven terms of the series suffice.
#[inline(always)]
unsafe fn parts<S: Simd>(z: S::V) -> [S::V; 3] {
    /// 1/8!, ..., 1/2!
    const SERIES: [f32; 7] = [1.0 / 40_320.0, 1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5];
    // SAFETY: no pointers; the instruction set is that of the caller.
    unsafe {
        let [pow, r] = simd::exponent::<S>(z);
        let mut e = S::splat(SERIES[0]);
        for c in &SERIES[1..] {
            e = S::fma(e, r, S::splat(*c));
        }
        [pow, r, S::mul(S::mul(r, r), e)]
    }
}

#[inline(always)]
unsafe fn exp<S: Simd>(z: S::V) -> S::V {
    // SAFETY: as above.
    unsafe {
        let [pow, r, rest] = parts::<S>(z);
        S::fma(pow, S::add(r, rest), pow)
    }
}

/// `e^z − 1` and `e^z − 1 − z`, both to a few units in their last place however small z is.
#[inline(always)]
unsafe fn exp_m1<S: Simd>(z: S::V) -> [S::V; 2] {
    // SAFETY: as above.
    unsafe {
        let [pow, r, rest] = parts::<S>(z);
        // 2^n·r + 2^n − 1, which is z where n is 0.
        let line = S::fma(pow, r, S::sub(pow, S::splat(1.0)));
        [S::fma(pow, rest, line), S::fma(pow, rest, S::sub(line, z))]
    }
}

/// ln x for x ≥ 1; NaN stays NaN.
///
/// x = 2^e·(1 + f) with 1 + f between √½ and √2; the polynomial is that of `logf` in Cephes (Moshier).
#[inline(always)]
fn ln(x: f32) -> f32 {
    const SERIES: [f32; 9] = [
        7.037_683_6e-2,
        -1.151_461e-1,
        1.167_699_87e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ];
    let bits = x.to_bits() as i32;
    let exponent = bits.wrapping_sub(0x3f35_04f3) >> 23;
    let f = f32::from_bits(bits.wrapping_sub(exponent << 23) as u32) - 1.0;
    let (e, square) = (exponent as f32, f * f);
    let mut y = SERIES[0];
    for c in &SERIES[1..] {
        y = y * f + c;
    }
    let y = y * f * square - 2.121_944_4e-4 * e - 0.5 * square;
    let found = f + y + 0.693_359_4 * e;
    if x.is_finite() { found } else { x }
}

/// ln(1 + x) for x ≥ 0.
#[inline(always)]
fn ln_1p(x: f32) -> f32 {
    let y = 1.0 + x;
    // What rounding to y has lost.
    ln(y) + (x - (y - 1.0)) / y
}

/// Lane `r` of `k` vectors becomes row `r` of `rows`; other lanes become 0.
#[inline(always)]
unsafe fn turned<S: Simd>(from: *const f32, [rows, k]: [usize; 2], to: *mut f32) {
    // SAFETY: `rows` (at most as many as lanes) rows of `k` values there, and `k` vectors here, says the caller.
    unsafe {
        if rows == S::LANES {
            for c in 0..k {
                for r in 0..S::LANES {
                    *to.add(c * S::LANES + r) = *from.add(r * k + c);
                }
            }
            return;
        }
        std::ptr::write_bytes(to, 0, k * S::LANES);
        for r in 0..rows {
            for c in 0..k {
                *to.add(c * S::LANES + r) = *from.add(r * k + c);
            }
        }
    }
}

/// The way back.
#[inline(always)]
unsafe fn turned_back<S: Simd>(from: *const f32, [rows, k]: [usize; 2], to: *mut f32) {
    // SAFETY: as above.
    unsafe {
        for r in 0..rows {
            for c in 0..k {
                *to.add(r * k + c) = *from.add(c * S::LANES + r);
            }
        }
    }
}

/// As many of the values as there are rows, in a vector.
#[inline(always)]
unsafe fn some<S: Simd>(from: *const f32, rows: usize) -> S::V {
    let mut values = [0f32; WIDEST];
    // SAFETY: `rows` values there, says the caller; the buffer has room for the widest vector.
    unsafe {
        std::ptr::copy_nonoverlapping(from, values.as_mut_ptr(), rows);
        S::load(values.as_ptr())
    }
}

/// The lanes of a vector, after `of`, to as many places as there are rows.
#[inline(always)]
unsafe fn put<S: Simd>(v: S::V, of: impl Fn(f32) -> f32, to: *mut f32, rows: usize) {
    let mut values = [0f32; WIDEST];
    // SAFETY: as above.
    unsafe {
        S::store(values.as_mut_ptr(), v);
        for value in &mut values[..S::LANES] {
            *value = of(*value);
        }
        std::ptr::copy_nonoverlapping(values.as_ptr(), to, rows);
    }
}

simd_fn!(pub(super) fn best_rows(size: [usize; 2], x: *const f32, places: *mut f32, scratch: *mut f32) = best_kernel);

#[inline(always)]
unsafe fn best_kernel<S: Simd>([rows, k]: [usize; 2], x: *const f32, places: *mut f32, scratch: *mut f32) {
    let mut first = 0;
    // SAFETY: `x` holds rows·k values, the places `rows`, the scratch `k` vectors; a block ends with the rows.
    unsafe {
        while first < rows {
            let block = [S::LANES.min(rows - first), k];
            turned::<S>(x.add(first * k), block, scratch);
            let [_, best] = largest::<S>(scratch, k);
            put::<S>(best, |v| v, places.add(first), block[0]);
            first += S::LANES;
        }
    }
}

/// The largest of `k` vectors in every lane, and the number of the first that has it.
#[inline(always)]
unsafe fn largest<S: Simd>(from: *const f32, k: usize) -> [S::V; 2] {
    // SAFETY: there are `k` vectors, says the caller.
    unsafe {
        let (mut max, mut best) = (S::load(from), S::splat(0.0));
        for c in 1..k {
            let v = S::load(from.add(c * S::LANES));
            best = S::if_gt(v, max, S::splat(c as f32), best);
            max = S::if_gt(v, max, v, max);
        }
        [max, best]
    }
}

simd_fn!(pub(super) fn softmax_rows(size: [usize; 2], x: *const f32, scale: *const f32, slope: Slope, out: *mut f32, places: [*mut f32; 3], scratch: *mut f32) = softmax_kernel);

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn softmax_kernel<S: Simd>(
    [rows, k]: [usize; 2],
    x: *const f32,
    scale: *const f32,
    slope: Slope,
    out: *mut f32,
    [best_at, log_sum_at, entropy_at]: [*mut f32; 3],
    scratch: *mut f32,
) {
    let mut first = 0;
    // SAFETY: `x` and, unless it is null, `out` hold rows·k values, `scale` and the places `rows`, the scratch `k` vectors; a block
    // ends with the rows.
    unsafe {
        let at = |c: usize| scratch.add(c * S::LANES);
        while first < rows {
            let block = [S::LANES.min(rows - first), k];
            turned::<S>(x.add(first * k), block, scratch);
            let [max, best] = largest::<S>(scratch, k);
            let (mut sum, mut moment) = (S::splat(0.0), S::splat(0.0));
            for c in 0..k {
                let v = S::sub(S::load(at(c)), max);
                let u = exp::<S>(v);
                sum = S::add(sum, u);
                moment = S::fma(u, v, moment);
                // The entropy's slope needs the logarithm as well, which is read again.
                S::store(at(c), if slope == Slope::Entropy { v } else { u });
            }
            let mean = S::div(moment, sum);
            put::<S>(best, |v| v, best_at.add(first), block[0]);
            put::<S>(sum, ln, log_sum_at.add(first), block[0]);
            put::<S>(mean, |v| v, entropy_at.add(first), block[0]);
            for row in first..first + block[0] {
                *entropy_at.add(row) = *log_sum_at.add(row) - *entropy_at.add(row);
            }
            if !out.is_null() {
                let share = S::div(some::<S>(scale.add(first), block[0]), sum);
                for c in 0..k {
                    let v = S::load(at(c));
                    let slope = match slope {
                        Slope::Probability => S::mul(share, v),
                        Slope::Entropy => S::mul(S::mul(share, exp::<S>(v)), S::sub(mean, v)),
                    };
                    S::store(at(c), slope);
                }
                turned_back::<S>(scratch, block, out.add(first * k));
            }
            first += S::LANES;
        }
    }
}

/// `a − b`, and what rounding has lost of it (Knuth): answers that are nearly alike, or far from each other in all classes, lose
/// no digits.
#[inline(always)]
unsafe fn difference<S: Simd>(a: S::V, b: S::V) -> [S::V; 2] {
    // SAFETY: no pointers; the instruction set is that of the caller.
    unsafe {
        let found = S::sub(a, b);
        let minus_b = S::sub(found, a);
        [found, S::sub(S::sub(a, S::sub(found, minus_b)), S::add(b, minus_b))]
    }
}

/// Whether a lane is.
#[inline(always)]
unsafe fn any_above<S: Simd>(v: S::V, bound: f32) -> bool {
    let mut values = [0f32; WIDEST];
    // SAFETY: the buffer has room for the widest vector.
    unsafe { S::store(values.as_mut_ptr(), v) };
    values.iter().any(|value| *value > bound)
}

/// `H` and the largest logarithm of `p e^δ` that was taken (0 if none was), from `Σ u` and `Σ p d`. For every class there
/// are `u`, `d` and the student's logit over T, minus that beside the teacher's largest, one list behind the other; of them become
/// `p`, `p (e^δ − 1)` and `δ`.
///
/// Where δ is beyond `NEAR`, `p e^δ` is one exponential, for `ln p + δ` is that third value minus `ln Σ u` and `Σ p d`: the
/// teacher's logit, however low, has no part in it. Without `FAR_ONES` there are no such classes.
#[inline(always)]
unsafe fn apart<S: Simd, const FAR_ONES: bool>(lists: *mut f32, k: usize, sum: S::V, mean: S::V) -> [S::V; 2] {
    // SAFETY: three lists of `k` vectors, says the caller, whose instruction set it is.
    unsafe {
        let at = |list: usize, c: usize| lists.add((list * k + c) * S::LANES);
        let (zero, one, near) = (S::splat(0.0), S::splat(1.0), S::splat(NEAR));
        let share = S::div(one, sum);
        let (mut excess, mut farthest, mut below) = (zero, zero, zero);
        if FAR_ONES {
            let mut logs = [0f32; WIDEST];
            put::<S>(sum, ln, logs.as_mut_ptr(), S::LANES);
            below = S::add(S::load(logs.as_ptr()), mean);
        }
        for c in 0..k {
            let (p, delta) = (S::mul(S::load(at(0, c)), share), S::sub(S::load(at(1, c)), mean));
            let [grown, above] = exp_m1::<S>(delta);
            let (mut raised, mut more) = (S::mul(p, grown), S::fma(p, above, excess));
            if FAR_ONES {
                let log = S::sub(S::load(at(2, c)), below);
                let far = S::sub(exp::<S>(log), p);
                raised = S::if_gt(delta, near, far, raised);
                more = S::if_gt(delta, near, S::add(excess, S::sub(far, S::mul(p, delta))), more);
                farthest = S::if_gt(delta, near, S::if_gt(log, farthest, log, farthest), farthest);
            }
            excess = more;
            S::store(at(0, c), p);
            S::store(at(1, c), raised);
            S::store(at(2, c), delta);
        }
        [excess, farthest]
    }
}

simd_fn!(pub(super) fn divergence_rows(pair: Pair, scale: *const f32, rows: usize, outs: [*mut f32; 2], places: [*mut f32; 2], scratch: *mut f32) -> usize = divergence_kernel);

/// How many rows have to be computed in f64: their divergence is NaN here.
#[inline(always)]
unsafe fn divergence_kernel<S: Simd>(
    pair: Pair,
    scale: *const f32,
    rows: usize,
    [student_out, teacher_out]: [*mut f32; 2],
    [kl_at, alike_at]: [*mut f32; 2],
    scratch: *mut f32,
) -> usize {
    let (k, inverse) = (pair.k, (1.0 / pair.temperature) as f32);
    let (mut first, mut left) = (0, 0);
    // SAFETY: logits and, unless they are null, gradients hold rows·k values, `scale` and the places `rows`, the scratch 3·k vectors;
    // a block ends with the rows.
    unsafe {
        let at = |list: usize, c: usize| scratch.add((list * k + c) * S::LANES);
        let (zero, one) = (S::splat(0.0), S::splat(1.0));
        let inverse = S::splat(inverse);
        while first < rows {
            let block = [S::LANES.min(rows - first), k];
            turned::<S>(pair.teacher.as_ptr().add(first * k), block, at(0, 0));
            turned::<S>(pair.student.as_ptr().add(first * k), block, at(1, 0));
            let ([max, best_t], [_, best_s]) = (largest::<S>(at(0, 0), k), largest::<S>(at(1, 0), k));
            // The student's value where the teacher has its largest: what both have in common means nothing.
            let mut beside = S::load(at(1, 0));
            for c in 1..k {
                beside = S::if_gt(best_t, S::splat(c as f32 - 0.5), S::load(at(1, c)), beside);
            }
            let alike = S::if_gt(best_t, best_s, zero, S::if_gt(best_s, best_t, zero, one));
            put::<S>(alike, |v| v, alike_at.add(first), block[0]);

            let [shift, lost_shift] = difference::<S>(beside, max);
            let (mut sum, mut moment, mut widest) = (zero, zero, zero);
            for c in 0..k {
                let (t, s) = (S::load(at(0, c)), S::load(at(1, c)));
                let [d, lost] = difference::<S>(s, t);
                let d = S::mul(S::add(S::sub(d, shift), S::sub(lost, lost_shift)), inverse);
                let t = S::sub(t, max);
                let u = exp::<S>(S::mul(t, inverse));
                sum = S::add(sum, u);
                moment = S::fma(u, d, moment);
                widest = S::if_gt(d, widest, d, widest);
                S::store(at(0, c), u);
                S::store(at(1, c), d);
                S::store(at(2, c), S::mul(S::sub(s, beside), inverse));
            }
            let mean = S::div(moment, sum);
            // A row without such a class gives the same values either way.
            let [excess, farthest] = match any_above::<S>(S::sub(widest, mean), NEAR) {
                false => apart::<S, false>(scratch, k, sum, mean),
                true => apart::<S, true>(scratch, k, sum, mean),
            };
            // Infinity times 0 is no number; what is no number already stays so.
            let far = S::if_gt(farthest, S::splat(FAR), S::splat(f32::NAN), zero);
            put::<S>(S::add(excess, far), ln_1p, kl_at.add(first), block[0]);
            for row in first..first + block[0] {
                left += usize::from(!(*kl_at.add(row)).is_finite());
            }

            let mut scale = some::<S>(scale.add(first), block[0]);
            if pair.masked {
                scale = S::mul(scale, alike);
            }
            if !student_out.is_null() {
                let factor = S::div(scale, S::add(one, excess));
                let less = S::sub(zero, excess);
                for c in 0..k {
                    S::store(at(1, c), S::mul(factor, S::fma(S::load(at(0, c)), less, S::load(at(1, c)))));
                }
                turned_back::<S>(at(1, 0), block, student_out.add(first * k));
            }
            if !teacher_out.is_null() {
                let minus = S::sub(zero, scale);
                for c in 0..k {
                    S::store(at(2, c), S::mul(minus, S::mul(S::load(at(0, c)), S::load(at(2, c)))));
                }
                turned_back::<S>(at(2, 0), block, teacher_out.add(first * k));
            }
            first += S::LANES;
        }
    }
    left
}
