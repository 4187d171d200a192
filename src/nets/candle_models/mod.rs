//! Transformers without batch norms, as modules of candle-transformers. They only answer: a frozen teacher whose answers are
//! asked for needs no gradient, and candle's fused layer norm and softmax have none.
//!
//! Slots have the names and shapes of the library's files, so that loading is as strict as everywhere. A pass hands candle
//! views of them under the names that its module asks for; building a module out of views costs nothing beside its answer.

pub(super) mod dinov2;
mod encoder;
mod positions;
pub(super) mod timm_vit;
pub(super) mod vit;

use super::layers::Builder;
use super::{Forward, Init, Kind, SlotId};
use crate::Result;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use std::collections::HashMap;

/// What tokens, embeddings and matrices of transformers start from.
const INIT: Init = Init::Normal(0.02);

/// A layer's weight, and its bias if it has one.
#[derive(Clone, Copy)]
struct Layer {
    weight: SlotId,
    bias: Option<SlotId>,
}

impl Layer {
    fn new(b: &mut Builder, name: &str, kind: Kind, shape: &[usize], bias: bool) -> Self {
        let channels = shape[shape.len() - 1];
        let (init, bias_kind) = match kind {
            Kind::NormWeight => (Init::Constant(1.0), Kind::NormBias),
            _ => (INIT, Kind::Bias),
        };
        let weight = b.slot(format!("{name}.weight"), kind, shape, init);
        let bias = bias.then(|| b.slot(format!("{name}.bias"), bias_kind, &[channels], Init::Constant(0.0)));
        Self { weight, bias }
    }

    fn linear(b: &mut Builder, name: &str, c_in: usize, c_out: usize) -> Self {
        Self::new(b, name, Kind::LinearWeight, &[c_in, c_out], true)
    }

    /// A square convolution over `c_in` channels per group.
    fn conv(b: &mut Builder, name: &str, kernel: usize, c_in: usize, c_out: usize) -> Self {
        Self::new(b, name, Kind::ConvWeight, &[kernel, kernel, c_in, c_out], true)
    }

    fn norm(b: &mut Builder, name: &str, channels: usize) -> Self {
        Self::new(b, name, Kind::NormWeight, &[channels], true)
    }
}

/// The tensors of one pass in the layout of files, under the names that a module of candle asks for.
struct Tensors<'a, 'w> {
    f: &'a Forward<'w>,
    named: HashMap<String, Tensor>,
}

impl<'a, 'w> Tensors<'a, 'w> {
    fn new(f: &'a Forward<'w>) -> Self {
        Self { f, named: HashMap::new() }
    }

    fn put(&mut self, name: &str, slot: SlotId) -> Result<()> {
        self.named.insert(name.to_string(), self.f.in_file_layout(slot)?);
        Ok(())
    }

    fn layer(&mut self, name: &str, layer: Layer) -> Result<()> {
        self.put(&format!("{name}.weight"), layer.weight)?;
        layer.bias.map_or(Ok(()), |bias| self.put(&format!("{name}.bias"), bias))
    }

    /// Columns `part·width .. (part + 1)·width` of a linear layer whose outputs are several layers side by side.
    fn part(&mut self, name: &str, layer: Layer, part: usize, width: usize) -> Result<()> {
        let one = |slot| Ok::<_, crate::Error>(self.f.in_file_layout(slot)?.narrow(0, part * width, width)?);
        let (weight, bias) = (one(layer.weight)?, layer.bias.map(one).transpose()?);
        self.named.insert(format!("{name}.weight"), weight);
        self.named.extend(bias.map(|bias| (format!("{name}.bias"), bias)));
        Ok(())
    }

    /// A linear layer whose outputs are multiplied by `scale`: `s·(W·x + b) = (s·W)·x + s·b`.
    fn scaled(&mut self, name: &str, layer: Layer, scale: SlotId) -> Result<()> {
        let scale = self.f.buffer(scale);
        let weight = self.f.buffer(layer.weight).broadcast_mul(&scale)?.t()?;
        self.named.insert(format!("{name}.weight"), weight);
        if let Some(bias) = layer.bias {
            self.named.insert(format!("{name}.bias"), self.f.buffer(bias).mul(&scale)?);
        }
        Ok(())
    }

    fn builder(self) -> VarBuilder<'static> {
        VarBuilder::from_tensors(self.named, DType::F32, &Device::Cpu)
    }
}

/// `[N, H, W, C]` as candle's convolutions read it.
fn channels_first(x: &Tensor) -> Result<Tensor> {
    Ok(x.permute((0, 3, 1, 2))?.contiguous()?)
}
