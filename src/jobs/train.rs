//! Labelled images, or images with label images, become a model.

use super::{add_course, circumstances, fingerprint, merge, mib, seconds};
use crate::events::Observer;
use crate::model::Model;
use crate::nets::Network;
use crate::nets::registry::{self, Shape};
use crate::ops::{CPU, Compute};
use crate::rng::Streams;
use crate::teacher::Teacher;
use crate::train::{Examples, SupervisedRecipe, supervised};
use crate::{Error, Result};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// Options of a supervised run.
pub struct TrainJob<'a> {
    pub net: &'a str,
    pub data: Examples<'a>,
    pub recipe: &'a SupervisedRecipe,
    /// Normalisation, per channel.
    pub mean: &'a [f64],
    pub std: &'a [f64],
    /// Of the model, if it is known.
    pub license: Option<&'a str>,
    pub seed: u64,
    pub compute: &'a Compute,
}

impl TrainJob<'_> {
    /// All that the result depends on.
    pub fn fingerprint(&self) -> Value {
        let images = self.data.images();
        let size = [images.height, images.width, images.channels];
        let data = json!({
            "name": self.data.name(), "sha256": self.data.sha256(), "labels_sha256": self.data.labels_sha256(),
            "count": self.data.len(), "size": size,
        });
        let normalisation = json!({ "mean": self.mean, "std": self.std });
        let mut job = json!({ "net": self.net, "data": data, "recipe": self.recipe, "normalisation": normalisation });
        if let Some(license) = self.license {
            job["license"] = license.into();
        }
        if let Examples::Pixels { data, classes, void } = self.data {
            job["labels"] = json!({ "classes": classes, "void": void, "first": data.first });
        }
        fingerprint("train", self.seed, job)
    }

    /// Trains; the second value is what `synth.json` says.
    ///
    /// # Errors
    /// As [`supervised`], or an architecture that cannot take the images.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<(Model, Value)> {
        let begin = Instant::now();
        let images = self.data.images();
        let shape = Shape {
            channels: images.channels,
            height: images.height,
            width: images.width,
            num_classes: self.data.classes(),
        };
        let names = self.data.class_names();
        let (architecture, mut config) = registry::new_model(self.net, &shape, names, self.mean, self.std)?;
        architecture.must_train("network", self.net)?;
        if architecture.task != self.data.task() {
            let found =
                format!("its task is {}, the labels are for {}", architecture.task.name(), self.data.task().name());
            return Err(Error::invalid(
                format!("network {:?}", self.net),
                found,
                "take another network, or other data",
            ));
        }
        if let Examples::Pixels { void: Some(void), .. } = self.data {
            config.pretrained_cfg.ignore_index = Some(void.into());
        }
        config.pretrained_cfg.license = self.license.map(String::from);
        let network = Network::init(Arc::new(architecture), &mut Streams::new(self.seed).stream("network", 0))?;
        let mut model = Model::made(network, config);
        let input = Teacher::of(&model).input();
        let network = model.network.to(self.compute)?;
        let trained = supervised(network, self.data, &input, self.recipe, self.seed, observer)?;
        model.network = trained.network.to(&CPU)?;
        let mut provenance = json!({
            "kind": "supervised",
            "task": self.data.task().name(),
            "data": { "name": self.data.name(), "sha256": self.data.sha256(), "count": self.data.len() },
            "parameters": model.network.arch.parameters(),
            "recipe": self.recipe,
            "license": self.license,
            "wall_seconds": { "training": seconds(begin.elapsed() + trained.clock.earlier) },
            "peak_memory_mib": mib(trained.clock.peak_memory()),
        });
        add_course(&mut provenance, &self.fingerprint(), &trained.clock, &[("network", trained.halvings)]);
        Ok((model, merge(provenance, circumstances(self.seed, self.compute))))
    }
}
