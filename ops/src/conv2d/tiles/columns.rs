//! The weights of a phase as tiles of columns.

use crate::conv2d::plan::{Phase, Plan};
use crate::par;
use crate::simd::amx::{DEPTH, ROWS};
use crate::simd::{Avx512, load};
use std::arch::x86_64::*;

/// A row of a tile.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Row([u16; DEPTH]);

/// Blocks of columns, which are the channels that are written.
pub(super) struct Columns {
    /// `[block][DEPTH products][tile of 16 columns][row]`
    rows: Vec<Row>,
    /// Columns of a block: one tile or two.
    pub width: usize,
    pub blocks: usize,
}

impl Columns {
    /// Of kernel `w`, HWIO; `runs` are those of the phase's taps, in values of the padded image.
    pub fn new(
        plan: &Plan,
        phase: &Phase,
        runs: &[(usize, usize)],
        w: &[f32],
        kernel: [usize; 2],
        transposed: bool,
    ) -> Self {
        let (reads, writes) = (plan.c, plan.c_out);
        let plane = |[ky, kx]: [usize; 2]| &w[(ky * kernel[1] + kx) * reads * writes..][..reads * writes];
        let as_it_is = !transposed && phase.taps.iter().all(|tap| tap.sources.len() == 1);
        let made = if as_it_is { Vec::new() } else { summed(phase, plane, [reads, writes], transposed) };
        let planes: Vec<&[f32]> = match as_it_is {
            true => phase.taps.iter().flat_map(|tap| &tap.sources).map(|source| plane(*source)).collect(),
            false => made.chunks_exact(reads * writes).collect(),
        };
        // Runs hold all taps in their order.
        let weights: Vec<&[f32]> = planes.into_iter().flat_map(|plane| plane.chunks_exact(writes)).collect();
        let width = if writes > ROWS { 2 * ROWS } else { ROWS };
        let blocks = writes.div_ceil(width);
        let steps: usize = runs.iter().map(|(_, len)| len.div_ceil(DEPTH)).sum();
        let mut rows = vec![Row([0; DEPTH]); blocks * steps * width];
        par::each_chunk(&mut rows, steps * width, |(block, rows)| {
            let (mut weights, mut to) = (&weights[..], rows.chunks_exact_mut(width));
            for (_, len) in runs {
                let run;
                (run, weights) = weights.split_at(*len);
                for (some, to) in run.chunks(DEPTH).zip(&mut to) {
                    // SAFETY: where there are tiles, there is AVX-512 with bf16.
                    unsafe { pack(some, block * width, to) };
                }
            }
        });
        Self { rows, width, blocks }
    }

    /// The tiles of a block.
    pub fn block(&self, block: usize) -> *const u16 {
        self.rows[self.rows.len() / self.blocks * block..].as_ptr().cast()
    }
}

/// Weights for each tap of a phase, `[tap][read][written]`: sums of those of its sources, whose planes are `[written][read]` where
/// they are `transposed`.
fn summed<'w>(
    phase: &Phase,
    plane: impl Fn([usize; 2]) -> &'w [f32] + Sync,
    [reads, writes]: [usize; 2],
    transposed: bool,
) -> Vec<f32> {
    /// Columns that are transposed together: one cache line of what is read.
    const COLUMNS: usize = 16;
    let mut all = vec![0f32; phase.taps.len() * reads * writes];
    par::each_chunk(&mut all, reads * writes, |(tap, to)| {
        for source in &phase.taps[tap].sources {
            let from = plane(*source);
            if !transposed {
                to.iter_mut().zip(from).for_each(|(to, w)| *to += w);
                continue;
            }
            for first in (0..reads).step_by(COLUMNS) {
                for (written, row) in from.chunks_exact(reads).enumerate() {
                    let columns = &row[first..reads.min(first + COLUMNS)];
                    let to = to[first * writes + written..].iter_mut().step_by(writes);
                    to.zip(columns).for_each(|(to, w)| *to += w);
                }
            }
        }
    });
    all
}

/// Up to [`DEPTH`] rows of weights as tiles of 16 columns, of which the first is `first`.
///
/// # Safety
/// The machine has AVX-512 with bf16.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn pack(weights: &[&[f32]], first: usize, to: &mut [Row]) {
    for (tile, to) in to.chunks_exact_mut(ROWS).enumerate() {
        let columns = |row: Option<&&[f32]>| {
            let rest = row.and_then(|row| row.get(first + tile * ROWS..)).unwrap_or_default();
            // SAFETY: no more is read than there is.
            unsafe {
                let rounded = _mm512_cvtneps_pbh(load::<Avx512, false>(rest.as_ptr(), rest.len().min(ROWS)));
                _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(rounded))
            }
        };
        for (pair, to) in weights.chunks(2).zip(to) {
            let (low, high) = (columns(pair.first()), _mm512_slli_epi32::<16>(columns(pair.get(1))));
            // SAFETY: a row of a tile is as long as a vector, and aligned.
            unsafe { _mm512_store_si512(to.0.as_mut_ptr().cast(), _mm512_or_si512(low, high)) };
        }
    }
}
