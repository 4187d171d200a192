//! One pass through a network: the tape it records on, the weights it reads, and what its batch norms do.

use super::weights::{SlotId, Weights};
use crate::Result;
use crate::ops::conv2d::Conv2dSpec;
use crate::ops::{Activation, mem, par};
use crate::tape::{self, Grads, NormMode, Tape, Trace, Var};
use candle_core::Tensor;
use rayon::prelude::*;

/// How a network runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Weights train, batch norms use the batch and move their running statistics by `momentum`.
    Train { momentum: f64 },
    /// Weights are constants, batch norms use running statistics and are folded into convolutions.
    Frozen,
    /// As `Frozen`, but the moments of every 2-d batch norm's input are collected for matching.
    Match,
    /// Weights are constants, running statistics move: batch norms are estimated anew.
    Reestimate { momentum: f64 },
}

/// What a 2-d batch norm has read.
#[derive(Clone)]
pub struct Observed {
    /// Slot of its running mean.
    pub norm: SlotId,
    /// What it adds to variances.
    pub eps: f64,
    /// Mean and biased variance of its input, `[2, C]`.
    pub moments: Var,
    /// Values of a channel that these are of: N·H·W.
    pub values: usize,
}

/// What a 2-d batch norm has read of every single image.
pub struct ObservedEach {
    /// Slot of its running mean.
    pub norm: SlotId,
    /// What it adds to variances.
    pub eps: f64,
    /// How many pixels an image has there.
    pub pixels: usize,
    /// Σ and Σ² per channel of its input over the pixels of an image, `[N, 2·C]`.
    pub sums: Tensor,
}

/// State of one forward pass.
pub struct Forward<'a> {
    pub tape: &'a Tape,
    weights: &'a Weights,
    pub mode: Mode,
    leaves: Vec<Option<Var>>,
    /// In [`Mode::Match`]: every 2-d batch norm, in the order in which the layers run.
    pub moments: Vec<Observed>,
    /// What the classifier reads, if the network says so: `[N, features]`.
    pub features: Option<Var>,
    /// If asked for, in [`Mode::Match`]: the mean over all pixels of what every 2-d batch norm reads, `[N, C]` each.
    pub inputs: Option<Vec<Var>>,
    /// If asked for: every 2-d batch norm with what it reads of each image, in the order in which the layers run.
    pub each: Option<Vec<ObservedEach>>,
    /// If asked for: the last map of every grid, `[N, h, w, C]` each, in the order of the layers. Networks that only answer tell
    /// none, nor do those for pixels without a ResNet.
    pub stages: Option<Vec<Var>>,
}

impl<'a> Forward<'a> {
    pub fn new(tape: &'a Tape, weights: &'a Weights, mode: Mode) -> Self {
        let leaves = vec![None; weights.slots.len()];
        Self {
            tape,
            weights,
            mode,
            leaves,
            moments: Vec::new(),
            features: None,
            inputs: None,
            each: None,
            stages: None,
        }
    }

    /// The same pass, which also collects `inputs`.
    pub fn with_inputs(self) -> Self {
        Self { inputs: Some(Vec::new()), ..self }
    }

    /// The same pass, which also collects `each`.
    pub fn with_each(self) -> Self {
        Self { each: Some(Vec::new()), ..self }
    }

    /// The same pass, which also collects `stages`.
    pub fn with_stages(self) -> Self {
        Self { stages: Some(Vec::new()), ..self }
    }

    /// To be told by a network after each of its blocks, with the map that it leaves.
    pub(super) fn leaves_map(&mut self, x: &Var) {
        let Some(stages) = &mut self.stages else { return };
        if stages.last().is_some_and(|last| last.dims()[1..3] == x.dims()[1..3]) {
            stages.pop();
        }
        stages.push(x.clone());
    }

    /// A parameter on the tape: a leaf when weights train.
    pub fn param(&mut self, id: SlotId) -> Var {
        let tensor = self.weights.get(id).clone();
        match self.mode {
            Mode::Train { .. } => self.leaves[id.0].get_or_insert_with(|| self.tape.leaf(tensor)).clone(),
            _ => Var::constant(tensor),
        }
    }

    /// A tensor that never trains.
    pub fn buffer(&self, id: SlotId) -> Tensor {
        self.weights.get(id).clone()
    }

    /// A tensor as files have it: a view.
    pub fn in_file_layout(&self, id: SlotId) -> Result<Tensor> {
        self.weights.in_file_layout(id)
    }

    /// Images or maps in the precision of the network; vectors `[N, C]` stay f32.
    pub fn map(&self, x: &Var) -> Result<Var> {
        match x.dims().len() {
            4 => tape::cast(self.tape, x, self.weights.compute().dtype()),
            _ => Ok(x.clone()),
        }
    }

    /// A convolution with products in the precision of the network.
    pub(super) fn multiplied(&self, spec: Conv2dSpec) -> Conv2dSpec {
        Conv2dSpec { products: self.weights.compute().precision, ..spec }
    }

