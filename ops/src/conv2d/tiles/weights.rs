//! The gradient of the weights on tiles: `dW[tap, ci, co] = Σ_pixels x[pixel + tap, ci] · dy[pixel, co]`, 32 pixels at a time.
//!
//! These 32 are no neighbours, but one pixel of each of 32 *bands*, some rows of an image each. So a tile lies in memory as it is loaded,
//! wherever its tap stands, and narrow maps and strides fill it as wide maps do.

use super::LINE;
use super::bands::{Bands, CHANNELS, Piece, TILE, width};
use crate::conv2d::pack::Prologue;
use crate::conv2d::pieces::by_lanes;
use crate::conv2d::plan::{Phase, Plan};
use crate::mem::with_scratch;
use crate::par::{self, Shared};
use crate::simd::amx::{self, DEPTH, ROWS, Tiles};
use std::ops::Range;

/// Channels on either side below which most of a tile would be empty.
const LEAST_CHANNELS: usize = 8;
/// Channels read times channels written up to which a piece of the batch has pixels enough for the sums that it adds to.
const MOST_SUMS: usize = 1 << 15;
/// Bytes of partial sums that all lanes together may take.
const LANES_BYTES: usize = 4 << 20;
/// Bytes of images and gradients that a thread lays out for itself, so that they stay in L2; of those that threads share, twice as many.
const MOST_BYTES: usize = 5 << 18;
/// Pieces that a batch should have where each is one thread's.
const PIECES: usize = 8;
/// Channels read, and blocks of columns, of a task where threads share the sums.
const SHARE: [usize; 2] = [TOGETHER * ROWS, 4];
/// Tiles of channels read that are multiplied together.
const TOGETHER: usize = 3;

/// Whether the gradient of the weights of a forward plan goes this way.
pub(in super::super) fn applies(plan: &Plan) -> bool {
    plan.groups == 1 && plan.c.min(plan.c_out) >= LEAST_CHANNELS && amx::available()
}

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
    let sums: usize = plan.phases.iter().map(|phase| Layout::new(plan, phase).len()).sum();
    // Few sums: threads have pieces each, and sums for each lane. Many: they share the pieces, and the sums.
    let (threads, lanes, bytes, pieces) = match plan.c * plan.c_out <= MOST_SUMS {
        true => (Threads::Apart, (LANES_BYTES / (4 * sums.max(1))).clamp(1, 16), MOST_BYTES, PIECES),
        false => (Threads::Together, 1, 2 * MOST_BYTES, 1),
    };
    let bands = Bands::new(plan, n, bytes, pieces);
    let pieces = (n * bands.per_image).div_ceil(DEPTH);
    let partial = by_lanes(pieces, 1, lanes, sums, |piece, sums| {
        let piece = Piece { plan, bands: &bands, first: piece.start * DEPTH, n, x, prologue: prologue.as_ref(), dy };
        // SAFETY: each lane has its sums; `applies` has found tiles.
        unsafe { add_piece(&piece, sums, threads) };
    });
    collect(plan, partial, kernel)
}

/// Who works at a piece.
#[derive(Clone, Copy, PartialEq)]
enum Threads {
    /// One thread.
    Apart,
    /// All of them.
    Together,
}

impl Threads {
    fn each(self, count: usize, f: impl Fn(usize) + Sync + Send) {
        match self {
            Self::Apart => (0..count).for_each(f),
            Self::Together => par::each(count, f),
        }
    }
}

