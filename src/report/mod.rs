//! What a run shows and logs.

use crate::Result;
use crate::events::{Observer, Record};
use std::path::Path;

/// Progress and the metrics log of a run.
pub struct Reporter;

impl Reporter {
    /// A reporter; `log` is where metrics go.
    pub fn new(_quiet: bool, _log: Option<&Path>) -> Result<Self> {
        Ok(Self)
    }
}

impl Observer for Reporter {
    fn record(&mut self, _: &Record) {}
}

/// The README.md of a model.
pub fn model_card(name: &str, provenance: &serde_json::Value) -> String {
    format!("# {name}\n\n```json\n{provenance:#}\n```\n")
}
