//! Images that no inversion made become a set.

use super::identity;
use crate::Result;
use crate::data::Images;
use crate::loss::argmax;
use crate::model::Model;
use crate::set::SyntheticSet;
use crate::teacher::Teacher;
use crate::train::batch_for;
use serde_json::{Value, json};

/// Images per pass of the teacher, where they are small.
const BATCH: usize = 256;

/// `images` with the answers of the teacher `model`, which is `frozen`, and `labels`, or its decisions. `source` is what provenance
/// says of the images.
///
/// # Errors
/// Images that do not fit the teacher.
pub fn answered_set(
    model: &Model,
    frozen: &Teacher,
    images: Images,
    labels: Option<Vec<u32>>,
    source: Value,
) -> Result<SyntheticSet> {
    let logits = frozen.answers_u8(&images, batch_for(BATCH, frozen.size))?;
    let decisions = || logits.chunks_exact(frozen.classes).map(|answer| argmax(answer) as u32).collect();
    let labels = labels.unwrap_or_else(decisions);
    Ok(SyntheticSet {
        priority: vec![1.0; labels.len()],
        images: images.into(),
        labels,
        logits: logits.into(),
        class_names: model.class_names(),
        views: None,
        provenance: json!({
            "task": model.network.arch.task.name(),
            "kind": "set",
            "teacher": identity(model),
            "source": source,
            "license": model.config.pretrained_cfg.license,
        }),
    })
}
