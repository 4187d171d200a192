//! Depthwise convolution: one channel per group, vectorised over channels. Bound by memory, not by multiply-adds.

use super::epilogue::Epilogue;
use super::pack::{Prologue, pad_image};
use super::pieces::by_lanes;
use super::plan::{Phase, Plan};
use crate::mem::with_scratch;
use crate::par::{self, Shared};
use crate::simd::{Simd, simd_fn};

/// Floats of one padded image.
fn frame(plan: &Plan) -> usize {
    plan.hp * plan.wp * plan.c
}

/// Weights `[taps of all phases][c]`, summed from `[KH, KW, 1, C]`.
fn tap_weights(plan: &Plan, w: &[f32], kernel: [usize; 2]) -> Vec<f32> {
    let c = plan.c;
    let mut out = Vec::new();
    for tap in plan.phases.iter().flat_map(|p| &p.taps) {
        let start = out.len();
        out.resize(start + c, 0f32);
        for &[ky, kx] in &tap.sources {
            let from = &w[(ky * kernel[1] + kx) * c..][..c];
            out[start..].iter_mut().zip(from).for_each(|(o, v)| *o += v);
        }
    }
    out
}

/// Runs a depthwise plan; arguments and result as [`super::gather::gather`], with unpacked `[KH, KW, 1, C]` weights.
///
/// # Safety
/// As for `gather`.
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn gather(
    plan: &Plan,
    n: usize,
    x: &[f32],
    w: &[f32],
    kernel: [usize; 2],
    prologue: Option<Prologue>,
    epilogue: Epilogue,
    out: *mut f32,
) -> Option<Vec<f64>> {
    let weights = tap_weights(plan, w, kernel);
    let offsets = offsets(plan);
    let c = plan.c;
    let sums_len = if epilogue.sums { 2 * c } else { 0 };
    let mut partial = vec![0f32; n * sums_len];
    let partial_ptr = Shared(partial.as_mut_ptr());
    let out = Shared(out);
    let (image, out_image) = (plan.h * plan.w * c, plan.out_h * plan.out_w * c);
    // Where one phase writes all, a row is finished while it is in cache.
    let (by_row, line) = (plan.phases.len() == 1, plan.out_w * c);
    par::each(n, |i| {
        // SAFETY: image `i` lies in `x` and `out`, the frame in the scratch, and `partial` has a row for it.
        with_scratch(frame(plan), |buffer| unsafe {
            pad_image(plan, x.as_ptr().add(i * image), buffer.as_mut_ptr(), prologue.as_ref());
            let (to, sums) = (out.at(i * out_image), partial_ptr.at(i * sums_len));
            let residual = epilogue.residual.map(|r| r.as_ptr().add(i * out_image));
            let mut weights = weights.as_ptr();
            for (phase, offsets) in plan.phases.iter().zip(&offsets) {
                for row in 0..phase.rows {
                    gather_row(plan, phase, row, offsets, buffer.as_ptr(), weights, to);
                    if by_row {
                        let at = row * line;
                        finish(to.add(at), plan.out_w, c, residual.map(|r| r.add(at)), &epilogue, sums);
                    }
                }
                weights = weights.add(offsets.len() * c);
            }
            if !by_row {
                finish(to, plan.out_h * plan.out_w, c, residual, &epilogue, sums);
            }
        });
    });
    epilogue.sums.then(|| par::sum_rows(&partial, sums_len))
}

/// Of every phase, where its taps lie from the first value of an output pixel's window.
fn offsets(plan: &Plan) -> Vec<Vec<usize>> {
    let of = |phase: &Phase| phase.taps.iter().map(|tap| (tap.dy * plan.wp + tap.dx) * plan.c).collect();
    plan.phases.iter().map(of).collect()
}

/// First values of a row of output pixels on the reading and on the writing side, and the steps from pixel to pixel.
fn line(plan: &Plan, phase: &Phase, row: usize) -> ([usize; 2], [usize; 2]) {
    let from = (phase.origin[0] + row * phase.step[0]) * plan.wp + phase.origin[1];
    let to = (phase.out[0] + row * phase.out_step[0]) * plan.out_w + phase.out[1];
    ([from * plan.c, to * plan.c], [phase.step[1] * plan.c, phase.out_step[1] * plan.c])
}

/// Output pixels that share one load of the weights.
const COLUMNS: usize = 4;

simd_fn!(
    fn gather_row(
        plan: &Plan, phase: &Phase, row: usize, offsets: &[usize], x: *const f32, w: *const f32, out: *mut f32
    ) = gather_row_kernel
);

