//! `synth` compresses a trained vision model when its training data is gone.

pub mod data;
pub mod error;
pub mod files;
pub mod set;

pub use error::{Error, Result};
