//! Depthwise convolution: one channel per group, vectorised over channels. Bound by memory, not by multiply-adds.

use super::gather::Epilogue;
use super::pack::{Prologue, pad_image};
use super::plan::{Phase, Plan};
use crate::ops::mem::with_scratch;
use crate::ops::par::{self, Shared};
use crate::ops::simd::{Simd, simd_fn};

/// Images per piece and floats of one padded image.
fn frame(plan: &Plan) -> usize {
    plan.hp * plan.wp * plan.c
}

/// Weights `[taps of all phases][c]`, summed from `[KH, KW, 1, C]`.
fn tap_weights(plan: &Plan, w: &[f32], kernel: [usize; 2]) -> Vec<f32> {
    let c = plan.c;
    let mut out = Vec::new();
    for tap in plan.phases.iter().flat_map(|p| &p.taps) {
        let start = out.len();
        out.resize(start + c, 0f32);
        for &[ky, kx] in &tap.sources {
            let from = &w[(ky * kernel[1] + kx) * c..][..c];
            out[start..].iter_mut().zip(from).for_each(|(o, v)| *o += v);
        }
    }
    out
}

/// Runs a depthwise plan; arguments and result as [`super::gather::gather`], with unpacked `[KH, KW, 1, C]` weights.
///
/// # Safety
/// As for `gather`.
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn gather(
    plan: &Plan,
    n: usize,
    x: &[f32],
    w: &[f32],
    kernel: [usize; 2],
    prologue: Option<Prologue>,
    epilogue: Epilogue,
    out: *mut f32,
) -> Option<Vec<f64>> {
    let weights = tap_weights(plan, w, kernel);
    let c = plan.c;
    let sums_len = if epilogue.sums { 2 * c } else { 0 };
    let mut partial = vec![0f32; n * sums_len];
    let partial_ptr = Shared(partial.as_mut_ptr());
    let out = Shared(out);
    let (image, out_image) = (plan.h * plan.w * c, plan.out_h * plan.out_w * c);
    par::each(n, |i| {
        // SAFETY: image `i` lies in `x` and `out`, the frame in the scratch, and `partial` has a row for it.
        with_scratch(frame(plan), |buffer| unsafe {
            pad_image(plan, x.as_ptr().add(i * image), buffer.as_mut_ptr(), prologue.as_ref());
            let to = out.at(i * out_image);
            let mut start = 0;
            for phase in &plan.phases {
                gather_phase(plan, phase, buffer.as_ptr(), weights.as_ptr().add(start * c), to);
                start += phase.taps.len();
            }
            finish_image(to, out_image / c, c, i * out_image, &epilogue, partial_ptr.at(i * sums_len));
        });
    });
    epilogue.sums.then(|| {
        let mut total = vec![0f64; sums_len];
        for row in partial.chunks_exact(sums_len) {
            total.iter_mut().zip(row).for_each(|(t, v)| *t += f64::from(*v));
        }
        total
    })
}

simd_fn!(fn gather_phase(plan: &Plan, phase: &Phase, x: *const f32, w: *const f32, out: *mut f32) = gather_kernel);

#[inline(always)]
unsafe fn gather_kernel<S: Simd>(plan: &Plan, phase: &Phase, x: *const f32, w: *const f32, out: *mut f32) {
    let c = plan.c;
    let whole = c - c % S::LANES;
    for row in 0..phase.rows {
        for col in 0..phase.cols {
            let iy = phase.origin[0] + row * phase.step[0];
            let ix = phase.origin[1] + col * phase.step[1];
            let oy = phase.out[0] + row * phase.out_step[0];
            let ox = phase.out[1] + col * phase.out_step[1];
            // SAFETY: every tap of a pixel lies inside the frame; vectors end inside its channels.
            unsafe {
                let x = x.wrapping_add((iy * plan.wp + ix) * c);
                let out = out.add((oy * plan.out_w + ox) * c);
                let mut i = 0;
                while i < whole {
                    let mut acc = S::splat(0.0);
                    for (t, tap) in phase.taps.iter().enumerate() {
                        let v = S::load(x.add((tap.dy * plan.wp + tap.dx) * c + i));
                        acc = S::fma(v, S::load(w.add(t * c + i)), acc);
                    }
                    S::store(out.add(i), acc);
                    i += S::LANES;
                }
                while i < c {
                    let mut acc = 0f32;
                    for (t, tap) in phase.taps.iter().enumerate() {
                        acc += *x.add((tap.dy * plan.wp + tap.dx) * c + i) * *w.add(t * c + i);
                    }
                    *out.add(i) = acc;
                    i += 1;
                }
            }
        }
    }
}

