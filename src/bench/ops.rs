//! Every operation alone, on the shapes that networks for images use: how near it comes to what the machine can do.

use super::bound::ATTAINABLE;
use super::timing::{Timing, median, timed};
use crate::ops::activation::Activation;
use crate::ops::conv2d::{Affine, After, Conv2dSpec, backward_input, backward_weights, forward, precisions};
use crate::ops::mem::tensor;
use crate::ops::norm::{self, BackwardAffine};
use crate::ops::spatial::{Pool, PoolKind};
use crate::ops::{self, Precision, peak, place, pointwise, spatial};
use crate::rng::{Streams, normal};
use crate::{Error, Result};
use candle_core::Tensor;
use serde::Serialize;

/// One operation on one shape.
#[derive(Clone, Debug, Serialize)]
pub struct OpResult {
    /// Operation and pass.
    pub op: String,
    /// What it works on.
    pub shape: String,
    /// In which precision it multiplies.
    pub precision: Precision,
    pub median_ms: f64,
    pub min_ms: f64,
    /// Multiply-adds that the operation asks for, counted as two.
    pub flop: f64,
    /// Bytes of what it must read and write, each once.
    pub bytes: f64,
    /// Share of the multiply-add peak in its precision, 0 without multiply-adds: every call is held against a burst of multiply-adds right behind it,
    /// since the speed of many machines drifts with their neighbours; the median.
    pub of_peak: f64,
    /// Share of the speed of a copy, the faster of one before all calls and one behind them.
    pub of_copy: f64,
}

impl OpResult {
    /// Share of the speed at which multiply-adds at 85 % of the peak and then the bytes at that of a copy would be done: the bound of
    /// whole steps ([`super::Need::milliseconds`]) for this operation alone. It exceeds 1 where values stay in caches, where work on
    /// them overlaps, and where Winograd saves multiplications.
    pub fn of_bound(&self) -> f64 {
        self.of_peak / ATTAINABLE + self.of_copy
    }
}

/// One operation on one shape, ready to be run.
struct Case<'a> {
    op: &'static str,
    shape: String,
    precision: Precision,
    flop: f64,
    bytes: f64,
    run: Box<dyn FnMut() -> ops::Result<()> + 'a>,
}

impl Case<'_> {
    /// Times it for `seconds`. `copy` is the bytes/s of a copy before, and then those of one behind.
    fn timed(mut self, seconds: f64, copy: &mut f64) -> Result<OpResult> {
        let (flop, precision, mut shares) = (self.flop, self.precision, Vec::new());
        let beside_peak = |ms: f64| {
            if flop > 0.0 {
                shares.push(flop / (ms / 1e3) / peak::multiply_add_burst(precision));
            }
        };
        let Timing { median_ms, min_ms, .. } = timed(seconds, || Ok((self.run)()?), || (), beside_peak)?;
        let before = std::mem::replace(copy, peak::copy_rate());
        Ok(OpResult {
            op: self.op.into(),
            shape: self.shape,
            precision,
            median_ms,
            min_ms,
            flop,
            bytes: self.bytes,
            of_peak: if shares.is_empty() { 0.0 } else { median(shares) },
            of_copy: self.bytes / (median_ms / 1e3) / copy.max(before),
        })
    }
}

/// (side, channels in, channels out, kernel, stride, groups): the convolutions of ResNets, wide ResNets, VGGs, generators and
/// mobile networks.
const CONVOLUTIONS: &[(usize, usize, usize, usize, usize, usize)] = &[
    (32, 16, 16, 3, 1, 1),
    (16, 32, 32, 3, 1, 1),
    (8, 64, 64, 3, 1, 1),
    (32, 32, 32, 3, 1, 1),
    (32, 64, 64, 3, 1, 1),
    (16, 128, 128, 3, 1, 1),
    (8, 256, 256, 3, 1, 1),
    (4, 512, 512, 3, 1, 1),
    (32, 16, 32, 3, 2, 1),
    (16, 32, 64, 3, 2, 1),
    (32, 64, 128, 3, 2, 1),
    (16, 128, 256, 3, 2, 1),
    (8, 256, 512, 3, 2, 1),
    (32, 16, 64, 1, 1, 1),
    (32, 64, 64, 1, 1, 1),
    (16, 128, 128, 1, 1, 1),
    (8, 256, 256, 1, 1, 1),
    (4, 512, 512, 1, 1, 1),
    (16, 128, 256, 1, 2, 1),
    (32, 3, 16, 3, 1, 1),
    (32, 3, 64, 3, 1, 1),
    (32, 64, 3, 3, 1, 1),
    (32, 32, 32, 3, 1, 32),
    (16, 96, 96, 3, 1, 96),
    (16, 192, 192, 3, 2, 192),
];

/// (side, channels) of what the passes over pixels are timed on: larger than the caches at batch 64 and above.
const MAPS: &[(usize, usize)] = &[(32, 16), (32, 64), (8, 256)];

/// Times all operations whose name and shape contain `only`, for `seconds` each, and hands every result to `each`. Convolutions that
/// can multiply in `precision` do.
///
/// # Errors
/// What an operation reports.
pub fn ops(
    batch: usize,
    precision: Precision,
    seconds: f64,
    only: &str,
    mut each: impl FnMut(OpResult) -> Result<()>,
) -> Result<()> {
    let (mut copy, mut found) = (peak::copy_rate(), false);
    let mut measure = |case: Case| {
        let name = format!("{} {}", case.op, case.shape);
        if !only.split_whitespace().all(|part| name.contains(part)) {
            return Ok(());
        }
        found = true;
        each(case.timed(seconds, &mut copy)?)
    };
    for &shape in CONVOLUTIONS {
        convolution(batch, precision, shape, &mut measure)?;
    }
    for &(side, channels) in MAPS {
        passes_over_pixels(batch, side, channels, &mut measure)?;
    }
    match found {
        true => Ok(()),
        false => {
            Err(Error::invalid("--only", format!("no operation is called {only:?}"), "say nothing to see all rows"))
        }
    }
}

