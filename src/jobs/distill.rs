//! A set becomes a student.

use super::{
    add_course, add_health, answered_by, circumstances, essence, fingerprint, fresh_student, identity, merge, mib,
    seconds, task_of,
};
use crate::data::Images;
use crate::distill::{AnswerSource, Input, Stop, StudentRecipe, distill, start_from};
use crate::events::Observer;
use crate::files::PROVENANCE;
use crate::model::{Model, Overrides};
use crate::nets::{Network, Task};
use crate::ops::{CPU, Compute};
use crate::report::health::Balance;
use crate::report::{Health, few_classes};
use crate::rng::Streams;
use crate::set::SyntheticSet;
use crate::teacher::Teacher;
use crate::weights::ModelConfig;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

/// Where answers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerMode {
    Live,
    Stored,
}

impl AnswerMode {
    fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stored => "stored",
        }
    }
}

/// Where the student's weights start.
pub enum Start<'a> {
    Scratch,
    /// The adversary kept in the set's folder.
    Adversary(&'a Path),
    /// The adversary itself.
    Network(&'a Network),
    /// Tensors of the teacher whose names and shapes agree.
    TeacherBlocks,
}

/// Options of a distillation.
pub struct DistillJob<'a> {
    pub set: &'a SyntheticSet,
    /// How the set is called in provenance.
    pub set_name: String,
    /// Needed for live answers and for `TeacherBlocks`.
    pub teacher: Option<&'a Model>,
    /// The configuration whose input, normalisation and classes the student takes over.
    pub like: &'a ModelConfig,
    pub student: &'a str,
    /// Height and width of the images that the student reads, if not those of the set: a student for smaller images asks
    /// less of the machine that it will run on.
    pub size: Option<[usize; 2]>,
    pub answers: AnswerMode,
    pub start: Start<'a>,
    pub recipe: &'a StudentRecipe,
    pub stop: Stop,
    pub seed: u64,
    pub compute: &'a Compute,
}

/// The configuration of a set's teacher as the set, which lies in `folder`, has it: what a student takes over where the teacher
/// itself is not there.
///
/// # Errors
/// [`Error::File`] if the set does not have it, for values out of range, and for other classes or images than those of the set,
/// whose number and size decide how much memory a student takes.
pub fn teacher_config(set: &SyntheticSet, folder: &Path) -> Result<ModelConfig> {
    let hint = "get the set again, or name the teacher with --teacher";
    let refuse = |found: String| Error::file(folder.join(PROVENANCE), found, hint);
    let stated = &set.provenance["teacher"]["config"];
    if stated.is_null() {
        return Err(refuse("it does not say what the teacher read".into()));
    }
    let config: ModelConfig =
        serde_json::from_value(stated.clone()).map_err(|e| refuse(format!("the teacher's configuration: {e}")))?;
    config.check().map_err(|found| refuse(format!("the teacher's configuration: {found}")))?;
    let ([channels, height, width], images) = (config.pretrained_cfg.input_size, &set.images);
    // One that answers for pixels takes images of any size.
    let sides = task_of(&config) == Task::Segmentation || [height, width] == [images.height, images.width];
    if config.num_classes != set.class_names.len() || channels != images.channels || !sides {
        let dims = [images.channels, images.height, images.width];
        let found = format!(
            "a teacher of {} classes and images of {:?} for a set of {} classes and images of {dims:?}",
            config.num_classes,
            config.pretrained_cfg.input_size,
            set.class_names.len()
        );
        return Err(refuse(found));
    }
    Ok(config)
}

