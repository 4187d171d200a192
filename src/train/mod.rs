//! What both stages share: optimizers, schedules, averages of weights, one training step.

mod average;
mod optimizer;
mod schedule;
mod step;
mod supervised;

pub use average::WeightAverage;
pub use optimizer::{Adam, Decay, Sgd, trainable};
pub use schedule::Schedule;
pub use supervised::{SupervisedRecipe, supervised};
pub use step::{BN_MOMENTUM, StepReport, train_step};
