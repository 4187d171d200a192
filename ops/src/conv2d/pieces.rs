//! A batch cut into pieces of images, which the threads share.

use super::epilogue::Epilogue;
use super::plan::Plan;
use crate::par::{self, Shared};
use std::ops::Range;

/// Some images of a batch, and where what is made of them goes.
pub(super) struct Piece {
    pub images: Range<usize>,
    /// Of the first image.
    pub residual: Option<*const f32>,
    /// Of the first image.
    pub out: *mut f32,
    /// Σ and Σ² of the piece, if the epilogue asks for them.
    pub sums: *mut f32,
}

/// Runs `f` on the pieces of `n` images, on all threads; returns their sums, if asked, added in their order.
///
/// # Safety
/// `out` has room for `n` output images of the plan.
pub(super) unsafe fn by_pieces(
    plan: &Plan,
    n: usize,
    epilogue: &Epilogue,
    out: *mut f32,
    f: impl Fn(Piece) + Sync + Send,
) -> Option<Vec<f64>> {
    let per_piece = plan.images_per_piece(n);
    let pieces = par::pieces(n, per_piece);
    let sums_len = if epilogue.sums { 2 * plan.c_out } else { 0 };
    let mut partial = vec![0f32; pieces * sums_len];
    let (out, sums) = (Shared(out), Shared(partial.as_mut_ptr()));
    let image = plan.out_h * plan.out_w * plan.c_out;
    par::each(pieces, |i| {
        let images = i * per_piece..((i + 1) * per_piece).min(n);
        let first = images.start * image;
        // SAFETY: the images lie in the output, each piece has its row of sums.
        let (out, sums) = unsafe { (out.at(first), sums.at(i * sums_len)) };
        f(Piece { images, residual: epilogue.residual.map(|r| r[first..].as_ptr()), out, sums });
    });
    epilogue.sums.then(|| par::sum_rows(&partial, sums_len))
}

/// Partial sums over `n` images, `len` for each of at most `lanes` lanes, which start at 0: `f` adds a piece of up to `per_piece` images to
/// those of its lane. Which piece belongs to which lane does not depend on the threads.
pub(super) fn by_lanes(
    n: usize,
    per_piece: usize,
    lanes: usize,
    len: usize,
    f: impl Fn(Range<usize>, *mut f32) + Sync + Send,
) -> Vec<f32> {
    by_shares(n, per_piece, [lanes, 1], len, |images, _, sums| f(images, sums))
}

/// As [`by_lanes`], but every piece is met once for each of so many shares of a lane's sums, by tasks of their own; `f` is given the
/// share's number, and the sums of the lane.
pub(super) fn by_shares(
    n: usize,
    per_piece: usize,
    [lanes, shares]: [usize; 2],
    len: usize,
    f: impl Fn(Range<usize>, usize, *mut f32) + Sync + Send,
) -> Vec<f32> {
    let pieces = par::pieces(n, per_piece);
    let lanes = lanes.min(pieces);
    let mut partial = vec![0f32; lanes * len];
    let shared = Shared(partial.as_mut_ptr());
    par::each(lanes * shares, |task| {
        let (lane, share) = (task / shares, task % shares);
        for piece in par::range(pieces, lanes, lane) {
            // SAFETY: each lane has its sums.
            let sums = unsafe { shared.at(lane * len) };
            f(piece * per_piece..((piece + 1) * per_piece).min(n), share, sums);
        }
    });
    partial
}
