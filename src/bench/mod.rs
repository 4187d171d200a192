//! Measurements behind `synth bench`.

mod bound;
mod ops;
mod step;
pub mod suite;
mod timing;

pub use bound::{ATTAINABLE, Need, Parts};
pub use ops::{OpResult, ops};
pub use step::{Pass, StepBench, StepResult, need, step};
