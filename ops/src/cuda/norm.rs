//! Batch normalisation on a card: moments, coefficients, and the passes over pixels. Nothing of it comes back to the host.

use super::gpu::{Gpu, gpu_of};
use super::launch::{Launch, NORM, width};
use super::memory::aligned;
use crate::Activation;
use crate::conv2d::Affine;
use crate::{Error, Result};
use candle_core::{DType, Tensor};

/// Threads of a block of the passes over pixels; the kernels count on it.
const THREADS: usize = 256;
/// Blocks of a sum: some four for each multiprocessor of a large card.
const BLOCKS: usize = 512;
/// Blocks that a grid may be high.
const HIGHEST: usize = 65_535;

/// How rows of channels are cut into blocks; it depends on sizes alone.
struct Cut {
    rows: usize,
    channels: usize,
    vector: bool,
    /// Threads across (vectors of channels) and down (rows).
    threads: [usize; 2],
    tiles: usize,
}

impl Cut {
    fn new(t: &Tensor, channels: usize) -> Result<Self> {
        if channels == 0 || t.dims().last() != Some(&channels) {
            return Err(Error::shape("batch_norm", format!("expected [.., {channels}], found {:?}", t.dims())));
        }
        let vector = channels.is_multiple_of(width(t.dtype()));
        let vectors = if vector { channels / width(t.dtype()) } else { channels };
        let across = vectors.min(32);
        let threads = [across, THREADS / across];
        Ok(Self { rows: t.elem_count() / channels, channels, vector, threads, tiles: vectors.div_ceil(across) })
    }

    /// (pieces, rows of each) when a thread should walk about `walk` rows and there may be `most` blocks.
    fn pieces(&self, walk: usize, most: usize) -> (usize, usize) {
        let wanted = self.rows.div_ceil(self.threads[1] * walk).clamp(1, (most / self.tiles).max(1));
        let each = self.rows.div_ceil(wanted).max(1);
        (self.rows.div_ceil(each).max(1), each)
    }

    /// For sums: as few blocks as fill the card.
    fn summing(&self) -> (usize, usize) {
        self.pieces(8, BLOCKS)
    }

    fn kernel<'a>(&self, gpu: &'a Gpu, name: &str, dtype: DType) -> Launch<'a> {
        let name = if self.vector { name.to_string() } else { format!("{name}1") };
        Launch::typed(gpu, &NORM, &name, dtype)
    }

    fn run(&self, launch: Launch, pieces: usize) -> Result<()> {
        launch.grid([self.tiles, pieces], self.threads.map(|t| t as u32))
    }

    /// Threads per channel over all pieces.
    fn finish(&self, launch: Launch) -> Result<()> {
        launch.grid([self.channels.div_ceil(32), 1], [32, 8])
    }
}

/// Σ and Σ² per channel, a row of `2·C` for each of the pieces of so many rows.
fn partial_sums(gpu: &Gpu, x: &Tensor, cut: &Cut, (pieces, each): (usize, usize)) -> Result<Tensor> {
    let partial = gpu.tensor((pieces, 2 * cut.channels), DType::F32)?;
    let launch = cut.kernel(gpu, "moments", x.dtype()).tensor(x).tensor(&partial);
    cut.run(launch.size(cut.rows).size(cut.channels).size(each), pieces)?;
    Ok(partial)
}

/// See [`crate::norm::sums_each`].
pub fn sums_each(x: &Tensor, images: usize) -> Result<Tensor> {
    if images > HIGHEST {
        return Err(Error::shape("batch_norm", format!("{images} images at once, at most {HIGHEST}")));
    }
    let (gpu, x) = (gpu_of(x)?, aligned(x)?);
    let cut = Cut::new(&x, x.dims().last().copied().unwrap_or(0))?;
    partial_sums(&gpu, &x, &cut, (images, cut.rows / images))
}

/// Σ over all rows, `[C]`.
pub fn channel_sums(x: &Tensor) -> Result<Tensor> {
    let (gpu, x) = (gpu_of(x)?, aligned(x)?);
    let cut = Cut::new(&x, x.dims().last().copied().unwrap_or(0))?;
    let (pieces, each) = cut.summing();
    let partial = partial_sums(&gpu, &x, &cut, (pieces, each))?;
    let out = gpu.tensor(cut.channels, DType::F32)?;
    let launch = Launch::new(&gpu, &NORM, "column_sums").tensor(&partial).size(pieces).size(cut.channels);
    cut.finish(launch.tensor(&out))?;
    Ok(out)
}

