//! Pixel-moving operations on the tape; see `ops::spatial` for what each computes.

use super::{Grads, Op, Tape, Value, Var};
use crate::Result;
use crate::ops::{adaptive, bilinear, channels, place, spatial};
use candle_core::{DType, Tensor};

pub use crate::ops::{
    bilinear::Corners,
    place::Placement,
    spatial::{Pool, PoolKind},
};

/// Mean over all pixels: `[N, H, W, C]` → `[N, C]`.
pub fn global_mean(tape: &Tape, x: &Var) -> Result<Var> {
    let t = x.tensor()?;
    let ([_, h, w, _], dtype) = (spatial::nhwc("global_mean", &t)?, t.dtype());
    let source = x.clone();
    let y = tape.record(Value::Dense(spatial::global_mean(&t)?), x.needs_grad(), move |dy, grads| {
        grads.add(&source, spatial::global_mean_backward(&dy, h, w, dtype)?)
    });
    tape.note([x], y, || Op::GlobalMean)
}

/// Maximum or average pooling.
pub fn pool(tape: &Tape, x: &Var, p: Pool) -> Result<Var> {
    let t = x.tensor()?;
    let y = spatial::pool(&t, &p)?;
    let source = x.clone();
    let backward = move |dy: Tensor, grads: &mut Grads| grads.add(&source, spatial::pool_backward(&dy, &t, &p)?);
    let y = tape.record(Value::Dense(y), x.needs_grad(), backward);
    tape.note([x], y, || Op::Pool { pool: p })
}

/// Means of as many windows (rows, columns) as are asked for; the image itself where there is one per pixel.
pub fn adaptive_mean(tape: &Tape, x: &Var, windows: [usize; 2]) -> Result<Var> {
    let t = x.tensor()?;
    let [_, h, w, _] = spatial::nhwc("adaptive_mean", &t)?;
    if [h, w] == windows {
        return Ok(x.clone());
    }
    let y = adaptive::adaptive_mean(&t, windows)?;
    let source = x.clone();
    let y = tape.record(Value::Dense(y), x.needs_grad(), move |dy, grads| {
        grads.add(&source, adaptive::adaptive_mean_backward(&dy, [h, w])?)
    });
    tape.note([x], y, || Op::AdaptiveMean { windows })
}

/// The channels of all `parts` side by side, in order.
pub fn concat(tape: &Tape, parts: &[&Var]) -> Result<Var> {
    let tensors = parts.iter().map(|part| part.tensor()).collect::<Result<Vec<_>>>()?;
    let y = channels::concat(&tensors)?;
    let needs_grad = parts.iter().any(|part| part.needs_grad());
    let sources: Vec<Var> = parts.iter().map(|part| (*part).clone()).collect();
    let y = tape.record(Value::Dense(y), needs_grad, move |dy, grads| {
        let mut start = 0;
        for part in &sources {
            let end = start + part.dims()[3];
            if part.needs_grad() {
                grads.add(part, channels::select(&dy, start..end)?)?;
            }
            start = end;
        }
        Ok(())
    });
    tape.note(parts.iter().copied(), y, || Op::Concat)
}

/// Bilinear resizing to `h × w`, half-pixel centres.
pub fn bilinear(tape: &Tape, x: &Var, h: usize, w: usize) -> Result<Var> {
    resize(tape, x, [h, w], Corners::Half)
}

/// Bilinear resizing to a height and a width.
pub fn resize(tape: &Tape, x: &Var, [h, w]: [usize; 2], corners: Corners) -> Result<Var> {
    let t = x.tensor()?;
    let [_, ih, iw, _] = spatial::nhwc("bilinear", &t)?;
    let source = x.clone();
    let y = bilinear::resize(&t, [h, w], corners)?;
    let y = tape.record(Value::Dense(y), x.needs_grad(), move |dy, grads| {
        grads.add(&source, bilinear::resize_backward(&dy, [ih, iw], corners)?)
    });
    tape.note([x], y, || Op::Bilinear { h, w, corners })
}

/// Nearest-neighbour enlargement by 2. In front of a convolution, [`crate::ops::conv2d::Conv2dSpec::upsampled`] is
/// the same and costs less.
pub fn nearest2(tape: &Tape, x: &Var) -> Result<Var> {
    let y = spatial::nearest2(&x.tensor()?)?;
    let source = x.clone();
    let y = tape
        .record(Value::Dense(y), x.needs_grad(), move |dy, grads| grads.add(&source, spatial::nearest2_backward(&dy)?));
    tape.note([x], y, || Op::Nearest2)
}

/// The option-A shortcut: strided pixels, zero channels on both sides.
pub fn subsample_pad(tape: &Tape, x: &Var, stride: usize, c_out: usize) -> Result<Var> {
    let t = x.tensor()?;
    let [_, h, w, c] = spatial::nhwc("shortcut", &t)?;
    let y = spatial::subsample_pad(&t, stride, c_out)?;
    let source = x.clone();
    let y = tape.record(Value::Dense(y), x.needs_grad(), move |dy, grads| {
        grads.add(&source, spatial::subsample_pad_backward(&dy, stride, [h, w, c])?)
    });
    tape.note([x], y, || Op::SubsamplePad { stride, c_out })
}

/// `[N, H, W, C]` → `[N, C·H·W]` in channel, row, column order; vectors are f32.
pub fn flatten_chw(tape: &Tape, x: &Var) -> Result<Var> {
    let x = &super::cast(tape, x, DType::F32)?;
    let t = x.tensor()?;
    let [_, h, w, c] = spatial::nhwc("flatten", &t)?;
    let source = x.clone();
    let y = tape.record(Value::Dense(spatial::flatten_chw(&t)?), x.needs_grad(), move |dy, grads| {
        grads.add(&source, spatial::unflatten_chw(&dy, [h, w, c])?)
    });
    tape.note([x], y, || Op::FlattenChw)
}

/// `[N, C·H·W]` in channel, row, column order → `[N, H, W, C]`.
pub fn unflatten_chw(tape: &Tape, x: &Var, hwc: [usize; 3]) -> Result<Var> {
    let y = spatial::unflatten_chw(&x.tensor()?, hwc)?;
    let source = x.clone();
    let y =
        tape.record(Value::Dense(y), x.needs_grad(), move |dy, grads| grads.add(&source, spatial::flatten_chw(&dy)?));
    tape.note([x], y, || Op::UnflattenChw { hwc })
}

/// Crop, flip and normalisation of images in `[0, 1]`, one [`Placement`] per image; images are f32.
pub fn place(tape: &Tape, x: &Var, places: &[Placement], mean: &[f32], std: &[f32]) -> Result<Var> {
    let x = &super::cast(tape, x, DType::F32)?;
    let y = place::place(&x.tensor()?, places, mean, std)?;
    if !x.needs_grad() {
        return tape.note([x], Var::constant(y), || Op::Place);
    }
    let (source, places, mean, std) = (x.clone(), places.to_vec(), mean.to_vec(), std.to_vec());
    let y = tape.record(Value::Dense(y), true, move |dy, grads| {
        grads.add(&source, place::place_backward(&dy, &places, &mean, &std)?)
    });
    tape.note([x], y, || Op::Place)
}
