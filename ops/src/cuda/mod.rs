//! The operations on NVIDIA cards: cuDNN for convolutions, cuBLAS for products of matrices, kernels of our own for all else.
//!
//! Each file answers the functions of the file of the same name one folder up, which hand over here when their tensors live on
//! a card. Everything runs on one stream per device, in order; nothing is read back unless a function says so.

pub(crate) mod conv;
mod dnn;
mod folders;
mod gpu;
pub mod graph;
mod launch;
mod load;
pub mod loss;
pub(crate) mod memory;
pub mod norm;
pub(crate) mod place;
pub(crate) mod pointwise;
pub(crate) mod spatial;
pub(crate) mod step;

pub use gpu::open;
pub use load::load;
