//! Updates of all tensors of a network in one launch.

use super::gpu::{Gpu, of_device};
use super::launch::{Launch, STEP};
use super::memory::{address, host};
use crate::mem::view;
use crate::step::{AdamRule, Moments, SgdRule, Update};
use crate::{Error, Result};
use candle_core::{D, DType, Tensor};
use std::sync::Arc;

/// Values per block of the kernels.
const PER_BLOCK: usize = 1024;
/// Threads of a block; `THREADS` in `kernels/step.cu`.
const THREADS: u32 = 256;

/// What the kernels know of the tensors: see `kernels/step.cu`.
struct Table {
    rows: Vec<u64>,
    blocks: usize,
    /// Whether the first number is the learning rate.
    paced: bool,
}

impl Table {
    /// With the two numbers that change from step to step.
    fn new(numbers: [f32; 2]) -> Self {
        Self { rows: numbers.map(|v| u64::from(v.to_bits())).to_vec(), blocks: 0, paced: false }
    }

    /// With the learning rate, which recorded steps are told anew, and another number.
    fn paced(lr: f32, number: f32) -> Self {
        Self { paced: true, ..Self::new([lr, number]) }
    }

    /// With a row for every pair of tensors, on the device of the first; `None` where there is none.
    fn of_pairs<'a>(
        mut self,
        pairs: impl IntoIterator<Item = (&'a Tensor, &'a Tensor)>,
    ) -> Result<Option<(Arc<Gpu>, Self)>> {
        let mut pairs = pairs.into_iter().peekable();
        let Some((first, _)) = pairs.peek() else { return Ok(None) };
        let gpu = of_device(first.device())?;
        pairs.try_for_each(|(a, b)| self.push(&[a, b], 0))?;
        Ok(Some((gpu, self)))
    }

    fn push(&mut self, tensors: &[&Tensor], flags: u64) -> Result<()> {
        let n = tensors.first().map_or(0, |t| t.elem_count());
        if n == 0 || n >> 31 != 0 || tensors.iter().any(|t| t.elem_count() != n || t.dtype() != DType::F32) {
            let found: Vec<_> = tensors.iter().map(|t| (t.dims(), t.dtype())).collect();
            return Err(Error::shape("optimizer", format!("parameter, gradient and state are {found:?}")));
        }
        for i in 0..4 {
            self.rows.push(tensors.get(i).map_or(Ok(0), |t| address(t))?);
        }
        self.rows.extend([self.blocks as u64, n as u64 | flags << 32]);
        self.blocks += n.div_ceil(PER_BLOCK);
        Ok(())
    }

    /// The kernel `name` on all tensors; `numbers` appends its other arguments.
    fn launch<'a>(self, gpu: &'a Gpu, name: &str, numbers: impl FnOnce(Launch<'a>) -> Launch<'a>) -> Result<()> {
        let (tensors, blocks) = (self.tensors(), self.blocks);
        self.run(gpu, |table| {
            numbers(Launch::new(gpu, &STEP, name).pointer(table).size(tensors)).grid([blocks, 1], [THREADS, 1])
        })
    }

    /// The kernel `name`, which is told the sums of products of each tensor's first two operands.
    fn launch_with_dots(self, gpu: &Gpu, name: &str) -> Result<()> {
        let (tensors, blocks) = (self.tensors(), self.blocks);
        let sums = gpu.tensor((blocks, 3), DType::F32)?;
        self.run(gpu, |table| {
            ["dots", name].into_iter().try_for_each(|name| {
                let launch = Launch::new(gpu, &STEP, name).pointer(table).size(tensors).tensor(&sums);
                launch.grid([blocks, 1], [THREADS, 1])
            })
        })
    }

    fn tensors(&self) -> usize {
        (self.rows.len() - 2) / 6
    }

    /// Calls `launch` with the address of the table.
    fn run(self, gpu: &Gpu, launch: impl FnOnce(u64) -> Result<()>) -> Result<()> {
        if self.blocks == 0 {
            return Ok(());
        }
        if let Some(recording) = gpu.recording.lock().as_mut() {
            return launch(recording.keep(gpu, self.rows, self.paced)?);
        }
        let table = gpu.upload_raw(&self.rows)?;
        launch(gpu.address_of(&table))
    }
}

/// See [`crate::step::sgd_all`].
pub(crate) fn sgd(updates: &mut [Update], rule: &SgdRule) -> Result<()> {
    let Some(first) = updates.first() else { return Ok(()) };
    let gpu = of_device(first.param.device())?;
    let mut table = Table::paced(rule.lr, 0.0);
    for update in updates.iter_mut() {
        let fresh = update.velocity.is_none();
        let velocity = match update.velocity.take() {
            Some(velocity) => velocity,
            None => gpu.tensor(update.param.shape().clone(), DType::F32)?,
        };
        let flags = u64::from(fresh) | u64::from(update.decays) << 1;
        table.push(&[update.param, update.grad, &velocity], flags)?;
        *update.velocity = Some(velocity);
    }
    table.launch(&gpu, "sgd", |launch| {
        launch.float(rule.momentum).int(i32::from(rule.nesterov)).float(rule.weight_decay)
    })
}

