//! Whole jobs with their files: what `synth invert`, `collect`, `distill`, `run` and `train` do once their options are known.
//!
//! A result folder is built aside and appears under its name only when it is complete.

mod access;
mod answered;
mod card;
mod collect;
mod distill;
mod invert;
mod labels;
mod run;
mod session;
mod shipped;
mod sources;
mod timed;
mod train;

pub use access::Access;
pub use answered::{answered_by, answered_set};
pub use card::CardFile;
pub use collect::{CollectJob, Collected, Unfilled, pool_size, usual_samples};
pub use distill::{AnswerMode, DistillJob, Start, teacher_config};
pub use invert::{InvertJob, Inverted};
pub use labels::label_embeddings;
pub(crate) use run::FINISH_SHARE;
pub use run::{Init, Making, Ran, RunJob};
pub use session::{Session, clear_up, finished};
pub use shipped::{SHIPPED, open_again, open_model};
pub use sources::open_sources;
pub use train::TrainJob;

use crate::checkpoint::Clock;
use crate::events::Observer;
use crate::files;
use crate::hub::split_commit;
use crate::model::Model;
use crate::nets::registry::{self, Shape};
use crate::nets::{Network, Task};
use crate::ops::{self, Compute};
use crate::report::{Health, alarms_of};
use crate::rng::Stream;
use crate::weights::ModelConfig;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// A fresh network called `arch` with the task, the classes, the normalisation, the order of channels and the licence of `like`, for
/// images of `size` (height, width) or of those of `like`.
///
/// # Errors
/// An unknown name, an architecture of another task or one that only answers, or an input that it cannot take.
pub fn fresh_student(
    arch: &str,
    like: &ModelConfig,
    size: Option<[usize; 2]>,
    rng: &mut Stream,
) -> Result<(Network, ModelConfig)> {
    let images = &like.pretrained_cfg;
    let [channels, height, width] = images.input_size;
    let [height, width] = size.unwrap_or([height, width]);
    let shape = Shape { channels, height, width, num_classes: like.num_classes };
    let names = like.label_names.clone();
    let (architecture, mut config) = registry::new_model(arch, &shape, names, &images.mean, &images.std)?;
    let own = &mut config.pretrained_cfg;
    (own.license, own.channel_order) = (images.license.clone(), images.channel_order.clone());
    (own.ignore_index, own.first_label) = (images.ignore_index, images.first_label);
    (own.crop_pct, own.crop_mode, own.interpolation) =
        (images.crop_pct, images.crop_mode.clone(), images.interpolation.clone());
    architecture.must_train("student", arch)?;
    let task = task_of(like);
    if architecture.task != task {
        let found = format!("its task is {}, the teacher's is {}", architecture.task.name(), task.name());
        let hint = "`synth networks` says which networks are for segmentation";
        return Err(Error::invalid(format!("student {arch:?}"), found, hint));
    }
    let architecture = architecture.blue_first(images.is_bgr());
    Ok((Network::init(Arc::new(architecture), rng)?, config))
}

/// What a model answers for.
fn task_of(config: &ModelConfig) -> Task {
    Task::of(&config.task).unwrap_or(Task::Classification)
}

/// Sides up to which images count as small: what CIFAR networks are made for.
const SMALL_SIDE: usize = 84;

