//! A teacher becomes a set.

use super::{
    add_course, add_health, circumstances, essence, fingerprint, fresh_student, identity, merge, mib, seconds,
};
use crate::distill::{start_from, views_within};
use crate::events::Observer;
use crate::invert::{Input, Inversion, LabelEmbeddings, Options, Plan, Recipe, invert};
use crate::model::Model;
use crate::nets::Network;
use crate::ops::{CPU, Compute};
use crate::report::Health;
use crate::rng::Streams;
use crate::set::{SyntheticSet, most_images};
use crate::teacher::Teacher;
use crate::train::Schedule;
use crate::weights::Checkpoint;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Steps of linear warm-up of an adversary whose rate stays constant.
const ADVERSARY_WARMUP: usize = 100;

/// Options of an inversion.
pub struct InvertJob<'a> {
    pub teacher: &'a Model,
    pub recipe: &'a Recipe,
    /// See [`Options::embeddings`].
    pub embeddings: Option<&'a LabelEmbeddings>,
    /// Architecture of the adversary.
    pub adversary: &'a str,
    /// Whether the adversary starts with the teacher's tensors where names and shapes agree.
    pub teacher_blocks: bool,
    /// Whether the adversary is to be kept as the student: its learning rate then falls to 0 over the rounds. Else it
    /// stays high and no images are mixed, so that the adversary goes on following the new images.
    pub on_the_fly: bool,
    /// Whether the set holds the teacher's answers to all of the recipe's views; else it holds none.
    pub all_views: bool,
    /// Time for the whole inversion, in place of the recipe's number of rounds; see [`invert`].
    pub limit: Option<Duration>,
    pub seed: u64,
    pub compute: &'a Compute,
}

/// A finished inversion: the set, and the networks that made it.
pub struct Inverted {
    pub set: SyntheticSet,
    /// The adversary as a model: with `on the fly` it is the student.
    pub adversary: Model,
    pub generator: Model,
    /// Updates of the adversary.
    pub updates: usize,
    /// Time of earlier processes that worked on it.
    pub earlier: Duration,
}

