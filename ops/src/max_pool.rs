//! The backward pass of maximum pooling, vectorised over channels.

#![allow(clippy::needless_range_loop)] // lanes and pixels are indexed side by side

use super::simd::{Simd, simd_fn};

simd_fn! {
    /// Adds the gradient `dy [c]` of one window to `dx`, for every channel at the first pixel that has the largest value.
    ///
    /// `pixels` are where the window's pixels start in `image` and `dx`, in row order. A NaN wins where it comes first only: where
    /// there is one, the result of the forward pass and the loss are NaN as well.
    ///
    /// # Safety
    /// `dy` holds `c` values, `image` and `dx` `c` values from each of `pixels`.
    pub(super) fn give_to_winners(pixels: &[usize], c: usize, image: *const f32, dy: *const f32, dx: *mut f32)
        = give_to_winners_kernel
}

#[inline(always)]
unsafe fn give_to_winners_kernel<S: Simd>(pixels: &[usize], c: usize, image: *const f32, dy: *const f32, dx: *mut f32) {
    let Some(&first) = pixels.first() else { return };
    let whole = c - c % S::LANES;
    // SAFETY: vectors end inside the channels of the window's pixels.
    unsafe {
        let mut i = 0;
        while i < whole {
            let (mut best, mut winner) = (S::load(image.add(first + i)), S::splat(0.0));
            for k in 1..pixels.len() {
                let v = S::load(image.add(pixels[k] + i));
                winner = S::if_gt(v, best, S::splat(k as f32), winner);
                best = S::if_gt(v, best, v, best);
            }
            let (g, zero) = (S::load(dy.add(i)), S::splat(0.0));
            for k in 0..pixels.len() {
                let (below, above) = (S::splat(k as f32 - 0.5), S::splat(k as f32 + 0.5));
                let given = S::if_gt(winner, below, S::if_gt(above, winner, g, zero), zero);
                let to = dx.add(pixels[k] + i);
                S::store(to, S::add(S::load(to), given));
            }
            i += S::LANES;
        }
        while i < c {
            let mut winner = first;
            for &pixel in pixels {
                if *image.add(pixel + i) > *image.add(winner + i) {
                    winner = pixel;
                }
            }
            *dx.add(winner + i) += *dy.add(i);
            i += 1;
        }
    }
}
