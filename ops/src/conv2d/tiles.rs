//! The gather kernel on tiles ([`amx`]): products in bf16, sums in f32.
//!
//! Where the gather kernel takes four neighbouring pixels, this one takes a *strip* of 16, one for each row of a tile. Runs of taps
//! are contiguous in a padded image, so that a tile is loaded from where its pixels are, and nothing is copied for the kernel's taps.
//! What a tile reads behind the end of a run meets weights of 0.

mod bands;
mod columns;
pub(super) mod weights;

use super::epilogue::Epilogue;
use super::pack::{Prologue, frame};
use super::pieces::{Piece, by_pieces};
use super::plan::{Phase, Plan};
use crate::mem::with_scratch;
use crate::simd::amx::{self, DEPTH, ROWS, Tiles};
use crate::simd::{Avx512, Simd, add_to, load, store};
use columns::Columns;
use std::arch::x86_64::*;

/// Values of bf16 in a cache line, which a row of a tile should not straddle.
const LINE: usize = 32;
/// Sums of the strips that are multiplied together.
const SUMS: usize = 1024;
/// Products of a sum below which padding an image takes as long as multiplying it: 1x1 kernels over 32 channels, stems.
const LEAST_DEPTH: usize = 64;

/// Whether a plan runs on tiles.
pub(super) fn applies(plan: &Plan) -> bool {
    let taps: usize = plan.phases.iter().map(|phase| phase.taps.len()).sum();
    plan.groups == 1 && taps * plan.c >= LEAST_DEPTH * plan.phases.len() && amx::available()
}

/// Runs a plan that [`applies`]; arguments and result as [`super::gather::gather`], with the kernel and its size in place of packed
/// weights, `transposed` when the plan is the backward pass of the convolution.
///
/// # Safety
/// As for `gather`.
pub(super) unsafe fn gather(
    plan: &Plan,
    n: usize,
    x: &[f32],
    (w, kernel, transposed): (&[f32], [usize; 2], bool),
    prologue: Option<Prologue>,
    epilogue: Epilogue,
    out: *mut f32,
) -> Option<Vec<f64>> {
    let grids: Vec<Grid> = plan.phases.iter().map(|phase| Grid::new(plan, phase, w, kernel, transposed)).collect();
    let (image, framed) = (plan.h * plan.w * plan.c, plan.hp * plan.wp * plan.c);
    // What the last strip reads behind the last frame.
    let slack = ROWS * plan.c * plan.phases.iter().map(|p| p.step[1]).max().unwrap_or(1) + DEPTH;
    // SAFETY: the buffer has room for the frames, the slack and a cache line, and all of it is initialised; images of a piece lie in
    // `x`. `applies` has found tiles.
    let piece = |piece: Piece| unsafe {
        let values = piece.images.len() * framed + slack;
        with_scratch((values + LINE).div_ceil(2), |buffer| {
            let frames = buffer.as_mut_ptr().cast::<u16>();
            let frames = frames.add(frames.align_offset(2 * LINE));
            for (k, i) in piece.images.clone().enumerate() {
                pad_image(plan, x.as_ptr().add(i * image), frames.add(k * framed), prologue.as_ref());
            }
            std::slice::from_raw_parts_mut(frames.add(piece.images.len() * framed), slack).fill(0);
            let tiles = Tiles::take();
            grids.iter().for_each(|grid| grid.run(&tiles, frames, &piece, &epilogue));
        });
    };
    // SAFETY: as the caller promises.
    unsafe { by_pieces(plan, n, &epilogue, out, piece) }
}

/// A phase with its weights in tiles.
struct Grid<'a> {
    plan: &'a Plan,
    phase: &'a Phase,
    /// Where, in bytes behind a strip's first pixel, the values that it multiplies are, [`DEPTH`] at a time.
    offsets: Vec<usize>,
    columns: Columns,
    /// Positions from one row of the grid to the next: those of the padded image where strips go on through its padding (narrow maps
    /// would leave most of a strip empty), else whole strips.
    pitch: usize,
    /// Strips of an image.
    strips: usize,
}

/// 16 positions of a grid, by the first one: where it is, and where in the frames it reads.
#[derive(Clone, Copy)]
struct Strip {
    image: usize,
    row: usize,
    col: usize,
    at: usize,
}

