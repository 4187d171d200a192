//! What kernels and networks compute, on every instruction set and with any number of threads; with `SYNTH_TEST_DEVICE=cuda`, on a
//! card.

#[path = "../common/mod.rs"]
mod common;
mod hashed;
mod moments;
mod nets;
mod ops;
mod pixel_nets;
mod threads;
