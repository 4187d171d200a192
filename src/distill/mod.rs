//! The distillation stage: a student learns from a set and a teacher's answers.

mod checks;
mod memory;
mod recipe;
mod signal;
mod stage;
mod start;
mod trainer;
mod views;

pub use memory::check_memory;
pub use recipe::StudentRecipe;
pub use signal::{Hints, Signal, SignalKind};
pub use stage::{AnswerSource, Distilled, Stop, distill};
pub use start::{shared_parameters, start_from};
pub use trainer::{Answers, Input, Pool, TrainReport, Trainer};
pub use views::{record_views, view_list};