impl<'a> Grid<'a> {
    fn new(plan: &'a Plan, phase: &'a Phase, w: &[f32], kernel: [usize; 2], transposed: bool) -> Self {
        let runs = plan.runs(phase);
        let steps = |&(offset, len): &(usize, usize)| (0..len).step_by(DEPTH).map(move |at| 2 * (offset + at));
        let by_row = phase.rows * phase.cols.div_ceil(ROWS);
        let through = (phase.rows.saturating_sub(1) * plan.wp + phase.cols).div_ceil(ROWS);
        let (pitch, strips) = match phase.step == [1, 1] && through < by_row {
            true => (plan.wp, through),
            false => (phase.cols.next_multiple_of(ROWS), by_row),
        };
        Self {
            plan,
            phase,
            offsets: runs.iter().flat_map(steps).collect(),
            columns: Columns::new(plan, phase, &runs, w, kernel, transposed),
            pitch,
            strips,
        }
    }

    fn strip(&self, i: usize) -> Strip {
        let (plan, phase) = (self.plan, self.phase);
        let (image, position) = (i / self.strips, i % self.strips * ROWS);
        let (row, col) = (position / self.pitch, position % self.pitch);
        let (iy, ix) = (phase.origin[0] + row * phase.step[0], phase.origin[1] + col * phase.step[1]);
        Strip { image, row, col, at: ((image * plan.hp + iy) * plan.wp + ix) * plan.c }
    }

    /// All strips of a piece, whose frames lie one after the other.
    ///
    /// # Safety
    /// As [`gather`] lays it out.
    unsafe fn run(&self, tiles: &Tiles, frames: *const u16, piece: &Piece, epilogue: &Epilogue) {
        let total = piece.images.len() * self.strips;
        let step = 2 * self.phase.step[1] * self.plan.c;
        let mut sums = [0f32; SUMS];
        let to = sums.as_mut_ptr();
        let width = self.columns.width;
        let together = SUMS / (ROWS * width);
        for block in 0..self.columns.blocks {
            let weights = self.columns.block(block);
            for first in (0..total).step_by(together) {
                // The last strip stands in for those that are missing.
                let strip = |i: usize| self.strip((first + i).min(total - 1));
                // SAFETY: strips begin inside a frame and read at most the slack behind the last one; their sums fit.
                unsafe {
                    let at = |i: usize| frames.add(strip(i).at);
                    match together {
                        2 => tiles.two_by_two([at(0), at(1)], step, &self.offsets, weights, to),
                        _ => tiles.four_by_one([at(0), at(1), at(2), at(3)], step, &self.offsets, weights, to),
                    }
                    for i in 0..together.min(total - first) {
                        self.write(strip(i), block * width, &sums[i * ROWS * width..], piece, epilogue);
                    }
                }
            }
        }
    }

    /// Epilogue and store of a strip's sums, `[16][width]`, of the channels from `first` on.
    ///
    /// # Safety
    /// The strip is one of the piece.
    #[target_feature(enable = "avx512f")]
    unsafe fn write(&self, strip: Strip, first: usize, sums: &[f32], piece: &Piece, epilogue: &Epilogue) {
        let (plan, phase, width) = (self.plan, self.phase, self.columns.width);
        let Strip { image, mut row, mut col, .. } = strip;
        let mut done = 0;
        while done < ROWS && row < phase.rows {
            let in_row = (self.pitch - col).min(ROWS - done);
            if col < phase.cols {
                let (oy, ox) = (phase.out[0] + row * phase.out_step[0], phase.out[1] + col * phase.out_step[1]);
                for channel in (first..plan.c_out.min(first + width)).step_by(ROWS) {
                    let pixels = Pixels {
                        sums: sums[done * width + channel - first..].as_ptr(),
                        pitch: width,
                        count: (phase.cols - col).min(in_row),
                        at: ((image * plan.out_h + oy) * plan.out_w + ox) * plan.c_out + channel,
                        step: phase.out_step[1] * plan.c_out,
                        channel,
                        channels: plan.c_out,
                    };
                    // SAFETY: pixels of the grid lie in the output, the channel in all that has channels.
                    unsafe {
                        match (plan.c_out - channel >= ROWS, epilogue.sums) {
                            (true, false) => pixels.write::<true, false>(piece, epilogue),
                            (true, true) => pixels.write::<true, true>(piece, epilogue),
                            (false, _) => pixels.write::<false, true>(piece, epilogue),
                        }
                    }
                }
            }
            (done, row, col) = (done + in_row, row + 1, 0);
        }
    }
}

/// Neighbouring pixels of a row, with 16 sums of each.
struct Pixels {
    sums: *const f32,
    /// From the sums of one pixel to those of the next.
    pitch: usize,
    count: usize,
    /// Where the first one is written, and how far behind it the next.
    at: usize,
    step: usize,
    /// The first of the channels, and how many there are in all.
    channel: usize,
    channels: usize,
}