impl InvertJob<'_> {
    /// All that the result depends on.
    pub fn fingerprint(&self) -> Value {
        let job = json!({
            "teacher": essence(self.teacher),
            "recipe": self.recipe,
            "label_embeddings": self.embeddings_used(),
            "adversary": self.adversary,
            "teacher_blocks": self.teacher_blocks,
            "on_the_fly": self.on_the_fly,
            "all_views": self.all_views && self.recipe.views > 0,
            "limit_seconds": self.limit.map(|limit| limit.as_secs_f64()),
        });
        fingerprint("invert", self.seed, job)
    }

    /// Refuses what could not be read again once it is made; a time limit leaves open how much that is.
    fn check_size(&self, teacher: &Teacher, recipe: &Recipe) -> Result<()> {
        let made = Plan::of(recipe, teacher.classes).total().saturating_mul(recipe.batch);
        let samples = recipe.samples(teacher.classes).min(made);
        let most = most_images([teacher.size[0], teacher.size[1], teacher.channels], teacher.classes, recipe.views);
        if self.limit.is_some() || samples <= most {
            return Ok(());
        }
        let hint = format!("a set has at most {most} images of this size: take fewer (--samples)");
        Err(Error::invalid("buffer.samples", format!("{samples} images, which could not be read again"), hint))
    }

    /// Runs the inversion.
    ///
    /// # Errors
    /// As [`invert`], or an adversary that does not fit the teacher's images.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<Inverted> {
        let start = Instant::now();
        let streams = Streams::new(self.seed);
        let teacher = Teacher::of(self.teacher).to(self.compute)?;
        let (student, config) =
            fresh_student(self.adversary, &self.teacher.config, None, &mut streams.stream("adversary/weights", 0))?;
        let tensors_copied = if self.teacher_blocks { start_from(&student, &self.teacher.network)? } else { 0 };
        let mut fitted = self.recipe.clone().fitted_for(teacher.network.arch.task, teacher.size);
        fitted.views = fitted.views.min(views_within(&fitted.student.augment));
        let mut recipe =
            Recipe { student: fitted.student(self.teacher_blocks), on_the_fly: self.on_the_fly, ..fitted.clone() };
        if !self.on_the_fly {
            recipe.student.schedule = Schedule::Constant;
            recipe.student.mixup_until = 0.0;
            recipe.student.warmup = recipe.student.warmup.max(ADVERSARY_WARMUP);
        }
        self.check_size(&teacher, &recipe)?;
        let student = student.to(self.compute)?;
        let Self { embeddings, all_views, seed, limit, .. } = *self;
        let inversion = invert(&teacher, student, &recipe, &Options { embeddings, all_views, seed, limit }, observer)?;
        let times = json!({
            "total": seconds(start.elapsed() + inversion.clock.earlier),
            "synthesis": seconds(inversion.synthesis_time),
            "adversary": seconds(inversion.adversary_time),
        });
        let told = Recipe { on_the_fly: self.on_the_fly, ..fitted };
        let provenance = self.provenance(&inversion, told, tensors_copied, times);
        let updates = inversion.plan.all_updates();
        let made = inversion.made_by_generator();
        let Inversion { buffer, generator, finished, clock, signs, .. } = inversion;
        let priority = buffer.priorities.probabilities().into_iter().map(|p| p as f32).collect();
        let mut set = SyntheticSet {
            labels: buffer.entries.iter().map(|e| e.label).collect(),
            images: buffer.images.into(),
            logits: buffer.logits,
            priority,
            class_names: self.teacher.class_names(),
            views: buffer.views.filter(|_| self.all_views),
            provenance,
        };
        let health = match made.is_empty() {
            true => Health::of(&set, Some(&teacher))?,
            false => Health::of(&set, None)?.fitted_on(&teacher, &set.images, &made)?,
        };
        let health = health.with_signs(signs);
        let about = json!({ "task": set.task().name(), "recipe": { "fill_with": recipe.fill_with } });
        add_health(&mut set.provenance, &health, &about, observer)?;
        let part = |network: Network, config: &crate::weights::ModelConfig| -> Result<Model> {
            let network = network.to(&CPU)?;
            Ok(Model::made(network, config.clone()))
        };
        let (adversary, generator) = (part(finished, &config)?, part(generator, &self.teacher.config)?);
        Ok(Inverted { set, adversary, generator, updates, earlier: clock.earlier })
    }

    /// Which embeddings of the class names the generator reads, if it reads any.
    fn embeddings_used(&self) -> Option<&str> {
        let reads = self.recipe.generator.input == Input::LabelEmbedding;
        reads.then(|| self.embeddings.map_or("orthogonal", |e| &e.source))
    }

    fn provenance(&self, inversion: &Inversion, recipe: Recipe, tensors_copied: usize, times: Value) -> Value {
        let Plan { practice, fill, rounds, .. } = inversion.plan;
        let mut what = json!({
            "task": self.teacher.network.arch.task.name(),
            "kind": "set",
            "teacher": identity(self.teacher),
            "recipe": Recipe { practice, fill, rounds, ..recipe },
            "license": self.teacher.config.pretrained_cfg.license,
            "adversary": self.adversary,
            "adversary_start": {
                "from": if self.teacher_blocks { "teacher-blocks" } else { "scratch" },
                "tensors_copied": tensors_copied,
            },
            "label_embeddings": self.embeddings_used(),
            "wall_seconds": times,
            "peak_memory_mib": mib(inversion.clock.peak_memory()),
            "metrics": {
                "synthesised": inversion.synthesised,
                "adversary_updates": inversion.plan.all_updates(),
                "images_per_teacher_class": inversion.buffer.histogram(),
            },
        });
        let [generator, adversary] = inversion.halvings;
        let halvings = [("generator", generator), ("adversary", adversary)];
        add_course(&mut what, &self.fingerprint(), &inversion.clock, &halvings);
        merge(what, circumstances(self.seed, self.compute))
    }
}

impl Inverted {
    /// Writes the set folder with `generator.safetensors`, if there was a generator, and `adversary.safetensors` beside the data.
    ///
    /// # Errors
    /// As [`SyntheticSet::write`].
    pub fn write(&self, folder: &Path) -> Result<()> {
        self.set.write(folder)?;
        let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
        let generator = self.generator.tensors()?;
        if !generator.is_empty() {
            Checkpoint::write_safetensors(folder.join("generator.safetensors"), &generator, &metadata)?;
        }
        let mut metadata = metadata;
        metadata.insert("architecture".into(), self.adversary.config.architecture.clone());
        Checkpoint::write_safetensors(folder.join("adversary.safetensors"), &self.adversary.tensors()?, &metadata)
    }
}
