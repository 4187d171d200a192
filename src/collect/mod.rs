//! Transfer sets without inversion: images from anywhere, chosen by what the teacher says to them.
//!
//! ```text
//! noise / leaves / shaders ─┐
//! folders / datasets / tars ┼▶ pool ─▶ teacher ─▶ survey (answers alone) ─▶ balance ─▶ images, drawn or read again (and some made of them) ─▶ set
//! other sets ───────────────┘
//! ```
//!
//! That noise, drawn shapes and unrelated pictures carry what a teacher knows, if they are many, diverse and spread over its
//! classes: Nayak et al. (2021), Begon & Geurts (2022), Frank & Davis ("What makes a good dataset for knowledge distillation?",
//! 2025).

mod archive;
mod balance;
pub mod boundary;
mod dataset;
mod encoded;
mod fill;
mod folder;
mod generated;
mod growth;
mod leaves;
mod noise;
mod palette;
pub(crate) mod picture;
#[cfg(test)]
mod picture_tests;
mod pool;
mod recorded;
pub mod related;
pub mod shaders;
mod source;
mod spec;
mod survey;
mod vary;

pub use archive::Archive;
pub use balance::{Balance, Selection};
pub use dataset::Dataset;
pub use fill::{Copies, fill};
pub use folder::Folder;
pub use generated::{Draw, Generated};
pub use growth::{Growth, Wanted};
pub use leaves::Leaves;
pub use noise::Noise;
pub use pool::{Place, Pool, Progress};
pub use recorded::record;
pub use shaders::Shaders;
pub use source::{Each, Passed, Source, Tally};
pub use spec::{Wish, open};
pub use survey::Survey;
