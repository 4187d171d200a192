//! The gradient of the weights in the transformed domain: `Gᵀ [Σ (Bᵀ d B) ⊙ (A y Aᵀ)] G`.

use super::{Tiles, VALUES, transform_inputs, with_frames};
use crate::conv2d::gather::block_columns;
use crate::conv2d::outer::{Tile, run_tile};
use crate::conv2d::pack::Prologue;
use crate::conv2d::pieces::by_shares;
use crate::conv2d::plan::Plan;
use crate::mem::with_scratch;
use crate::par::{self, Shared};
use crate::simd::{self, Level, Simd, simd_fn};
use std::ops::Range;

/// Channels read times channels written up to which the sums of a task stay in L2; of more, each has a share of the columns.
const MOST_SUMS: usize = 16_384;

/// Channels on either side below which the plain sums are as fast.
const LEAST_SUMMED: usize = 64;

/// Shares from which on too much is transformed again for each.
const MOST_SHARES: usize = 4;

/// Whether the gradient of the weights of a forward plan goes this way as well.
pub(in super::super) fn applies(plan: &Plan) -> bool {
    super::applies(plan) && plan.c.min(plan.c_out) >= LEAST_SUMMED && shares(plan) <= MOST_SHARES
}

/// Shares of the columns: their sums follow each other, `[16][channel read][column of the share]`.
fn shares(plan: &Plan) -> usize {
    (plan.c * plan.c_out).div_ceil(MOST_SUMS)
}

/// The columns of a share: whole blocks of `cb`.
fn columns(plan: &Plan, cb: usize, share: usize) -> Range<usize> {
    let blocks = par::range(plan.c_out / cb, shares(plan), share);
    blocks.start * cb..blocks.end * cb
}

/// Tiles of a lane, where there are as many: its sums are zeroed at first and read in the end.
const TILES_PER_LANE: usize = 256;

/// Sums of all lanes of the weights' gradient, in floats.
const LANES_FLOATS: usize = 1 << 21;

/// The gradient of the HWIO weights of a forward plan that [`applies`].
///
/// # Safety
/// As for [`crate::conv2d::outer::outer`].
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
    let tiles = Tiles { plan, images: n }.count();
    let lanes = (tiles / TILES_PER_LANE).min(LANES_FLOATS / len).clamp(2, 16);
    let (image, out_image) = (plan.h * plan.w * plan.c, plan.out_h * plan.out_w * plan.c_out);
    let partial = by_shares(n, plan.images_per_piece(n), [lanes, shares(plan)], len, |images, share, sums| {
        let tiles = Tiles { plan, images: images.len() };
        let (x, dy) = (&x[images.start * image..], &dy[images.start * out_image..]);
        let columns = columns(plan, cb, share);
        // SAFETY: the images lie in `x` and `dy`; each share of a lane has its sums.
        unsafe {
            let sums = sums.add(VALUES * plan.c * columns.start);
            with_frames(tiles, x, prologue.as_ref(), |frames| {
                outer_piece(tiles, frames, dy, columns.clone(), cb, level, sums);
            });
        }
    });
    collect(plan, cb, level, &partial, len, kernel)
}

