//! The outer-product kernel: gradients of convolution weights.
//!
//! For every tap, `dW[ci, co] = Σ_pixels x[pixel + tap, ci] · dy[pixel, co]`. A register tile of R reading channels × V
//! vectors of writing channels stays in registers over a stretch of pixels whose inputs and gradients fit L1:
//! per pixel V loads, R broadcasts, R·V multiply-adds. Work is split over *lanes* (fixed groups of images, one buffer
//! each, added in order) while the weights are small, and over blocks of output channels when they are large, so the
//! result never depends on the number of threads.

#![allow(clippy::needless_range_loop)] // register tiles are indexed by constants

use super::pack::{Prologue, pad_image};
use super::plan::{Phase, Plan};
use crate::mem::with_scratch;
use crate::par::{self, Shared};
use crate::simd::{self, Level, Simd, simd_fn};
use std::ops::Range;

/// Bytes of partial sums that all lanes together may take.
const LANES_BYTES: usize = 4 << 20;
/// Floats of input and gradient rows that one pass over the tiles should touch (L1).
const STRETCH_FLOATS: usize = 6_144;
/// Pixels below which a stretch takes in more rows or images, so that flushing the tile stays cheap.
const STRETCH_PIXELS: usize = 128;

/// The gradient of the HWIO weights of a forward `plan` over `n` images.
///
/// # Safety
/// `x` holds `n` input images, `dy` `n` output images of the plan.
pub(crate) unsafe fn outer(
    plan: &Plan,
    n: usize,
    x: &[f32],
    prologue: Option<Prologue>,
    dy: &[f32],
    kernel: [usize; 2],
) -> Vec<f32> {
    let job = Job::new(plan, n, x, prologue, dy);
    let mut partial = vec![0f32; job.lanes * job.len];
    let shared = Shared(partial.as_mut_ptr());
    par::each(job.lanes * job.column_tasks, |i| {
        let (lane, task) = (i / job.column_tasks, i % job.column_tasks);
        // SAFETY: each lane has its buffer, each task of a lane its columns.
        unsafe { job.run(lane, par::range(job.blocks, job.column_tasks, task), shared.at(lane * job.len)) };
    });
    job.collect(&partial, kernel)
}

struct Job<'a> {
    plan: &'a Plan,
    n: usize,
    x: *const f32,
    prologue: Option<Prologue<'a>>,
    dy: *const f32,
    level: Level,
    /// Columns of a block, blocks per group.
    cb: usize,
    blocks: usize,
    per_piece: usize,
    pieces: usize,
    lanes: usize,
    column_tasks: usize,
    /// Floats of one lane's buffer: `[phase][group][tap][ci][padded columns]`.
    len: usize,
}

// SAFETY: the pointers are read-only views of slices that outlive the job.
unsafe impl Sync for Job<'_> {}

impl<'a> Job<'a> {
    fn new(plan: &'a Plan, n: usize, x: &'a [f32], prologue: Option<Prologue<'a>>, dy: &'a [f32]) -> Self {
        let (reads, writes) = plan.group_channels();
        let level = simd::level();
        let cb = super::gather::block_columns(level, writes);
        let blocks = writes.div_ceil(cb);
        let taps: usize = plan.phases.iter().map(|p| p.taps.len()).sum();
        let len = taps * plan.groups * reads * blocks * cb;
        let per_piece = plan.images_per_piece(n);
        let pieces = par::pieces(n, per_piece);
        let lanes = (LANES_BYTES / (4 * len).max(1)).clamp(1, 16).min(pieces);
        let column_tasks = (16 / lanes).clamp(1, blocks);
        let (x, dy) = (x.as_ptr(), dy.as_ptr());
        Self { plan, n, x, prologue, dy, level, cb, blocks, per_piece, pieces, lanes, column_tasks, len }
    }

    /// Adds the products of the lane's pieces for a range of column blocks to `sums`.
    unsafe fn run(&self, lane: usize, blocks: Range<usize>, sums: *mut f32) {
        let plan = self.plan;
        let (_, writes) = plan.group_channels();
        let frame = plan.hp * plan.wp * plan.c;
        let image = plan.h * plan.w * plan.c;
        let out_image = plan.out_h * plan.out_w * plan.c_out;
        let in_place = self.prologue.is_none() && plan.hp == plan.h && plan.wp == plan.w;
        // Gradients are read where they are when every block is full; else they are spread to padded columns.
        let padded = plan.groups * self.blocks * self.cb;
        let spread = writes % self.cb != 0;
        let out_pixels = plan.out_h * plan.out_w;
        for piece in par::range(self.pieces, self.lanes, lane) {
            let images = piece * self.per_piece..((piece + 1) * self.per_piece).min(self.n);
            let x_len = if in_place { 0 } else { images.len() * frame };
            let dy_len = if spread { images.len() * out_pixels * padded } else { 0 };
            // SAFETY: the images of the piece lie in `x` and `dy`; the scratch was sized for both above.
            with_scratch(x_len + dy_len, |buffer| unsafe {
                let (x_buffer, dy_buffer) = buffer.split_at_mut(x_len);
                let mut x = self.x.add(images.start * image);
                let mut dy = self.dy.add(images.start * out_image);
                if !in_place {
                    for (k, i) in images.clone().enumerate() {
                        let to = x_buffer.as_mut_ptr().add(k * frame);
                        pad_image(plan, self.x.add(i * image), to, self.prologue.as_ref());
                    }
                    x = x_buffer.as_ptr();
                }
                if spread {
                    let groups = plan.groups;
                    let from = std::slice::from_raw_parts(dy, images.len() * out_image);
                    spread_columns(from, dy_buffer, groups, writes, self.blocks * self.cb);
                    dy = dy_buffer.as_ptr();
                }
                let width = if spread { padded } else { plan.c_out };
                self.piece(images.len(), x, dy, width, blocks.clone(), sums);
            });
        }
    }

