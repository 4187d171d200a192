//! The gradient of the weights on tiles: `dW[tap, ci, co] = Σ_pixels x[pixel + tap, ci] · dy[pixel, co]`, 32 pixels at a time.
//!
//! Sums go over the positions of the padded images, one after the other; gradients are 0 where there is no output pixel. Images are
//! transposed, so that a row of a tile has 32 neighbouring positions of one channel, from wherever a tap begins; gradients are laid
//! out in pairs of positions.

use super::{LINE, SUMS, pad_image, round_row};
use crate::ops::conv2d::pack::Prologue;
use crate::ops::conv2d::pieces::by_lanes;
use crate::ops::conv2d::plan::{Phase, Plan};
use crate::ops::mem::with_scratch;
use crate::ops::par::{self, Shared};
use crate::ops::simd::amx::{self, DEPTH, ROWS, Tiles};
use crate::ops::simd::{Avx512, Simd, add_to};
use std::arch::x86_64::*;
use std::ops::Range;

/// Channels on either side below which most of a tile would be empty.
const LEAST_CHANNELS: usize = 8;
/// Channels read times channels written up to which a piece of the batch has pixels enough for the sums that it adds to.
const MOST_SUMS: usize = 1 << 15;
/// Bytes of partial sums that all lanes together may take.
const LANES_BYTES: usize = 4 << 20;
/// Positions of images that are laid out together where threads share the sums: what a task reads stays in L2.
const MOST_POSITIONS: usize = 4096;
/// Channels read, and blocks of columns, of such a task.
const SHARE: [usize; 2] = [64, 4];

/// Whether the gradient of the weights of a forward plan goes this way.
pub(in super::super) fn applies(plan: &Plan) -> bool {
    plan.groups == 1
        && plan.phases.iter().all(|phase| phase.step == [1, 1])
        && plan.c.min(plan.c_out) >= LEAST_CHANNELS
        && amx::available()
}

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
    let plane = plan.c * plan.c_out;
    let taps: usize = plan.phases.iter().map(|phase| phase.taps.len()).sum();
    let (image, out_image) = (plan.h * plan.w * plan.c, plan.out_h * plan.out_w * plan.c_out);
    // Few sums: threads have images each, and sums for each lane. Many: they share the images, and the sums.
    let (threads, per_piece, lanes) = match plane <= MOST_SUMS {
        true => (Threads::Apart, plan.images_per_piece(n), (LANES_BYTES / (4 * taps * plane)).clamp(1, 16)),
        false => (Threads::Together, (MOST_POSITIONS / (plan.hp * plan.wp)).max(1), 1),
    };
    let partial = by_lanes(n, per_piece, lanes, taps * plane, |images, sums| {
        let (x, dy) = (&x[images.start * image..], &dy[images.start * out_image..]);
        // SAFETY: the images lie in `x` and `dy`; each lane has its sums. `applies` has found tiles.
        unsafe { add_piece(plan, images.len(), x, prologue.as_ref(), dy, sums, threads) };
    });
    collect(plan, &partial, kernel)
}

/// Who works at a piece.
#[derive(Clone, Copy)]
enum Threads {
    /// One thread.
    Apart,
    /// All of them.
    Together,
}

impl Threads {
    fn each_chunk(self, values: &mut [u16], len: usize, f: impl Fn((usize, &mut [u16])) + Sync + Send) {
        match self {
            Self::Apart => values.chunks_mut(len).enumerate().for_each(f),
            Self::Together => par::each_chunk(values, len, f),
        }
    }
}

