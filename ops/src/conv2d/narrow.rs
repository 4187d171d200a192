//! Convolutions that write at most four channels (the last layer of a generator, the gradient of a stem's image):
//! vectorised over what is read.
//!
//! In registers of sixteen output channels three would leave thirteen lanes empty. Here a register tile is P pixels × C
//! output channels of partial sums over the channels that are read, added up across the lanes once per pixel.

#![allow(clippy::needless_range_loop)] // register tiles are indexed by constants

use super::depthwise::finish;
use super::epilogue::Epilogue;
use super::pack::{Prologue, pad_image};
use super::pieces::by_lanes;
use super::plan::{Phase, Plan};
use crate::mem::with_scratch;
use crate::par::{self, Shared};
use crate::simd::{Simd, simd_fn};

/// Output channels up to which this way is the faster one.
const MOST: usize = 4;
/// Channels that are read go by whole vectors of every instruction set.
const LANES: usize = 16;
/// Output pixels that share a load of the weights.
const PIXELS: usize = 4;

/// Whether `plan` is one of these convolutions.
pub(super) fn applies(plan: &Plan) -> bool {
    plan.groups == 1 && plan.c_out <= MOST && plan.c.is_multiple_of(LANES)
}

/// `[phase][output channel][tap][channel read]`, summed from HWIO weights; `transposed` for the backward pass.
fn pack(plan: &Plan, w: &[f32], kernel: [usize; 2], transposed: bool) -> Vec<f32> {
    let (reads, writes) = (plan.c, plan.c_out);
    let mut out = Vec::new();
    for phase in &plan.phases {
        for q in 0..writes {
            for tap in &phase.taps {
                let start = out.len();
                out.resize(start + reads, 0f32);
                for &[ky, kx] in &tap.sources {
                    let plane = &w[(ky * kernel[1] + kx) * reads * writes..][..reads * writes];
                    for (r, to) in out[start..].iter_mut().enumerate() {
                        *to += if transposed { plane[q * reads + r] } else { plane[r * writes + q] };
                    }
                }
            }
        }
    }
    out
}

/// Runs a plan that [`applies`]; arguments and result as [`super::gather::gather`], with HWIO weights.
///
/// # Safety
/// As for `gather`.
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn gather(
    plan: &Plan,
    n: usize,
    x: &[f32],
    (w, kernel, transposed): (&[f32], [usize; 2], bool),
    prologue: Option<Prologue>,
    epilogue: Epilogue,
    out: *mut f32,
) -> Option<Vec<f64>> {
    let weights = pack(plan, w, kernel, transposed);
    let runs: Vec<_> = plan.phases.iter().map(|p| plan.runs(p)).collect();
    let (image, out_image) = (plan.h * plan.w * plan.c, plan.out_h * plan.out_w * plan.c_out);
    let sums_len = if epilogue.sums { 2 * plan.c_out } else { 0 };
    let mut partial = vec![0f32; n * sums_len];
    let partial_ptr = Shared(partial.as_mut_ptr());
    let out = Shared(out);
    par::each(n, |i| {
        // SAFETY: image `i` lies in `x` and `out`, the frame and its slack in the scratch, and `partial` has a row for it.
        with_scratch(frame(plan), |buffer| unsafe {
            pad_image(plan, x.as_ptr().add(i * image), buffer.as_mut_ptr(), prologue.as_ref());
            let to = out.at(i * out_image);
            let mut w = weights.as_ptr();
            for (phase, runs) in plan.phases.iter().zip(&runs) {
                gather_phase(plan, phase, runs, buffer.as_ptr(), w, to);
                w = w.add(plan.c_out * phase.taps.len() * plan.c);
            }
            let residual = epilogue.residual.map(|r| r.as_ptr().add(i * out_image));
            finish(to, plan.out_h * plan.out_w, plan.c_out, residual, &epilogue, partial_ptr.at(i * sums_len));
        });
    });
    epilogue.sums.then(|| par::sum_rows(&partial, sums_len))
}

/// Floats of one padded image, with what the last pixels of a row may read beyond it.
fn frame(plan: &Plan) -> usize {
    let step = plan.phases.iter().map(|p| p.step[1]).max().unwrap_or(1);
    plan.hp * plan.wp * plan.c + PIXELS * plan.c * step
}

simd_fn!(
    fn gather_phase(plan: &Plan, phase: &Phase, runs: &[(usize, usize)], x: *const f32, w: *const f32, out: *mut f32)
        = gather_phase_kernel
);

