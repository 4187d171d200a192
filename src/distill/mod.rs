//! The distillation stage: a student learns from a set and a teacher's answers.

mod recipe;
mod trainer;

pub use recipe::StudentRecipe;
pub use trainer::{Answers, Input, Pool, TrainReport, Trainer, agreement};
