//! What the machine can do at best: the measure that kernels are held against.

use super::Precision;
use super::par;
use super::simd::{Simd, simd_fn};
use std::time::Instant;

/// Accumulators of the multiply-add loop: enough to hide the latency of two units, few enough for 16 registers.
const ACCUMULATORS: usize = 12;
/// Multiply-adds into every accumulator per call of the loop.
const ROUNDS: usize = 200_000;
/// Rounds of products of tiles that take about as long.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
const TILE_ROUNDS: usize = 20_000;

simd_fn!(fn multiply_adds(start: f32) -> f32 = multiply_adds_kernel);

#[inline(always)]
unsafe fn multiply_adds_kernel<S: Simd>(start: f32) -> f32 {
    // SAFETY: the only pointer is that of a local array that holds the lanes.
    unsafe {
        let (a, b) = (S::splat(0.999_9), S::splat(1e-4));
        let mut acc = [S::splat(start); ACCUMULATORS];
        for _ in 0..ROUNDS {
            for v in &mut acc {
                *v = S::fma(*v, a, b);
            }
        }
        let mut sum = acc[0];
        for v in &acc[1..] {
            sum = S::add(sum, *v);
        }
        let mut lanes = [0f32; 64];
        S::store(lanes.as_mut_ptr(), sum);
        lanes[0] + S::LANES as f32
    }
}

simd_fn!(fn lanes_of(_unused: f32) -> usize = lanes_kernel);

#[inline(always)]
unsafe fn lanes_kernel<S: Simd>(_unused: f32) -> usize {
    S::LANES
}

/// FLOP/s of multiply-adds (2 each) on registers alone, all threads together, with the instruction set in use, or in bf16 on tiles where
/// they are: the best of some tries of a few milliseconds.
pub fn multiply_add_rate(precision: Precision) -> f64 {
    (0..20).map(|_| multiply_add_burst(precision)).fold(0.0, f64::max)
}

/// One try of [`multiply_add_rate`]: what the machine does in these few milliseconds.
pub fn multiply_add_burst(precision: Precision) -> f64 {
    let tasks = 4 * rayon::current_num_threads();
    let products = std::sync::atomic::AtomicUsize::new(0);
    let start = Instant::now();
    par::each(tasks, |t| {
        let made = match precision {
            Precision::Bf16 => on_tiles(),
            Precision::F32 => None,
        };
        products.fetch_add(made.unwrap_or_else(|| in_f32(t)), std::sync::atomic::Ordering::Relaxed);
    });
    2.0 * products.into_inner() as f64 / start.elapsed().as_secs_f64()
}

/// Multiply-adds of task `t` in f32; how many they were.
fn in_f32(t: usize) -> usize {
    // SAFETY: no pointers.
    unsafe {
        std::hint::black_box(multiply_adds(t as f32));
        lanes_of(0.0) * ACCUMULATORS * ROUNDS
    }
}

/// Multiply-adds of a task on tiles, where there are any; how many they were.
fn on_tiles() -> Option<usize> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if super::simd::amx::available() {
        // SAFETY: they are available.
        return Some(unsafe { super::simd::amx::Tiles::take() }.products(TILE_ROUNDS));
    }
    None
}

/// Bytes/s, read and written, of copying an array far larger than the caches, all threads together: the best of some tries.
pub fn copy_rate() -> f64 {
    const FLOATS: usize = 32 << 20;
    const PIECE: usize = 1 << 16;
    let from = vec![1f32; FLOATS];
    let mut to = vec![0f32; FLOATS];
    let shared = par::Shared(to.as_mut_ptr());
    let mut best = f64::INFINITY;
    for _ in 0..8 {
        let start = Instant::now();
        par::each(FLOATS / PIECE, |i| {
            // SAFETY: pieces are disjoint and inside both arrays.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr().add(i * PIECE), shared.at(i * PIECE), PIECE) };
        });
        best = best.min(start.elapsed().as_secs_f64());
    }
    (2 * 4 * FLOATS) as f64 / best
}
