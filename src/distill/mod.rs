//! The distillation stage: a student learns from a set and a teacher's answers.

mod checks;
mod input;
mod memory;
mod pool;
mod recipe;
mod shown;
mod signal;
mod stage;
mod start;
mod trainer;
mod views;

pub use input::Input;
pub use memory::check_memory;
pub use pool::{Answers, Pool};
pub use recipe::StudentRecipe;
pub(crate) use recipe::USUAL_BATCH_OF_PIXELS;
pub use shown::Shown;
pub use signal::{Hints, Signal, SignalKind};
pub use stage::{AnswerSource, Distilled, Stop, distill};
pub use start::{shared_parameters, start_from};
pub use trainer::{TrainReport, Trainer};
pub use views::{check_views, record_all, view_list, views_within};
