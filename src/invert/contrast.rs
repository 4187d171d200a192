//! Contrast with the images before: the feature bank and the head of Contrastive Model Inversion.

use super::ContrastRecipe;
use crate::Result;
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::loss::{Loss, contrast};
use crate::nets::{Forward, Mode, Network, contrast_head, infer};
use crate::ops::Compute;
use crate::ops::mem::{host, tensor, view};
use crate::rng::{Stream, permutation};
use crate::tape::{Grads, Tape, Var};
use crate::train::{Adam, trainable};
use candle_core::Tensor;
use std::sync::Arc;

/// Betas of the head's optimizer: PyTorch's defaults.
const BETAS: (f32, f32) = (0.9, 0.999);

/// What stays between batches: the features of past images, the head, its optimizer.
pub struct Contrast {
    rule: ContrastRecipe,
    head: Head,
    bank: Bank,
}

/// The head with its optimizer.
pub struct Head {
    network: Network,
    adam: Adam,
}

/// Features of past images.
pub struct Bank {
    features: usize,
    capacity: usize,
    /// Of both views, second view first: `2·features` values each. The oldest is overwritten first.
    rows: Vec<f32>,
    next: usize,
}

/// What a pass through the head found.
pub struct ContrastPass {
    pub loss: Loss,
    /// Of the head's parameters.
    head_grads: Vec<Option<Tensor>>,
    /// `[B, features]` of the second view and of the first.
    seen: [Tensor; 2],
}

impl Contrast {
    /// An empty bank for images with so many `features`.
    pub fn new(rule: ContrastRecipe, features: usize, compute: &Compute, rng: &mut Stream) -> Result<Self> {
        let network = Network::init(Arc::new(contrast_head(features, rule.width)), rng)?.to(compute)?;
        let head = Head { network, adam: Adam::new(BETAS) };
        Ok(Self { rule, head, bank: Bank { features, capacity: rule.bank, rows: Vec::new(), next: 0 } })
    }

    /// The head, for states.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The head, for states.
    pub fn head_mut(&mut self) -> &mut Head {
        &mut self.head
    }

    /// The bank, for states.
    pub fn bank(&self) -> &Bank {
        &self.bank
    }

    /// The bank, for states.
    pub fn bank_mut(&mut self) -> &mut Bank {
        &mut self.bank
    }

    /// Which remembered images a pass is compared with, no two of them alike.
    pub fn draw(&self, rng: &mut Stream) -> Vec<usize> {
        let mut rows = permutation(self.bank.len(), rng);
        rows.truncate(self.rule.negatives);
        rows
    }

    /// The loss of a batch by the features `[B, features]` of its second view, which the gradient is with respect to, and of
    /// its first, beside the `negatives` of the bank.
    pub fn pass(&self, second: &Tensor, first: &Tensor, negatives: &[usize]) -> Result<ContrastPass> {
        let batch = second.dims()[0];
        let tape = Tape::new();
        let mut f = Forward::new(&tape, &self.head.network.weights, Mode::Train { momentum: 0.0 });
        let x = tape.leaf(self.beside(second, negatives, 0)?);
        let p = self.head.network.forward(&mut f, x.clone())?;
        let q = infer(&self.head.network, &self.beside(first, negatives, 1)?)?;
        let loss = contrast(&p.tensor()?, &q, batch, self.rule.temperature)?;
        let mut grads: Grads = tape.backward([(p, loss.grad)])?;
        let grad = match grads.take(&x) {
            Some(grad) => grad.narrow(0, 0, batch)?.force_contiguous()?,
            None => second.zeros_like()?,
        };
        let head_grads = f.gradients(&mut grads);
        Ok(ContrastPass { loss: Loss { value: loss.value, grad }, head_grads, seen: [second.clone(), first.clone()] })
    }

    /// Features of the batch above those of the bank; `part` 0 is the second view, 1 the first.
    fn beside(&self, batch: &Tensor, negatives: &[usize], part: usize) -> Result<Tensor> {
        let f = self.bank.features;
        let own = host(batch)?;
        let mut rows = view(&own)?.to_vec();
        for &i in negatives {
            rows.extend_from_slice(&self.bank.rows[(2 * i + part) * f..][..f]);
        }
        let count = rows.len() / f;
        Ok(tensor(rows, (count, f))?.to_device(batch.device())?)
    }

