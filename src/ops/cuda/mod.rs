//! The operations on NVIDIA cards.

mod folders;
mod load;

pub use load::load;
