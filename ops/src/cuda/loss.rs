//! Losses over logits on a card: gradients stay there, values per row are read when somebody wants them.

use super::gpu::gpu_of;
use super::launch::{LOSS, Launch};
use crate::{Error, Result};
use candle_core::{DType, Tensor};

/// Rows per block: a warp each.
const ROWS: usize = 4;

fn rows(op: &'static str, logits: &[&Tensor]) -> Result<(usize, usize)> {
    let (n, k) = logits[0].dims2()?;
    match logits.iter().all(|t| t.dims() == [n, k] && t.dtype() == DType::F32) {
        true => Ok((n, k)),
        false => {
            let found: Vec<_> = logits.iter().map(|t| (t.dims(), t.dtype())).collect();
            Err(Error::shape(op, format!("expected f32 [N, K] alike, found {found:?}")))
        }
    }
}

fn run(launch: Launch, n: usize) -> Result<()> {
    launch.grid([n.div_ceil(ROWS), 1], [32 * ROWS as u32, 1])
}

/// Numbers of a list on the card of `like`, `[N]`.
pub fn brought(values: Option<&[f32]>, like: &Tensor) -> Result<Option<Tensor>> {
    values.map(|v| gpu_of(like)?.upload(v, v.len())).transpose()
}

/// A gradient `[N, K]` and a value per row `[N]`.
pub struct Rowwise {
    pub grad: Tensor,
    pub values: Tensor,
}

/// What a cross-entropy is taken against.
pub enum Targets<'a> {
    Labels(&'a [u32]),
    /// `[N, K]`
    Shares(&'a Tensor),
}

/// Weighted by `weights` where there are some; divided by N.
pub fn cross_entropy(logits: &Tensor, targets: &Targets, weights: Option<&Tensor>) -> Result<Rowwise> {
    let (n, k) = rows("cross_entropy", &[logits])?;
    let gpu = gpu_of(logits)?;
    let (labels, shares) = match targets {
        Targets::Labels(labels) => (Some(gpu.upload_raw(labels)?), None),
        Targets::Shares(shares) => (None, Some(*shares)),
    };
    let (grad, values) = (gpu.tensor((n, k), DType::F32)?, gpu.tensor(n, DType::F32)?);
    let launch = Launch::new(&gpu, &LOSS, "cross_entropy").tensor(logits).maybe(shares);
    let launch = launch.pointer(labels.as_ref().map_or(0, |labels| gpu.address_of(labels))).maybe(weights);
    run(launch.size(n).size(k).tensor(&grad).tensor(&values), n)?;
    Ok(Rowwise { grad, values })
}

/// At a temperature, or with 0 the mean square of centred differences.
pub fn matching(student: &Tensor, teacher: &Tensor, temperature: f32, weights: Option<&Tensor>) -> Result<Rowwise> {
    let (n, k) = rows("matching", &[student, teacher])?;
    let gpu = gpu_of(student)?;
    let (grad, values) = (gpu.tensor((n, k), DType::F32)?, gpu.tensor(n, DType::F32)?);
    let launch = Launch::new(&gpu, &LOSS, "matching").tensor(student).tensor(teacher).maybe(weights);
    run(launch.float(temperature).size(n).size(k).tensor(&grad).tensor(&values), n)?;
    Ok(Rowwise { grad, values })
}

/// `[2, N]`: the divergence of every row, and 1 where both decide alike.
pub fn gaps(student: &Tensor, teacher: &Tensor, temperature: f32) -> Result<Tensor> {
    let (n, k) = rows("gaps", &[student, teacher])?;
    let gpu = gpu_of(student)?;
    let out = gpu.tensor((2, n), DType::F32)?;
    let launch = Launch::new(&gpu, &LOSS, "gaps").tensor(student).tensor(teacher).float(temperature);
    run(launch.size(n).size(k).tensor(&out.get(0)?).tensor(&out.get(1)?), n)?;
    Ok(out)
}

/// Both gradients `[N, K]`, and `[2, N]`: the value of every row, and 1 where both decide alike.
pub fn disagreement(teacher: &Tensor, adversary: &Tensor) -> Result<([Tensor; 2], Tensor)> {
    let (n, k) = rows("disagreement", &[teacher, adversary])?;
    let gpu = gpu_of(teacher)?;
    let grads = [gpu.tensor((n, k), DType::F32)?, gpu.tensor((n, k), DType::F32)?];
    let out = gpu.tensor((2, n), DType::F32)?;
    let launch = Launch::new(&gpu, &LOSS, "disagreement").tensor(teacher).tensor(adversary).size(n).size(k);
    let launch = launch.tensor(&grads[0]).tensor(&grads[1]).tensor(&out.get(0)?).tensor(&out.get(1)?);
    run(launch, n)?;
    Ok((grads, out))
}

/// One layer of batch-norm matching; `[2, C]` each.
pub struct Layer<'a> {
    pub goal: &'a Tensor,
    pub unit: &'a Tensor,
    pub past: Option<&'a Tensor>,
    /// Share of the batch and of the past in what should match.
    pub shares: (f32, f32),
    pub scale: f32,
    /// By which the gradient is multiplied.
    pub factor: f32,
}

/// The gradient `[2, C]`; the two norms go to row `index` of `values` `[layers, 2]`.
pub fn bn_deviation(observed: &Tensor, layer: &Layer, values: &Tensor, index: usize) -> Result<Tensor> {
    let (gpu, channels) = (gpu_of(observed)?, observed.elem_count() / 2);
    let alike = [Some(layer.goal), Some(layer.unit), layer.past];
    if alike.into_iter().flatten().any(|t| t.elem_count() != 2 * channels) {
        return Err(Error::shape("bn_stats", format!("moments {:?} of a layer with other channels", observed.dims())));
    }
    let grad = gpu.tensor((2, channels), DType::F32)?;
    let launch = Launch::new(&gpu, &LOSS, "bn_deviation").tensor(observed).tensor(layer.goal).tensor(layer.unit);
    let launch = launch.maybe(layer.past).float(layer.shares.0).float(layer.shares.1).float(layer.scale);
    let launch = launch.float(layer.factor).size(channels).tensor(&grad).tensor(&values.get(index)?);
    launch.grid([2, 1], [256, 1])?;
    Ok(grad)
}
