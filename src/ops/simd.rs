//! Vector registers behind one small trait, chosen at run time.
//!
//! Every kernel is written once against the trait `Simd` and compiled three times: AVX-512, AVX2 with FMA, and portable
//! fixed-size lanes that the compiler vectorises (SSE2, NEON). `simd_fn!` makes the run-time dispatch.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// Which instruction set the kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Level {
    /// Fixed-size lanes, vectorised by the compiler for the baseline of the target.
    Portable = 1,
    /// AVX2 and FMA: 8 lanes.
    Avx2 = 2,
    /// AVX-512F: 16 lanes.
    Avx512 = 3,
}

impl Level {
    /// The name that `SYNTH_SIMD` and reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Levels that this machine can run, best last.
    pub fn available() -> Vec<Level> {
        let mut levels = vec![Level::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                levels.push(Level::Avx2);
                if is_x86_feature_detected!("avx512f") {
                    levels.push(Level::Avx512);
                }
            }
        }
        levels
    }
}

static FORCED: AtomicU8 = AtomicU8::new(0);

/// The level in use: the best of the machine, or the one that `SYNTH_SIMD=portable|avx2|avx512` names.
pub fn level() -> Level {
    match FORCED.load(Ordering::Relaxed) {
        1 => Level::Portable,
        2 => Level::Avx2,
        3 => Level::Avx512,
        _ => detected(),
    }
}

fn detected() -> Level {
    static DETECTED: OnceLock<Level> = OnceLock::new();
    *DETECTED.get_or_init(|| {
        let available = Level::available();
        let wanted = std::env::var("SYNTH_SIMD").unwrap_or_default();
        let best = available.last().copied().unwrap_or(Level::Portable);
        available.into_iter().find(|l| l.name() == wanted).unwrap_or(best)
    })
}

/// Makes every operation that starts from now on use `level` (all threads); `None` goes back to the detected one.
///
/// For tests that run each path. A level that the machine lacks is ignored. Operations that run meanwhile stay correct.
pub fn force(level: Option<Level>) {
    let value = level.filter(|l| Level::available().contains(l)).map_or(0, |l| l as u8);
    FORCED.store(value, Ordering::Relaxed);
}

