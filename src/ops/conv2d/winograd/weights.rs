//! The gradient of the weights in the transformed domain: `Gᵀ [Σ (Bᵀ d B) ⊙ (A y Aᵀ)] G`.

use super::{Tiles, VALUES, transform_inputs, with_frames};
use crate::ops::conv2d::gather::block_columns;
use crate::ops::conv2d::outer::{Tile, run_tile};
use crate::ops::conv2d::pack::Prologue;
use crate::ops::conv2d::pieces::by_lanes;
use crate::ops::conv2d::plan::Plan;
use crate::ops::mem::with_scratch;
use crate::ops::par::{self, Shared};
use crate::ops::simd::{self, Level, Simd, simd_fn};
use std::ops::Range;

/// Channels read times channels written up to which the sums of [`outer`] stay in L2.
const MOST_SUMS: usize = 8_192;

/// Channels on either side below which the plain sums are as fast.
const LEAST_SUMMED: usize = 64;

/// Whether the gradient of the weights of a forward plan goes this way as well.
pub(in super::super) fn applies(plan: &Plan) -> bool {
    super::applies(plan) && plan.c.min(plan.c_out) >= LEAST_SUMMED && plan.c * plan.c_out <= MOST_SUMS
}

/// Sums of all lanes of the weights' gradient, in floats.
const LANES_FLOATS: usize = 1 << 20;

/// The gradient of the HWIO weights of a forward plan that [`applies`].
///
/// # Safety
/// As for [`crate::ops::conv2d::outer::outer`].
pub(in super::super) unsafe fn outer(
    plan: &Plan,
    n: usize,
    x: &[f32],
    prologue: Option<Prologue>,
    dy: &[f32],
    kernel: [usize; 2],
) -> Vec<f32> {
    let level = simd::level();
    let cb = block_columns(level, plan.c_out);
    let len = VALUES * plan.c * plan.c_out;
    let lanes = (LANES_FLOATS / len).clamp(2, 16);
    let (image, out_image) = (plan.h * plan.w * plan.c, plan.out_h * plan.out_w * plan.c_out);
    let partial = by_lanes(n, plan.images_per_piece(n), lanes, len, |images, sums| {
        let tiles = Tiles { plan, images: images.len() };
        let (x, dy) = (&x[images.start * image..], &dy[images.start * out_image..]);
        // SAFETY: the images lie in `x` and `dy`; each lane has its sums.
        unsafe {
            with_frames(tiles, x, prologue.as_ref(), |frames| outer_piece(tiles, frames, dy, cb, level, sums));
        }
    });
    collect(plan, &partial, len, kernel)
}

/// Adds the products of a piece to `sums [16][channel read][channel written]`.
unsafe fn outer_piece(tiles: Tiles, frames: &[f32], dy: &[f32], cb: usize, level: Level, sums: *mut f32) {
    let (reads, writes, group) = (tiles.plan.c, tiles.plan.c_out, tiles.group());
    let inputs = VALUES * group * reads;
    with_scratch(inputs + VALUES * group * writes, |buffer| {
        let (inputs, gradients) = buffer.split_at_mut(inputs);
        for first in (0..tiles.count()).step_by(group) {
            let range = first..(first + group).min(tiles.count());
            // SAFETY: the buffers hold the values of a group, `sums` a row for each value and channel read.
            unsafe {
                transform_inputs(tiles, range.clone(), group, frames.as_ptr(), inputs.as_mut_ptr());
                transform_gradients(tiles, range.clone(), group, dy.as_ptr(), gradients.as_mut_ptr());
                for xi in 0..VALUES {
                    for block in 0..writes / cb {
                        run_tile(&Tile {
                            x: inputs.as_ptr().add(xi * group * reads),
                            dy: gradients.as_ptr().add(xi * group * writes + block * cb),
                            x_strides: [0, 0, reads],
                            dy_strides: [0, 0, writes],
                            counts: [1, 1, range.len()],
                            sums: sums.add(xi * reads * writes + block * cb),
                            sums_stride: writes,
                            runs: &[(0, reads)],
                            cb,
                            level,
                        });
                    }
                }
            }
        }
    });
}

simd_fn!(
    fn transform_gradients(tiles: Tiles, range: Range<usize>, group: usize, dy: *const f32, out: *mut f32)
        = transform_gradients_kernel
);

/// `A y Aᵀ` of a group's tiles: `[16][tile][channel]`.
#[inline(always)]
unsafe fn transform_gradients_kernel<S: Simd>(
    tiles: Tiles,
    range: Range<usize>,
    group: usize,
    dy: *const f32,
    out: *mut f32,
) {
    let (plan, c) = (tiles.plan, tiles.plan.c_out);
    let (line, value) = (plan.out_w * c, group * c);
    // SAFETY: the 2x2 pixels of a tile lie inside its image, `out` holds 16 values for each of the group's tiles and channels.
    unsafe {
        for (t, tile) in range.enumerate() {
            let [image, y, x] = tiles.place(tile);
            let from = dy.add(((image * plan.out_h + y) * plan.out_w + x) * c);
            for i in (0..c).step_by(S::LANES) {
                // A applied to two values: (a, a+b, a−b, −b).
                let four = |[a, b]: [S::V; 2]| [a, S::add(a, b), S::sub(a, b), S::sub(S::splat(0.0), b)];
                let row = |y: usize| four([0, 1].map(|x| S::load(from.add(y * line + x * c + i))));
                let rows = [row(0), row(1)];
                let to = out.add(t * c + i);
                for x in 0..4 {
                    let column = four([rows[0][x], rows[1][x]]);
                    for y in 0..4 {
                        S::store(to.add((4 * y + x) * value), column[y]);
                    }
                }
            }
        }
    }
}

/// Adds the lanes in order and goes back to 3x3: `Gᵀ s G`, for every pair of channels.
fn collect(plan: &Plan, partial: &[f32], len: usize, kernel: [usize; 2]) -> Vec<f32> {
    let (reads, writes) = (plan.c, plan.c_out);
    let (plane, taps) = (reads * writes, &plan.phases[0].taps);
    let mut out = vec![0f32; kernel[0] * kernel[1] * plane];
    let shared = Shared(out.as_mut_ptr());
    // Gᵀ applied to four values: (a + (b+c)/2, (b−c)/2, (b+c)/2 + d).
    let three = |[a, b, c, d]: [f32; 4]| [a + 0.5 * (b + c), 0.5 * (b - c), 0.5 * (b + c) + d];
    par::each(reads, |r| {
        let mut sums = vec![[0f32; VALUES]; writes];
        for lane in partial.chunks_exact(len) {
            for xi in 0..VALUES {
                let row = &lane[xi * plane + r * writes..][..writes];
                sums.iter_mut().zip(row).for_each(|(s, v)| s[xi] += v);
            }
        }
        for (q, s) in sums.iter().enumerate() {
            let rows = [0, 1, 2, 3].map(|y| three([s[4 * y], s[4 * y + 1], s[4 * y + 2], s[4 * y + 3]]));
            for x in 0..3 {
                let column = three([rows[0][x], rows[1][x], rows[2][x], rows[3][x]]);
                for (y, v) in column.into_iter().enumerate() {
                    let [ky, kx] = taps[3 * y + x].sources[0];
                    // SAFETY: row `r` of a kernel position, written by this task alone.
                    unsafe { *shared.at((ky * kernel[1] + kx) * plane + r * writes + q) = v };
                }
            }
        }
    });
    out
}
