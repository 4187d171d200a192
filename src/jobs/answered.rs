//! Images that no inversion made become a set; a set gets the answers of another teacher.

use super::{identity, merge};
use crate::data::Images;
use crate::loss::argmax;
use crate::model::Model;
use crate::set::SyntheticSet;
use crate::teacher::Teacher;
use crate::train::batch_for;
use crate::weights::ModelConfig;
use crate::{Error, Result};
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

/// Whether the recorded answers are this model's: the same weights, as the same network, of pixels that are normalised alike.
fn is_its_teacher(set: &SyntheticSet, model: &Model) -> bool {
    let teacher = &set.provenance["teacher"];
    let stated: Option<ModelConfig> = serde_json::from_value(teacher["config"].clone()).ok();
    let reads = |config: &ModelConfig| {
        let images = &config.pretrained_cfg;
        let arguments = (config.architecture.clone(), config.model_args.clone());
        (arguments, images.mean.clone(), images.std.clone(), images.is_bgr())
    };
    teacher["sha256"] == json!(model.sha256) && stated.is_none_or(|stated| reads(&stated) == reads(&model.config))
}

/// `set` with the answers of the teacher `model`, which is `frozen`, to its images; `None` where it has these already. Recorded
/// views, whose answers are its own teacher's, are left out; labels and weights stay.
///
/// # Errors
/// Images or classes that are not the teacher's.
pub fn answered_by(set: &SyntheticSet, model: &Model, frozen: &Teacher) -> Result<Option<SyntheticSet>> {
    let ([h, w], c, classes) = (frozen.size, frozen.channels, frozen.classes);
    let Images { height, width, channels, .. } = *set.images;
    if ([height, width], channels, set.class_names.len()) != ([h, w], c, classes) {
        let found = format!(
            "it takes images of {h}x{w} in {c} channels and knows {classes} classes, the set has {height}x{width}, {channels} \
             channels and {} classes",
            set.class_names.len()
        );
        return Err(Error::invalid("--teacher", found, "name one for the set's images and classes"));
    }
    if is_its_teacher(set, model) {
        return Ok(None);
    }
    let logits = frozen.answers_u8(&set.images, batch_for(BATCH, frozen.size))?;
    Ok(Some(SyntheticSet {
        images: set.images.clone(),
        labels: set.labels.clone(),
        logits: logits.into(),
        priority: set.priority.clone(),
        class_names: set.class_names.clone(),
        views: None,
        provenance: merge(
            set.provenance.clone(),
            json!({ "teacher": identity(model), "task": model.network.arch.task.name() }),
        ),
    }))
}
