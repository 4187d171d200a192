//! The operations on NVIDIA cards: cuDNN for convolutions, cuBLAS for products of matrices, kernels of our own for all else.
//!
//! Each file answers the functions of the file of the same name one folder up, which hand over here when their tensors live on
//! a card. Everything runs on one stream per device, in order; nothing is read back unless a function says so.

pub(super) mod conv;
mod dnn;
mod gpu;
mod launch;
pub(super) mod loss;
pub(super) mod memory;
pub(super) mod norm;
pub(super) mod place;
pub(super) mod pointwise;
pub(super) mod spatial;
pub(super) mod step;

pub use gpu::open;