#[inline(always)]
unsafe fn gather_phase_kernel<S: Simd>(
    plan: &Plan,
    phase: &Phase,
    runs: &[(usize, usize)],
    x: *const f32,
    w: *const f32,
    out: *mut f32,
) {
    // SAFETY: as the caller promises.
    unsafe {
        match plan.c_out {
            1 => gather_pixels::<S, 1>(plan, phase, runs, x, w, out),
            2 => gather_pixels::<S, 2>(plan, phase, runs, x, w, out),
            3 => gather_pixels::<S, 3>(plan, phase, runs, x, w, out),
            _ => gather_pixels::<S, 4>(plan, phase, runs, x, w, out),
        }
    }
}

#[inline(always)]
unsafe fn gather_pixels<S: Simd, const C: usize>(
    plan: &Plan,
    phase: &Phase,
    runs: &[(usize, usize)],
    x: *const f32,
    w: *const f32,
    out: *mut f32,
) {
    let step = phase.step[1] * plan.c;
    let depth = phase.taps.len() * plan.c;
    for row in 0..phase.rows {
        for col in (0..phase.cols).step_by(PIXELS) {
            let from = (phase.origin[0] + row * phase.step[0]) * plan.wp + phase.origin[1] + col * phase.step[1];
            let to = (phase.out[0] + row * phase.out_step[0]) * plan.out_w + phase.out[1] + col * phase.out_step[1];
            let valid = (phase.cols - col).min(PIXELS);
            // SAFETY: runs of a valid pixel lie inside the frame, those of up to three pixels more inside its slack; without
            // taps nothing is read. Weights have `depth` values for each of the C channels.
            unsafe {
                let mut acc = [[S::splat(0.0); PIXELS]; C];
                let mut w = w;
                for &(offset, len) in runs {
                    let x = x.wrapping_add(from * plan.c + offset);
                    let mut k = 0;
                    while k < len {
                        let mut xv = [S::splat(0.0); PIXELS];
                        for p in 0..PIXELS {
                            xv[p] = S::load(x.wrapping_add(p * step + k));
                        }
                        for c in 0..C {
                            let wv = S::load(w.add(c * depth));
                            for p in 0..PIXELS {
                                acc[c][p] = S::fma(xv[p], wv, acc[c][p]);
                            }
                        }
                        w = w.add(S::LANES);
                        k += S::LANES;
                    }
                }
                for c in 0..C {
                    let sums = S::sum4(acc[c]);
                    for (p, sum) in sums.iter().enumerate().take(valid) {
                        *out.add((to + p * phase.out_step[1]) * C + c) = *sum;
                    }
                }
            }
        }
    }
}

/// Output pixels over which a tile of sums stays in registers: their inputs should fit L1.
const STRETCH_PIXELS: usize = 64;

/// The gradient of the HWIO weights of a forward plan that [`applies`].
///
/// # Safety
/// As for [`super::outer::outer`].
pub(super) unsafe fn outer(
    plan: &Plan,
    n: usize,
    x: &[f32],
    prologue: Option<Prologue>,
    dy: &[f32],
    kernel: [usize; 2],
) -> Vec<f32> {
    let taps: usize = plan.phases.iter().map(|p| p.taps.len()).sum();
    let (reads, writes) = (plan.c, plan.c_out);
    let (image, out_image) = (plan.h * plan.w * reads, plan.out_h * plan.out_w * writes);
    let len = taps * reads * writes;
    let partial = by_lanes(n, 1, 16, len, |images, sums| {
        for i in images {
            // SAFETY: image `i` lies in `x` and `dy`, the frame in the scratch; the lane has sums for every weight.
            with_scratch(frame(plan), |buffer| unsafe {
                pad_image(plan, x.as_ptr().add(i * image), buffer.as_mut_ptr(), prologue.as_ref());
                let mut sums = sums;
                for phase in &plan.phases {
                    outer_phase(plan, phase, buffer.as_ptr(), dy.as_ptr().add(i * out_image), sums);
                    sums = sums.add(phase.taps.len() * reads * writes);
                }
            });
        }
    });
    collect(plan, &partial, len, kernel)
}

/// Adds the lanes in order: from `[phase][output channel][tap][channel read]` to HWIO.
fn collect(plan: &Plan, partial: &[f32], len: usize, kernel: [usize; 2]) -> Vec<f32> {
    let (reads, writes) = (plan.c, plan.c_out);
    let mut out = vec![0f32; kernel[0] * kernel[1] * reads * writes];
    for lane in partial.chunks_exact(len.max(1)) {
        let mut rows = lane.chunks_exact(reads);
        for phase in &plan.phases {
            for q in 0..writes {
                for (tap, row) in phase.taps.iter().zip(rows.by_ref()) {
                    for &[ky, kx] in &tap.sources {
                        let to = &mut out[(ky * kernel[1] + kx) * reads * writes + q..];
                        to.iter_mut().step_by(writes).zip(row).for_each(|(o, v)| *o += v);
                    }
                }
            }
        }
    }
    out
}

