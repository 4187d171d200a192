//! What both stages share: optimizers, schedules, averages of weights, one training step, and the way back from a bad one.

mod asking;
mod average;
mod evaluate;
mod evaluate_pixels;
mod examples;
mod fitting;
mod guard;
mod learner;
mod memory;
mod optimizer;
#[cfg(feature = "cuda")]
mod replay;
mod schedule;
mod step;
mod supervised;
#[cfg(test)]
mod tests;

pub use average::WeightAverage;
pub use evaluate::{Evaluation, Matched, evaluate, labels_for};
pub use evaluate_pixels::{PixelEvaluation, evaluate_pixels};
pub use examples::Examples;
pub use fitting::{batch_for, batch_of, fitting};
pub use guard::Guard;
pub use learner::{Learner, LearnerRule, Prepared};
pub use memory::{Need, answer_bytes, available};
pub use optimizer::{Adam, Decay, Sgd, trainable};
pub use schedule::Schedule;
pub use step::{BN_MOMENTUM, Beside, Goal, StepReport, Stepper};
pub use supervised::{SupervisedRecipe, Trained, supervised};
