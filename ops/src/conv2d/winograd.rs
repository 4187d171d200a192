//! 3x3 convolutions with stride 1 by Winograd's minimal filtering F(2x2, 3x3): 16 multiplications for four output pixels and
//! one pair of channels instead of 36 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016).
//!
//! `Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A`: a tile d of 4x4 input pixels gives 2x2 output pixels. In the transformed domain a
//! convolution is 16 products of matrices, `[tiles, channels read] · [channels read, channels written]`. The backward-data
//! pass is the same on the gradient; the gradient of the weights is `Gᵀ [Σ (Bᵀ d B) ⊙ (A y Aᵀ)] G`.
//!
//! The transforms only add, and halve in G, so the error stays near that of the plain sum: tests hold it below 2e-6 of the
//! largest result. (F(4x4, 3x3) would need fewer multiplications still and costs a digit.)

#![allow(clippy::needless_range_loop)] // register tiles are indexed by constants

pub(super) mod weights;

use super::epilogue::{Columns, Epilogue, write_vector};
use super::pack::{PackedWeights, Prologue, pad_image};
use super::pieces::{Piece, by_pieces};
use super::plan::Plan;
use crate::mem::with_scratch;
use crate::par;
use crate::simd::{Level, Simd, simd_fn};
use std::ops::Range;

/// Transformed values of a tile.
const VALUES: usize = 16;
/// Floats of transformed inputs that a group of tiles should have at most (L2), per transformed value.
const GROUP_FLOATS: usize = 4_096;
/// Tiles of a group: many enough to share a load of the weights, and a multiple of every register tile.
const GROUP: Range<usize> = 32..64;
/// Channels read or written up to which it was measured to pay, though weights of 512 come from beyond L2 for every group of tiles.
const MOST_CHANNELS: usize = 512;

/// Channels read and written below which the transforms cost what the products gain.
const LEAST_CHANNELS: usize = 48;

/// Whether `plan`, forward or backward, is one of these convolutions.
pub(super) fn applies(plan: &Plan) -> bool {
    let [phase] = &plan.phases[..] else { return false };
    let square = phase.taps.len() == 9 && phase.taps.iter().enumerate().all(|(i, t)| [t.dy, t.dx] == [i / 3, i % 3]);
    square
        && phase.taps.iter().all(|t| t.sources.len() == 1)
        && phase.step == [1, 1]
        && plan.groups == 1
        && plan.out_h.is_multiple_of(2)
        && plan.out_w.is_multiple_of(2)
        && [plan.c, plan.c_out].iter().all(|c| c.is_multiple_of(16) && *c <= MOST_CHANNELS)
        && (plan.c_out == 16 || plan.c_out.is_multiple_of(32))
        && plan.c + plan.c_out >= LEAST_CHANNELS
}

/// The tiles of some images whose frames lie one after the other.
#[derive(Clone, Copy)]
struct Tiles<'a> {
    plan: &'a Plan,
    images: usize,
}

impl Tiles<'_> {
    fn count(&self) -> usize {
        self.images * (self.plan.out_h / 2) * (self.plan.out_w / 2)
    }

    /// Image, row and column of the first output pixel of a tile.
    #[inline(always)]
    fn place(&self, tile: usize) -> [usize; 3] {
        let (rows, cols) = (self.plan.out_h / 2, self.plan.out_w / 2);
        [tile / (rows * cols), tile / cols % rows * 2, tile % cols * 2]
    }

    /// Tiles of one group.
    fn group(&self) -> usize {
        (GROUP_FLOATS / self.plan.c / 16 * 16).clamp(GROUP.start, GROUP.end)
    }
}