/// Weights and running statistics of a layer, `[C]` each.
pub struct Layer<'a> {
    pub weight: &'a Tensor,
    pub bias: &'a Tensor,
    pub running_mean: &'a Tensor,
    pub running_var: &'a Tensor,
    pub eps: f64,
}

/// What normalises, and what the batch was.
pub struct Prepared {
    /// `[4, C]`: scale, shift, mean, 1/σ.
    coefficients: Tensor,
    /// `[2, C]`: mean and biased variance of the batch, if they were asked for.
    pub moments: Option<Tensor>,
}

impl Prepared {
    /// With the running statistics.
    pub fn frozen(layer: &Layer) -> Result<Self> {
        let (gpu, channels) = (gpu_of(layer.weight)?, layer.weight.elem_count());
        let coefficients = gpu.tensor((4, channels), DType::F32)?;
        let launch = Launch::new(&gpu, &NORM, "norm_frozen").tensor(layer.weight).tensor(layer.bias);
        let launch = launch.tensor(layer.running_mean).tensor(layer.running_var);
        launch.float(layer.eps as f32).size(channels).tensor(&coefficients).each(channels)?;
        Ok(Self { coefficients, moments: None })
    }

    /// With the moments of `x`: with a momentum they normalise and the running statistics follow them, without one the
    /// running ones normalise.
    pub fn of_batch(x: &Tensor, layer: &Layer, momentum: Option<f64>) -> Result<Self> {
        let (gpu, x) = (gpu_of(x)?, aligned(x)?);
        let cut = Cut::new(&x, layer.weight.elem_count())?;
        let (pieces, each) = cut.summing();
        let partial = partial_sums(&gpu, &x, &cut, (pieces, each))?;
        let (moments, coefficients) =
            (gpu.tensor((2, cut.channels), DType::F32)?, gpu.tensor((4, cut.channels), DType::F32)?);
        let launch = Launch::new(&gpu, &NORM, "norm_finish").tensor(&partial).size(pieces).size(cut.channels);
        let launch = launch.float(cut.rows as f32).tensor(&moments).tensor(layer.weight).tensor(layer.bias);
        let launch = launch.tensor(layer.running_mean).tensor(layer.running_var).float(layer.eps as f32);
        let launch = launch.float(momentum.unwrap_or(0.0) as f32).int(i32::from(momentum.is_some()));
        cut.finish(launch.tensor(&coefficients))?;
        Ok(Self { coefficients, moments: Some(moments) })
    }

    /// The map as readers know it.
    pub fn affine(&self, act: Activation) -> Result<Affine> {
        let row = |i: usize| self.coefficients.get(i);
        Ok(Affine { scale: row(0)?, shift: row(1)?, act })
    }
}

/// See [`crate::norm::apply`].
pub fn apply(x: &Tensor, affine: &Affine, residual: Option<&Tensor>) -> Result<Tensor> {
    let (gpu, x) = (gpu_of(x)?, aligned(x)?);
    let cut = Cut::new(&x, affine.scale.elem_count())?;
    if affine.shift.elem_count() != cut.channels
        || residual.is_some_and(|r| r.dims() != x.dims() || r.dtype() != x.dtype())
    {
        return Err(Error::shape("batch_norm", format!("residual or shift does not fit the input {:?}", x.dims())));
    }
    let residual = residual.map(aligned).transpose()?;
    let y = gpu.tensor(x.shape().clone(), x.dtype())?;
    let (pieces, each) = cut.pieces(4, HIGHEST);
    let launch = cut.kernel(&gpu, "norm_apply", x.dtype()).tensor(&x).tensor(&affine.scale).tensor(&affine.shift);
    let launch = launch.maybe(residual.as_ref()).tensor(&y).size(cut.rows).size(cut.channels).size(each);
    cut.run(launch.float(affine.act.slope).float(affine.act.cap), pieces)?;
    Ok(y)
}

/// What a backward pass is asked for.
pub struct Wanted {
    /// The gradient of the input.
    pub input: bool,
    /// Those of weight and bias.
    pub parameters: bool,
    /// The gradient through the activation, which goes on to a residual.
    pub residual: bool,
}

