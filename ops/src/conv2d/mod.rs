//! 2-d convolution over `[N, H, W, C]` with `[KH, KW, C/groups, C_out]` weights: one op with a prologue and an epilogue.
//!
//! The prologue applies `act(scale·x + shift)` per channel to what is read (a batch norm that is never written to
//! memory); the epilogue adds a bias and a residual, applies an activation, and sums Σ and Σ² of what is written.
//!
//! | file | what it computes |
//! |---|---|
//! | `spec.rs`, `plan.rs`, `pack.rs` | a convolution, forward or backward, as a gather with taps; frames and weights in its order |
//! | `epilogue.rs`, `pieces.rs` | what happens to the values on the way out; a batch in pieces and lanes for the threads |
//! | `gather.rs`, `outer.rs` | any of them, and the gradient of the weights |
//! | `winograd.rs`, `wide.rs`, `narrow.rs`, `depthwise.rs` | some of them faster |
//! | `tiles.rs` | products in bf16, where the processor has tiles (AMX) |

mod depthwise;
mod epilogue;
mod gather;
mod narrow;
mod outer;
mod pack;
mod pieces;
mod plan;
mod spec;
#[cfg(test)]
mod tests;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tiles;
mod wide;
mod winograd;

pub use spec::{Conv2dSpec, Padding, Sizes};

use super::Precision;
use super::activation::Activation;
use super::mem::{build, tensor, view};
use crate::{Error, Result};
use candle_core::Tensor;
use epilogue::Epilogue;
use pack::{PackedWeights, Prologue};
use plan::Plan;

/// `act(scale·x + shift)` per channel, applied to what a convolution reads.
#[derive(Clone, Debug)]
pub struct Affine {
    /// `[C]`
    pub scale: Tensor,
    /// `[C]`
    pub shift: Tensor,
    pub act: Activation,
}

/// What a convolution does to what it writes.
#[derive(Clone, Debug)]
pub struct After<'a> {
    /// `[C_out]`
    pub bias: Option<&'a Tensor>,
    /// Same shape as the output.
    pub residual: Option<&'a Tensor>,
    pub act: Activation,
    /// Whether to return the sums of the result.
    pub sums: bool,
}

impl After<'_> {
    pub const NOTHING: After<'static> = After { bias: None, residual: None, act: Activation::IDENTITY, sums: false };
}

/// Σ and Σ² per channel over `count` pixels, in f64.
#[derive(Clone, Debug)]
pub struct Sums {
    pub count: usize,
    pub sum: Vec<f64>,
    pub sum_sq: Vec<f64>,
}

fn check_len(what: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::shape("conv2d", format!("{what} has {got} values, expected {expected}")))
}

/// Forward pass: output `[N, H', W', C_out]` and, if `after.sums`, its sums, unless they would cost a pass of their own (on a
/// card).
///
/// # Errors
/// Shapes that do not fit (see [`Conv2dSpec::sizes`]), or tensors that are not contiguous f32 (on a card: or bf16).
pub fn forward(
    x: &Tensor,
    before: Option<&Affine>,
    w: &Tensor,
    spec: &Conv2dSpec,
    after: &After,
) -> Result<(Tensor, Option<Sums>)> {
    on_cuda!(x, super::cuda::conv::forward(x, before, w, spec, after));
    let z = spec.sizes(x.dims(), w.dims())?;
    let plan = Plan::forward(spec, &z);
    let (xv, wv) = (view(x)?, view(w)?);
    let bias = after.bias.map(view).transpose()?;
    let residual = after.residual.map(view).transpose()?;
    let out_len = z.n * z.out_h * z.out_w * z.c_out;
    if let Some(b) = &bias {
        check_len("bias", b.len(), z.c_out)?;
    }
    if let Some(r) = &residual {
        check_len("residual", r.len(), out_len)?;
    }
    let epilogue = Epilogue { bias: bias.as_deref(), residual: residual.as_deref(), act: after.act, sums: after.sums };
    let mut sums = None;
    with_prologue(before, z.c_in, |prologue| {
        // SAFETY: lengths were checked against the sizes; the kernels write every output element.
        unsafe {
            build((z.n, z.out_h, z.out_w, z.c_out), |out| {
                sums = run(&plan, z.n, &xv, (&wv, spec, false), prologue, epilogue, out);
            })
        }
    })
    .map(|out| {
        let sums = sums.map(|s| {
            let (sum, sum_sq) = s.split_at(z.c_out);
            Sums { count: z.n * z.out_h * z.out_w, sum: sum.to_vec(), sum_sq: sum_sq.to_vec() }
        });
        (out, sums)
    })
}

/// Runs a plan, forward or (with `transposed` weights) backward to the input, the way that suits it.
///
/// # Safety
/// As for [`gather::gather`].
unsafe fn run(
    plan: &Plan,
    n: usize,
    x: &[f32],
    (w, spec, transposed): (&[f32], &Conv2dSpec, bool),
    prologue: Option<Prologue>,
    epilogue: Epilogue,
    out: *mut f32,
) -> Option<Vec<f64>> {
    let kernel = spec.kernel;
    // SAFETY: as the caller promises.
    unsafe {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if spec.products == Precision::Bf16 && tiles::applies(plan) {
            return tiles::gather(plan, n, x, (w, kernel, transposed), prologue, epilogue, out);
        }
        if plan.is_depthwise() {
            return depthwise::gather(plan, n, x, w, kernel, prologue, epilogue, out);
        }
        if narrow::applies(plan) {
            return narrow::gather(plan, n, x, (w, kernel, transposed), prologue, epilogue, out);
        }
        let packed = PackedWeights::new(plan, w, kernel, transposed);
        let gather = if winograd::applies(plan) { winograd::gather } else { gather::gather };
        gather(plan, n, x, &packed, prologue, epilogue, out)
    }
}