/// Adds the products of some images to `sums`, `[tap of all phases][channel read][channel written]`.
///
/// # Safety
/// `x` and `dy` begin with the images; tiles are available.
unsafe fn add_piece(
    plan: &Plan,
    n: usize,
    x: &[f32],
    prologue: Option<&Prologue>,
    dy: &[f32],
    sums: *mut f32,
    threads: Threads,
) {
    let (image, frame) = (plan.h * plan.w * plan.c, plan.hp * plan.wp);
    let out_image = plan.out_h * plan.out_w * plan.c_out;
    // What the last 32 positions of a sum read behind the last image is 0, as their gradients are.
    let positions = (n * frame + DEPTH).next_multiple_of(DEPTH);
    let channels = plan.c.next_multiple_of(ROWS);
    // Lines of a channel's row: an odd number, so that the rows of a tile are in different sets of the cache.
    let row = LINE * ((positions / LINE) | 1);
    let width = if plan.c_out > ROWS { 2 * ROWS } else { ROWS };
    let columns = plan.c_out.next_multiple_of(width);
    let parts = [positions * plan.c, channels * row, positions * plan.c_out, positions * columns];
    // SAFETY, of all below: the parts are as large as said above; images lie in `x` and `dy`.
    with_parts(parts, |[frames, turned, gradients, pairs]| {
        let (images, behind) = frames.split_at_mut(n * frame * plan.c);
        threads.each_chunk(images, frame * plan.c, |(i, to)| unsafe {
            pad_image(plan, x[i * image..].as_ptr(), to.as_mut_ptr(), prologue);
        });
        behind.fill(0);
        threads.each_chunk(turned, ROWS * row, |(i, to)| unsafe { turn(frames, plan.c, i * ROWS, to) });
        let mut sums = Shared(sums);
        for phase in &plan.phases {
            let (images, behind) = gradients.split_at_mut(n * frame * plan.c_out);
            threads.each_chunk(images, frame * plan.c_out, |(i, to)| unsafe {
                spread(plan, phase, &dy[i * out_image..], to);
            });
            behind.fill(0);
            threads.each_chunk(pairs, positions * width, |(i, to)| unsafe {
                pair(gradients, plan.c_out, i * width, width, to);
            });
            let products = Products { plan, phase, turned, row, pairs, positions, width, sums };
            match threads {
                Threads::Apart => unsafe { products.add(0..plan.c, 0..columns / width) },
                Threads::Together => unsafe { products.share() },
            }
            // SAFETY: sums of all phases follow each other.
            sums = Shared(unsafe { sums.at(phase.taps.len() * plan.c * plan.c_out) });
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

/// 16 channels of images `[position][channel]`, from `first` on, as `[channel][position]`, whose rows are `to.len() / 16` values apart;
/// those that do not exist are zeros.
///
/// # Safety
/// A row has room for all positions, which are a multiple of 32.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn turn(frames: &[u16], channels: usize, first: usize, to: &mut [u16]) {
    let row = to.len() / ROWS;
    for at in (0..frames.len() / channels).step_by(DEPTH) {
        // SAFETY: 32 positions from `at` on exist.
        unsafe {
            let pixels = frames.as_ptr().add(at * channels + first);
            let mut pairs = [_mm512_setzero_si512(); ROWS];
            for (i, pair) in pairs.iter_mut().enumerate() {
                *pair = paired(pixels.add(2 * i * channels), channels, channels - first);
            }
            for (i, line) in transposed(pairs).into_iter().enumerate() {
                _mm512_storeu_si512(to.as_mut_ptr().add(i * row + at).cast(), line);
            }
        }
    }
}

/// 16 values and those `step` behind them side by side; only the first `count` are read, the others 0.
///
/// # Safety
/// They are there.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn paired(from: *const u16, step: usize, count: usize) -> __m512i {
    let lanes = ((1u32 << count.min(ROWS)) - 1) as u16;
    // SAFETY: masked lanes are not read.
    unsafe {
        let low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, from.cast()));
        let high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, from.add(step).cast()));
        _mm512_or_si512(low, _mm512_slli_epi32::<16>(high))
    }
}