fn random(dims: &[usize]) -> Result<Tensor> {
    let mut rng = Streams::new(0).stream("bench/ops", dims.iter().sum::<usize>() as u64);
    Ok(tensor(normal(&mut rng, dims.iter().product()), dims.to_vec())?)
}

fn bytes(tensors: &[&Tensor]) -> f64 {
    tensors.iter().map(|t| 4.0 * t.elem_count() as f64).sum()
}

fn convolution(
    batch: usize,
    products: Precision,
    (side, c_in, c_out, kernel, stride, groups): (usize, usize, usize, usize, usize, usize),
    measure: &mut impl FnMut(Case) -> Result<()>,
) -> Result<()> {
    let spec = Conv2dSpec { products, ..Conv2dSpec::new(kernel).padding(kernel / 2).stride(stride).groups(groups) };
    let x = random(&[batch, side, side, c_in])?;
    let w = random(&[kernel, kernel, c_in / groups, c_out])?;
    let (y, _) = forward(&x, None, &w, &spec, &After::NOTHING)?;
    let kind = if groups > 1 { "depthwise " } else { "" };
    let shape = format!("{kind}{kernel}x{kernel}/{stride} {c_in}->{c_out} on {side}x{side}");
    let flop = 2.0 * (y.elem_count() * kernel * kernel * c_in / groups) as f64;
    let bytes = bytes(&[&x, &w, &y]);
    let [to_result, to_input, to_weights] = precisions(&spec, x.dims(), w.dims())?;
    let mut pass = |op, precision, run: Box<dyn FnMut() -> ops::Result<()> + '_>| {
        measure(Case { op, shape: shape.clone(), precision, flop, bytes, run })
    };
    pass("conv forward", to_result, Box::new(|| forward(&x, None, &w, &spec, &After::NOTHING).map(drop)))?;
    pass("conv input gradient", to_input, Box::new(|| backward_input(&y, &w, &spec, x.dims(), None).map(drop)))?;
    pass("conv weight gradient", to_weights, Box::new(|| backward_weights(&x, None, &y, &spec, w.dims()).map(drop)))
}

fn passes_over_pixels(
    batch: usize,
    side: usize,
    channels: usize,
    measure: &mut impl FnMut(Case) -> Result<()>,
) -> Result<()> {
    let x = random(&[batch, side, side, channels])?;
    let r = random(&[batch, side, side, channels])?;
    let d = r.copy()?;
    let whole = 4.0 * x.elem_count() as f64;
    let ones = |v: f32| tensor(vec![v; channels], channels);
    let affine = Affine { scale: ones(0.9)?, shift: ones(0.1)?, act: Activation::RELU };
    let k = BackwardAffine { a: vec![0.9; channels], b: vec![0.1; channels], c: vec![0.2; channels] };
    let places = vec![place::Placement { dy: 2, dx: -1, flip: true }; batch];
    let (mean, std) = (vec![0.5; channels], vec![0.25; channels]);
    let halves = Pool { kind: PoolKind::Max, kernel: 2, stride: 2, padding: 0 };
    let pooled = spatial::pool(&x, &halves)?;
    let shape = format!("{channels} channels on {side}x{side}");
    let mut pass = |op, arrays: f64, run: Box<dyn FnMut() -> ops::Result<()> + '_>| {
        measure(Case { op, shape: shape.clone(), precision: Precision::F32, flop: 0.0, bytes: arrays * whole, run })
    };
    pass("norm sums", 1.0, Box::new(|| norm::sums(&x).map(drop)))?;
    pass("norm apply", 2.0, Box::new(|| norm::apply(&x, &affine, None).map(drop)))?;
    pass("norm apply + residual", 3.0, Box::new(|| norm::apply(&x, &affine, Some(&r)).map(drop)))?;
    pass("norm backward sums", 2.0, Box::new(|| norm::backward_sums(&d, &x, &affine).map(drop)))?;
    pass("norm backward", 3.0, Box::new(|| norm::backward_apply(Some(&d), true, &x, &affine, &k).map(drop)))?;
    pass("activation backward", 3.0, Box::new(|| norm::mask_by_output(&d, &x, Activation::RELU)))?;
    pass("add", 3.0, Box::new(|| pointwise::add(&x, &r, Activation::IDENTITY).map(drop)))?;
    pass("global mean", 1.0, Box::new(|| spatial::global_mean(&x).map(drop)))?;
    pass("max pool 2", 1.25, Box::new(|| spatial::pool(&x, &halves).map(drop)))?;
    pass("max pool 2 backward", 2.25, Box::new(|| spatial::pool_backward(&pooled, &x, &halves).map(drop)))?;
    pass("nearest x2", 5.0, Box::new(|| spatial::nearest2(&x).map(drop)))?;
    pass("crop, flip, normalise", 2.0, Box::new(|| place::place(&x, &places, &mean, &std).map(drop)))?;
    pass("crop, flip, normalise backward", 2.0, Box::new(|| place::place_backward(&d, &places, &mean, &std).map(drop)))
}
