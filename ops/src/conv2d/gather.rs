//! The gather kernel: every output pixel is a dot product of taps with packed weights.
//!
//! Cost per register tile (P pixels × V vectors of output channels) and per weight row: V loads of weights, P
//! broadcasts, P·V fused multiply-adds. With P·V = 16 the multiply-adds bound it: 16 of them against 10 to 17 loads.
//! Inputs sit in a padded buffer of one piece (near 192 KiB, or one image where that is more; L2), weights of one block in L1 or L2.

#![allow(clippy::needless_range_loop)] // register tiles are indexed by constants

use super::epilogue::{Columns, Epilogue, write_vector};
use super::pack::{PackedWeights, Prologue, pad_image};
use super::plan::{Phase, Plan};
use crate::mem::with_scratch;
use crate::par::{self, Shared};
use crate::simd::{Level, Simd, simd_fn};
use std::ops::Range;

/// Columns of one weight block for `writes` output channels per group at `level`.
pub(crate) fn block_columns(level: Level, writes: usize) -> usize {
    // SAFETY: no pointers and no vector instructions.
    unsafe { block_columns_of(level, writes) }
}
simd_fn!(fn block_columns_of(level: Level, writes: usize) -> usize = block_columns_kernel, at level);

#[inline(always)]
unsafe fn block_columns_kernel<S: Simd>(_level: Level, writes: usize) -> usize {
    if writes > S::NARROW.0 * S::LANES { S::WIDE.0 * S::LANES } else { S::NARROW.0 * S::LANES }
}

/// Runs the plan over `n` images; returns Σ and Σ² per output channel if asked, summed in a fixed order.
///
/// # Safety
/// `x` holds `n` input images of the plan, `out` has room for `n` output images.
pub(crate) unsafe fn gather(
    plan: &Plan,
    n: usize,
    x: &[f32],
    weights: &PackedWeights,
    prologue: Option<Prologue>,
    epilogue: Epilogue,
    out: *mut f32,
) -> Option<Vec<f64>> {
    let per_piece = plan.images_per_piece(n);
    let pieces = par::pieces(n, per_piece);
    let blocks = plan.groups * weights.blocks;
    // Few pieces are split by columns as well; each part then packs the images for itself.
    let column_tasks = TASKS.div_ceil(pieces).min(blocks).min(weights.values.len() / COLUMN_TASK_FLOATS).max(1);
    let sums_len = if epilogue.sums { 2 * plan.c_out } else { 0 };
    let mut partial = vec![0f32; pieces * sums_len];
    let partial_ptr = Shared(partial.as_mut_ptr());
    let out = Shared(out);
    par::each(pieces * column_tasks, |t| {
        let (i, part) = (t / column_tasks, t % column_tasks);
        let images = i * per_piece..((i + 1) * per_piece).min(n);
        let blocks = par::range(blocks, column_tasks, part);
        // SAFETY: tasks write disjoint images, or disjoint columns of them and of a row of `partial`; bounds are those of
        // the plan.
        unsafe {
            let sums = partial_ptr.at(i * sums_len);
            piece(plan, images, blocks, x.as_ptr(), weights, prologue.as_ref(), &epilogue, out.at(0), sums);
        }
    });
    epilogue.sums.then(|| par::sum_rows(&partial, sums_len))
}

/// Pieces of work that a convolution should have at least, if its weights are large: several threads share a small batch.
const TASKS: usize = 16;
/// Weights below which columns are not split: packing the images once more would cost more than it gains.
const COLUMN_TASK_FLOATS: usize = 65_536;

/// Whether the kernel may read the images where they are: nothing to pad, nothing to apply, no group of four pixels
/// that reaches beyond its row.
fn reads_in_place(plan: &Plan, prologue: Option<&Prologue>) -> bool {
    prologue.is_none() && plan.hp == plan.h && plan.wp == plan.w && plan.phases.iter().all(|p| p.cols % 4 == 0)
}

#[allow(clippy::too_many_arguments)]
unsafe fn piece(
    plan: &Plan,
    images: Range<usize>,
    blocks: Range<usize>,
    x: *const f32,
    weights: &PackedWeights,
    prologue: Option<&Prologue>,
    epilogue: &Epilogue,
    out: *mut f32,
    sums: *mut f32,
) {
    let image_len = plan.h * plan.w * plan.c;
    let out_len = plan.out_h * plan.out_w * plan.c_out;
    let frame = plan.hp * plan.wp * plan.c;
    // SAFETY: images of the piece lie in `x`, `out` and the residual; the scratch holds their frames and the slack.
    unsafe {
        let residual = epilogue.residual.map(|r| r.as_ptr().add(images.start * out_len));
        let out = out.add(images.start * out_len);
        if reads_in_place(plan, prologue) {
            let input = x.add(images.start * image_len);
            phases(plan, images.len(), blocks, input, weights, epilogue, residual, out, sums);
            return;
        }
        // A group of four pixels at the end of a row may read (and throw away) up to three pixels more.
        let slack = 4 * plan.c * plan.phases.iter().map(|p| p.step[1]).max().unwrap_or(1);
        with_scratch(images.len() * frame + slack, |buffer| {
            for (k, i) in images.clone().enumerate() {
                pad_image(plan, x.add(i * image_len), buffer.as_mut_ptr().add(k * frame), prologue);
            }
            phases(plan, images.len(), blocks, buffer.as_ptr(), weights, epilogue, residual, out, sums);
        });
    }
}