/// 16x16 values of 32 bits, transposed: within lanes of 128 bits first, then the lanes.
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; 16]) -> [__m512i; 16] {
    let mut within = [_mm512_setzero_si512(); 16];
    for (rows, to) in rows.chunks_exact(4).zip(within.chunks_exact_mut(4)) {
        let (low, high) = (_mm512_unpacklo_epi32(rows[0], rows[1]), _mm512_unpackhi_epi32(rows[0], rows[1]));
        let (low2, high2) = (_mm512_unpacklo_epi32(rows[2], rows[3]), _mm512_unpackhi_epi32(rows[2], rows[3]));
        to[0] = _mm512_unpacklo_epi64(low, low2);
        to[1] = _mm512_unpackhi_epi64(low, low2);
        to[2] = _mm512_unpacklo_epi64(high, high2);
        to[3] = _mm512_unpackhi_epi64(high, high2);
    }
    let mut out = [_mm512_setzero_si512(); 16];
    for i in 0..4 {
        let [a, b, c, d] = [within[i], within[4 + i], within[8 + i], within[12 + i]];
        let even = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(c, d));
        let odd = (_mm512_shuffle_i32x4::<0xdd>(a, b), _mm512_shuffle_i32x4::<0xdd>(c, d));
        out[i] = _mm512_shuffle_i32x4::<0x88>(even.0, even.1);
        out[4 + i] = _mm512_shuffle_i32x4::<0x88>(odd.0, odd.1);
        out[8 + i] = _mm512_shuffle_i32x4::<0xdd>(even.0, even.1);
        out[12 + i] = _mm512_shuffle_i32x4::<0xdd>(odd.0, odd.1);
    }
    out
}

/// The gradients of a phase's pixels of an image at the positions of its grid in the padded image, 0 elsewhere.
///
/// # Safety
/// `dy` begins with the image; the machine has AVX-512 with bf16.
unsafe fn spread(plan: &Plan, phase: &Phase, dy: &[f32], to: &mut [u16]) {
    let c = plan.c_out;
    to.fill(0);
    for (row, to) in to.chunks_exact_mut(plan.wp * c).take(phase.rows).enumerate() {
        let oy = phase.out[0] + row * phase.out_step[0];
        let from = &dy[(oy * plan.out_w + phase.out[1]) * c..];
        let to = &mut to[..phase.cols * c];
        let pixels = if phase.out_step[1] == 1 { to.len() } else { c };
        for (i, to) in to.chunks_exact_mut(pixels).enumerate() {
            // SAFETY: the columns of the phase lie in the row.
            unsafe { round_row(from[i * phase.out_step[1] * c..][..pixels].as_ptr(), to.as_mut_ptr(), pixels) };
        }
    }
}

/// `width` columns of rows of `channels` values, from `first` on, as tiles: `[32 positions][tile of 16 columns][row]`.
///
/// # Safety
/// `to` has room for all positions, which are a multiple of 32.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn pair(rows: &[u16], channels: usize, first: usize, width: usize, to: &mut [u16]) {
    for (step, to) in to.chunks_exact_mut(DEPTH * width).enumerate() {
        for (i, to) in to.chunks_exact_mut(DEPTH).enumerate() {
            let (column, pair) = (first + i / ROWS * ROWS, i % ROWS);
            let count = channels.saturating_sub(column);
            // SAFETY: what is read lies in two neighbouring rows; a row of a tile is written.
            unsafe {
                let from = rows.as_ptr().wrapping_add((step * DEPTH + 2 * pair) * channels + column);
                _mm512_store_si512(to.as_mut_ptr().cast(), paired(from, channels, count));
            }
        }
    }
}

/// The products of a phase, of images and gradients as [`add_piece`] lays them out.
struct Products<'a> {
    plan: &'a Plan,
    phase: &'a Phase,
    turned: &'a [u16],
    /// From one channel's positions to the next one's.
    row: usize,
    /// `[block][32 positions][tile of 16 columns][row]`
    pairs: &'a [u16],
    positions: usize,
    /// Columns of a block.
    width: usize,
    /// `[tap][channel read][channel written]`
    sums: Shared,
}

