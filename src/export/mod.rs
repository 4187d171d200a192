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

use crate::files::{PROVENANCE, PROVENANCE_LIMIT, json_text};
use crate::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// Says in `folder` what it is: `--force` replaces no folder that does not.
fn say(folder: &Path, what: &Value) -> Result<()> {
    let path = folder.join(PROVENANCE);
    let text = json_text(what, PROVENANCE_LIMIT).map_err(|e| Error::file(&path, e.to_string(), "report this"))?;
    std::fs::write(&path, text).map_err(Error::io("write", &path))
}