/// Applies the epilogue to one image that is still in cache; `offset` is its first element in the whole output.
unsafe fn finish_image(out: *mut f32, pixels: usize, c: usize, offset: usize, e: &Epilogue, sums: *mut f32) {
    if e.bias.is_none() && e.residual.is_none() && e.act.is_identity() && !e.sums {
        return;
    }
    for p in 0..pixels {
        for ch in 0..c {
            // SAFETY: inside the image; `sums` has 2·c values when asked for.
            unsafe {
                let at = out.add(p * c + ch);
                let mut v = *at;
                v += e.bias.map_or(0.0, |b| b[ch]);
                v += e.residual.map_or(0.0, |r| r[offset + p * c + ch]);
                v = e.act.apply(v);
                *at = v;
                if e.sums {
                    *sums.add(ch) += v;
                    *sums.add(c + ch) += v * v;
                }
            }
        }
    }
}

/// The gradient of `[KH, KW, 1, C]` weights.
///
/// # Safety
/// As for [`super::outer::outer`].
pub(crate) unsafe fn outer(
    plan: &Plan,
    n: usize,
    x: &[f32],
    prologue: Option<Prologue>,
    dy: &[f32],
    kernel: [usize; 2],
) -> Vec<f32> {
    let c = plan.c;
    let taps: usize = plan.phases.iter().map(|p| p.taps.len()).sum();
    let lanes = n.min(16);
    let (image, out_image) = (plan.h * plan.w * c, plan.out_h * plan.out_w * c);
    let mut partial = vec![0f32; lanes * taps * c];
    let shared = Shared(partial.as_mut_ptr());
    par::each(lanes, |lane| {
        for i in par::range(n, lanes, lane) {
            // SAFETY: image `i` lies in `x` and `dy`, the frame in the scratch; the lane has a row for every tap.
            with_scratch(frame(plan), |buffer| unsafe {
                pad_image(plan, x.as_ptr().add(i * image), buffer.as_mut_ptr(), prologue.as_ref());
                let mut sums = shared.at(lane * taps * c);
                for phase in &plan.phases {
                    outer_phase(plan, phase, buffer.as_ptr(), dy.as_ptr().add(i * out_image), sums);
                    sums = sums.add(phase.taps.len() * c);
                }
            });
        }
    });
    let mut out = vec![0f32; kernel[0] * kernel[1] * c];
    for lane in partial.chunks_exact((taps * c).max(1)) {
        for (t, tap) in plan.phases.iter().flat_map(|p| &p.taps).enumerate() {
            for &[ky, kx] in &tap.sources {
                let to = &mut out[(ky * kernel[1] + kx) * c..][..c];
                to.iter_mut().zip(&lane[t * c..]).for_each(|(o, v)| *o += v);
            }
        }
    }
    out
}

simd_fn!(fn outer_phase(plan: &Plan, phase: &Phase, x: *const f32, dy: *const f32, sums: *mut f32) = outer_kernel);

#[inline(always)]
unsafe fn outer_kernel<S: Simd>(plan: &Plan, phase: &Phase, x: *const f32, dy: *const f32, sums: *mut f32) {
    let c = plan.c;
    let whole = c - c % S::LANES;
    for (t, tap) in phase.taps.iter().enumerate() {
        // SAFETY: every tap of a pixel lies inside the frame; vectors end inside its channels.
        unsafe {
            let sums = sums.add(t * c);
            for row in 0..phase.rows {
                for col in 0..phase.cols {
                    let iy = phase.origin[0] + row * phase.step[0] + tap.dy;
                    let ix = phase.origin[1] + col * phase.step[1] + tap.dx;
                    let oy = phase.out[0] + row * phase.out_step[0];
                    let ox = phase.out[1] + col * phase.out_step[1];
                    let x = x.add((iy * plan.wp + ix) * c);
                    let dy = dy.add((oy * plan.out_w + ox) * c);
                    let mut i = 0;
                    while i < whole {
                        let s = S::fma(S::load(x.add(i)), S::load(dy.add(i)), S::load(sums.add(i)));
                        S::store(sums.add(i), s);
                        i += S::LANES;
                    }
                    while i < c {
                        *sums.add(i) += *x.add(i) * *dy.add(i);
                        i += 1;
                    }
                }
            }
        }
    }
}