/// In which precision the passes forward, to the input and to the weights multiply on a CPU: [`Conv2dSpec::products`] allows bf16, for which
/// some convolutions are too small.
///
/// # Errors
/// Shapes that do not fit.
pub fn precisions(spec: &Conv2dSpec, x: &[usize], w: &[usize]) -> Result<[Precision; 3]> {
    let z = spec.sizes(x, w)?;
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if spec.products == Precision::Bf16 {
        let [forward, to_input] = [Plan::forward(spec, &z), Plan::backward(spec, &z)].map(|plan| tiles::applies(&plan));
        let on_tiles = [forward, to_input, tiles::weights::applies(&Plan::weights(spec, &z))];
        return Ok(on_tiles.map(|on_tiles| if on_tiles { Precision::Bf16 } else { Precision::F32 }));
    }
    let _ = z;
    Ok([Precision::F32; 3])
}

/// Gradient with respect to what the convolution multiplied (after its prologue): `[N, H, W, C]`.
///
/// `input` are the dimensions of the forward input; `others` is what others who read it have found, to which this is added.
pub fn backward_input(
    dy: &Tensor,
    w: &Tensor,
    spec: &Conv2dSpec,
    input: &[usize],
    others: Option<&Tensor>,
) -> Result<Tensor> {
    on_cuda!(dy, {
        let dx = super::cuda::conv::backward_input(dy, w, spec, input)?;
        match others {
            Some(others) => super::norm::add_into(others, &dx).map(|()| others.clone()),
            None => Ok(dx),
        }
    });
    let z = spec.sizes(input, w.dims())?;
    let (dyv, wv) = (view(dy)?, view(w)?);
    check_len("output gradient", dyv.len(), z.n * z.out_h * z.out_w * z.c_out)?;
    let others = others.map(view).transpose()?;
    if let Some(others) = &others {
        check_len("gradient of others", others.len(), z.n * z.h * z.w * z.c_in)?;
    }
    let epilogue = Epilogue { residual: others.as_deref(), ..Epilogue::NONE };
    let plan = Plan::backward(spec, &z);
    // SAFETY: lengths were checked; the phases of the plan cover every input pixel.
    unsafe {
        build((z.n, z.h, z.w, z.c_in), |out| {
            run(&plan, z.n, &dyv, (&wv, spec, true), None, epilogue, out);
        })
    }
}

/// Gradient with respect to the weights, `[KH, KW, C/groups, C_out]`.
pub fn backward_weights(
    x: &Tensor,
    before: Option<&Affine>,
    dy: &Tensor,
    spec: &Conv2dSpec,
    weights: &[usize],
) -> Result<Tensor> {
    on_cuda!(x, super::cuda::conv::backward_weights(x, before, dy, spec, weights));
    let z = spec.sizes(x.dims(), weights)?;
    let (xv, dyv) = (view(x)?, view(dy)?);
    check_len("output gradient", dyv.len(), z.n * z.out_h * z.out_w * z.c_out)?;
    let plan = Plan::weights(spec, &z);
    with_prologue(before, z.c_in, |prologue| {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if spec.products == Precision::Bf16 && tiles::weights::applies(&plan) {
            // SAFETY: lengths were checked against the sizes.
            return tensor(unsafe { tiles::weights::outer(&plan, z.n, &xv, prologue, &dyv, spec.kernel) }, weights);
        }
        // SAFETY: lengths were checked against the sizes.
        let dw = unsafe {
            if plan.is_depthwise() {
                depthwise::outer(&plan, z.n, &xv, prologue, &dyv, spec.kernel)
            } else if narrow::applies(&plan) {
                narrow::outer(&plan, z.n, &xv, prologue, &dyv, spec.kernel)
            } else if winograd::weights::applies(&plan) {
                winograd::weights::outer(&plan, z.n, &xv, prologue, &dyv, spec.kernel)
            } else if wide::applies(&plan) {
                wide::outer(&plan, z.n, &xv, prologue, &dyv, spec.kernel)
            } else {
                outer::outer(&plan, z.n, &xv, prologue, &dyv, spec.kernel)
            }
        };
        tensor(dw, weights)
    })
}

fn with_prologue<R>(
    before: Option<&Affine>,
    channels: usize,
    f: impl FnOnce(Option<Prologue>) -> Result<R>,
) -> Result<R> {
    match before {
        None => f(None),
        Some(a) => {
            let (scale, shift) = (view(&a.scale)?, view(&a.shift)?);
            check_len("scale", scale.len(), channels)?;
            check_len("shift", shift.len(), channels)?;
            f(Some(Prologue { scale: &scale, shift: &shift, act: a.act }))
        }
    }
}
