//! One training step of a student, shared by every command that trains.

use super::Sgd;
use crate::Result;
use crate::data::VOID;
use crate::loss::{Compared, Loss, Matching, Value, cross_entropy, labelled_pixels, matched, soft_cross_entropy};
use crate::nets::{Forward, Mode, Network};
use crate::tape::{Tape, Var};
use candle_core::Tensor;

/// Momentum of running statistics in training, as in PyTorch.
pub const BN_MOMENTUM: f64 = 0.1;

/// What a step saw.
pub struct StepReport {
    pub loss: f64,
    /// The student's logits before the update, `[N, K]` or `[N, H, W, K]`.
    pub logits: Tensor,
    /// How they compare with the answers, at the temperature of the loss, if the loss has told.
    pub compared: Option<Compared>,
}

/// What the logits of a batch should be.
#[derive(Clone, Copy)]
pub enum Goal<'a> {
    /// Cross-entropy against these.
    Labels(&'a [u32]),
    /// Cross-entropy against rows of probabilities, `[N·K]`.
    Shares(&'a [f64]),
    /// Labels of pixels `[N·H·W]`, with [`VOID`], weights of the classes, and γ of the focal loss.
    Pixels { labels: &'a [u8], weights: Option<&'a [f32]>, focal: f64 },
    /// Another network's answers, of the same shape, with a weight per image.
    Answers { answers: &'a Tensor, how: Matching, weights: Option<&'a [f32]> },
}

impl Goal<'_> {
    /// The loss, and what it has compared.
    pub(super) fn loss(&self, logits: &Tensor) -> Result<(Loss, Option<Compared>)> {
        let loss = match *self {
            Self::Labels(labels) => cross_entropy(logits, labels, None),
            Self::Shares(targets) => soft_cross_entropy(logits, targets, None),
            Self::Pixels { labels, weights, focal } => labelled_pixels(logits, labels, VOID, weights, focal),
            Self::Answers { answers, how, weights } => return matched(logits, answers, how, weights),
        };
        Ok((loss?, None))
    }
}

/// What is compared in a step beside the logits.
pub trait Beside {
    /// Its loss, and the gradients with respect to values of the network's pass `f`, which has collected its stages; the update
    /// has the learning rate `lr`.
    fn compare(&mut self, logits: &Var, f: &Forward, lr: f32) -> Result<(f64, Vec<(Var, Tensor)>)>;
}

/// The training steps of one network. On a card that records graphs ([`crate::ops::Compute::graphs`]), steps on batches of the
/// same size are recorded after the first few.
#[derive(Default)]
pub struct Stepper {
    #[cfg(feature = "cuda")]
    replay: super::replay::Replay,
}

impl Stepper {
    pub fn new() -> Self {
        Self::default()
    }

    /// Forward pass in training mode on normalised images `x [N, H, W, C]`, loss of the logits, backward pass, SGD update with
    /// learning rate `lr`. Network and optimizer are the same in all calls.
    pub fn step(&mut self, network: &Network, sgd: &mut Sgd, x: Tensor, lr: f32, goal: Goal) -> Result<StepReport> {
        #[cfg(feature = "cuda")]
        if network.compute().graphs && x.device().is_cuda() {
            return self.replay.step(network, sgd, x, lr, goal);
        }
        let queued = queue(network, sgd, x, lr, |logits| goal.loss(logits))?;
        // Read last: a card then works on while this waits.
        queued.read()
    }

    /// As [`Stepper::step`], with what `beside` adds to the loss; such steps are not recorded.
    pub fn step_beside(
        &mut self,
        network: &Network,
        sgd: &mut Sgd,
        x: Tensor,
        lr: f32,
        goal: Goal,
        beside: &mut dyn Beside,
    ) -> Result<StepReport> {
        let tape = Tape::new();
        let mut f = Forward::new(&tape, &network.weights, Mode::Train { momentum: BN_MOMENTUM }).with_stages();
        let y = network.forward(&mut f, Var::constant(x))?;
        let logits = y.tensor()?;
        let (Loss { value, grad }, compared) = goal.loss(&logits)?;
        let (more, mut seeds) = beside.compare(&y, &f, lr)?;
        seeds.push((y, grad));
        let mut grads = tape.backward(seeds)?;
        sgd.step(&network.weights, &f.gradients(&mut grads), lr)?;
        Ok(StepReport { loss: value.get()? + more, logits, compared })
    }
}

/// A step that a card may still be at.
pub(super) struct Queued {
    pub value: Value,
    pub logits: Tensor,
    compared: Option<Compared>,
}

impl Queued {
    /// Waits for the step.
    pub fn read(self) -> Result<StepReport> {
        let Self { value, logits, compared } = self;
        Ok(StepReport { loss: value.get()?, logits, compared })
    }
}

/// The step itself: on a card, queued and not waited for.
pub(super) fn queue(
    network: &Network,
    sgd: &mut Sgd,
    x: Tensor,
    lr: f32,
    loss: impl FnOnce(&Tensor) -> Result<(Loss, Option<Compared>)>,
) -> Result<Queued> {
    let tape = Tape::new();
    let mut f = Forward::new(&tape, &network.weights, Mode::Train { momentum: BN_MOMENTUM });
    let y = network.forward(&mut f, Var::constant(x))?;
    let logits = y.tensor()?;
    let (Loss { value, grad }, compared) = loss(&logits)?;
    let mut grads = tape.backward([(y, grad)])?;
    sgd.step(&network.weights, &f.gradients(&mut grads), lr)?;
    Ok(Queued { value, logits, compared })
}