/// Vector of f32 lanes.
///
/// # Safety
/// All functions may only be called where the instruction set of the implementation is available, and pointers must be
/// valid for [`Simd::LANES`] elements. No alignment is needed.
pub(crate) trait Simd: Copy {
    type V: Copy;
    const LANES: usize;
    /// Vectors of output channels in a narrow / wide register tile, and groups of four pixels beside them.
    const NARROW: (usize, usize);
    const WIDE: (usize, usize);
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// a * b + c
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// The larger lane, `b` if either is NaN (as the x86 instruction).
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller lane, `b` if either is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// 2^n for whole numbers n from −126 to 127.
    unsafe fn pow2(n: Self::V) -> Self::V;
    /// `yes` where x > y, else `no`.
    unsafe fn if_gt(x: Self::V, y: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// The sum of the lanes of each vector, in a fixed order.
    unsafe fn sum4(v: [Self::V; 4]) -> [f32; 4];
}

#[derive(Clone, Copy)]
pub(crate) struct Portable;

macro_rules! lanes {
    ($a:ident, $b:ident, |$x:ident, $y:ident| $e:expr) => {{
        let mut out = [0f32; 8];
        let mut i = 0;
        while i < 8 {
            let ($x, $y) = ($a[i], $b[i]);
            out[i] = $e;
            i += 1;
        }
        out
    }};
}

// SAFETY of every function: pointers hold eight values, says the contract of `Simd`.
impl Simd for Portable {
    type V = [f32; 8];
    const LANES: usize = 8;
    const NARROW: (usize, usize) = (1, 1);
    const WIDE: (usize, usize) = (1, 1);
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        unsafe { p.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        unsafe { p.cast::<[f32; 8]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        let mut out = c;
        let mut i = 0;
        while i < 8 {
            // A fused multiply-add only where it is an instruction: as a library call it would be 50 times slower.
            out[i] = if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
                a[i].mul_add(b[i], c[i])
            } else {
                a[i] * b[i] + c[i]
            };
            i += 1;
        }
        out
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        lanes!(a, b, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        lanes!(a, b, |x, y| x - y)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        lanes!(a, b, |x, y| x * y)
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        lanes!(a, b, |x, y| x / y)
    }
    #[inline(always)]
    unsafe fn sqrt(a: Self::V) -> Self::V {
        lanes!(a, a, |x, _y| x.sqrt())
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        lanes!(a, b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        lanes!(a, b, |x, y| if x < y { x } else { y })
    }
    #[inline(always)]
    unsafe fn pow2(n: Self::V) -> Self::V {
        // The exponent field of a float, whose bias is 127.
        lanes!(n, n, |x, _y| f32::from_bits(((x as i32).wrapping_add(127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn if_gt(x: Self::V, y: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        let mut out = no;
        let mut i = 0;
        while i < 8 {
            out[i] = if x[i] > y[i] { yes[i] } else { no[i] };
            i += 1;
        }
        out
    }
    #[inline(always)]
    unsafe fn sum4(v: [Self::V; 4]) -> [f32; 4] {
        v.map(|v| ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7])))
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

    // SAFETY of every function: the instruction set is there and pointers hold eight values, says the contract of `Simd`.
    impl Simd for Avx2 {
        type V = __m256;
        const LANES: usize = 8;
        const NARROW: (usize, usize) = (2, 1);
        const WIDE: (usize, usize) = (2, 1);
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m256) {
            unsafe { _mm256_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_div_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sqrt(a: __m256) -> __m256 {
            unsafe { _mm256_sqrt_ps(a) }
        }
        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn min(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn pow2(n: __m256) -> __m256 {
            unsafe {
                let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
            }
        }
        #[inline(always)]
        unsafe fn if_gt(x: __m256, y: __m256, yes: __m256, no: __m256) -> __m256 {
            unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GT_OQ>(x, y)) }
        }
        #[inline(always)]
        unsafe fn sum4([a, b, c, d]: [__m256; 4]) -> [f32; 4] {
            unsafe {
                // Each half of the result holds the sums of that half of the four vectors.
                let halves = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
                let sums = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
                let mut out = [0f32; 4];
                _mm_storeu_ps(out.as_mut_ptr(), sums);
                out
            }
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx512;

    // SAFETY of every function: as above, with sixteen values.
    impl Simd for Avx512 {
        type V = __m512;
        const LANES: usize = 16;
        const NARROW: (usize, usize) = (1, 4);
        const WIDE: (usize, usize) = (2, 2);
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512) {
            unsafe { _mm512_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_div_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sqrt(a: __m512) -> __m512 {
            unsafe { _mm512_sqrt_ps(a) }
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn min(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn pow2(n: __m512) -> __m512 {
            unsafe { _mm512_scalef_ps(_mm512_set1_ps(1.0), n) }
        }
        #[inline(always)]
        unsafe fn if_gt(x: __m512, y: __m512, yes: __m512, no: __m512) -> __m512 {
            unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, y), no, yes) }
        }
        #[inline(always)]
        unsafe fn sum4(v: [__m512; 4]) -> [f32; 4] {
            unsafe {
                let half = |v: __m512| {
                    let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(v)));
                    _mm256_add_ps(_mm512_castps512_ps256(v), high)
                };
                Avx2::sum4([half(v[0]), half(v[1]), half(v[2]), half(v[3])])
            }
        }
    }
}

/// Makes a safe-to-dispatch entry of a generic kernel: `simd_fn!(fn name(args) -> R = generic_kernel);`
///
/// The generic kernel must be `#[inline(always)] unsafe fn kernel<S: Simd>(args) -> R`. The entry is `unsafe` like the
/// kernel (its pointers), but chooses the instruction set by itself: the current [`level`], or with `at expression` the
/// one that the caller read before. Kernels whose data depend on the number of lanes (packed weights) need the latter:
/// the level may change between two calls.
macro_rules! simd_fn {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $kernel:ident) => {
        $crate::ops::simd::simd_fn! {
            $(#[$doc])* $vis fn $name($($arg: $ty),*) $(-> $ret)? = $kernel, at $crate::ops::simd::level()
        }
    };
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $kernel:ident, at $level:expr) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                #[allow(clippy::too_many_arguments)]
                unsafe fn avx512($($arg: $ty),*) $(-> $ret)? {
                    unsafe { $kernel::<$crate::ops::simd::Avx512>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                unsafe fn avx2($($arg: $ty),*) $(-> $ret)? {
                    unsafe { $kernel::<$crate::ops::simd::Avx2>($($arg),*) }
                }
                // SAFETY: a level that `level()` gave is one that the machine has; pointers are the caller's promise.
                match $level {
                    $crate::ops::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    $crate::ops::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::ops::simd::Level::Portable => {}
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = $level;
            // SAFETY: plain Rust, on every machine; pointers are the caller's promise.
            unsafe { $kernel::<$crate::ops::simd::Portable>($($arg),*) }
        }
    };
}
pub(crate) use simd_fn;
