//! Named tensors of a network, in the layout that the kernels read, and the way to and from files.

use crate::checkpoint::{Resumable, Saved, Saver};
use crate::ops::mem::{host, tensor, update, view};
use crate::ops::{self, Compute, layout, step, watch};
use crate::rng::{self, Stream};
use crate::{Error, Result};
use candle_core::Tensor;
use std::sync::Arc;

/// Index of a slot in its architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotId(pub(super) usize);

/// What a tensor is, which decides its layout in files, its decay and whether it trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `[KH, KW, C/groups, C_out]` here, `[C_out, C/groups, KH, KW]` in files.
    ConvWeight,
    /// `[in, out]` here, `[out, in]` in files.
    LinearWeight,
    Bias,
    NormWeight,
    NormBias,
    /// `spatial`: of a 2-d batch norm (matched in inversion), else of a 1-d one.
    RunningMean {
        spatial: bool,
    },
    RunningVar,
    /// Any other parameter, here as in files: tokens, position embeddings, scales per channel.
    Plain,
}

impl Kind {
    /// Whether an optimizer changes it.
    pub fn trainable(self) -> bool {
        !matches!(self, Self::RunningMean { .. } | Self::RunningVar)
    }

    /// Whether it multiplies features (weight decay may be kept to these).
    pub fn is_weight(self) -> bool {
        matches!(self, Self::ConvWeight | Self::LinearWeight)
    }
}

/// How a tensor starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    Constant(f32),
    /// Uniform on ±bound; PyTorch's default for weights and biases is `1/√fan_in`.
    Uniform(f32),
    /// Normal with this standard deviation.
    Normal(f32),
    /// Normal around a mean, with a standard deviation.
    Around(f32, f32),
}

/// One named tensor of an architecture.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Name in files.
    pub name: String,
    pub kind: Kind,
    /// Shape in memory.
    pub shape: Vec<usize>,
    pub init: Init,
}

impl Slot {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shape in files.
    pub fn file_shape(&self) -> Vec<usize> {
        match (self.kind, &self.shape[..]) {
            (Kind::ConvWeight, &[kh, kw, i, o]) => vec![o, i, kh, kw],
            (Kind::LinearWeight, &[i, o]) => vec![o, i],
            (_, s) => s.to_vec(),
        }
    }

    /// `[taps, inputs, outputs]` of a weight whose order differs in files.
    fn turned(&self) -> Option<[usize; 3]> {
        match (self.kind, &self.shape[..]) {
            (Kind::ConvWeight, &[kh, kw, i, o]) => Some([kh * kw, i, o]),
            (Kind::LinearWeight, &[i, o]) => Some([1, i, o]),
            _ => None,
        }
    }
}

/// The tensors of one network, parallel to the slots of its architecture.
#[derive(Clone)]
pub struct Weights {
    pub slots: Arc<Vec<Slot>>,
    tensors: Vec<Tensor>,
    compute: Compute,
}

impl Weights {
    /// Fresh values; every slot draws from its own part of `rng` in order.
    pub fn init(slots: Arc<Vec<Slot>>, rng: &mut Stream) -> Result<Self> {
        let tensors = slots
            .iter()
            .map(|s| {
                let values = match s.init {
                    Init::Constant(v) => vec![v; s.len()],
                    Init::Uniform(bound) => rng::uniform(rng, s.len(), bound),
                    Init::Normal(std) => rng::normal(rng, s.len()).into_iter().map(|v| v * std).collect(),
                    Init::Around(mean, std) => rng::normal(rng, s.len()).into_iter().map(|v| mean + v * std).collect(),
                };
                tensor(values, &s.shape[..])
            })
            .collect::<ops::Result<_>>()?;
        Ok(Self { slots, tensors, compute: Compute::cpu() })
    }

    /// From values in file layout; `get(slot)` gives them.
    ///
    /// # Errors
    /// What `get` reports, or a wrong number of values.
    pub fn from_file(slots: Arc<Vec<Slot>>, mut get: impl FnMut(&Slot) -> Result<Vec<f32>>) -> Result<Self> {
        let tensors = slots
            .iter()
            .map(|s| {
                let values = get(s)?;
                if values.len() != s.len() {
                    let found = format!("{} has {} values, expected {}", s.name, values.len(), s.len());
                    return Err(Error::shape("weights", found));
                }
                let ordered = match s.turned() {
                    Some(dims) => layout::outputs_last(&values, dims),
                    None => values,
                };
                Ok(tensor(ordered, &s.shape[..])?)
            })
            .collect::<Result<_>>()?;
        Ok(Self { slots, tensors, compute: Compute::cpu() })
    }

    /// Where they lie, and how networks with them compute.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// The same weights elsewhere; they share their tensors with these if they lie there already.
    pub fn to(&self, compute: &Compute) -> Result<Self> {
        let tensors = self.tensors.iter().map(|t| compute.bring(t)).collect::<ops::Result<_>>()?;
        Ok(Self { slots: self.slots.clone(), tensors, compute: compute.clone() })
    }