/// Adds the products of a piece to `sums`, those of every phase in its [`Layout`].
///
/// # Safety
/// Tiles are available.
unsafe fn add_piece(piece: &Piece, sums: *mut f32, threads: Threads) {
    let Piece { plan, bands, .. } = *piece;
    let blocks = plan.c_out.div_ceil(width(plan));
    // Values of 16 channels read, and of a block of columns.
    let image = bands.high * plan.wp * TILE;
    let gradient = |phase: &Phase| bands.rows * phase.cols * width(plan) * DEPTH;
    let longest = plan.phases.iter().map(gradient).max().unwrap_or(0);
    // SAFETY, of all below: the parts are as large as said above; images lie in `x` and `dy`.
    with_parts([plan.c.div_ceil(ROWS) * image, blocks * longest], |[images, gradients]| {
        let to = Shared(images.as_mut_ptr());
        let some = plan.c.div_ceil(CHANNELS);
        threads.each(bands.high * some, |i| unsafe {
            let (y, first) = (i / some, i % some * CHANNELS);
            piece.images(y, first, to.at(first / ROWS * image + y * plan.wp * TILE), image);
        });
        let mut sums = Shared(sums);
        for phase in &plan.phases {
            let to = Shared(gradients.as_mut_ptr());
            let (some, gradient) = (plan.c_out.div_ceil(CHANNELS), gradient(phase));
            threads.each(bands.rows * some, |i| unsafe {
                let (y, first) = (i / some, i % some * CHANNELS);
                let at = first / width(plan) * gradient + y * gradient / bands.rows;
                piece.gradients(phase, y, first, to.at(at), gradient);
            });
            let layout = Layout::new(plan, phase);
            let products = Products { plan, bands, phase, layout, images, gradients, sums };
            match threads {
                Threads::Apart => unsafe { products.add(0..plan.c, 0..blocks) },
                Threads::Together => unsafe { products.share() },
            }
            sums = Shared(unsafe { sums.at(layout.len()) });
        }
    });
}

/// Lends parts of so many values of bf16, each with a cache line of its own at its start.
fn with_parts<const N: usize>(lengths: [usize; N], f: impl FnOnce([&mut [u16]; N])) {
    let whole = lengths.map(|len| len.next_multiple_of(LINE));
    let all: usize = whole.iter().sum();
    with_scratch((all + LINE).div_ceil(2), |buffer| {
        let values = buffer.as_mut_ptr().cast::<u16>();
        // SAFETY: the buffer is initialised and has room for all parts behind its first whole line; any bits are a u16.
        let mut rest = unsafe { std::slice::from_raw_parts_mut(values.add(values.align_offset(2 * LINE)), all) };
        f(std::array::from_fn(|i| {
            let (part, others) = std::mem::take(&mut rest).split_at_mut(whole[i]);
            rest = others;
            &mut part[..lengths[i]]
        }));
    });
}

/// Where the sums of a phase lie: `[block][part][tile of 16 columns][16][16]`. A part is 16 channels read by a tap, taps before channels.
#[derive(Clone, Copy)]
struct Layout {
    taps: usize,
    /// Filled up with some that nobody reads.
    parts: usize,
    blocks: usize,
    /// Columns of a block.
    width: usize,
}

impl Layout {
    fn new(plan: &Plan, phase: &Phase) -> Self {
        let (taps, width) = (phase.taps.len(), width(plan));
        let parts = (plan.c.div_ceil(ROWS) * taps).next_multiple_of(TOGETHER);
        Self { taps, parts, blocks: plan.c_out.div_ceil(width), width }
    }

    fn len(&self) -> usize {
        self.blocks * self.parts * ROWS * self.width
    }

    /// Where a part of a block begins.
    fn at(&self, block: usize, part: usize) -> usize {
        (block * self.parts + part) * ROWS * self.width
    }

    /// Adds those of a tap to `[channel read][channel written]`.
    fn add(&self, sums: &[f32], tap: usize, plan: &Plan, to: &mut [f32]) {
        for (channels, to) in to.chunks_mut(ROWS * plan.c_out).enumerate() {
            for first in (0..plan.c_out).step_by(ROWS) {
                let (block, tile) = (first / self.width, first % self.width);
                let rows = sums[self.at(block, channels * self.taps + tap) + tile * ROWS..].chunks_exact(ROWS);
                for (to, row) in to.chunks_exact_mut(plan.c_out).zip(rows) {
                    to[first..].iter_mut().zip(row).for_each(|(to, sum)| *to += sum);
                }
            }
        }
    }
}

/// The products of a phase, of images and gradients as [`add_piece`] lays them out.
struct Products<'a> {
    plan: &'a Plan,
    bands: &'a Bands,
    phase: &'a Phase,
    layout: Layout,
    /// `[16 channels][row][pixel][channel][band]`
    images: &'a [u16],
    /// `[block][row][pixel][tile of 16 columns][pair of bands]`
    gradients: &'a [u16],
    /// In the layout.
    sums: Shared,
}

