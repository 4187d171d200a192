//! Packing: images into padded buffers (with the prologue applied on the way), weights into register-wide columns.

use super::gather::block_columns;
use super::plan::Plan;
use crate::activation::Activation;
use crate::par;
use crate::simd::{self, Level, Simd, simd_fn};

/// What a convolution applies to the values it reads: `act(scale·x + shift)` per channel. Padding stays 0.
#[derive(Clone, Copy)]
pub(crate) struct Prologue<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub act: Activation,
}

simd_fn! {
    /// `out[i] = act(scale[c]·x[i] + shift[c])` over `pixels` rows of `scale.len()` channels.
    pub(crate) fn affine_rows(x: *const f32, out: *mut f32, pixels: usize, scale: &[f32], shift: &[f32], act: Activation)
        = affine_rows_kernel
}

#[inline(always)]
unsafe fn affine_rows_kernel<S: Simd>(
    x: *const f32,
    out: *mut f32,
    pixels: usize,
    scale: &[f32],
    shift: &[f32],
    act: Activation,
) {
    let c = scale.len();
    let whole = c - c % S::LANES;
    // SAFETY: `x` and `out` hold pixels·c values, scale and shift c; vectors end inside the row.
    unsafe {
        let (slope, cap) = (S::splat(act.slope), S::splat(act.cap));
        for p in 0..pixels {
            let (x, out) = (x.add(p * c), out.add(p * c));
            let mut i = 0;
            while i < whole {
                let z = S::fma(S::load(x.add(i)), S::load(scale.as_ptr().add(i)), S::load(shift.as_ptr().add(i)));
                S::store(out.add(i), S::min(cap, S::max(S::mul(z, slope), z)));
                i += S::LANES;
            }
            if i < c {
                let load = |p: *const f32| S::load_first(p.add(i), c - i);
                let z = S::fma(load(x), load(scale.as_ptr()), load(shift.as_ptr()));
                S::store_first(out.add(i), S::min(cap, S::max(S::mul(z, slope), z)), c - i);
            }
        }
    }
}

/// Copies one `[h, w, c]` image into the middle of a zeroed `[hp, wp, c]` frame, through the prologue.
///
/// # Safety
/// `image` must hold h·w·c values and `out` have room for hp·wp·c.
pub(crate) unsafe fn pad_image(plan: &Plan, image: *const f32, out: *mut f32, prologue: Option<&Prologue>) {
    // SAFETY: as the caller promises; a row has w·c values.
    unsafe {
        frame(plan, image, out, |from, to| match prologue {
            None => std::ptr::copy_nonoverlapping(from, to, plan.w * plan.c),
            Some(p) => affine_rows(from, to, plan.w, p.scale, p.shift, p.act),
        });
    }
}

/// Has `copy` bring the rows of one `[h, w, c]` image into the middle of a zeroed `[hp, wp, c]` frame.
///
/// # Safety
/// `image` must hold h·w·c values and `out` have room for hp·wp·c, which are initialised.
#[inline(always)]
pub(super) unsafe fn frame<T: Copy + Default>(
    plan: &Plan,
    image: *const f32,
    out: *mut T,
    copy: impl Fn(*const f32, *mut T),
) {
    let (c, row) = (plan.c, plan.wp * plan.c);
    let (left, used) = (plan.pad_left * c, plan.w * c);
    // SAFETY: all rows lie inside the frame, all reads inside the image.
    unsafe {
        let zero = |start: usize, end: usize| {
            std::slice::from_raw_parts_mut(out.add(start), end - start).fill(T::default());
        };
        zero(0, plan.pad_top * row);
        zero((plan.pad_top + plan.h) * row, plan.hp * row);
        for y in 0..plan.h {
            let start = (plan.pad_top + y) * row;
            zero(start, start + left);
            zero(start + left + used, start + row);
            copy(image.add(y * used), out.add(start + left));
        }
    }
}

/// Rows of packed weights that are transposed together: one cache line of what is read.
const TRANSPOSED_ROWS: usize = 16;

/// Weights in the order in which a kernel reads them: `[phase][group][block of columns][tap][reading channel][column]`,
/// columns (writing channels) padded with zeros to whole blocks of `cb`.
pub(crate) struct PackedWeights {
    pub values: Vec<f32>,
    /// Where each phase starts.
    pub phase_start: Vec<usize>,
    pub cb: usize,
    pub blocks: usize,
    /// The instruction set that `cb` was chosen for.
    pub level: Level,
}

impl PackedWeights {
    /// Packs HWIO weights for `plan`; `transposed` when the plan is the backward pass of the convolution.
    pub(crate) fn new(plan: &Plan, w: &[f32], kernel: [usize; 2], transposed: bool) -> Self {
        let (reads, writes) = plan.group_channels();
        let level = simd::level();
        let cb = block_columns(level, writes);
        let blocks = writes.div_ceil(cb);
        let (group_in, c_out) = if transposed { (writes, plan.c) } else { (reads, plan.c_out) };
        let taps: usize = plan.phases.iter().map(|p| p.taps.len()).sum();
        let mut values = vec![0f32; taps * plan.groups * blocks * reads * cb];
        let mut phase_start = Vec::with_capacity(plan.phases.len());
        let mut at = 0;
        for phase in &plan.phases {
            phase_start.push(at);
            let block_len = phase.taps.len() * reads * cb;
            let pack = |(i, to): (usize, &mut [f32])| {
                let (g, b) = (i / blocks, i % blocks);
                let offset = g * if transposed { reads } else { writes };
                let columns = cb.min(writes - b * cb);
                for (tap, block) in phase.taps.iter().zip(to.chunks_exact_mut((reads * cb).max(1))) {
                    for &[ky, kx] in &tap.sources {
                        let plane = &w[(ky * kernel[1] + kx) * group_in * c_out..][..group_in * c_out];
                        add_plane(block, plane, transposed, [reads, cb, columns], offset, b * cb, c_out);
                    }
                }
            };
            let all = plan.groups * blocks * block_len;
            par::each_chunk(&mut values[at..at + all], block_len, pack);
            at += all;
        }
        Self { values, phase_start, cb, blocks, level }
    }
}

/// Adds one `[group_in, c_out]` kernel plane, or its transpose, to a block of packed columns.
///
/// `offset` is the group's first original output channel, `first` the block's first column within the group.
fn add_plane(
    block: &mut [f32],
    plane: &[f32],
    transposed: bool,
    [reads, cb, columns]: [usize; 3],
    offset: usize,
    first: usize,
    c_out: usize,
) {
    if transposed {
        // Square parts, so that the lines that are written stay in cache while their columns fill.
        for start in (0..reads).step_by(TRANSPOSED_ROWS) {
            let rows = TRANSPOSED_ROWS.min(reads - start);
            for q in 0..columns {
                let row = &plane[(first + q) * c_out + offset + start..][..rows];
                for (to, v) in block[start * cb + q..].iter_mut().step_by(cb).zip(row) {
                    *to += v;
                }
            }
        }
    } else {
        for r in 0..reads {
            let row = &plane[r * c_out + offset + first..][..columns];
            for (to, v) in block[r * cb..].iter_mut().zip(row) {
                *to += v;
            }
        }
    }
}