    /// Values of slot `i` in file layout (shape: [`Slot::file_shape`]).
    pub fn to_file(&self, i: usize) -> Result<Vec<f32>> {
        let tensor = host(&self.tensors[i])?;
        let values = view(&tensor)?;
        Ok(match self.slots[i].turned() {
            Some(dims) => layout::outputs_first(&values, dims),
            None => values.to_vec(),
        })
    }

    /// How many values there are in all slots.
    pub fn count(&self) -> usize {
        self.slots.iter().map(Slot::len).sum()
    }

    /// What a slot is.
    pub fn slot(&self, id: SlotId) -> &Slot {
        &self.slots[id.0]
    }

    /// The tensor of a slot.
    pub fn get(&self, id: SlotId) -> &Tensor {
        &self.tensors[id.0]
    }

    /// The tensor of a slot as files have it (shape: [`Slot::file_shape`]), without a copy.
    pub fn in_file_layout(&self, id: SlotId) -> Result<Tensor> {
        let tensor = self.get(id);
        Ok(match self.slot(id).kind {
            Kind::ConvWeight => tensor.permute((3, 2, 0, 1))?,
            Kind::LinearWeight => tensor.t()?,
            _ => tensor.clone(),
        })
    }

    /// Running mean and variance of the batch norm whose running mean is `id`.
    pub fn running_statistics(&self, id: SlotId) -> Result<(Vec<f32>, Vec<f32>)> {
        // A batch norm registers its variance right after its mean.
        match self.tensors.get(id.0 + 1) {
            Some(var) if self.slots[id.0 + 1].kind == Kind::RunningVar => {
                Ok((view(&host(&self.tensors[id.0])?)?.to_vec(), view(&host(var)?)?.to_vec()))
            }
            _ => Err(Error::shape("batch_norm", format!("slot {} is no running mean", id.0))),
        }
    }

    /// Slots with their tensors.
    pub fn iter(&self) -> impl Iterator<Item = (&Slot, &Tensor)> {
        self.slots.iter().zip(&self.tensors)
    }

    /// A copy that shares no tensor.
    pub fn duplicate(&self) -> Result<Self> {
        let tensors = self.tensors.iter().map(|t| Ok(t.copy()?)).collect::<Result<_>>()?;
        Ok(Self { slots: self.slots.clone(), tensors, compute: self.compute.clone() })
    }

    /// Takes over the values of `other`, which has the same slots.
    pub fn copy_from(&self, other: &Weights) -> Result<()> {
        self.copy_where(other, |_| true)
    }

    /// Takes over the values of the slots that `take` picks.
    pub fn copy_where(&self, other: &Weights, take: impl Fn(&Slot) -> bool) -> Result<()> {
        for ((slot, to), from) in self.iter().zip(&other.tensors) {
            if take(slot) {
                copy_values(to, from)?;
            }
        }
        Ok(())
    }

    /// `own ← alpha·own + beta·other`, value by value.
    pub fn blend(&self, other: &Weights, alpha: f32, beta: f32) -> Result<()> {
        // Clones share their tensors, and one tensor cannot be read while it is written.
        let copies = self.tensors.iter().zip(&other.tensors).map(|(a, b)| match a.id() == b.id() {
            true => Ok(b.copy()?),
            false => Ok(b.clone()),
        });
        let copies = copies.collect::<Result<Vec<_>>>()?;
        let pairs: Vec<_> = self.tensors.iter().zip(&copies).collect();
        Ok(step::blend(&pairs, alpha, beta)?)
    }

    /// Norm of the difference of the trainable values from those of `other`, over the norm of `other`'s.
    pub fn distance(&self, other: &Weights) -> Result<f64> {
        let pairs = self.iter().zip(&other.tensors).filter(|((slot, _), _)| slot.kind.trainable());
        Ok(watch::distance(&pairs.map(|((_, own), theirs)| (own, theirs)).collect::<Vec<_>>())?)
    }

    /// The first tensor that holds a NaN or an infinity, if any: (name, how many).
    pub fn non_finite(&self) -> Result<Option<(String, usize)>> {
        if watch::are_finite(&self.tensors)? {
            return Ok(None);
        }
        for (s, t) in self.iter() {
            let bad = view(&host(t)?)?.iter().filter(|v| !v.is_finite()).count();
            if bad > 0 {
                return Ok(Some((s.name.clone(), bad)));
            }
        }
        Ok(None)
    }
}

impl Resumable for Weights {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        self.iter().try_for_each(|(slot, tensor)| to.tensor(&slot.name, tensor))
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        for (slot, tensor) in self.iter() {
            let saved = from.tensor(&slot.name)?;
            if saved.dims() != tensor.dims() {
                return Err(from.fault(&slot.name, &format!("it is {:?}, expected {:?}", saved.dims(), tensor.dims())));
            }
            copy_values(tensor, &saved)?;
        }
        Ok(())
    }
}

/// Writes the values of `from` over those of `to`. Tensors may be one and the same, and may lie in different places.
pub(crate) fn copy_values(to: &Tensor, from: &Tensor) -> Result<()> {
    if to.id() == from.id() {
        return Ok(());
    }
    if to.device().is_cpu() {
        let from = host(from)?;
        let from = view(&from)?;
        return Ok(update(to, |to| to.copy_from_slice(&from))?);
    }
    Ok(step::blend(&[(to, &from.to_device(to.device())?)], 0.0, 1.0)?)
}