/// See [`crate::step::adam_all`].
pub(crate) fn adam(updates: &mut [Moments], rule: &AdamRule) -> Result<()> {
    let Some(first) = updates.first() else { return Ok(()) };
    let gpu = of_device(first.param.device())?;
    let mut table = Table::new([rule.lr / rule.correction[0], rule.correction[1].sqrt()]);
    for update in updates.iter_mut() {
        let fresh = update.state.is_none();
        let [m, v] = match update.state.take() {
            Some(state) => state,
            None => {
                let shape = update.param.shape();
                [gpu.tensor(shape.clone(), DType::F32)?, gpu.tensor(shape.clone(), DType::F32)?]
            }
        };
        table.push(&[update.param, update.grad, &m, &v], u64::from(fresh))?;
        *update.state = Some([m, v]);
    }
    let (first, second) = rule.betas;
    table.launch(&gpu, "adam", |launch| launch.float(first).float(second).float(rule.eps))
}

/// `a ← alpha·a + beta·b` for every pair.
pub(crate) fn blend<'a>(
    pairs: impl IntoIterator<Item = (&'a Tensor, &'a Tensor)>,
    alpha: f32,
    beta: f32,
) -> Result<()> {
    match Table::new([alpha, beta]).of_pairs(pairs)? {
        Some((gpu, table)) => table.launch(&gpu, "blend", |launch| launch),
        None => Ok(()),
    }
}

/// Sums of a·a, b·b and a·b of all pairs.
fn dots<'a>(pairs: impl Iterator<Item = (&'a Tensor, &'a Tensor)>) -> Result<[f64; 3]> {
    let Some((gpu, table)) = Table::new([0.0; 2]).of_pairs(pairs)? else { return Ok([0.0; 3]) };
    let sums = gpu.tensor((table.blocks, 3), DType::F32)?;
    table.launch(&gpu, "dots", |launch| launch.tensor(&sums))?;
    let mut all = [0.0; 3];
    for of_block in view(&host(&sums)?)?.chunks_exact(3) {
        all.iter_mut().zip(of_block).for_each(|(sum, part)| *sum += f64::from(*part));
    }
    Ok(all)
}

/// See `ops::watch`: the squares of the difference of all pairs, and of the second ones.
pub(crate) fn squares_apart(pairs: &[(&Tensor, &Tensor)]) -> Result<[f64; 2]> {
    let differences = pairs.iter().map(|(own, _)| Ok(own.copy()?)).collect::<Result<Vec<_>>>()?;
    let pairs = || differences.iter().zip(pairs).map(|(own, (_, theirs))| (own, *theirs));
    blend(pairs(), 1.0, -1.0)?;
    dots(pairs()).map(|[difference, norm, _]| [difference, norm])
}

/// See `ops::watch`.
pub(crate) fn squares_are_finite(tensors: &[Tensor]) -> Result<bool> {
    Ok(dots(tensors.iter().map(|tensor| (tensor, tensor)))?[0].is_finite())
}

/// See `ops::muon`: `by` onto the diagonals of square matrices `[..., n, n]`.
pub(crate) fn raise(squares: &[Tensor], by: f32) -> Result<()> {
    let Some(first) = squares.first() else { return Ok(()) };
    let gpu = of_device(first.device())?;
    let mut table = Table::new([by, 0.0]);
    squares.iter().try_for_each(|square| table.push(&[square], square.dim(D::Minus1)? as u64))?;
    table.launch(&gpu, "raise", |launch| launch)
}

/// See `ops::muon`: every tensor over its length.
pub(crate) fn shorten(tensors: &[Tensor]) -> Result<()> {
    match Table::new([0.0; 2]).of_pairs(tensors.iter().map(|tensor| (tensor, tensor)))? {
        Some((gpu, table)) => table.launch_with_dots(&gpu, "shorten"),
        None => Ok(()),
    }
}

/// See `ops::muon`: every first tensor a step against the second one, at its own length.
pub(crate) fn turn(pairs: &[(&Tensor, &Tensor)], lr: f32, per_rate: f32) -> Result<()> {
    match Table::paced(lr, per_rate).of_pairs(pairs.iter().copied())? {
        Some((gpu, table)) => table.launch_with_dots(&gpu, "turn"),
        None => Ok(()),
    }
}
