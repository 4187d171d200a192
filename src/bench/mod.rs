//! Measurements behind `synth bench`.

mod step;

pub use step::{Pass, StepBench, StepResult, step};
