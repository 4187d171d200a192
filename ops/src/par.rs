//! Fixed pieces of work on the rayon pool: what a piece computes never depends on who runs it.

use rayon::prelude::*;
use std::ops::Range;

/// Runs `f(0..pieces)` on the pool, in any order.
pub fn each(pieces: usize, f: impl Fn(usize) + Sync + Send) {
    if pieces == 1 {
        f(0);
    } else {
        (0..pieces).into_par_iter().with_max_len(1).for_each(f);
    }
}

/// Runs `f` on the chunks of `len` values, each with its number, in any order; on this thread alone where there is little to do.
pub fn each_chunk<T: Send>(values: &mut [T], len: usize, f: impl Fn((usize, &mut [T])) + Sync + Send) {
    /// In bytes.
    const LITTLE: usize = 1 << 16;
    if len == 0 {
        return;
    }
    if size_of_val(values) <= LITTLE {
        values.chunks_mut(len).enumerate().for_each(f);
    } else {
        values.par_chunks_mut(len).enumerate().for_each(f);
    }
}

/// New lists of `rows` rows of `widths` values, which `fill` writes `chunk` rows at a time, in any order; what it says of each chunk
/// comes in the order of the chunks. It is given the chunk's rows and its part of every list, all zeros.
pub fn filled<const G: usize, T: Send>(
    rows: usize,
    chunk: usize,
    widths: [usize; G],
    fill: impl Fn(Range<usize>, [&mut [f32]; G]) -> T + Sync,
) -> ([Vec<f32>; G], Vec<T>) {
    let mut lists = widths.map(|width| Vec::with_capacity(rows * width));
    let starts = lists.each_mut().map(|list| Shared(list.as_mut_ptr()));
    let one = |i: usize| {
        let range = i * chunk..rows.min((i + 1) * chunk);
        let part = |list: usize| {
            // SAFETY: the rows of a chunk lie inside the capacity of the list, and no two chunks share any; they are
            // initialised here.
            unsafe {
                let (start, len) = (starts[list].at(range.start * widths[list]), range.len() * widths[list]);
                std::ptr::write_bytes(start, 0, len);
                std::slice::from_raw_parts_mut(start, len)
            }
        };
        fill(range.clone(), std::array::from_fn(part))
    };
    let found = match rows.div_ceil(chunk) {
        0 => Vec::new(),
        1 => vec![one(0)],
        chunks => (0..chunks).into_par_iter().map(one).collect(),
    };
    for (list, width) in lists.iter_mut().zip(widths) {
        // SAFETY: the chunks, of which each has initialised its part, cover all rows.
        unsafe { list.set_len(rows * width) };
    }
    (lists, found)
}

/// Sums rows of `len` partial sums, one for each piece, in the order of the pieces.
pub(crate) fn sum_rows(partial: &[f32], len: usize) -> Vec<f64> {
    let mut total = vec![0f64; len];
    for row in partial.chunks_exact(len) {
        total.iter_mut().zip(row).for_each(|(t, v)| *t += f64::from(*v));
    }
    total
}

/// Pieces of about `grain` items that cover `0..total`; the cut depends on the sizes alone.
pub fn pieces(total: usize, grain: usize) -> usize {
    total.div_ceil(grain.max(1)).max(1)
}

/// The range of piece `i` of `pieces` over `0..total`, as even as can be.
pub fn range(total: usize, pieces: usize, i: usize) -> Range<usize> {
    total * i / pieces..total * (i + 1) / pieces
}

/// A pointer that several threads may write through, each to its own part.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T = f32>(pub *mut T);
// SAFETY: users write disjoint ranges only, and the buffer outlives the parallel loop.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above: shared references only hand out the pointer.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer at element `i`.
    ///
    /// # Safety
    /// `i` must lie inside the buffer.
    #[inline(always)]
    pub(crate) unsafe fn at(self, i: usize) -> *mut T {
        // SAFETY: `i` lies inside the buffer, says the caller.
        unsafe { self.0.add(i) }
    }
}