    /// All phases of one piece whose images are packed.
    unsafe fn piece(
        &self,
        n: usize,
        x: *const f32,
        dy: *const f32,
        width: usize,
        blocks: Range<usize>,
        sums: *mut f32,
    ) {
        let plan = self.plan;
        let (reads, _) = plan.group_channels();
        let columns = self.blocks * self.cb;
        let mut start = 0;
        for phase in &plan.phases {
            if phase.rows * phase.cols > 0 && !phase.taps.is_empty() {
                for stretch in stretches(plan, phase, n, width) {
                    for g in 0..plan.groups {
                        for b in blocks.clone() {
                            let tile = Tile {
                                // SAFETY: the stretch and the group start inside the frame.
                                x: unsafe { x.add(stretch.x + g * reads) },
                                // SAFETY: block `b` of group `g` of the first pixel: rows hold whole blocks, spread where they do not by nature.
                                dy: unsafe { dy.add(stretch.dy + g * columns + b * self.cb) },
                                x_strides: [
                                    plan.hp * plan.wp * plan.c,
                                    phase.step[0] * plan.wp * plan.c,
                                    phase.step[1] * plan.c,
                                ],
                                dy_strides: [
                                    plan.out_h * plan.out_w * width,
                                    phase.out_step[0] * plan.out_w * width,
                                    phase.out_step[1] * width,
                                ],
                                counts: [stretch.images, stretch.rows, phase.cols],
                                // SAFETY: the rows of this phase and group lie inside the buffer of the lane.
                                sums: unsafe { sums.add(start + g * phase.taps.len() * reads * columns + b * self.cb) },
                                sums_stride: columns,
                                runs: &stretch.runs,
                                cb: self.cb,
                                level: self.level,
                            };
                            // SAFETY: inside the packed buffers of the piece.
                            unsafe { run_tile(&tile) };
                        }
                    }
                }
            }
            start += phase.taps.len() * plan.groups * reads * columns;
        }
    }

    /// Adds the lanes in order and puts the sums where the taps came from.
    fn collect(&self, partial: &[f32], kernel: [usize; 2]) -> Vec<f32> {
        let plan = self.plan;
        let (reads, writes) = plan.group_channels();
        let columns = self.blocks * self.cb;
        let mut out = vec![0f32; kernel[0] * kernel[1] * reads * plan.c_out];
        let shared = Shared(out.as_mut_ptr());
        // One task per reading channel: rows of different channels are disjoint in the output.
        par::each(reads, |r| {
            let mut start = 0;
            for phase in &plan.phases {
                for g in 0..plan.groups {
                    for tap in &phase.taps {
                        let row = start + r * columns;
                        for &[ky, kx] in &tap.sources {
                            // SAFETY: row `r` of the kernel position, inside `out`, written by this task alone.
                            let to = unsafe {
                                let at = ((ky * kernel[1] + kx) * reads + r) * plan.c_out + g * writes;
                                std::slice::from_raw_parts_mut(shared.at(at), writes)
                            };
                            for lane in 0..self.lanes {
                                let from = &partial[lane * self.len + row..][..writes];
                                to.iter_mut().zip(from).for_each(|(t, v)| *t += v);
                            }
                        }
                        start += reads * columns;
                    }
                }
            }
        });
        out
    }
}

/// Copies rows of `groups × writes` channels to rows of `groups × columns`, zeros in between.
fn spread_columns(from: &[f32], to: &mut [f32], groups: usize, writes: usize, columns: usize) {
    for (f, t) in from.chunks_exact(groups * writes).zip(to.chunks_exact_mut(groups * columns)) {
        for (f, t) in f.chunks_exact(writes).zip(t.chunks_exact_mut(columns)) {
            t[..writes].copy_from_slice(f);
            t[writes..].fill(0.0);
        }
    }
}

/// Pixels that are worked through with the tile in registers: whole images, or rows of one image.
struct Stretch {
    x: usize,
    dy: usize,
    images: usize,
    rows: usize,
    /// (offset in x, length) of the runs of taps.
    runs: Vec<(usize, usize)>,
}

