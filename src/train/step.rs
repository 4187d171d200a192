//! One training step of a student, shared by every command that trains.

use super::Sgd;
use crate::Result;
use crate::loss::Loss;
use crate::nets::{Forward, Mode, Network};
use crate::tape::{Tape, Var};
use candle_core::Tensor;

/// Momentum of running statistics in training, as in PyTorch.
pub const BN_MOMENTUM: f64 = 0.1;

/// What a step saw.
pub struct StepReport {
    pub loss: f64,
    /// The student's logits before the update, `[N, K]`.
    pub logits: Tensor,
}

/// Forward pass in training mode on normalised images `x [N, H, W, C]`, `loss` of the logits, backward pass, SGD update
/// with learning rate `lr`.
pub fn train_step(
    network: &Network,
    sgd: &mut Sgd,
    x: Tensor,
    lr: f32,
    loss: impl FnOnce(&Tensor) -> Result<Loss>,
) -> Result<StepReport> {
    let tape = Tape::new();
    let mut f = Forward::new(&tape, &network.weights, Mode::Train { momentum: BN_MOMENTUM });
    let y = network.forward(&mut f, Var::constant(x))?;
    let logits = y.tensor()?;
    let Loss { value, grad } = loss(&logits)?;
    let mut grads = tape.backward([(y, grad)])?;
    sgd.step(&network.weights, &f.gradients(&mut grads), lr)?;
    // Read last: a card then works on while this waits.
    Ok(StepReport { loss: value.get()?, logits })
}
