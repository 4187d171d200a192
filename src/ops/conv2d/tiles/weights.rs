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
use crate::ops::par;
use crate::ops::simd::amx::{self, DEPTH, ROWS, Tiles};
use crate::ops::simd::{Avx512, add_to, load};
use std::arch::x86_64::*;
use std::ops::Range;

/// Channels on either side below which most of a tile would be empty.
const LEAST_CHANNELS: usize = 8;
/// Channels read times channels written up to which a piece has pixels enough for the sums that it adds to.
const MOST_SUMS: usize = 1 << 15;
/// Bytes of partial sums that all lanes together may take.
const LANES_BYTES: usize = 4 << 20;

/// Whether the gradient of the weights of a forward plan goes this way.
pub(in super::super) fn applies(plan: &Plan) -> bool {
    plan.groups == 1
        && plan.phases.iter().all(|phase| phase.step == [1, 1])
        && plan.c.min(plan.c_out) >= LEAST_CHANNELS
        && plan.c * plan.c_out <= MOST_SUMS
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
    let lanes = (LANES_BYTES / (4 * taps * plane)).clamp(1, 16);
    let (image, out_image) = (plan.h * plan.w * plan.c, plan.out_h * plan.out_w * plan.c_out);
    let partial = by_lanes(n, plan.images_per_piece(n), lanes, taps * plane, |images, sums| {
        let (x, dy) = (&x[images.start * image..], &dy[images.start * out_image..]);
        // SAFETY: the images lie in `x` and `dy`; each lane has its sums. `applies` has found tiles.
        unsafe { add_piece(plan, images.len(), x, prologue.as_ref(), dy, sums) };
    });
    collect(plan, &partial, kernel)
}