#[allow(clippy::too_many_arguments)]
unsafe fn phases(
    plan: &Plan,
    n: usize,
    blocks: Range<usize>,
    input: *const f32,
    weights: &PackedWeights,
    epilogue: &Epilogue,
    residual: Option<*const f32>,
    out: *mut f32,
    sums: *mut f32,
) {
    let (reads, writes) = plan.group_channels();
    for (phase, &start) in plan.phases.iter().zip(&weights.phase_start) {
        if phase.rows * phase.cols == 0 {
            continue;
        }
        let runs = plan.runs(phase);
        let block_len = phase.taps.len() * reads * weights.cb;
        for block in blocks.clone() {
            let (g, b) = (block / weights.blocks, block % weights.blocks);
            let job = Job {
                plan,
                phase,
                runs: &runs,
                n,
                // SAFETY: a group starts inside the first pixel.
                input: unsafe { input.add(g * reads) },
                // SAFETY: the block lies inside the packed weights of the phase.
                w: unsafe { weights.values.as_ptr().add(start + block * block_len) },
                cb: weights.cb,
                level: weights.level,
                columns: Columns {
                    epilogue,
                    plain: epilogue.is_nothing(),
                    first: g * writes + b * weights.cb,
                    residual,
                    out,
                },
                count: weights.cb.min(writes - b * weights.cb),
                sums,
            };
            // SAFETY: pointers as promised by the caller.
            unsafe { run_job(&job) };
        }
    }
}

/// One block of output channels of one phase, over the images of a piece.
struct Job<'a> {
    plan: &'a Plan,
    phase: &'a Phase,
    /// (offset, length) of contiguous stretches of input that one output pixel reads.
    runs: &'a [(usize, usize)],
    n: usize,
    input: *const f32,
    w: *const f32,
    cb: usize,
    level: Level,
    columns: Columns<'a>,
    /// How many channels of the block there are.
    count: usize,
    sums: *mut f32,
}

simd_fn!(fn run_job(job: &Job) = job_kernel, at job.level);

#[inline(always)]
unsafe fn job_kernel<S: Simd>(job: &Job) {
    // The tile shapes are constants of the level; the branches that do not apply are compiled but never taken.
    // SAFETY: the instruction set is that of the caller; `cb` is 1 or 2 times its lanes, as `block_columns` chose at this level.
    unsafe {
        match (job.cb / S::LANES, S::WIDE.1) {
            (1, 1) => tiles::<S, 1, 1>(job),
            (1, _) => tiles::<S, 1, 4>(job),
            (_, 1) => tiles::<S, 2, 1>(job),
            (_, _) => tiles::<S, 2, 2>(job),
        }
    }
}

/// Floats of the largest register tile: 16 vectors of 16 lanes.
const MAX_TILE: usize = 256;

/// Groups of four pixels whose sums stay in registers. In f32 the error grows with the number of additions to one
/// accumulator, and a variance is the small difference of large sums; more often, the flushes would cost time.
const STATS_SPOTS: usize = 64;

/// Where a group of four neighbouring pixels of one row reads and writes.
#[derive(Clone, Copy)]
struct Spot {
    input: *const f32,
    out: usize,
    valid: usize,
}

#[inline(always)]
unsafe fn tiles<S: Simd, const CV: usize, const PG: usize>(job: &Job) {
    let (plan, phase) = (job.plan, job.phase);
    let per_row = phase.cols.div_ceil(4);
    let per_image = phase.rows * per_row;
    let total = job.n * per_image;
    let spot = |i: usize| {
        let (image, rest) = (i / per_image, i % per_image);
        let (row, col) = (rest / per_row, rest % per_row * 4);
        let iy = phase.origin[0] + row * phase.step[0];
        let ix = phase.origin[1] + col * phase.step[1];
        let oy = phase.out[0] + row * phase.out_step[0];
        let ox = phase.out[1] + col * phase.out_step[1];
        Spot {
            // Inside the frame, unless the phase has no taps and reads nothing.
            input: job.input.wrapping_add(((image * plan.hp + iy) * plan.wp + ix) * plan.c),
            out: ((image * plan.out_h + oy) * plan.out_w + ox) * plan.c_out + job.columns.first,
            valid: (phase.cols - col).min(4),
        }
    };
    // SAFETY: tiles are counted off below `total`; the rest as the caller promises.
    unsafe {
        let mut start = 0;
        while start < total {
            let end = if job.columns.epilogue.sums { total.min(start + STATS_SPOTS) } else { total };
            let mut stats = [[S::splat(0.0); CV]; 2];
            let mut i = start;
            while i + PG <= end {
                let mut spots = [spot(i); PG];
                for (k, s) in spots.iter_mut().enumerate().skip(1) {
                    *s = spot(i + k);
                }
                one_tile::<S, CV, PG>(job, &spots, &mut stats);
                i += PG;
            }
            while i < end {
                one_tile::<S, CV, 1>(job, &[spot(i)], &mut stats);
                i += 1;
            }
            if job.columns.epilogue.sums {
                flush_stats::<S, CV>(job, &stats);
            }
            start = end;
        }
    }
}