simd_fn!(
    fn outer_phase(plan: &Plan, phase: &Phase, x: *const f32, dy: *const f32, sums: *mut f32) = outer_phase_kernel
);

#[inline(always)]
unsafe fn outer_phase_kernel<S: Simd>(plan: &Plan, phase: &Phase, x: *const f32, dy: *const f32, sums: *mut f32) {
    // SAFETY: as the caller promises.
    unsafe {
        match plan.c_out {
            1 => outer_rows::<S, 1>(plan, phase, x, dy, sums),
            2 => outer_rows::<S, 2>(plan, phase, x, dy, sums),
            3 => outer_rows::<S, 3>(plan, phase, x, dy, sums),
            _ => outer_rows::<S, 4>(plan, phase, x, dy, sums),
        }
    }
}

#[inline(always)]
unsafe fn outer_rows<S: Simd, const C: usize>(
    plan: &Plan,
    phase: &Phase,
    x: *const f32,
    dy: *const f32,
    sums: *mut f32,
) {
    let together = (STRETCH_PIXELS / phase.cols.max(1)).max(1);
    let depth = phase.taps.len() * plan.c;
    for row in (0..phase.rows).step_by(together) {
        let rows = together.min(phase.rows - row);
        let mut first = 0;
        while first < plan.c {
            // Sixteen registers hold two vectors by four channels, thirty-two hold twice that.
            let vectors = match (plan.c - first) / S::LANES {
                4.. if S::LANES == 16 => 4,
                2.. => 2,
                _ => 1,
            };
            for (t, tap) in phase.taps.iter().enumerate() {
                let from = (phase.origin[0] + row * phase.step[0] + tap.dy) * plan.wp + phase.origin[1] + tap.dx;
                let to = (phase.out[0] + row * phase.out_step[0]) * plan.out_w + phase.out[1];
                let job = Stretch {
                    // SAFETY: the window of the first pixel lies inside the frame.
                    x: unsafe { x.add(from * plan.c + first) },
                    x_steps: [phase.step[0] * plan.wp * plan.c, phase.step[1] * plan.c],
                    // SAFETY: the row lies inside the image.
                    dy: unsafe { dy.add(to * C) },
                    dy_steps: [phase.out_step[0] * plan.out_w * C, phase.out_step[1] * C],
                    counts: [rows, phase.cols],
                    // SAFETY: the tap has `plan.c` sums for each channel.
                    sums: unsafe { sums.add(t * plan.c + first) },
                    depth,
                };
                // SAFETY: `vectors` vectors lie inside the channels that are left.
                unsafe {
                    match vectors {
                        4 => products::<S, C, 4>(&job),
                        2 => products::<S, C, 2>(&job),
                        _ => products::<S, C, 1>(&job),
                    }
                }
            }
            first += vectors * S::LANES;
        }
    }
}

/// Some rows of output pixels and one tap.
struct Stretch {
    x: *const f32,
    /// From row to row, from pixel to pixel.
    x_steps: [usize; 2],
    dy: *const f32,
    dy_steps: [usize; 2],
    /// Rows and pixels of a row.
    counts: [usize; 2],
    sums: *mut f32,
    /// Sums of one output channel.
    depth: usize,
}

#[inline(always)]
unsafe fn products<S: Simd, const C: usize, const V: usize>(s: &Stretch) {
    // SAFETY: the caller's pixels and sums.
    unsafe {
        let mut acc = [[S::splat(0.0); V]; C];
        for row in 0..s.counts[0] {
            let (mut x, mut dy) = (s.x.add(row * s.x_steps[0]), s.dy.add(row * s.dy_steps[0]));
            for _ in 0..s.counts[1] {
                let mut xv = [S::splat(0.0); V];
                for v in 0..V {
                    xv[v] = S::load(x.add(v * S::LANES));
                }
                for c in 0..C {
                    let d = S::splat(*dy.add(c));
                    for v in 0..V {
                        acc[c][v] = S::fma(xv[v], d, acc[c][v]);
                    }
                }
                x = x.wrapping_add(s.x_steps[1]);
                dy = dy.wrapping_add(s.dy_steps[1]);
            }
        }
        for c in 0..C {
            for v in 0..V {
                let to = s.sums.add(c * s.depth + v * S::LANES);
                S::store(to, S::add(S::load(to), acc[c][v]));
            }
        }
    }
}