impl Pixels {
    /// Epilogue and store of 16 channels, or (not `WHOLE`) of what is left of them; Σ and Σ² are taken if `SUMS`.
    ///
    /// # Safety
    /// Pixels and channels are there, in all that the epilogue names.
    #[target_feature(enable = "avx512f")]
    unsafe fn write<const WHOLE: bool, const SUMS: bool>(&self, piece: &Piece, epilogue: &Epilogue) {
        let lanes = (self.channels - self.channel).min(ROWS);
        // SAFETY: as the caller promises.
        unsafe {
            let bias = epilogue.bias.map(|b| load::<Avx512, WHOLE>(b.as_ptr().add(self.channel), lanes));
            let bias = bias.unwrap_or(Avx512::splat(0.0));
            let (slope, cap) = (Avx512::splat(epilogue.act.slope), Avx512::splat(epilogue.act.cap));
            let [mut sum, mut sum_sq] = [Avx512::splat(0.0); 2];
            for i in 0..self.count {
                let at = self.at + i * self.step;
                let mut y = Avx512::add(Avx512::load(self.sums.add(i * self.pitch)), bias);
                if let Some(residual) = piece.residual {
                    y = Avx512::add(y, load::<Avx512, WHOLE>(residual.add(at), lanes));
                }
                y = Avx512::min(cap, Avx512::max(Avx512::mul(y, slope), y));
                if SUMS {
                    sum = Avx512::add(sum, y);
                    sum_sq = Avx512::fma(y, y, sum_sq);
                }
                store::<Avx512, WHOLE>(piece.out.add(at), y, lanes);
            }
            if SUMS && epilogue.sums {
                let to = piece.sums.add(self.channel);
                add_to::<Avx512, WHOLE>(to, sum, lanes);
                add_to::<Avx512, WHOLE>(to.add(self.channels), sum_sq, lanes);
            }
        }
    }
}

/// As [`super::pack::pad_image`], in bf16.
///
/// # Safety
/// As there; the machine has AVX-512 with bf16.
unsafe fn pad_image(plan: &Plan, image: *const f32, out: *mut u16, prologue: Option<&Prologue>) {
    let len = plan.w * plan.c;
    // SAFETY: as the caller promises; a row has `len` values.
    unsafe {
        frame(plan, image, out, |from, to| match prologue {
            None => round_row(from, to, len),
            Some(prologue) => apply_row(from, to, plan.w, prologue),
        });
    }
}

/// `len` values in bf16.
///
/// # Safety
/// They are there, and have room.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn round_row(from: *const f32, to: *mut u16, len: usize) {
    // SAFETY: vectors end inside of `len` values; masked lanes are not touched.
    unsafe {
        for i in (0..len).step_by(16) {
            let lanes = (len - i).min(16);
            store_rounded(to.add(i), Avx512::load_first(from.add(i), lanes), lanes);
        }
    }
}

/// `pixels` through the prologue, in bf16.
///
/// # Safety
/// As of [`round_row`]; pixels have the prologue's channels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn apply_row(from: *const f32, to: *mut u16, pixels: usize, prologue: &Prologue) {
    let channels = prologue.scale.len();
    // SAFETY: vectors end inside of a pixel's channels; masked lanes are not touched.
    unsafe {
        let (slope, cap) = (Avx512::splat(prologue.act.slope), Avx512::splat(prologue.act.cap));
        for first in (0..channels).step_by(16) {
            let lanes = (channels - first).min(16);
            let scale = Avx512::load_first(prologue.scale.as_ptr().add(first), lanes);
            let shift = Avx512::load_first(prologue.shift.as_ptr().add(first), lanes);
            for at in (first..pixels * channels).step_by(channels) {
                let z = Avx512::fma(Avx512::load_first(from.add(at), lanes), scale, shift);
                store_rounded(to.add(at), Avx512::min(cap, Avx512::max(Avx512::mul(z, slope), z)), lanes);
            }
        }
    }
}

/// Stores the first lanes in bf16.
///
/// # Safety
/// They have room.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn store_rounded(to: *mut u16, v: __m512, lanes: usize) {
    let mask = ((1u32 << lanes) - 1) as u16;
    // SAFETY: masked lanes are not touched.
    unsafe {
        let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
        _mm256_mask_storeu_epi16(to.cast(), mask, rounded);
    }
}

#[cfg(test)]
#[path = "tiles_tests.rs"]
mod tests;