fn stretches(plan: &Plan, phase: &Phase, n: usize, width: usize) -> Vec<Stretch> {
    let runs = plan.runs(phase);
    let row_floats = phase.step[0] * plan.wp * plan.c + phase.cols * width;
    let rows = (STRETCH_FLOATS / row_floats).max(STRETCH_PIXELS.div_ceil(phase.cols)).clamp(1, phase.rows);
    let images = if rows == phase.rows { STRETCH_PIXELS.div_ceil(rows * phase.cols).clamp(1, n) } else { 1 };
    let mut list = Vec::new();
    let mut image = 0;
    while image < n {
        let take = images.min(n - image);
        let mut row = 0;
        while row < phase.rows {
            let count = rows.min(phase.rows - row);
            let iy = phase.origin[0] + row * phase.step[0];
            let oy = phase.out[0] + row * phase.out_step[0];
            list.push(Stretch {
                x: ((image * plan.hp + iy) * plan.wp + phase.origin[1]) * plan.c,
                dy: ((image * plan.out_h + oy) * plan.out_w + phase.out[1]) * width,
                images: take,
                rows: count,
                runs: runs.clone(),
            });
            row += count;
        }
        image += take;
    }
    list
}

/// One block of columns over one stretch.
pub(super) struct Tile<'a> {
    pub(super) x: *const f32,
    pub(super) dy: *const f32,
    /// Strides of image, row, column.
    pub(super) x_strides: [usize; 3],
    pub(super) dy_strides: [usize; 3],
    pub(super) counts: [usize; 3],
    pub(super) sums: *mut f32,
    pub(super) sums_stride: usize,
    pub(super) runs: &'a [(usize, usize)],
    pub(super) cb: usize,
    pub(super) level: Level,
}

simd_fn!(pub(super) fn run_tile(tile: &Tile) = tile_kernel, at tile.level);

#[inline(always)]
unsafe fn tile_kernel<S: Simd>(t: &Tile) {
    // SAFETY: the instruction set is that of the caller; `cb` is 1 or 2 times its lanes, as `block_columns` chose at this level.
    unsafe {
        match (t.cb / S::LANES, S::WIDE.1) {
            (1, 1) => rows::<S, 1, 4>(t),
            (1, _) => rows::<S, 1, 16>(t),
            (_, 1) => rows::<S, 2, 4>(t),
            (_, _) => rows::<S, 2, 8>(t),
        }
    }
}

#[inline(always)]
unsafe fn rows<S: Simd, const CV: usize, const R: usize>(t: &Tile) {
    let mut sums = t.sums;
    for &(offset, len) in t.runs {
        let mut k = 0;
        // SAFETY: the tile counts off `len` reading channels in groups of 9, R, 8, 4 and 1, each with its row of sums.
        unsafe {
            // Three pixels of three channels: a stem. Eight and one would leave the last alone with its latency.
            if len == 9 && R >= 8 {
                products::<S, CV, 9>(t, offset, sums);
                sums = sums.add(9 * t.sums_stride);
                k = 9;
            }
            while k + R <= len {
                products::<S, CV, R>(t, offset + k, sums);
                sums = sums.add(R * t.sums_stride);
                k += R;
            }
            while k + 8 <= len {
                products::<S, CV, 8>(t, offset + k, sums);
                sums = sums.add(8 * t.sums_stride);
                k += 8;
            }
            while k + 4 <= len {
                products::<S, CV, 4>(t, offset + k, sums);
                sums = sums.add(4 * t.sums_stride);
                k += 4;
            }
            while k < len {
                products::<S, CV, 1>(t, offset + k, sums);
                sums = sums.add(t.sums_stride);
                k += 1;
            }
        }
    }
}

#[inline(always)]
unsafe fn products<S: Simd, const CV: usize, const R: usize>(t: &Tile, offset: usize, sums: *mut f32) {
    // SAFETY: pixels of the stretch lie inside the frame and the gradient, R channels inside a run, CV vectors inside a row
    // of sums and of gradients, which hold whole blocks.
    unsafe {
        let mut acc = [[S::splat(0.0); CV]; R];
        for image in 0..t.counts[0] {
            for row in 0..t.counts[1] {
                let mut x = t.x.add(offset + image * t.x_strides[0] + row * t.x_strides[1]);
                let mut dy = t.dy.add(image * t.dy_strides[0] + row * t.dy_strides[1]);
                for _ in 0..t.counts[2] {
                    let mut d = [S::splat(0.0); CV];
                    for v in 0..CV {
                        d[v] = S::load(dy.add(v * S::LANES));
                    }
                    for r in 0..R {
                        let x = S::splat(*x.add(r));
                        for v in 0..CV {
                            acc[r][v] = S::fma(x, d[v], acc[r][v]);
                        }
                    }
                    x = x.add(t.x_strides[2]);
                    dy = dy.add(t.dy_strides[2]);
                }
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            for (v, a) in acc.iter().enumerate() {
                let p = sums.add(r * t.sums_stride + v * S::LANES);
                S::store(p, S::add(S::load(p), *a));
            }
        }
    }
}
