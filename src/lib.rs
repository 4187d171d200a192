//! `synth` compresses a trained vision model when its training data is gone.

pub mod error;
pub mod ops;
pub mod tape;

pub use error::{Error, Result};