/// The student (or adversary) of a teacher for images like those of `config`, when none is named: `small`, or ResNet-10 in its
/// ImageNet form where images are large; a small ESPNet where answers are of pixels or, where there are too few classes for its decoder
/// or sides that it cannot halve as often, a small DeepLabV3.
pub fn usual_student(config: &ModelConfig, small: &'static str) -> &'static str {
    let [_, height, width] = config.pretrained_cfg.input_size;
    if task_of(config) == Task::Segmentation {
        let fits = config.num_classes >= 5 && height.is_multiple_of(8) && width.is_multiple_of(8);
        return if fits { "espnet-p2-q3" } else { "deeplabv3_mobilenet_v2_035" };
    }
    if height.min(width) <= SMALL_SIDE { small } else { "resnet10" }
}

/// What names a teacher in provenance: where it came from (of one from the Hub with its commit as `revision`), the hash of its
/// weights, and its configuration, from which a student can be made without it.
pub fn identity(model: &Model) -> Value {
    let rest = json!({ "sha256": model.sha256, "config": model.config });
    match split_commit(&model.source) {
        Some((id, commit)) => merge(json!({ "id": id, "revision": commit }), rest),
        None => merge(json!({ "id": model.source }), rest),
    }
}

/// Where and by what a result was made.
pub fn circumstances(seed: u64, compute: &Compute) -> Value {
    json!({
        "seed": seed,
        "device": compute.name(),
        "precision": compute.precision.name(),
        "threads": rayon::current_num_threads(),
        "instructions": ops::simd::level().name(),
        "versions": { "synth": env!("CARGO_PKG_VERSION") },
    })
}

/// What makes two runs the same one: their result has the same bits. `job` holds every choice.
fn fingerprint(command: &str, seed: u64, job: Value) -> Value {
    merge(json!({ "command": command, "seed": seed }), job)
}

fn job_sha256(fingerprint: &Value) -> String {
    files::sha256_bytes(fingerprint.to_string().as_bytes())
}

/// What of a model matters to a run, wherever it lies.
fn essence(model: &Model) -> Value {
    json!({ "sha256": model.sha256, "config": model.config })
}

/// Notes in a provenance which run it was, how often it was taken up again, and how often rates had to be halved.
fn add_course(provenance: &mut Value, fingerprint: &Value, clock: &Clock, halvings: &[(&str, u32)]) {
    provenance["job_sha256"] = json!(job_sha256(fingerprint));
    if clock.resumed > 0 {
        provenance["resumed"] = json!(clock.resumed);
    }
    let halved: Vec<&(&str, u32)> = halvings.iter().filter(|(_, n)| *n > 0).collect();
    if !halved.is_empty() {
        let halved = halved.into_iter().map(|(who, n)| (who.to_string(), json!(n)));
        provenance["rates_halved"] = Value::Object(halved.collect());
    }
}

/// Notes the health of a result and says aloud which alarms it raises; `set` is the provenance of its images.
fn add_health(provenance: &mut Value, health: &Health, set: &Value, observer: &mut dyn Observer) -> Result<()> {
    let raised = alarms_of(set, health);
    for alarm in &raised {
        observer.alarm(&alarm.to_string())?;
    }
    provenance["health"] = json!(health);
    provenance["alarms"] = json!(raised);
    Ok(())
}

/// Puts the entries of `more` into the object `base`.
fn merge(mut base: Value, more: Value) -> Value {
    if let (Value::Object(to), Value::Object(from)) = (&mut base, more) {
        to.extend(from);
    }
    base
}

fn seconds(d: Duration) -> f64 {
    (d.as_secs_f64() * 1000.0).round() / 1000.0
}

fn mib(bytes: u64) -> f64 {
    (bytes as f64 / f64::from(1 << 20) * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::registry::{Shape, new_model};
    use crate::weights::config::PretrainedConfig;
    use serde_json::Map;

    /// What is known of the teacher's pictures holds for those of its student.
    #[test]
    fn a_student_sees_pictures_as_its_teacher() {
        let shape = Shape { channels: 3, height: 32, width: 32, num_classes: 10 };
        let (_, mut like) = new_model("resnet20", &shape, None, &[0.5; 3], &[0.25; 3]).unwrap();
        let images = &mut like.pretrained_cfg;
        (images.crop_pct, images.interpolation) = (Some(0.875), Some("bicubic".into()));
        (images.first_label, images.license) = (Some(1), Some("mit".into()));
        let mut rng = crate::rng::Streams::new(0).stream("test", 0);
        let (_, found) = fresh_student("resnet8", &like, None, &mut rng).unwrap();
        let but_for = |config: &ModelConfig| PretrainedConfig { extra: Map::new(), ..config.pretrained_cfg.clone() };
        assert_eq!(but_for(&found), but_for(&like));
        let (_, small) = fresh_student("resnet8", &like, Some([16, 16]), &mut rng).unwrap();
        assert_eq!((small.pretrained_cfg.input_size, small.pretrained_cfg.crop_pct), ([3, 16, 16], Some(0.875)));
    }

    /// The network that nobody has named takes the images and the classes of its teacher.
    #[test]
    fn the_usual_student_fits() {
        let of = |name: &str, [height, width]: [usize; 2], num_classes: usize| {
            let shape = Shape { channels: 3, height, width, num_classes };
            let (_, config) = new_model(name, &shape, None, &[0.5; 3], &[0.25; 3]).unwrap();
            let student = usual_student(&config, "resnet8");
            let (architecture, _) = new_model(student, &shape, None, &[0.5; 3], &[0.25; 3]).unwrap();
            architecture.takes([height, width]).unwrap();
            student
        };
        assert_eq!(of("resnet20", [32, 32], 10), "resnet8");
        assert_eq!(of("resnet50", [224, 224], 1000), "resnet10");
        assert_eq!(of("espnet-p2-q8", [120, 160], 11), "espnet-p2-q3");
        assert_eq!(of("lraspp_mobilenet_v3_large", [500, 500], 21), "deeplabv3_mobilenet_v2_035");
        assert_eq!(of("deeplabv3_mobilenet_v2", [120, 160], 2), "deeplabv3_mobilenet_v2_035");
    }
}