    /// RGB images as BGR: a 1x1 convolution that exchanges channels, so that gradients and traces come with it.
    pub(super) fn blue_first(&self, x: &Var) -> Result<Var> {
        let exchange = mem::tensor(vec![0., 0., 1., 0., 1., 0., 1., 0., 0.], (1, 1, 3, 3))?;
        let exchange = Var::constant(exchange.to_device(&self.weights.compute().device)?);
        let spec = Conv2dSpec::new(1);
        Ok(tape::conv2d(self.tape, x, &exchange, &spec, None, None, Activation::IDENTITY, false)?.y)
    }

    /// Whether what writes a map also gives its sums to the norms that read it. On a card they take them themselves.
    pub(super) fn sums_ahead(&self) -> bool {
        self.mode != Mode::Frozen && self.weights.compute().is_cpu()
    }

    /// Whether a frozen norm is best folded into the convolution in front of it: on a card it is part of the pass that writes
    /// the convolution's result. A folded norm reads nothing.
    pub(super) fn folds(&self) -> bool {
        self.mode == Mode::Frozen && self.each.is_none() && self.weights.compute().is_cpu()
    }

    /// What batch norms do in this pass.
    pub fn norm_mode(&self) -> NormMode {
        match self.mode {
            Mode::Train { momentum } | Mode::Reestimate { momentum } => NormMode::Train { momentum },
            Mode::Frozen => NormMode::Frozen,
            Mode::Match => NormMode::Match,
        }
    }

    /// Gradients of the trained slots after the backward pass, parallel to the slots.
    pub fn gradients(&self, grads: &mut Grads) -> Vec<Option<Tensor>> {
        self.leaves.iter().map(|leaf| leaf.as_ref().and_then(|v| grads.take(v))).collect()
    }
}

/// Logits (or images) of a frozen network for a constant input, without recording anything. On the CPU every thread takes some of
/// the images through the whole network: what a layer leaves is then still in its cache, and nobody waits after every layer.
pub fn infer(network: &super::Network, x: &Tensor) -> Result<Tensor> {
    let parts = parts(network, x);
    if parts == 1 {
        return whole(network, x.clone());
    }
    let part = |i: usize| {
        let images = par::range(x.dims()[0], parts, i);
        whole(network, x.narrow(0, images.start, images.len())?)
    };
    let logits: Vec<Tensor> = (0..parts).into_par_iter().map(part).collect::<Result<_>>()?;
    Ok(Tensor::cat(&logits, 0)?)
}

/// Moves the running statistics of `network`'s batch norms by `momentum` towards those of normalised images `x [N, H, W, C]`.
///
/// # Errors
/// Images that the network cannot take.
pub fn reestimate(network: &super::Network, x: Tensor, momentum: f64) -> Result<()> {
    let tape = Tape::new();
    network.forward(&mut Forward::new(&tape, &network.weights, Mode::Reestimate { momentum }), Var::constant(x))?;
    Ok(())
}

/// [`infer`] of all images together.
fn whole(network: &super::Network, x: Tensor) -> Result<Tensor> {
    let tape = Tape::new();
    let mut f = Forward::new(&tape, &network.weights, Mode::Frozen);
    network.forward(&mut f, Var::constant(x))?.tensor()
}

/// Equal parts of the images of a batch, or one: a multiple of the threads, but of a network that only answers as many everywhere, since the
/// products of matrices there are rounded otherwise in parts of another size. Every part folds and packs all weights, at some 0.6 ns
/// each; a pixel takes 0.14 µs and more. There are few for each thread: one that waits inside of a part may begin another on top of it.
fn parts(network: &super::Network, x: &Tensor) -> usize {
    const WEIGHTS_PER_PIXEL: usize = 16;
    const PER_THREAD: usize = 8;
    let &[n, h, w, _] = x.dims() else { return 1 };
    if !network.compute().is_cpu() {
        return 1;
    }
    let least = network.weights.count().div_ceil(WEIGHTS_PER_PIXEL * (h * w).max(1)).max(1);
    if !network.arch.trains() {
        return (n / least).clamp(1, 2 * PER_THREAD);
    }
    let threads = rayon::current_num_threads();
    ((n / least).min(PER_THREAD * threads) / threads * threads).max(1)
}

/// What the frozen network computes from images `[N, h, w, c]`, operation by operation; N is 1 in the dimensions.
///
/// # Errors
/// If the network cannot take such images, or an operation leaves no record.
pub fn trace(network: &super::Network, [h, w, c]: [usize; 3]) -> Result<Trace> {
    trace_from(network, &[1, h, w, c])
}

/// [`trace`] from an input of any dimensions (a generator's latents, say).
pub fn trace_from(network: &super::Network, dims: &[usize]) -> Result<Trace> {
    let tape = Tape::tracing();
    let mut f = Forward::new(&tape, &network.weights, Mode::Frozen);
    let x = tape.input(mem::tensor(vec![0.0; dims.iter().product()], dims)?);
    let y = network.forward(&mut f, x)?;
    tape.take_trace(&y)
}