#[inline(always)]
unsafe fn gather_row_kernel<S: Simd>(
    plan: &Plan,
    phase: &Phase,
    row: usize,
    offsets: &[usize],
    x: *const f32,
    w: *const f32,
    out: *mut f32,
) {
    let ([from, to], steps) = line(plan, phase, row);
    let mut col = 0;
    // SAFETY: every tap of a pixel lies inside the frame; without taps nothing is read, and the frame may end before.
    unsafe {
        while col < phase.cols {
            let (x, out) = (x.wrapping_add(from + col * steps[0]), out.add(to + col * steps[1]));
            if col + COLUMNS <= phase.cols {
                gather_pixels::<S, COLUMNS>(plan.c, offsets, x, w, out, steps);
                col += COLUMNS;
            } else {
                gather_pixels::<S, 1>(plan.c, offsets, x, w, out, steps);
                col += 1;
            }
        }
    }
}

/// `P` output pixels, all their channels.
#[inline(always)]
unsafe fn gather_pixels<S: Simd, const P: usize>(
    c: usize,
    offsets: &[usize],
    x: *const f32,
    w: *const f32,
    out: *mut f32,
    steps: [usize; 2],
) {
    let whole = c - c % S::LANES;
    // SAFETY: vectors end inside the channels of a pixel that the caller has.
    unsafe {
        let mut i = 0;
        while i < whole {
            let mut acc = [S::splat(0.0); P];
            for (t, offset) in offsets.iter().enumerate() {
                let weight = S::load(w.add(t * c + i));
                for (p, acc) in acc.iter_mut().enumerate() {
                    *acc = S::fma(S::load(x.add(offset + p * steps[0] + i)), weight, *acc);
                }
            }
            for (p, acc) in acc.iter().enumerate() {
                S::store(out.add(p * steps[1] + i), *acc);
            }
            i += S::LANES;
        }
        while i < c {
            for p in 0..P {
                let mut acc = 0f32;
                for (t, offset) in offsets.iter().enumerate() {
                    acc += *x.add(offset + p * steps[0] + i) * *w.add(t * c + i);
                }
                *out.add(p * steps[1] + i) = acc;
            }
            i += 1;
        }
    }
}

/// Pixels that are summed in registers before their sum is added to the total.
const BLOCK: usize = 32;

simd_fn!(
    /// Applies the epilogue to pixels that are still in cache.
    pub(super) fn finish(
        out: *mut f32, pixels: usize, c: usize, residual: Option<*const f32>, e: &Epilogue, sums: *mut f32
    ) = finish_kernel
);

#[inline(always)]
unsafe fn finish_kernel<S: Simd>(
    out: *mut f32,
    pixels: usize,
    c: usize,
    residual: Option<*const f32>,
    e: &Epilogue,
    sums: *mut f32,
) {
    if e.bias.is_none() && e.residual.is_none() && e.act.is_identity() && !e.sums {
        return;
    }
    let whole = c - c % S::LANES;
    // SAFETY: `out` and `residual` hold pixels·c values, the bias c, `sums` 2·c when asked for; vectors end inside the pixel.
    unsafe {
        let (slope, cap) = (S::splat(e.act.slope), S::splat(e.act.cap));
        for start in (0..pixels).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(pixels);
            let mut i = 0;
            while i < whole {
                let bias = e.bias.map_or(S::splat(0.0), |b| S::load(b.as_ptr().add(i)));
                let (mut s, mut q) = (S::splat(0.0), S::splat(0.0));
                for p in block.clone() {
                    let at = p * c + i;
                    let mut v = S::add(S::load(out.add(at)), bias);
                    if let Some(residual) = residual {
                        v = S::add(v, S::load(residual.add(at)));
                    }
                    v = S::min(cap, S::max(S::mul(v, slope), v));
                    S::store(out.add(at), v);
                    s = S::add(s, v);
                    q = S::fma(v, v, q);
                }
                if e.sums {
                    S::store(sums.add(i), S::add(S::load(sums.add(i)), s));
                    S::store(sums.add(c + i), S::add(S::load(sums.add(c + i)), q));
                }
                i += S::LANES;
            }
            while i < c {
                let (mut s, mut q) = (0f32, 0f32);
                for p in block.clone() {
                    let at = p * c + i;
                    let v = *out.add(at) + e.bias.map_or(0.0, |b| b[i]) + residual.map_or(0.0, |r| *r.add(at));
                    let v = e.act.apply(v);
                    *out.add(at) = v;
                    (s, q) = (s + v, q + v * v);
                }
                if e.sums {
                    *sums.add(i) += s;
                    *sums.add(c + i) += q;
                }
                i += 1;
            }
        }
    }
}