/// Runs a plan that [`applies`]; arguments and result as [`super::gather::gather`].
///
/// # Safety
/// As for `gather`.
pub(super) unsafe fn gather(
    plan: &Plan,
    n: usize,
    x: &[f32],
    packed: &PackedWeights,
    prologue: Option<Prologue>,
    epilogue: Epilogue,
    out: *mut f32,
) -> Option<Vec<f64>> {
    let weights = transform_weights(packed, plan.c);
    let image = plan.h * plan.w * plan.c;
    // SAFETY: the images of the piece lie in `x`; what is written is as the caller promises.
    unsafe {
        by_pieces(plan, n, &epilogue, out, |to| {
            let tiles = Tiles { plan, images: to.images.len() };
            with_frames(tiles, &x[to.images.start * image..], prologue.as_ref(), |frames| {
                let Piece { residual, out, sums, .. } = to;
                let (cb, level, epilogue) = (packed.cb, packed.level, &epilogue);
                piece(tiles, frames, &Target { weights: &weights, cb, level, epilogue, residual, out, sums });
            });
        })
    }
}

/// Lends the padded frames of the images at the start of `x`.
///
/// # Safety
/// `x` begins with the images.
unsafe fn with_frames<R>(tiles: Tiles, x: &[f32], prologue: Option<&Prologue>, f: impl FnOnce(&[f32]) -> R) -> R {
    let plan = tiles.plan;
    let (image, frame) = (plan.h * plan.w * plan.c, plan.hp * plan.wp * plan.c);
    with_scratch(tiles.images * frame, |buffer| {
        for (frame, image) in buffer.chunks_exact_mut(frame).zip(x.chunks_exact(image)) {
            // SAFETY: the frame has room for the padded image.
            unsafe { pad_image(plan, image.as_ptr(), frame.as_mut_ptr(), prologue) };
        }
        f(buffer)
    })
}

/// Where the products of a piece go.
struct Target<'a> {
    /// `[block][16][channel read][column]`
    weights: &'a [f32],
    cb: usize,
    level: Level,
    epilogue: &'a Epilogue<'a>,
    residual: Option<*const f32>,
    out: *mut f32,
    sums: *mut f32,
}

/// All tiles of a piece, group after group: transform, 16 products per block of columns, transform back.
unsafe fn piece(tiles: Tiles, frames: &[f32], to: &Target) {
    let (reads, group) = (tiles.plan.c, tiles.group());
    let blocks = tiles.plan.c_out / to.cb;
    let (inputs, products) = (VALUES * group * reads, VALUES * group * to.cb);
    with_scratch(inputs + products, |buffer| {
        let (inputs, products) = buffer.split_at_mut(inputs);
        for first in (0..tiles.count()).step_by(group) {
            let range = first..(first + group).min(tiles.count());
            // SAFETY: the buffers hold the values of a group; tiles and blocks are those of the plan.
            unsafe {
                transform_inputs(tiles, range.clone(), group, frames.as_ptr(), inputs.as_mut_ptr());
                for block in 0..blocks {
                    let columns = Columns {
                        epilogue: to.epilogue,
                        plain: to.epilogue.is_nothing(),
                        first: block * to.cb,
                        residual: to.residual,
                        out: to.out,
                    };
                    let job = Block {
                        tiles,
                        range: range.clone(),
                        group,
                        inputs: inputs.as_ptr(),
                        weights: to.weights[block * VALUES * reads * to.cb..].as_ptr(),
                        products: products.as_mut_ptr(),
                        cb: to.cb,
                        level: to.level,
                        columns,
                        sums: to.sums,
                    };
                    run_block(&job);
                }
            }
        }
    });
}

/// `G g Gᵀ` of packed 3x3 weights: `[block][9][channel read][column]` to `[block][16][channel read][column]`.
fn transform_weights(packed: &PackedWeights, reads: usize) -> Vec<f32> {
    let plane = reads * packed.cb;
    let mut out = vec![0f32; packed.blocks * VALUES * plane];
    par::each_chunk(&mut out, VALUES * plane, |(block, out)| {
        let g = &packed.values[block * 9 * plane..][..9 * plane];
        // SAFETY: `g` holds nine planes, `out` sixteen.
        unsafe { transform_kernels(g.as_ptr(), out.as_mut_ptr(), plane) };
    });
    out
}

simd_fn!(fn transform_kernels(g: *const f32, out: *mut f32, plane: usize) = transform_kernels_kernel);