/// Adds the products of a piece and some columns to `sums [16][channel read][column]`.
unsafe fn outer_piece(
    tiles: Tiles,
    frames: &[f32],
    dy: &[f32],
    columns: Range<usize>,
    cb: usize,
    level: Level,
    sums: *mut f32,
) {
    let (reads, writes, group) = (tiles.plan.c, columns.len(), tiles.group());
    let inputs = VALUES * group * reads;
    with_scratch(inputs + VALUES * group * writes, |buffer| {
        let (inputs, gradients) = buffer.split_at_mut(inputs);
        for first in (0..tiles.count()).step_by(group) {
            let range = first..(first + group).min(tiles.count());
            // SAFETY: the buffers hold the values of a group, `sums` a row for each value and channel read.
            unsafe {
                transform_inputs(tiles, range.clone(), group, frames.as_ptr(), inputs.as_mut_ptr());
                let to = gradients.as_mut_ptr();
                transform_gradients(tiles, range.clone(), group, columns.clone(), level, dy.as_ptr(), to);
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
    fn transform_gradients(
        tiles: Tiles,
        range: Range<usize>,
        group: usize,
        columns: Range<usize>,
        level: Level,
        dy: *const f32,
        out: *mut f32,
    ) = transform_gradients_kernel, at level
);

/// `A y Aᵀ` of some columns of a group's tiles: `[16][tile][column]`.
#[inline(always)]
unsafe fn transform_gradients_kernel<S: Simd>(
    tiles: Tiles,
    range: Range<usize>,
    group: usize,
    columns: Range<usize>,
    _level: Level,
    dy: *const f32,
    out: *mut f32,
) {
    let (plan, c) = (tiles.plan, tiles.plan.c_out);
    let (line, value) = (plan.out_w * c, group * columns.len());
    // SAFETY: the 2x2 pixels of a tile lie inside its image, `out` holds 16 values for each of the group's tiles and columns.
    unsafe {
        for (t, tile) in range.enumerate() {
            let [image, y, x] = tiles.place(tile);
            let from = dy.add(((image * plan.out_h + y) * plan.out_w + x) * c + columns.start);
            for i in (0..columns.len()).step_by(S::LANES) {
                // A applied to two values: (a, a+b, a−b, −b).
                let four = |[a, b]: [S::V; 2]| [a, S::add(a, b), S::sub(a, b), S::sub(S::splat(0.0), b)];
                let row = |y: usize| four([0, 1].map(|x| S::load(from.add(y * line + x * c + i))));
                let rows = [row(0), row(1)];
                let to = out.add(t * columns.len() + i);
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
fn collect(plan: &Plan, cb: usize, level: Level, partial: &[f32], len: usize, kernel: [usize; 2]) -> Vec<f32> {
    let (reads, writes) = (plan.c, plan.c_out);
    let (plane, taps) = (reads * writes, &plan.phases[0].taps);
    let mut out = vec![0f32; kernel[0] * kernel[1] * plane];
    let shared = Shared(out.as_mut_ptr());
    par::each(reads, |r| {
        for columns in (0..shares(plan)).map(|share| columns(plan, cb, share)) {
            let first = VALUES * reads * columns.start + r * columns.len();
            let place = |tap: usize| {
                let [ky, kx] = taps[tap].sources[0];
                // SAFETY: row `r` of a kernel's position.
                unsafe { shared.at((ky * kernel[1] + kx) * plane + r * writes + columns.start) }
            };
            let row = Row {
                level,
                sums: &partial[first..],
                lane: len,
                value: reads * columns.len(),
                columns: columns.len(),
                to: std::array::from_fn(place),
            };
            // SAFETY: every lane has its 16 values of these columns; the rows are written by this task alone.
            unsafe { transform_sums(&row) };
        }
    });
    out
}

/// The columns of a share for one channel read.
struct Row<'a> {
    level: Level,
    /// Of the first lane, from the first value on.
    sums: &'a [f32],
    /// From one lane to the next.
    lane: usize,
    /// From one of the 16 values to the next.
    value: usize,
    /// Whole vectors.
    columns: usize,
    /// Where each of the nine taps goes.
    to: [*mut f32; 9],
}

simd_fn!(fn transform_sums(row: &Row) = transform_sums_kernel, at row.level);

#[inline(always)]
unsafe fn transform_sums_kernel<S: Simd>(row: &Row) {
    // SAFETY: as said of the row's parts.
    unsafe {
        let half = S::splat(0.5);
        // Gᵀ applied to four values: (a + (b+c)/2, (b−c)/2, (b+c)/2 + d).
        let three = |[a, b, c, d]: [S::V; 4]| {
            let inner = S::mul(half, S::add(b, c));
            [S::add(a, inner), S::mul(half, S::sub(b, c)), S::add(inner, d)]
        };
        for i in (0..row.columns).step_by(S::LANES) {
            let sum = |value: usize| {
                let mut sum = S::splat(0.0);
                let mut at = value * row.value + i;
                while at < row.sums.len() {
                    sum = S::add(sum, S::load(row.sums.as_ptr().add(at)));
                    at += row.lane;
                }
                sum
            };
            let line = |y: usize| three([sum(4 * y), sum(4 * y + 1), sum(4 * y + 2), sum(4 * y + 3)]);
            let lines = [line(0), line(1), line(2), line(3)];
            for x in 0..3 {
                let column = three([lines[0][x], lines[1][x], lines[2][x], lines[3][x]]);
                for y in 0..3 {
                    S::store(row.to[3 * y + x].add(i), column[y]);
                }
            }
        }
    }
}
