//! Gradients of large weights (many channels on small maps): every task owns a part of the result.
//!
//! With hundreds of channels, neighbouring pixels lie kilobytes apart and fall into the same few cache sets. So inputs are
//! packed once as `[image][block of 16 channels][padded pixel][16]` and gradients as `[image][block of columns][pixel]
//! [column]`: a register tile then walks through memory line after line, and both stay in L1 while all taps use them.

use super::gather::block_columns;
use super::outer::{Tile, run_tile};
use super::pack::{Prologue, pad_image};
use super::plan::Plan;
use crate::mem::with_scratch;
use crate::par::{self, Shared};
use crate::simd::{self, Level};
use std::ops::Range;

/// Weights from which on this way is the faster one, in floats.
const LARGE: usize = 1 << 18;
/// Channels of one packed block of inputs: a cache line.
const CHANNELS: usize = 16;
/// Columns of the widest block of any instruction set, so that blocks are full whichever is in use.
const WIDEST: usize = 32;
/// Output pixels that share a tile of sums.
const PIXELS: usize = 128;
/// Tasks that the work should be cut into at least.
const TASKS: usize = 32;

/// Whether `plan`, a forward plan, is one of these convolutions.
pub(super) fn applies(plan: &Plan) -> bool {
    let taps = &plan.phases[0].taps;
    plan.groups == 1
        && plan.phases.len() == 1
        && taps.iter().all(|t| t.sources.len() == 1)
        && taps.len() * plan.c * plan.c_out >= LARGE
        && plan.c.is_multiple_of(CHANNELS)
        && plan.c_out.is_multiple_of(WIDEST)
}

/// The gradient of the HWIO weights of a plan that [`applies`].
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
    let level = simd::level();
    let cb = block_columns(level, plan.c_out);
    let (blocks, chunks) = (plan.c_out / cb, plan.c / CHANNELS);
    // SAFETY: `x` and `dy` hold `n` images.
    let (x, dy) = unsafe { (pack_inputs(plan, n, x, prologue.as_ref()), pack_gradients(plan, n, dy, cb)) };
    let parts = TASKS.div_ceil(blocks).min(chunks);
    let mut out = vec![0f32; kernel[0] * kernel[1] * plan.c * plan.c_out];
    let shared = Shared(out.as_mut_ptr());
    par::each(blocks * parts, |i| {
        let (block, part) = (i / parts, i % parts);
        let job = Job { plan, n, x: &x, dy: &dy, kernel, cb, blocks, chunks, level };
        // SAFETY: tasks own disjoint columns, or disjoint rows of the same columns.
        unsafe { job.run(block, par::range(chunks, parts, part), shared) };
    });
    out
}

/// `[image][block of channels][padded pixel][16]`, through the prologue.
///
/// # Safety
/// `x` holds `n` images of the plan.
unsafe fn pack_inputs(plan: &Plan, n: usize, x: &[f32], prologue: Option<&Prologue>) -> Vec<f32> {
    let (image, frame) = (plan.h * plan.w * plan.c, plan.hp * plan.wp * plan.c);
    // SAFETY: every image lies in `x`, and its frame is written in full by `blocked`.
    unsafe {
        packed(n, frame, |i, to| {
            with_scratch(frame, |buffer| {
                pad_image(plan, x[i * image..][..image].as_ptr(), buffer.as_mut_ptr(), prologue);
                blocked(buffer, plan.c, CHANNELS, to);
            });
        })
    }
}

/// `[image][block of columns][pixel][column]`.
///
/// # Safety
/// `dy` holds `n` output images of the plan.
unsafe fn pack_gradients(plan: &Plan, n: usize, dy: &[f32], cb: usize) -> Vec<f32> {
    let image = plan.out_h * plan.out_w * plan.c_out;
    // SAFETY: every image is written in full by `blocked`.
    unsafe { packed(n, image, |i, to| blocked(&dy[i * image..][..image], plan.c_out, cb, to)) }
}

/// `n` parts of `len` floats, each written by `f`.
///
/// # Safety
/// `f` must write all `len` floats behind the pointer it is given.
unsafe fn packed(n: usize, len: usize, f: impl Fn(usize, *mut f32) + Sync + Send) -> Vec<f32> {
    let mut out: Vec<f32> = Vec::with_capacity(n * len);
    let to = Shared(out.as_mut_ptr());
    // SAFETY: part `i` lies inside the capacity; all of them are written before the length is set.
    unsafe {
        par::each(n, |i| f(i, to.at(i * len)));
        out.set_len(n * len);
    }
    out
}

/// From `[pixel][c]` to `[c / width][pixel][width]`.
///
/// # Safety
/// `to` has room for as many floats as `from` holds.
unsafe fn blocked(from: &[f32], c: usize, width: usize, to: *mut f32) {
    let pixels = from.len() / c;
    for (p, pixel) in from.chunks_exact(c).enumerate() {
        for (b, values) in pixel.chunks_exact(width).enumerate() {
            // SAFETY: block `b` of pixel `p` lies inside the room.
            unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), to.add((b * pixels + p) * width), width) };
        }
    }
}

struct Job<'a> {
    plan: &'a Plan,
    n: usize,
    x: &'a [f32],
    dy: &'a [f32],
    kernel: [usize; 2],
    cb: usize,
    blocks: usize,
    chunks: usize,
    level: Level,
}

impl Job<'_> {
    /// The gradient of the columns of a block and the input channels of some chunks.
    unsafe fn run(&self, block: usize, chunks: Range<usize>, out: Shared) {
        let (plan, phase) = (self.plan, &self.plan.phases[0]);
        let (frame, out_pixels) = (plan.hp * plan.wp * CHANNELS, plan.out_h * plan.out_w);
        let images = PIXELS.div_ceil(out_pixels).min(self.n);
        let rows = if images > 1 { phase.rows } else { PIXELS.div_ceil(phase.cols).min(phase.rows) };
        for first in (0..self.n).step_by(images) {
            for row in (0..phase.rows).step_by(rows) {
                for chunk in chunks.clone() {
                    for tap in &phase.taps {
                        let [ky, kx] = tap.sources[0];
                        let y = phase.origin[0] + row * phase.step[0] + tap.dy;
                        let pixel = y * plan.wp + phase.origin[1] + tap.dx;
                        let weight = (ky * self.kernel[1] + kx) * plan.c + chunk * CHANNELS;
                        let tile = Tile {
                            x: self.x[(first * self.chunks + chunk) * frame + pixel * CHANNELS..].as_ptr(),
                            dy: self.dy[((first * self.blocks + block) * out_pixels + row * plan.out_w) * self.cb..]
                                .as_ptr(),
                            x_strides: [
                                self.chunks * frame,
                                phase.step[0] * plan.wp * CHANNELS,
                                phase.step[1] * CHANNELS,
                            ],
                            dy_strides: [plan.c_out * out_pixels, plan.out_w * self.cb, self.cb],
                            counts: [images.min(self.n - first), rows.min(phase.rows - row), phase.cols],
                            // SAFETY: the rows of this tap and chunk lie inside the result.
                            sums: unsafe { out.at(weight * plan.c_out + block * self.cb) },
                            sums_stride: plan.c_out,
                            runs: &[(0, CHANNELS)],
                            cb: self.cb,
                            level: self.level,
                        };
                        // SAFETY: pixels, channels and sums as packed and owned above.
                        unsafe { run_tile(&tile) };
                    }
                }
            }
        }
    }
}