impl DistillJob<'_> {
    /// All that the result depends on.
    pub fn fingerprint(&self) -> Value {
        let job = json!({
            "set": self.set.sha256(),
            "teacher": self.teacher.map(essence),
            "like": self.like,
            "student": self.student,
            "size": self.size,
            "answers": self.answers.name(),
            "start": self.start.name(),
            "recipe": self.recipe,
            "patience": self.stop.patience,
            "limit_seconds": self.stop.limit.map(|limit| limit.as_secs_f64()),
            "epochs": self.stop.epochs,
        });
        fingerprint("distill", self.seed, job)
    }

    /// Trains the student; the second value is what `synth.json` says of it.
    ///
    /// # Errors
    /// As [`distill`], or a start that does not fit the student.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<(Model, Value)> {
        let begin = Instant::now();
        let streams = Streams::new(self.seed);
        let (network, config) =
            fresh_student(self.student, self.like, self.side(), &mut streams.stream("student/weights", 0))?;
        if let Some(teacher) = self.teacher {
            let (own, its) = (network.arch.parameters(), teacher.network.arch.parameters());
            if own >= its {
                tracing::warn!(
                    "the student {} has {own} parameters, its teacher {its}: nothing gets smaller",
                    self.student
                );
            }
        }
        let copied = self.start(&network, &config)?;
        let frozen = self.teacher.map(|teacher| self.frozen(teacher)).transpose()?;
        let answers = match (self.answers, &frozen) {
            (AnswerMode::Stored, _) => AnswerSource::Stored,
            (AnswerMode::Live, Some(teacher)) => AnswerSource::Live(teacher),
            (AnswerMode::Live, None) => {
                let hint = "name it with --teacher, or use --answers stored";
                return Err(Error::invalid("answers live", "there is no teacher to ask", hint));
            }
        };
        let mut student = Model::made(network, config);
        let (input, fresh) = (self.input(&student), student.network.to(self.compute)?);
        let answered = self.answered(frozen.as_ref())?;
        let set = answered.as_ref().unwrap_or(self.set);
        let balance = Balance::of(set);
        tracing::info!("the teacher's decisions on the set have an entropy of {:.3} of 1", balance.entropy);
        if let Some(alarm) = few_classes(&set.provenance, &balance) {
            observer.alarm(&alarm.to_string())?;
        }
        let stop = Stop { trained: !matches!(self.start, Start::Scratch), ..self.stop };
        let done = distill(set, answers, fresh, &input, self.recipe, stop, self.seed, observer)?;
        let health = Health::of(set, frozen.as_ref())?.with_student(&done);
        let fingerprint = self.fingerprint();
        let mut provenance = json!({
            "kind": "student",
            "task": student.network.arch.task.name(),
            "teacher": self.teacher.map_or(self.set.provenance["teacher"].clone(), identity),
            "set": {
                "source": self.set_name,
                "kind": self.set.provenance["kind"],
                "sources": self.set.provenance["sources"],
                "count": self.set.len(),
                "sha256": fingerprint["set"],
                "recipe": self.set.provenance["recipe"]["name"],
                "seed": self.set.provenance["seed"],
                "wall_seconds": self.set.provenance["wall_seconds"],
            },
            "recipe": done.recipe,
            "license": student.config.pretrained_cfg.license,
            "answers": self.answers.name(),
            "start": self.origin(copied),
            "parameters": student.network.arch.parameters(),
            "steps": done.steps,
            "wall_seconds": { "distillation": seconds(begin.elapsed() + done.clock.earlier) },
            "peak_memory_mib": mib(done.clock.peak_memory()),
            "metrics": { "held_out_agreement": done.held_out_agreement, "held_out_kl": done.held_out_kl },
        });
        add_health(&mut provenance, &health, &set.provenance, observer)?;
        add_course(&mut provenance, &fingerprint, &done.clock, &[("student", done.halvings)]);
        student.network = done.student.to(&CPU)?;
        Ok((student, merge(provenance, circumstances(self.seed, self.compute))))
    }

    /// Updates of the student that the recipe or `stop` asks for, if there is no time limit.
    pub fn updates(&self) -> usize {
        let images = &self.set.images;
        let recipe = self.recipe.clone().fitted_for(task_of(self.like), [images.height, images.width]);
        self.stop.steps(&recipe, self.set.len())
    }

    /// Height and width of the images that the student reads, if not those of `like`. Answers for pixels are for those of the set.
    fn side(&self) -> Option<[usize; 2]> {
        let images = &self.set.images;
        let own = task_of(self.like) == Task::Segmentation;
        self.size.or(own.then_some([images.height, images.width]))
    }

    /// The teacher where it computes; one that answers for pixels takes images of any size.
    fn frozen(&self, teacher: &Model) -> Result<Teacher> {
        let frozen = Teacher::of(teacher).to(self.compute)?;
        let images = &self.set.images;
        match frozen.network.arch.task {
            Task::Segmentation => frozen.at([images.height, images.width]),
            Task::Classification => Ok(frozen),
        }
    }

    /// The set's images as the student sees them.
    fn input(&self, student: &Model) -> Input {
        let own = Teacher::of(student).input();
        let Images { height, width, channels, .. } = *self.set.images;
        Input { dims: [height, width, channels], ..own }
    }

    /// The set with the answers of another teacher than its own, for the checks on the held-out tenth and the health.
    fn answered(&self, teacher: Option<&Teacher>) -> Result<Option<SyntheticSet>> {
        let (Some(model), Some(teacher), AnswerMode::Live) = (self.teacher, teacher, self.answers) else {
            return Ok(None);
        };
        let (set, images) = (self.set, &self.set.images);
        let fits = ([images.height, images.width], images.channels) == (teacher.size, teacher.channels)
            && set.class_names.len() == teacher.classes;
        // What does not fit is refused by the stage itself.
        if fits { answered_by(set, model, teacher) } else { Ok(None) }
    }

    /// Where the weights came from: a student of an adversary that had the teacher's blocks has them too.
    fn origin(&self, copied: usize) -> Value {
        let adversary = &self.set.provenance["adversary_start"];
        match self.start {
            Start::Adversary(_) | Start::Network(_) if adversary["from"] == "teacher-blocks" => adversary.clone(),
            _ => json!({ "from": self.start.name(), "tensors_copied": copied }),
        }
    }

    fn start(&self, network: &Network, config: &ModelConfig) -> Result<usize> {
        let (from, copied) = match &self.start {
            Start::Scratch => return Ok(0),
            Start::Adversary(folder) => {
                self.compare_optimizers();
                let images = &config.pretrained_cfg;
                let overrides = Overrides {
                    num_classes: Some(config.num_classes),
                    input_size: Some(images.input_size),
                    mean: Some(images.mean.clone()),
                    std: Some(images.std.clone()),
                    license: None,
                };
                let path = folder.join("adversary.safetensors");
                let adversary = Model::load(&path, Some(self.student), &overrides);
                let adversary = adversary.map_err(|error| self.of_another_network(error))?;
                ("the adversary", start_from(network, &adversary.network)?)
            }
            Start::Network(adversary) => ("the adversary", start_from(network, adversary)?),
            Start::TeacherBlocks => match self.teacher {
                Some(teacher) => ("the teacher", start_from(network, &teacher.network)?),
                None => {
                    return Err(Error::invalid(
                        "--init teacher-blocks",
                        "there is no teacher",
                        "name it with --teacher",
                    ));
                }
            },
        };
        if copied == 0 {
            let found = format!("no tensor of {from} has the name and shape of one of {}", self.student);
            return Err(Error::invalid("--init", found, "use --init scratch"));
        }
        Ok(copied)
    }

    /// `refusal` of the adversary's weights by its name, where their network is not the student's.
    fn of_another_network(&self, refusal: Error) -> Error {
        match (&refusal, self.set.provenance["adversary"].as_str()) {
            (Error::Unfit { .. }, Some(adversary)) if adversary != self.student => {
                let found = format!("the set's adversary is {adversary}, the student {}", self.student);
                Error::invalid("--init adversary", found, format!("take --student {adversary}, or --init scratch"))
            }
            _ => refusal,
        }
    }

    /// Says so where an adversary that learned by Muon would go on by SGD: its weights have kept the length that they began with, at
    /// which SGD's rate is too large. The other way round is fine.
    fn compare_optimizers(&self) {
        let taught = self.set.provenance["recipe"]["student"]["muon"].as_f64().unwrap_or(0.0);
        if taught > 0.0 && self.recipe.muon == 0.0 {
            tracing::warn!(
                "the adversary learned by Muon and goes on by SGD, whose rate tears such weights apart: leave student.muon at {taught}, \
                 or say --init scratch"
            );
        }
    }
}

impl Start<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Scratch => "scratch",
            Self::Adversary(_) | Self::Network(_) => "adversary",
            Self::TeacherBlocks => "teacher-blocks",
        }
    }
}