/// The gradient of `[KH, KW, 1, C]` weights.
///
/// # Safety
/// As for [`super::outer::outer`].
pub(crate) unsafe fn outer(
    plan: &Plan,
    n: usize,
    x: &[f32],
    prologue: Option<Prologue>,
    dy: &[f32],
    kernel: [usize; 2],
) -> Vec<f32> {
    let c = plan.c;
    let offsets = offsets(plan);
    let taps: usize = plan.phases.iter().map(|p| p.taps.len()).sum();
    let (image, out_image) = (plan.h * plan.w * c, plan.out_h * plan.out_w * c);
    let partial = by_lanes(n, 1, 16, taps * c, |images, sums| {
        for i in images {
            // SAFETY: image `i` lies in `x` and `dy`, the frame in the scratch; the lane has a row for every tap.
            with_scratch(frame(plan), |buffer| unsafe {
                pad_image(plan, x.as_ptr().add(i * image), buffer.as_mut_ptr(), prologue.as_ref());
                let mut sums = sums;
                for (phase, offsets) in plan.phases.iter().zip(&offsets) {
                    for row in 0..phase.rows {
                        outer_row(plan, phase, row, offsets, buffer.as_ptr(), dy.as_ptr().add(i * out_image), sums);
                    }
                    sums = sums.add(offsets.len() * c);
                }
            });
        }
    });
    let mut out = vec![0f32; kernel[0] * kernel[1] * c];
    for lane in partial.chunks_exact((taps * c).max(1)) {
        for (t, tap) in plan.phases.iter().flat_map(|p| &p.taps).enumerate() {
            for &[ky, kx] in &tap.sources {
                let to = &mut out[(ky * kernel[1] + kx) * c..][..c];
                to.iter_mut().zip(&lane[t * c..]).for_each(|(o, v)| *o += v);
            }
        }
    }
    out
}

simd_fn!(
    fn outer_row(
        plan: &Plan, phase: &Phase, row: usize, offsets: &[usize], x: *const f32, dy: *const f32, sums: *mut f32
    ) = outer_row_kernel
);

/// Adds what one row of output pixels gives to the gradient of every tap: a few taps at a time, so that their sums stay in
/// registers and a gradient is loaded once for them.
#[inline(always)]
unsafe fn outer_row_kernel<S: Simd>(
    plan: &Plan,
    phase: &Phase,
    row: usize,
    offsets: &[usize],
    x: *const f32,
    dy: *const f32,
    sums: *mut f32,
) {
    let c = plan.c;
    let whole = c - c % S::LANES;
    let ([from, to], steps) = line(plan, phase, row);
    // Rows of the usual kernels.
    let together = [5, 3].into_iter().find(|k| offsets.len().is_multiple_of(*k)).unwrap_or(1);
    // SAFETY: every tap of a pixel lies inside the frame; without taps nothing is read. Vectors end inside the channels.
    unsafe {
        let (x, dy) = (x.wrapping_add(from), dy.add(to));
        for (chunk, offsets) in offsets.chunks_exact(together).enumerate() {
            let sums = sums.add(chunk * together * c);
            let mut i = 0;
            while i < whole {
                let (x, dy, sums) = (x.wrapping_add(i), dy.add(i), sums.add(i));
                match together {
                    5 => outer_taps::<S, 5>(phase.cols, offsets, x, dy, steps, sums, c),
                    3 => outer_taps::<S, 3>(phase.cols, offsets, x, dy, steps, sums, c),
                    _ => outer_taps::<S, 1>(phase.cols, offsets, x, dy, steps, sums, c),
                }
                i += S::LANES;
            }
            while i < c {
                for (t, offset) in offsets.iter().enumerate() {
                    let mut sum = 0f32;
                    for col in 0..phase.cols {
                        sum += *x.add(offset + col * steps[0] + i) * *dy.add(col * steps[1] + i);
                    }
                    *sums.add(t * c + i) += sum;
                }
                i += 1;
            }
        }
    }
}

/// `T` taps of one vector of channels.
#[inline(always)]
unsafe fn outer_taps<S: Simd, const T: usize>(
    cols: usize,
    offsets: &[usize],
    x: *const f32,
    dy: *const f32,
    steps: [usize; 2],
    sums: *mut f32,
    c: usize,
) {
    let Ok(offsets) = <[usize; T]>::try_from(offsets) else { return };
    // SAFETY: as in the caller.
    unsafe {
        let mut acc = [S::splat(0.0); T];
        for col in 0..cols {
            let d = S::load(dy.add(col * steps[1]));
            for (acc, offset) in acc.iter_mut().zip(offsets) {
                *acc = S::fma(S::load(x.add(offset + col * steps[0])), d, *acc);
            }
        }
        for (t, acc) in acc.iter().enumerate() {
            let to = sums.add(t * c);
            S::store(to, S::add(S::load(to), *acc));
        }
    }
}