#[inline(always)]
unsafe fn transform_kernels_kernel<S: Simd>(g: *const f32, out: *mut f32, plane: usize) {
    // SAFETY: planes are multiples of 16 floats.
    unsafe {
        let half = S::splat(0.5);
        // G applied to three values: (a, (a+b+c)/2, (a−b+c)/2, c).
        let four = |[a, b, c]: [S::V; 3]| {
            let (outer, b) = (S::mul(half, S::add(a, c)), S::mul(half, b));
            [a, S::add(outer, b), S::sub(outer, b), c]
        };
        for i in (0..plane).step_by(S::LANES) {
            let load = |tap: usize| S::load(g.add(tap * plane + i));
            let row = |y: usize| [load(3 * y), load(3 * y + 1), load(3 * y + 2)];
            let rows = [four(row(0)), four(row(1)), four(row(2))];
            for x in 0..4 {
                for (y, v) in four([rows[0][x], rows[1][x], rows[2][x]]).into_iter().enumerate() {
                    S::store(out.add((4 * y + x) * plane + i), v);
                }
            }
        }
    }
}

/// Four vectors, `step` floats apart. Written out: a kernel's instructions are inlined into functions that are compiled for
/// them, and `array::map` is none.
#[inline(always)]
unsafe fn load_four<S: Simd>(from: *const f32, step: usize) -> [S::V; 4] {
    // SAFETY: the caller's.
    unsafe { [S::load(from), S::load(from.add(step)), S::load(from.add(2 * step)), S::load(from.add(3 * step))] }
}

simd_fn!(
    fn transform_inputs(tiles: Tiles, range: Range<usize>, group: usize, frames: *const f32, out: *mut f32)
        = transform_inputs_kernel
);

/// `Bᵀ d B` of a group's tiles: `[16][tile][channel]`; rows of tiles that are missing are 0.
#[inline(always)]
unsafe fn transform_inputs_kernel<S: Simd>(
    tiles: Tiles,
    range: Range<usize>,
    group: usize,
    frames: *const f32,
    out: *mut f32,
) {
    let (plan, c) = (tiles.plan, tiles.plan.c);
    let origin = plan.phases[0].origin;
    let (line, value) = (plan.wp * c, group * c);
    // SAFETY: the 4x4 pixels of a tile lie inside its frame, `out` holds 16 values for each of the group's tiles and channels.
    unsafe {
        for (t, tile) in range.clone().enumerate() {
            let [image, y, x] = tiles.place(tile);
            let from = frames.add(((image * plan.hp + origin[0] + y) * plan.wp + origin[1] + x) * c);
            for i in (0..c).step_by(S::LANES) {
                // Bᵀ applied to four values: (a−c, b+c, c−b, b−d).
                let four = |[a, b, c, d]: [S::V; 4]| [S::sub(a, c), S::add(b, c), S::sub(c, b), S::sub(b, d)];
                let row = |y: usize| four(load_four::<S>(from.add(y * line + i), c));
                let rows = [row(0), row(1), row(2), row(3)];
                let to = out.add(t * c + i);
                for x in 0..4 {
                    let column = four([rows[0][x], rows[1][x], rows[2][x], rows[3][x]]);
                    for y in 0..4 {
                        S::store(to.add((4 * y + x) * value), column[y]);
                    }
                }
            }
        }
        for xi in 0..VALUES {
            let rest = std::slice::from_raw_parts_mut(out.add(xi * value + range.len() * c), value - range.len() * c);
            rest.fill(0.0);
        }
    }
}

/// One block of columns of one group of tiles.
struct Block<'a> {
    tiles: Tiles<'a>,
    range: Range<usize>,
    group: usize,
    inputs: *const f32,
    weights: *const f32,
    products: *mut f32,
    cb: usize,
    level: Level,
    columns: Columns<'a>,
    sums: *mut f32,
}

simd_fn!(fn run_block(job: &Block) = block_kernel, at job.level);