/// What it gives.
#[derive(Default)]
pub struct Backward {
    pub input: Option<Tensor>,
    /// Of weight and bias.
    pub parameters: Option<[Tensor; 2]>,
    pub residual: Option<Tensor>,
}

/// A forward pass as its backward pass sees it.
pub struct Done<'a> {
    pub x: &'a Tensor,
    pub prepared: &'a Prepared,
    pub act: Activation,
    /// The output, where a residual went in; else the activation is undone by the map of the input.
    pub y: Option<&'a Tensor>,
    pub train: bool,
}

/// The gradients, given that of the output (`dy`, overwritten) and that of the moments `[2, C]`.
pub fn backward(done: &Done, dy: Option<Tensor>, dmoments: Option<&Tensor>, wanted: &Wanted) -> Result<Backward> {
    let (gpu, x) = (gpu_of(done.x)?, aligned(done.x)?);
    let cut = Cut::new(&x, done.prepared.coefficients.dims()[1])?;
    let dy = dy.map(|dy| aligned(&dy)).transpose()?;
    if dy.as_ref().is_some_and(|dy| dy.dims() != x.dims() || dy.dtype() != x.dtype()) {
        return Err(Error::shape("batch_norm", format!("gradient of another shape than its input {:?}", x.dims())));
    }
    let sums = match dy.as_ref().filter(|_| done.train || wanted.parameters || wanted.residual) {
        Some(dy) => Some(sums(&gpu, &cut, done, &x, dy, wanted.residual)?),
        None => None,
    };
    let k = gpu.tensor((3, cut.channels), DType::F32)?;
    let parameters = match sums.is_some() && wanted.parameters {
        true => Some([gpu.tensor(cut.channels, DType::F32)?, gpu.tensor(cut.channels, DType::F32)?]),
        false => None,
    };
    let pieces = sums.as_ref().map_or(0, |(_, pieces)| *pieces);
    let launch = Launch::new(&gpu, &NORM, "norm_backward_finish").maybe(sums.as_ref().map(|(partial, _)| partial));
    let launch = launch.size(pieces).size(cut.channels).float(cut.rows as f32).tensor(&done.prepared.coefficients);
    let launch = launch.maybe(dmoments).maybe(done.prepared.moments.as_ref()).int(i32::from(done.train)).tensor(&k);
    let [dweight, dbias] = [0, 1].map(|i| parameters.as_ref().map(|p| &p[i]));
    cut.finish(launch.maybe(dweight).maybe(dbias))?;
    let mut out = Backward { parameters, ..Backward::default() };
    if wanted.input {
        let dx = match &dy {
            Some(dy) if !wanted.residual => dy.clone(),
            _ => gpu.tensor(x.shape().clone(), x.dtype())?,
        };
        let (pieces, each) = cut.pieces(4, HIGHEST);
        let launch = cut.kernel(&gpu, "norm_backward", x.dtype()).maybe(dy.as_ref()).tensor(&x).maybe(done.y);
        let launch = launch.tensor(&done.prepared.coefficients).tensor(&k).tensor(&dx);
        let launch = launch.size(cut.rows).size(cut.channels).size(each).float(done.act.slope).float(done.act.cap);
        cut.run(launch.int(i32::from(wanted.residual)), pieces)?;
        out.input = Some(dx);
    }
    out.residual = dy.filter(|_| wanted.residual);
    Ok(out)
}

/// Partial sums of g and g·(x − mean); with `keep`, g is written over `dy`.
fn sums(gpu: &Gpu, cut: &Cut, done: &Done, x: &Tensor, dy: &Tensor, keep: bool) -> Result<(Tensor, usize)> {
    let (pieces, each) = cut.summing();
    let partial = gpu.tensor((pieces, 2 * cut.channels), DType::F32)?;
    let launch = cut.kernel(gpu, "norm_backward_sums", x.dtype()).tensor(dy).tensor(x).maybe(done.y);
    let launch = launch.tensor(&done.prepared.coefficients).tensor(&partial);
    let launch = launch.size(cut.rows).size(cut.channels).size(each).float(done.act.slope).float(done.act.cap);
    cut.run(launch.int(i32::from(keep)), pieces)?;
    Ok((partial, pieces))
}