impl Products<'_> {
    /// Adds all of them, on all threads.
    ///
    /// # Safety
    /// As of [`Products::add`].
    unsafe fn share(&self) {
        let [rows, columns] = [self.plan.c.div_ceil(SHARE[0]), self.layout.blocks.div_ceil(SHARE[1])];
        par::each(rows * columns, |i| {
            let part = |i: usize, size: usize, all: usize| i * size..all.min((i + 1) * size);
            let channels = part(i / columns, SHARE[0], self.plan.c);
            let blocks = part(i % columns, SHARE[1], self.layout.blocks);
            // SAFETY: tasks own disjoint blocks, or disjoint parts of the same blocks.
            unsafe { self.add(channels, blocks) };
        });
    }

    /// Adds those of some channels read, from a multiple of [`SHARE`] on, and of some blocks of columns.
    ///
    /// # Safety
    /// Tiles are available, and nobody else adds to the same sums.
    unsafe fn add(&self, channels: Range<usize>, blocks: Range<usize>) {
        let (plan, phase, bands, layout) = (self.plan, self.phase, self.bands, self.layout);
        let place = |y: usize, x: usize| (y * plan.wp + x) * TILE;
        let pixels = (0..bands.rows).flat_map(|row| (0..phase.cols).map(move |col| (row, col)));
        let offsets: Vec<usize> =
            pixels.map(|(row, col)| 2 * place(row * phase.step[0], col * phase.step[1])).collect();
        let parts = channels.start / ROWS * layout.taps..channels.end.div_ceil(ROWS) * layout.taps;
        // What a part multiplies; the last one stands in for those that are missing.
        let from = |part: usize| {
            let part = part.min(parts.end - 1);
            let (channels, tap) = (part / layout.taps, &phase.taps[part % layout.taps]);
            let pixel = place(phase.origin[0] + tap.dy, phase.origin[1] + tap.dx);
            self.images[channels * place(bands.high, 0) + pixel..].as_ptr()
        };
        // SAFETY: tiles are available.
        let tiles = unsafe { Tiles::take() };
        for block in blocks {
            let columns = self.gradients[block * bands.rows * phase.cols * layout.width * DEPTH..].as_ptr();
            for first in parts.clone().step_by(TOGETHER) {
                let rows = [from(first), from(first + 1), from(first + 2)];
                // SAFETY: rows of the images and gradients that are laid out; whole calls of parts have sums.
                unsafe {
                    let sums = self.sums.at(layout.at(block, first));
                    match layout.width {
                        ROWS => tiles.three_by_one(rows, &offsets, columns, sums),
                        _ => tiles.three_by_two(rows, &offsets, columns, sums),
                    }
                }
            }
        }
    }
}

/// Adds the lanes in order and puts the sums where the taps came from.
fn collect(plan: &Plan, mut partial: Vec<f32>, kernel: [usize; 2]) -> Vec<f32> {
    /// Sums that a thread adds at a time.
    const CHUNK: usize = 1 << 13;
    let layouts: Vec<Layout> = plan.phases.iter().map(|phase| Layout::new(plan, phase)).collect();
    let len: usize = layouts.iter().map(Layout::len).sum();
    let (total, lanes) = partial.split_at_mut(len);
    par::each_chunk(total, CHUNK, |(chunk, total)| {
        for lane in lanes.chunks_exact(len.max(1)) {
            total.iter_mut().zip(&lane[chunk * CHUNK..]).for_each(|(total, sum)| *total += sum);
        }
    });
    let mut out = vec![0f32; kernel[0] * kernel[1] * plan.c * plan.c_out];
    par::each_chunk(&mut out, plan.c * plan.c_out, |(place, to)| {
        let place = [place / kernel[1], place % kernel[1]];
        let mut start = 0;
        for (phase, layout) in plan.phases.iter().zip(&layouts) {
            for (tap, _) in phase.taps.iter().enumerate().filter(|(_, tap)| tap.sources.contains(&place)) {
                layout.add(&total[start..], tap, plan, to);
            }
            start += layout.len();
        }
    });
    out
}
