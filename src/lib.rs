//! `synth` compresses a trained vision model when its training data is gone: data-free inversion and distillation.
//!
//! ```text
//!  folder / .pth / name ──▶ hub ──▶ weights, model ──▶ teacher (frozen)
//!                                                        │  batch-norm moments, logits
//!                                                        ▼
//!  invert::Recipe ──▶ invert:  latent z, class y ─▶ nets::generator ─▶ images ─▶ teacher ⇄ adversary
//!                                                        │
//!                                                        ▼
//!                              set::buffer (class-modulated, partly replaced each round)
//!                                                        │
//!  collect:  noise, shapes, images ─▶ balance ──────────▶ ▼
//!                              set (parquet + card + provenance)
//!                                                        │
//!                                                        ▼
//!                              distill:  set::priority ─▶ augment ─▶ student ──▶ model folder
//! ```
//!
//! From the bottom: [`ops`], a crate of its own and the only one with `unsafe`, are kernels over channels-last candle tensors,
//! [`tape`] differentiates them, [`nets`] builds networks from them, [`text`] reads the names of classes, [`loss`] and
//! [`train`] hold what both stages share, [`invert`], [`collect`] and [`distill`] are the stages, [`jobs`] runs them with their
//! files, [`hub`] gets and sends those, [`report`] watches, [`export`] writes what other programs read. The program is a thin
//! layer over [`jobs`].
//!
//! Everything random comes from [`rng::Streams`], everything parallel is cut by sizes alone: the same seed gives the same
//! bits with any number of threads.

#![forbid(unsafe_code)]

pub mod augment;
pub mod bench;
pub mod checkpoint;
pub mod collect;
pub mod data;
pub mod distill;
pub mod error;
pub mod events;
pub mod export;
pub mod files;
#[doc(hidden)]
pub mod fuzzing;
pub mod hub;
pub mod invert;
pub mod jobs;
pub mod loss;
pub mod model;
pub mod nets;
pub mod overlay;
pub mod report;
pub mod rng;
pub mod set;
pub mod signs;
pub mod tape;
pub mod teacher;
pub mod text;
pub mod train;
pub mod trend;
pub mod weights;

pub use error::{Error, Result};
pub use synth_ops as ops;