/// Adds the products of some images to `sums`, `[tap of all phases][channel read][channel written]`.
///
/// # Safety
/// `x` and `dy` begin with the images; tiles are available.
unsafe fn add_piece(plan: &Plan, n: usize, x: &[f32], prologue: Option<&Prologue>, dy: &[f32], sums: *mut f32) {
    let (image, frame) = (plan.h * plan.w * plan.c, plan.hp * plan.wp);
    // What the last 32 positions of a sum read behind the last image is 0, as their gradients are.
    let positions = (n * frame + DEPTH).next_multiple_of(DEPTH);
    let channels = plan.c.next_multiple_of(ROWS);
    // Lines of a channel's row: an odd number, so that the rows of a tile are in different sets of the cache.
    let row = LINE * ((positions / LINE) | 1);
    let width = if plan.c_out > ROWS { 2 * ROWS } else { ROWS };
    let columns = plan.c_out.next_multiple_of(width);
    let parts = [positions * plan.c, channels * row, positions * plan.c_out, positions * columns];
    with_parts(parts, |[frames, turned, gradients, pairs]| {
        // SAFETY: the parts are as large as said above; images lie in `x` and `dy`.
        unsafe {
            for i in 0..n {
                pad_image(plan, x.as_ptr().add(i * image), frames.as_mut_ptr().add(i * frame * plan.c), prologue);
            }
            frames[n * frame * plan.c..].fill(0);
            turn(frames, plan.c, turned, row);
            let tiles = Tiles::take();
            let mut sums = sums;
            for phase in &plan.phases {
                spread(plan, phase, n, dy, gradients);
                pair(gradients, plan.c_out, width, pairs);
                multiply(plan, phase, &tiles, turned, row, pairs, width, sums);
                sums = sums.add(phase.taps.len() * plan.c * plan.c_out);
            }
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

/// Images `[position][channel]` as `[channel][position]`, whose rows are `row` values apart; channels are filled up with zeros.
///
/// # Safety
/// `to` has a row for every 16 channels begun; positions are a multiple of 32.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn turn(frames: &[u16], channels: usize, to: &mut [u16], row: usize) {
    let positions = frames.len() / channels;
    for first in (0..channels).step_by(ROWS) {
        for at in (0..positions).step_by(DEPTH) {
            // SAFETY: 32 positions from `at` on exist, and 16 rows from `first` on.
            unsafe {
                let pixels = frames.as_ptr().add(at * channels + first);
                let mut pairs = [_mm512_setzero_si512(); ROWS];
                for (i, pair) in pairs.iter_mut().enumerate() {
                    *pair = paired(pixels.add(2 * i * channels), channels, channels - first);
                }
                for (i, line) in transposed(pairs).into_iter().enumerate() {
                    _mm512_storeu_si512(to.as_mut_ptr().add((first + i) * row + at).cast(), line);
                }
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

/// The gradients of a phase's pixels of `n` images at the positions of its grid in the padded images, 0 elsewhere.
///
/// # Safety
/// `dy` begins with the images; the machine has AVX-512 with bf16.
unsafe fn spread(plan: &Plan, phase: &Phase, n: usize, dy: &[f32], to: &mut [u16]) {
    let c = plan.c_out;
    to.fill(0);
    for (image, row) in (0..n).flat_map(|image| (0..phase.rows).map(move |row| (image, row))) {
        let oy = phase.out[0] + row * phase.out_step[0];
        let from = &dy[((image * plan.out_h + oy) * plan.out_w + phase.out[1]) * c..];
        let to = &mut to[(image * plan.hp + row) * plan.wp * c..][..phase.cols * c];
        let pixels = if phase.out_step[1] == 1 { to.len() } else { c };
        for (i, to) in to.chunks_exact_mut(pixels).enumerate() {
            // SAFETY: the columns of the phase lie in the row.
            unsafe { round_row(from[i * phase.out_step[1] * c..][..pixels].as_ptr(), to.as_mut_ptr(), pixels) };
        }
    }
}

/// Rows of `channels` values as blocks of tiles: `[block of width columns][32 positions][tile of 16 columns][row]`.
///
/// # Safety
/// `to` has room for whole blocks; positions are a multiple of 32.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn pair(rows: &[u16], channels: usize, width: usize, to: &mut [u16]) {
    let positions = rows.len() / channels;
    for (block, to) in to.chunks_exact_mut(positions * width).enumerate() {
        for (step, to) in to.chunks_exact_mut(DEPTH * width).enumerate() {
            for (i, to) in to.chunks_exact_mut(DEPTH).enumerate() {
                let (column, pair) = (block * width + i / ROWS * ROWS, i % ROWS);
                let count = channels.saturating_sub(column);
                // SAFETY: what is read lies in two neighbouring rows; a row of a tile is written.
                unsafe {
                    let from = rows.as_ptr().wrapping_add((step * DEPTH + 2 * pair) * channels + column);
                    _mm512_store_si512(to.as_mut_ptr().cast(), paired(from, channels, count));
                }
            }
        }
    }
}

/// Adds all products of a phase to its sums, `[tap][channel read][channel written]`.
///
/// # Safety
/// All is laid out as [`add_piece`] does it.
#[allow(clippy::too_many_arguments)]
#[target_feature(enable = "avx512f")]
unsafe fn multiply(
    plan: &Plan,
    phase: &Phase,
    tiles: &Tiles,
    turned: &[u16],
    row: usize,
    pairs: &[u16],
    width: usize,
    sums: *mut f32,
) {
    let blocks = plan.c_out.div_ceil(width);
    let block_len = pairs.len() / blocks;
    // As far as all taps have positions: what they lack lies behind the grid, where gradients are 0.
    let first = phase.origin[0] * plan.wp + phase.origin[1];
    let reach = phase.taps.iter().map(|tap| first + tap.dy * plan.wp + tap.dx).max().unwrap_or(0);
    let offsets: Vec<usize> = (0..(block_len / width - reach) / DEPTH).map(|step| 2 * step * DEPTH).collect();
    let parts: Vec<(usize, Range<usize>)> = (0..phase.taps.len())
        .flat_map(|tap| (0..plan.c).step_by(ROWS).map(move |c| (tap, c..plan.c.min(c + ROWS))))
        .collect();
    let together = SUMS / (ROWS * width);
    let mut made = [0f32; SUMS];
    for block in 0..blocks {
        let columns = pairs[block * block_len..].as_ptr();
        for parts in parts.chunks(together) {
            let at = |i: usize| {
                let (tap, channels) = &parts[i.min(parts.len() - 1)];
                let tap = &phase.taps[*tap];
                turned[channels.start * row + first + tap.dy * plan.wp + tap.dx..].as_ptr()
            };
            // SAFETY: rows of the images and gradients that are laid out; the sums of a part lie in those of its tap.
            unsafe {
                match together {
                    2 => tiles.two_by_two([at(0), at(1)], 2 * row, &offsets, columns, made.as_mut_ptr()),
                    _ => tiles.four_by_one([at(0), at(1), at(2), at(3)], 2 * row, &offsets, columns, made.as_mut_ptr()),
                }
                for ((tap, channels), made) in parts.iter().zip(made.chunks_exact(ROWS * width)) {
                    for (channel, made) in channels.clone().zip(made.chunks_exact(width)) {
                        for column in (block * width..plan.c_out.min((block + 1) * width)).step_by(ROWS) {
                            let to = sums.add((tap * plan.c + channel) * plan.c_out + column);
                            let lanes = (plan.c_out - column).min(ROWS);
                            let some = load::<Avx512, true>(made.as_ptr().add(column - block * width), ROWS);
                            add_to::<Avx512, false>(to, some, lanes);
                        }
                    }
                }
            }
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