    /// The head's update after a pass.
    pub fn learn(&mut self, pass: &ContrastPass) -> Result<()> {
        self.head.adam.step(trainable(&self.head.network.weights, &pass.head_grads), self.rule.lr as f32)
    }

    /// Takes the images of a pass into the bank.
    pub fn remember(&mut self, pass: &ContrastPass) -> Result<()> {
        let [second, first] = [host(&pass.seen[0])?, host(&pass.seen[1])?];
        self.bank.take(&view(&second)?, &view(&first)?);
        Ok(())
    }
}

impl Bank {
    /// Images in it.
    pub fn len(&self) -> usize {
        self.rows.len() / (2 * self.features)
    }

    /// Whether nothing is remembered yet.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn take(&mut self, second: &[f32], first: &[f32]) {
        let f = self.features;
        for (a, b) in second.chunks_exact(f).zip(first.chunks_exact(f)) {
            let at = 2 * f * self.next;
            if at == self.rows.len() {
                self.rows.resize(at + 2 * f, 0.0);
            }
            self.rows[at..at + f].copy_from_slice(a);
            self.rows[at + f..at + 2 * f].copy_from_slice(b);
            self.next = (self.next + 1) % self.capacity;
        }
    }
}

impl Resumable for Head {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.part("weights", &self.network.weights)?;
        to.part("adam", &self.adam)
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        from.restore("weights", &mut self.network.weights)?;
        from.restore("adam", &mut self.adam)
    }
}

impl Resumable for Bank {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.array("rows", &self.rows);
        to.value("next", self.next)
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        let (rows, next): (Vec<f32>, usize) = (from.array("rows")?, from.value("next")?);
        let (width, len) = (2 * self.features, rows.len() / (2 * self.features));
        if !rows.len().is_multiple_of(width) || len > self.capacity || next > len || next >= self.capacity {
            return Err(from.fault("rows", "it has another size"));
        }
        (self.rows, self.next) = (rows, next);
        Ok(())
    }
}

/// Values of all layers side by side, image after image: `[N, C]` each → `[N, ΣC]`.
pub fn side_by_side(layers: &[Var]) -> Result<Tensor> {
    let tensors = layers.iter().map(Var::tensor).collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&tensors, 1)?)
}

/// A gradient of [`side_by_side`], layer by layer.
pub fn apart(layers: &[Var], grad: &Tensor) -> Result<Vec<(Var, Tensor)>> {
    let mut start = 0;
    layers
        .iter()
        .map(|layer| {
            let width = layer.dims()[1];
            let own = grad.narrow(1, start, width)?.force_contiguous()?;
            start += width;
            Ok((layer.clone(), own))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    #[test]
    fn the_bank_forgets_the_oldest() {
        let rule = ContrastRecipe { bank: 3, negatives: 2, width: 4, ..ContrastRecipe::default() };
        let mut rng = Streams::new(0).stream("test", 0);
        let mut contrast = Contrast::new(rule, 2, &Compute::cpu(), &mut rng).unwrap();
        assert!(contrast.draw(&mut rng).is_empty());
        for i in 0..2 {
            let features =
                |shift: f32| tensor((0..4).map(|v| 10.0 * i as f32 + v as f32 + shift).collect(), (2, 2)).unwrap();
            let pass = contrast.pass(&features(0.0), &features(0.5), &contrast.draw(&mut rng)).unwrap();
            assert!(pass.loss.value.get().unwrap() > 0.0);
            contrast.learn(&pass).unwrap();
            contrast.remember(&pass).unwrap();
        }
        // Rows 0 and 1 of the first batch, 0 and 1 of the second, which took the place of the first.
        assert_eq!(contrast.bank.rows, [12.0, 13.0, 12.5, 13.5, 2.0, 3.0, 2.5, 3.5, 10.0, 11.0, 10.5, 11.5]);
        assert_eq!(contrast.draw(&mut rng).len(), 2);
    }
}