impl Products<'_> {
    /// Adds all of them, on all threads.
    ///
    /// # Safety
    /// As of [`Products::add`].
    unsafe fn share(&self) {
        let blocks = self.plan.c_out.div_ceil(self.width);
        let [rows, columns] = [self.plan.c.div_ceil(SHARE[0]), blocks.div_ceil(SHARE[1])];
        par::each(rows * columns, |i| {
            let part = |i: usize, size: usize, all: usize| i * size..all.min((i + 1) * size);
            let (channels, blocks) = (part(i / columns, SHARE[0], self.plan.c), part(i % columns, SHARE[1], blocks));
            // SAFETY: tasks own disjoint columns, or disjoint rows of the same columns.
            unsafe { self.add(channels, blocks) };
        });
    }

    /// Adds those of some channels read, from a multiple of 16 on, and of some blocks of columns.
    ///
    /// # Safety
    /// Tiles are available, and nobody else adds to the same sums.
    unsafe fn add(&self, channels: Range<usize>, blocks: Range<usize>) {
        let (plan, phase, width) = (self.plan, self.phase, self.width);
        // As far as all taps have positions: what they lack lies behind the grid, where gradients are 0.
        let first = phase.origin[0] * plan.wp + phase.origin[1];
        let reach = phase.taps.iter().map(|tap| first + tap.dy * plan.wp + tap.dx).max().unwrap_or(0);
        let offsets: Vec<usize> = (0..(self.positions - reach) / DEPTH).map(|step| 2 * step * DEPTH).collect();
        let parts: Vec<(usize, Range<usize>)> = (0..phase.taps.len())
            .flat_map(|tap| channels.clone().step_by(ROWS).map(move |c| (tap, c..plan.c.min(c + ROWS))))
            .collect();
        let together = SUMS / (ROWS * width);
        let mut made = [0f32; SUMS];
        // SAFETY: tiles are available.
        let tiles = unsafe { Tiles::take() };
        for block in blocks {
            let columns = self.pairs[block * self.positions * width..].as_ptr();
            for parts in parts.chunks(together) {
                let at = |i: usize| {
                    let (tap, channels) = &parts[i.min(parts.len() - 1)];
                    let tap = &phase.taps[*tap];
                    self.turned[channels.start * self.row + first + tap.dy * plan.wp + tap.dx..].as_ptr()
                };
                let step = 2 * self.row;
                // SAFETY: rows of the images and gradients that are laid out.
                unsafe {
                    match together {
                        2 => tiles.two_by_two([at(0), at(1)], step, &offsets, columns, made.as_mut_ptr()),
                        _ => {
                            tiles.four_by_one([at(0), at(1), at(2), at(3)], step, &offsets, columns, made.as_mut_ptr())
                        }
                    }
                }
                for ((tap, channels), made) in parts.iter().zip(made.chunks_exact(ROWS * width)) {
                    for (channel, made) in channels.clone().zip(made.chunks_exact(width)) {
                        // SAFETY: those of a part lie in the sums of its tap.
                        unsafe { self.add_row((tap * plan.c + channel) * plan.c_out, block * width, made) };
                    }
                }
            }
        }
    }

    /// Adds `made` to the sums of the row at `row`, from a column on, as far as there are any.
    ///
    /// # Safety
    /// The row lies in the sums.
    #[target_feature(enable = "avx512f")]
    unsafe fn add_row(&self, row: usize, first: usize, made: &[f32]) {
        for (column, made) in (first..self.plan.c_out).step_by(ROWS).zip(made.chunks_exact(ROWS)) {
            let lanes = (self.plan.c_out - column).min(ROWS);
            // SAFETY: a vector of sums, or what is left of the row.
            unsafe { add_to::<Avx512, false>(self.sums.at(row + column), Avx512::load(made.as_ptr()), lanes) };
        }
    }
}

/// Adds the lanes in order and puts the sums where the taps came from.
fn collect(plan: &Plan, partial: &[f32], kernel: [usize; 2]) -> Vec<f32> {
    let plane = plan.c * plan.c_out;
    let sources: Vec<&[[usize; 2]]> =
        plan.phases.iter().flat_map(|phase| &phase.taps).map(|tap| &tap.sources[..]).collect();
    let mut out = vec![0f32; kernel[0] * kernel[1] * plane];
    par::each_chunk(&mut out, plane, |(place, to)| {
        let place = [place / kernel[1], place % kernel[1]];
        for lane in partial.chunks_exact(sources.len() * plane) {
            for (from, _) in lane.chunks_exact(plane).zip(&sources).filter(|(_, sources)| sources.contains(&place)) {
                to.iter_mut().zip(from).for_each(|(to, v)| *to += v);
            }
        }
    });
    out
}
