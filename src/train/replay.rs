//! Training steps as a CUDA graph: queued one by one at first, then recorded once and replayed.

use super::Sgd;
use super::step::{Goal, Queued, StepReport, queue};
use crate::loss::{Loss, Matching, Value};
use crate::nets::Network;
use crate::ops::cuda::graph::{Recorded, WARM_UP, copy_into, record};
use crate::ops::cuda::loss as card;
use crate::ops::mem;
use crate::{Error, Result};
use candle_core::Tensor;

/// The steps of one network.
#[derive(Default)]
pub(super) struct Replay {
    /// Dimensions of the first batch, which are those that count: the last one of an epoch is smaller.
    usual: Vec<usize>,
    seen: usize,
    recorded: Option<Step>,
    /// A step that could not be recorded is not tried again.
    failed: bool,
}

/// A recorded step with all that it reads from outside and leaves behind.
struct Step {
    graph: Recorded,
    kind: Kind,
    x: Tensor,
    /// Probabilities or answers, `[N, K]`.
    rows: Tensor,
    /// `[N]`
    weights: Tensor,
    /// Loss of every row, `[N]`.
    values: Tensor,
    logits: Tensor,
}

/// What the rows are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Shares,
    Answers(Matching),
}

/// A goal as a recorded step reads it.
struct Brought {
    kind: Kind,
    rows: Tensor,
    weights: Tensor,
}

impl Replay {
    /// See [`super::Stepper::step`].
    pub fn step(&mut self, network: &Network, sgd: &mut Sgd, x: Tensor, lr: f32, goal: Goal) -> Result<StepReport> {
        let classes = self.recorded.as_ref().map(|step| step.logits.dims()[1]);
        if let (Some(step), Some(k)) = (&mut self.recorded, classes) {
            let brought = goal.bring(&x, k)?;
            if step.x.dims() == x.dims() && step.kind == brought.kind {
                return step.run(&x, &brought, lr);
            }
        }
        let report = queue(network, sgd, x.clone(), lr, |logits| goal.loss(logits))?.read()?;
        if self.usual.is_empty() {
            self.usual = x.dims().to_vec();
        }
        let usual = self.usual == x.dims() && goal.records() && report.logits.dims().len() == 2;
        self.seen += usize::from(usual);
        if usual && self.seen >= WARM_UP && self.recorded.is_none() && !self.failed {
            let brought = goal.bring(&x, report.logits.dims()[1])?;
            match Step::record(network, sgd, &x, brought) {
                Ok(step) => self.recorded = Some(step),
                Err(error) => {
                    tracing::warn!("the training step could not be recorded and is queued call by call: {error}");
                    self.failed = true;
                }
            }
        }
        Ok(report)
    }
}

impl Step {
    /// Records a step on copies of `x` and of the goal; it is not done.
    fn record(network: &Network, sgd: &mut Sgd, x: &Tensor, Brought { kind, rows, weights }: Brought) -> Result<Self> {
        let x = x.copy()?;
        let (values, logits) = (weights.zeros_like()?, rows.copy()?);
        let graph = record(&x, || -> Result<()> {
            let Queued { value, logits: made, .. } = queue(network, sgd, x.clone(), 0.0, |made| {
                let found = match kind {
                    Kind::Shares => card::cross_entropy(made, &card::Targets::Shares(&rows), Some(&weights))?,
                    // Only goals that record come here.
                    Kind::Answers(how) => {
                        card::matching(made, &rows, how.on_card().unwrap_or_default(), Some(&weights))?
                    }
                };
                Ok((Loss::on_card(found, made)?, None))
            })?;
            copy_into(&logits, &made)?;
            if let Value::Sum(found) = &value {
                copy_into(&values, found)?;
            }
            Ok(())
        })?;
        Ok(Self { graph, kind, x, rows, weights, values, logits })
    }

    fn run(&mut self, x: &Tensor, brought: &Brought, lr: f32) -> Result<StepReport> {
        copy_into(&self.x, x)?;
        copy_into(&self.rows, &brought.rows)?;
        copy_into(&self.weights, &brought.weights)?;
        self.graph.run_with(lr)?;
        let loss = Value::Sum(self.values.clone()).get()?;
        Ok(StepReport { loss, logits: self.logits.copy()?, compared: None })
    }
}

impl Goal<'_> {
    /// Whether one kernel computes its loss and nothing waits for it: else it cannot be replayed.
    fn records(&self) -> bool {
        match self {
            Self::Answers { how, .. } => how.on_card().is_some(),
            Self::Pixels { .. } => false,
            Self::Labels(_) | Self::Shares(_) => true,
        }
    }

    /// The goal with `k` classes on the card of `x`.
    fn bring(&self, x: &Tensor, k: usize) -> Result<Brought> {
        let n = x.dims()[0];
        let up = |values: Vec<f32>, dims: &[usize]| -> Result<Tensor> {
            Ok(mem::tensor(values, dims)?.to_device(x.device())?)
        };
        let (kind, rows, given) = match *self {
            Self::Labels(labels) => {
                let mut rows = vec![0f32; n * k];
                labels.iter().enumerate().for_each(|(i, y)| rows[i * k + *y as usize] = 1.0);
                (Kind::Shares, up(rows, &[n, k])?, None)
            }
            Self::Shares(targets) => (Kind::Shares, up(targets.iter().map(|t| *t as f32).collect(), &[n, k])?, None),
            Self::Answers { answers, how, weights } => (Kind::Answers(how), answers.clone(), weights),
            Self::Pixels { .. } => return Err(Error::shape("replay", "labels of pixels are not recorded")),
        };
        let weights = up(given.map_or_else(|| vec![1.0; n], <[f32]>::to_vec), &[n])?;
        Ok(Brought { kind, rows, weights })
    }
}
