//! `synth` compresses a trained vision model when its training data is gone.

pub mod augment;
pub mod bench;
pub mod data;
pub mod distill;
pub mod error;
pub mod events;
pub mod files;
pub mod invert;
pub mod loss;
pub mod model;
pub mod nets;
pub mod ops;
pub mod report;
pub mod rng;
pub mod set;
pub mod tape;
pub mod teacher;
pub mod train;
pub mod weights;

pub use error::{Error, Result};
