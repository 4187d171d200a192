//! What a run shows, logs and says about itself.
//!
//! | file | content |
//! |---|---|
//! | `progress.rs` | bars on a terminal, an occasional line elsewhere |
//! | `metrics.rs` | `metrics.jsonl`, one object per record |
//! | `summary.rs` | last values, time and trend per stage |
//! | `health/` | numbers of a finished run that need no real data |
//! | `alarms.rs` | which of them mean that the run has failed, and why |
//! | `describe.rs` | `synth inspect` of a set |
//! | `card.rs` | the README of a model |

pub mod health;
pub mod summary;

pub use health::Health;
pub use summary::{StageSummary, Summary, Trend};

#[cfg(test)]
pub(crate) mod tests {
    use crate::data::Images;
    use crate::set::SyntheticSet;

    /// A set of 4x4 grey images of `K` classes; `pixel(image, position)` gives the values.
    pub fn set_of<const K: usize>(labels: &[u32], logits: &[[f32; K]], pixel: fn(usize, usize) -> u8) -> SyntheticSet {
        let pixels = (0..labels.len()).flat_map(|i| (0..16).map(move |j| pixel(i, j))).collect();
        SyntheticSet {
            images: Images::new(pixels, 1, 4, 4).unwrap(),
            labels: labels.to_vec(),
            logits: logits.concat(),
            priority: vec![1.0; labels.len()],
            class_names: (0..K).map(|k| format!("class {k}")).collect(),
            views: None,
            provenance: serde_json::json!({}),
        }
    }
}
