//! `synth` compresses a trained vision model when its training data is gone.

pub mod data;
pub mod error;
pub mod files;
pub mod loss;
pub mod nets;
pub mod ops;
pub mod rng;
pub mod set;
pub mod tape;
pub mod train;
pub mod weights;

pub use error::{Error, Result};
