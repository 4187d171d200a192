//! What both stages share: optimizers, schedules, averages of weights, one training step.

mod average;
mod optimizer;
mod schedule;

pub use average::WeightAverage;
pub use optimizer::{Adam, Decay, Sgd};
pub use schedule::Schedule;
