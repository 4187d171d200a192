//! `synth` compresses a trained vision model when its training data is gone.

pub mod error;
pub mod weights;

pub use error::{Error, Result};
