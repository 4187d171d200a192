//! Results in the formats of other programs: networks as ONNX graphs, images of a set as PNG files.
//!
//! ```text
//! Model ──▶ nets::trace ──▶ tape::Trace ──▶ onnx (translate ──▶ graph ──▶ proto) ──▶ one .onnx file
//! SyntheticSet ──▶ png ──▶ CLASS/INDEX.png
//! ```

pub mod onnx;
mod overlays;
mod png;

pub use overlays::Overlays;
pub use png::{Pictures, write_pictures};