/// Adds Σ and Σ² of some tiles to those of the piece.
#[inline(always)]
unsafe fn flush_stats<S: Simd, const CV: usize>(job: &Job, stats: &[[S::V; CV]; 2]) {
    let mut lane = [0f32; 64];
    for (k, s) in stats.iter().enumerate() {
        // SAFETY: `lane` holds CV·LANES ≤ 32 values; `sums` has a row of c_out values for each of Σ and Σ².
        unsafe {
            for (v, s) in s.iter().enumerate() {
                S::store(lane.as_mut_ptr().add(v * S::LANES), *s);
            }
            for (c, v) in lane.iter().take(job.count).enumerate() {
                *job.sums.add(k * job.plan.c_out + job.columns.first + c) += v;
            }
        }
    }
}

#[inline(always)]
unsafe fn one_tile<S: Simd, const CV: usize, const PG: usize>(
    job: &Job,
    spots: &[Spot; PG],
    stats: &mut [[S::V; CV]; 2],
) {
    // SAFETY: a run of a valid pixel lies inside the frame, the three pixels after the last one inside the slack (or the
    // row, where images are read in place); each step of a run has CV vectors of weights; the tile fits MAX_TILE.
    unsafe {
        let step = job.phase.step[1] * job.plan.c;
        let out_step = job.phase.out_step[1] * job.plan.c_out;
        let mut acc = [[[S::splat(0.0); CV]; 4]; PG];
        let mut w = job.w;
        for &(offset, len) in job.runs {
            let mut p = [spots[0].input; PG];
            for g in 0..PG {
                p[g] = spots[g].input.add(offset);
            }
            for _ in 0..len {
                let mut wv = [S::splat(0.0); CV];
                for v in 0..CV {
                    wv[v] = S::load(w.add(v * S::LANES));
                }
                for g in 0..PG {
                    for j in 0..4 {
                        let x = S::splat(*p[g].add(j * step));
                        for v in 0..CV {
                            acc[g][j][v] = S::fma(x, wv[v], acc[g][j][v]);
                        }
                    }
                    p[g] = p[g].add(1);
                }
                w = w.add(CV * S::LANES);
            }
        }
        let whole = job.count == CV * S::LANES;
        if job.columns.plain && whole && spots.iter().all(|s| s.valid == 4) {
            for g in 0..PG {
                for j in 0..4 {
                    for v in 0..CV {
                        S::store(job.columns.out.add(spots[g].out + j * out_step + v * S::LANES), acc[g][j][v]);
                    }
                }
            }
            return;
        }
        // Through memory, so that the accumulators are only ever indexed by constants and stay in registers above.
        let mut tile = [0f32; MAX_TILE];
        for g in 0..PG {
            for j in 0..4 {
                for v in 0..CV {
                    S::store(tile.as_mut_ptr().add(((g * 4 + j) * CV + v) * S::LANES), acc[g][j][v]);
                }
            }
        }
        for g in 0..PG {
            for j in 0..spots[g].valid {
                let values = tile.as_ptr().add((g * 4 + j) * CV * S::LANES);
                let at = spots[g].out + j * out_step;
                if whole {
                    write_pixel::<S, CV, true>(job, values, at, stats);
                } else {
                    write_pixel::<S, CV, false>(job, values, at, stats);
                }
            }
        }
    }
}

/// Epilogue and store of one pixel, whose block is `WHOLE` or has fewer channels than the registers hold.
#[inline(always)]
unsafe fn write_pixel<S: Simd, const CV: usize, const WHOLE: bool>(
    job: &Job,
    values: *const f32,
    at: usize,
    stats: &mut [[S::V; CV]; 2],
) {
    // SAFETY: `count` columns from `first` exist in bias, residual and output, and no others are touched.
    unsafe {
        for v in 0..CV {
            let offset = v * S::LANES;
            if !WHOLE && offset >= job.count {
                break;
            }
            let lanes = (job.count - offset).min(S::LANES);
            let y = S::load(values.add(offset));
            let stats = [&raw mut stats[0][v], &raw mut stats[1][v]];
            write_vector::<S, WHOLE>(&job.columns, y, [offset, at + offset, lanes], stats);
        }
    }
}
