//! What the tape differentiates: against central differences, by its own rules, and where candle is wrong.

mod candle_defects;
#[path = "../common/mod.rs"]
mod common;
mod finite_differences;
mod rules;