#[inline(always)]
unsafe fn block_kernel<S: Simd>(job: &Block) {
    // SAFETY: the instruction set is that of the caller; `cb` is 1 or 2 times its lanes, as `block_columns` chose.
    unsafe {
        match (job.cb / S::LANES, S::WIDE.1) {
            (1, 1) => block::<S, 1, 4>(job),
            (1, _) => block::<S, 1, 16>(job),
            (_, 1) => block::<S, 2, 4>(job),
            (_, _) => block::<S, 2, 8>(job),
        }
    }
}

#[inline(always)]
unsafe fn block<S: Simd, const CV: usize, const P: usize>(job: &Block) {
    let reads = job.tiles.plan.c;
    // SAFETY: inputs, weights and products of the block, as laid out by `piece`.
    unsafe {
        for xi in 0..VALUES {
            let w = job.weights.add(xi * reads * job.cb);
            for t in (0..job.range.len()).step_by(P) {
                let x = job.inputs.add((xi * job.group + t) * reads);
                let to = job.products.add((xi * job.group + t) * job.cb);
                multiply::<S, CV, P>(x, w, reads, to);
            }
        }
        let mut stats = [[S::splat(0.0); CV]; 2];
        for (t, tile) in job.range.clone().enumerate() {
            let [image, y, x] = job.tiles.place(tile);
            let plan = job.tiles.plan;
            let at = ((image * plan.out_h + y) * plan.out_w + x) * plan.c_out + job.columns.first;
            for v in 0..CV {
                transform_back::<S, CV>(job, t, v, at, &mut stats);
            }
        }
        if job.columns.epilogue.sums {
            let at = job.sums.add(job.columns.first);
            for (k, stats) in stats.iter().enumerate() {
                for (v, s) in stats.iter().enumerate() {
                    let to = at.add(k * job.tiles.plan.c_out + v * S::LANES);
                    S::store(to, S::add(S::load(to), *s));
                }
            }
        }
    }
}

/// `[P, depth] · [depth, CV·LANES]`.
#[inline(always)]
unsafe fn multiply<S: Simd, const CV: usize, const P: usize>(x: *const f32, w: *const f32, depth: usize, to: *mut f32) {
    // SAFETY: P rows of `depth` values, `depth` rows of CV vectors, room for P rows of CV vectors.
    unsafe {
        let mut acc = [[S::splat(0.0); CV]; P];
        let mut w = w;
        for k in 0..depth {
            let mut wv = [S::splat(0.0); CV];
            for v in 0..CV {
                wv[v] = S::load(w.add(v * S::LANES));
            }
            for p in 0..P {
                let x = S::splat(*x.add(p * depth + k));
                for v in 0..CV {
                    acc[p][v] = S::fma(x, wv[v], acc[p][v]);
                }
            }
            w = w.add(CV * S::LANES);
        }
        for p in 0..P {
            for v in 0..CV {
                S::store(to.add((p * CV + v) * S::LANES), acc[p][v]);
            }
        }
    }
}

/// `Aᵀ m A` of one vector of columns of a tile, and the epilogue of its four pixels.
#[inline(always)]
unsafe fn transform_back<S: Simd, const CV: usize>(
    job: &Block,
    t: usize,
    v: usize,
    at: usize,
    stats: &mut [[S::V; CV]; 2],
) {
    let (plan, value) = (job.tiles.plan, job.group * job.cb);
    // SAFETY: sixteen products of the tile; its four pixels lie in the output.
    unsafe {
        let from = job.products.add(t * job.cb + v * S::LANES);
        // Aᵀ applied to four values: (a+b+c, b−c−d).
        let two = |[a, b, c, d]: [S::V; 4]| [S::add(a, S::add(b, c)), S::sub(S::sub(b, c), d)];
        let row = |y: usize| two(load_four::<S>(from.add(4 * y * value), value));
        let rows = [row(0), row(1), row(2), row(3)];
        for x in 0..2 {
            let column = two([rows[0][x], rows[1][x], rows[2][x], rows[3][x]]);
            for y in 0..2 {
                let at = at + (y * plan.out_w + x) * plan.c_out + v * S::LANES;
                let stats = [&raw mut stats[0][v], &raw mut stats[1][v]];
                write_vector::<S, true>(&job.columns, column[y], [v * S::LANES, at, S::LANES], stats);
            }
        }
    }
}
