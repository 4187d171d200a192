//! Operations over channels-last f32 tensors: each with its forward and backward pass, one folder per op.

pub mod activation;
pub mod adaptive;
pub mod channels;
pub mod conv2d;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod gate;
pub mod layer_norm;
mod max_pool;
pub mod mem;
pub mod norm;
pub(crate) mod par;
pub mod peak;
pub mod place;
pub mod pointwise;
pub mod silu;
pub mod simd;
pub mod spatial;
pub(crate) mod step;
pub mod store;
pub mod threads;

pub use activation::Activation;
