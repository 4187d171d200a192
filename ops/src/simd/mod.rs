//! Vector registers behind one small trait, chosen at run time.
//!
//! Every kernel is written once against the trait `Simd` and compiled for each: AVX-512 and AVX2 with FMA on x86-64, NEON on
//! aarch64, and everywhere for portable fixed-size lanes, which the compiler vectorises. `simd_fn!` makes the run-time dispatch.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) mod amx;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

use crate::{Error, Result};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// The environment variable that names a level.
const VARIABLE: &str = "SYNTH_SIMD";

/// Which instruction set the kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Level {
    /// Fixed-size lanes, vectorised by the compiler for the baseline of the target.
    Portable = 1,
    /// NEON, which every aarch64 has: 8 lanes in two registers.
    Neon = 4,
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
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Levels that this machine can run, best last.
    pub fn available() -> Vec<Level> {
        #[allow(unused_mut)]
        let mut levels = vec![Level::Portable];
        #[cfg(target_arch = "aarch64")]
        levels.push(Level::Neon);
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

/// Whether products in bf16 have tiles here (Intel's AMX, with Linux) and the level in use is AVX-512.
pub fn has_tiles() -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    return amx::available();
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    false
}

static FORCED: AtomicU8 = AtomicU8::new(0);

/// The level in use: the best of the machine, or the one that `SYNTH_SIMD=portable|neon|avx2|avx512` names.
pub fn level() -> Level {
    match FORCED.load(Ordering::Relaxed) {
        1 => Level::Portable,
        2 => Level::Avx2,
        3 => Level::Avx512,
        4 => Level::Neon,
        _ => detected(),
    }
}

fn detected() -> Level {
    static DETECTED: OnceLock<Level> = OnceLock::new();
    *DETECTED.get_or_init(|| {
        let available = Level::available();
        let wanted = std::env::var(VARIABLE).unwrap_or_default();
        let best = available.last().copied().unwrap_or(Level::Portable);
        available.into_iter().find(|l| l.name() == wanted).unwrap_or(best)
    })
}

/// Whether `SYNTH_SIMD`, where it says anything, names a level of this machine: otherwise [`level`] would be another than asked for.
///
/// # Errors
/// [`Error::Invalid`] if it does not.
pub fn check_variable() -> Result<()> {
    let wanted = std::env::var_os(VARIABLE).unwrap_or_default();
    let names: Vec<&str> = Level::available().into_iter().map(Level::name).collect();
    if wanted.is_empty() || names.iter().any(|name| wanted == *name) {
        return Ok(());
    }
    let found = format!("{wanted:?} is no instruction set of this machine");
    Err(Error::invalid(VARIABLE, found, format!("take one of {}, or leave it out", names.join(", "))))
}

/// Makes every operation that starts from now on use `level` (all threads); `None` goes back to the detected one.
///
/// For tests that run each path. A level that the machine lacks is ignored. Operations that run meanwhile stay correct.
pub fn force(level: Option<Level>) {
    let value = level.filter(|l| Level::available().contains(l)).map_or(0, |l| l as u8);
    FORCED.store(value, Ordering::Relaxed);
}

/// Held by tests that choose a level, which is that of the whole process.
#[cfg(test)]
pub(crate) static CHOICE: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Vector of f32 lanes.
///
/// # Safety
/// All functions may only be called where the instruction set of the implementation is available, and pointers must be
/// valid for [`Simd::LANES`] elements, or for as many as a function is told, which are never more. No alignment is needed.
pub(crate) trait Simd: Copy {
    type V: Copy;
    const LANES: usize;
    /// Vectors of output channels in a narrow / wide register tile, and groups of four pixels beside them.
    const NARROW: (usize, usize);
    const WIDE: (usize, usize);
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first `lanes` lanes from memory, 0 in the others.
    unsafe fn load_first(p: *const f32, lanes: usize) -> Self::V;
    /// Stores the first `lanes` lanes.
    unsafe fn store_first(p: *mut f32, v: Self::V, lanes: usize);
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

/// A vector from memory: all of it, or its first `lanes` lanes and 0 in the others.
///
/// # Safety
/// As the functions of [`Simd`].
#[inline(always)]
pub(crate) unsafe fn load<S: Simd, const WHOLE: bool>(p: *const f32, lanes: usize) -> S::V {
    // SAFETY: as the caller promises.
    unsafe { if WHOLE { S::load(p) } else { S::load_first(p, lanes) } }
}

/// Stores a vector: all of it, or its first `lanes` lanes.
///
/// # Safety
/// As the functions of [`Simd`].
#[inline(always)]
pub(crate) unsafe fn store<S: Simd, const WHOLE: bool>(p: *mut f32, v: S::V, lanes: usize) {
    // SAFETY: as the caller promises.
    unsafe { if WHOLE { S::store(p, v) } else { S::store_first(p, v, lanes) } }
}

/// Adds a vector to memory: all of it, or its first `lanes` lanes.
///
/// # Safety
/// As the functions of [`Simd`].
#[inline(always)]
pub(crate) unsafe fn add_to<S: Simd, const WHOLE: bool>(p: *mut f32, v: S::V, lanes: usize) {
    // SAFETY: as the caller promises.
    unsafe { store::<S, WHOLE>(p, S::add(load::<S, WHOLE>(p, lanes), v), lanes) }
}

/// `2^n` and `r` of e^z = 2^n·e^r, with n the whole number nearest to z·log₂e, so that |r| ≤ ½·ln 2 and a short series does the rest.
/// z beyond ±87, where e^z would leave the range of f32, counts as ±87. NaN stays NaN.
///
/// # Safety
/// As the functions of [`Simd`].
#[inline(always)]
pub(crate) unsafe fn exponent<S: Simd>(z: S::V) -> [S::V; 2] {
    /// Adding and subtracting it rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts; the first has so few bits that its products with n are exact.
    const LN2: [f64; 2] = [0.693_359_375, std::f64::consts::LN_2 - 0.693_359_375];
    // SAFETY: no pointers; the instruction set is that of the caller.
    unsafe {
        let z = S::max(S::splat(-87.0), S::min(S::splat(87.0), z));
        let n = S::add(S::fma(z, S::splat(std::f32::consts::LOG2_E), S::splat(ROUND)), S::splat(-ROUND));
        let r = S::fma(n, S::splat(-LN2[1] as f32), S::fma(n, S::splat(-LN2[0] as f32), z));
        [S::pow2(n), r]
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
        $crate::simd::simd_fn! {
            $(#[$doc])* $vis fn $name($($arg: $ty),*) $(-> $ret)? = $kernel, at $crate::simd::level()
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
                    unsafe { $kernel::<$crate::simd::Avx512>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                unsafe fn avx2($($arg: $ty),*) $(-> $ret)? {
                    unsafe { $kernel::<$crate::simd::Avx2>($($arg),*) }
                }
                // SAFETY: a level that `level()` gave is one that the machine has; pointers are the caller's promise.
                match $level {
                    $crate::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    $crate::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::simd::Level::Portable | $crate::simd::Level::Neon => {}
                }
            }
            #[cfg(target_arch = "aarch64")]
            if $level == $crate::simd::Level::Neon {
                // SAFETY: NEON is part of every aarch64; pointers are the caller's promise.
                return unsafe { $kernel::<$crate::simd::Neon>($($arg),*) };
            }
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            let _ = $level;
            // SAFETY: plain Rust, on every machine; pointers are the caller's promise.
            unsafe { $kernel::<$crate::simd::Portable>($($arg),*) }
        }
    };
}
pub(crate) use simd_fn;
