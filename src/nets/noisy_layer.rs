//! The way from labels to images of NAYER (Tran et al., "NAYER: Noisy Layer Data Generation for Efficient and Effective
//! Data-free Knowledge Distillation", 2024): the embedding of the label's name goes through a linear layer that is drawn anew
//! for every batch, and whose weights thereby are the noise.

use super::Forward;
use super::layers::{Builder, Linear, Norm};
use super::weights::Init;
use crate::Result;
use crate::ops::Activation;
use crate::tape::{self, Var};

/// What a generator reads that is told labels by their embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelInput {
    /// Values of an embedding.
    pub embedding: usize,
    pub classes: usize,
    /// Images per batch. Consecutive `classes` of them share a noisy layer and must be of different classes: two of one class
    /// would be the same image.
    pub batch: usize,
}

/// A batch norm over the embeddings, and a linear layer for every sweep over the classes.
pub(super) struct NoisyLayer {
    norm: Norm,
    layers: Vec<Linear>,
    classes: usize,
}

impl NoisyLayer {
    /// Registers the layers `noisy.0`, `noisy.1`, ...
    pub fn build(b: &mut Builder, input: &LabelInput, width: usize) -> Self {
        let norm = b.norm_1d("bn", input.embedding, 1e-5);
        let count = input.batch.div_ceil(input.classes.max(1));
        let init = [Init::Normal(1.0), Init::Constant(0.0)];
        let layers = (0..count).map(|i| b.linear_init(&format!("noisy.{i}"), input.embedding, width, init)).collect();
        Self { norm, layers, classes: input.classes.max(1) }
    }

    /// Embeddings `[N, E]` → `[N, width]`.
    pub fn forward(&self, f: &mut Forward, embeddings: &Var) -> Result<Var> {
        let x = self.norm.forward(f, embeddings, None, None, Activation::IDENTITY)?;
        let n = x.dims()[0];
        let sweeps = (0..n).step_by(self.classes).zip(&self.layers);
        let made = sweeps.map(|(start, layer)| {
            let own = tape::rows(f.tape, &x, start, self.classes.min(n - start))?;
            layer.forward(f, &own)
        });
        let made = made.collect::<Result<Vec<_>>>()?;
        tape::stack_rows(f.tape, &made)
    }
}
