//! NEON: eight lanes in two registers, the width of AVX2, whose tiles fit the 32 registers of aarch64.

use super::Simd;
use std::arch::aarch64::*;

#[derive(Clone, Copy)]
pub(crate) struct Neon;

type Pair = [float32x4_t; 2];

#[inline(always)]
fn both(a: Pair, b: Pair, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Pair {
    [f(a[0], b[0]), f(a[1], b[1])]
}

// SAFETY of every function: every aarch64 has NEON, and pointers hold eight values, says the contract of `Simd`.
impl Simd for Neon {
    type V = Pair;
    const LANES: usize = 8;
    const NARROW: (usize, usize) = (2, 1);
    const WIDE: (usize, usize) = (2, 1);
    #[inline(always)]
    unsafe fn splat(x: f32) -> Pair {
        [unsafe { vdupq_n_f32(x) }; 2]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Pair {
        unsafe { [vld1q_f32(p), vld1q_f32(p.add(4))] }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Pair) {
        unsafe {
            vst1q_f32(p, v[0]);
            vst1q_f32(p.add(4), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, lanes: usize) -> Pair {
        let mut whole = [0f32; 8];
        unsafe {
            std::ptr::copy_nonoverlapping(p, whole.as_mut_ptr(), lanes);
            Self::load(whole.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: Pair, lanes: usize) {
        let mut whole = [0f32; 8];
        unsafe {
            Self::store(whole.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(whole.as_ptr(), p, lanes);
        }
    }
    #[inline(always)]
    unsafe fn fma(a: Pair, b: Pair, c: Pair) -> Pair {
        unsafe { [vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn add(a: Pair, b: Pair) -> Pair {
        both(a, b, |a, b| unsafe { vaddq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn sub(a: Pair, b: Pair) -> Pair {
        both(a, b, |a, b| unsafe { vsubq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn mul(a: Pair, b: Pair) -> Pair {
        both(a, b, |a, b| unsafe { vmulq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn div(a: Pair, b: Pair) -> Pair {
        both(a, b, |a, b| unsafe { vdivq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn sqrt(a: Pair) -> Pair {
        both(a, a, |a, _| unsafe { vsqrtq_f32(a) })
    }
    #[inline(always)]
    unsafe fn max(a: Pair, b: Pair) -> Pair {
        // The instruction itself would give NaN where either is NaN.
        both(a, b, |a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) })
    }
    #[inline(always)]
    unsafe fn min(a: Pair, b: Pair) -> Pair {
        both(a, b, |a, b| unsafe { vbslq_f32(vcltq_f32(a, b), a, b) })
    }
    #[inline(always)]
    unsafe fn pow2(n: Pair) -> Pair {
        // The exponent field of a float, whose bias is 127.
        both(n, n, |n, _| unsafe {
            let exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
        })
    }
    #[inline(always)]
    unsafe fn if_gt(x: Pair, y: Pair, yes: Pair, no: Pair) -> Pair {
        let choose = |i: usize| unsafe { vbslq_f32(vcgtq_f32(x[i], y[i]), yes[i], no[i]) };
        [choose(0), choose(1)]
    }
    #[inline(always)]
    unsafe fn sum4(v: [Pair; 4]) -> [f32; 4] {
        unsafe {
            let half = |v: Pair| vaddq_f32(v[0], v[1]);
            let [a, b, c, d] = [half(v[0]), half(v[1]), half(v[2]), half(v[3])];
            let mut out = [0f32; 4];
            vst1q_f32(out.as_mut_ptr(), vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)));
            out
        }
    }
}
