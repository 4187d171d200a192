//! Both stages in one: a teacher becomes a student.

use super::{AnswerMode, DistillJob, InvertJob, Start, identity, merge, seconds};
use crate::distill::StudentRecipe;
use crate::events::Observer;
use crate::invert::Recipe;
use crate::jobs::invert::Inverted;
use crate::model::Model;
use crate::Result;
use serde_json::{Value, json};
use std::time::Instant;

/// Options of a run.
pub struct RunJob<'a> {
    pub teacher: &'a Model,
    pub student: &'a str,
    pub recipe: &'a Recipe,
    pub distill: &'a StudentRecipe,
    /// The adversary is the student and leaves the loop trained; there is no second stage.
    pub on_the_fly: bool,
    pub seed: u64,
}

/// What a run leaves.
pub struct Ran {
    pub inverted: Inverted,
    pub student: Model,
    /// What `synth.json` of the student says.
    pub provenance: Value,
}

impl RunJob<'_> {
    /// Runs both stages, or the one of `on_the_fly`.
    ///
    /// # Errors
    /// As [`InvertJob::run`] and [`DistillJob::run`].
    pub fn run(&self, observer: &mut dyn Observer) -> Result<Ran> {
        let begin = Instant::now();
        let job = InvertJob {
            teacher: self.teacher,
            recipe: self.recipe,
            adversary: self.student,
            seed: self.seed,
        };
        let inverted = job.run(observer)?;
        if self.on_the_fly {
            let student = inverted.adversary.clone();
            let provenance = merge(
                inverted.set.provenance.clone(),
                json!({
                    "kind": "student",
                    "teacher": identity(self.teacher),
                    "start": { "from": "scratch", "tensors_copied": 0 },
                    "on_the_fly": true,
                    "steps": self.recipe.rounds * self.recipe.adversary_steps,
                }),
            );
            return Ok(Ran { inverted, student, provenance });
        }
        let answers = if self.recipe.views > 0 { AnswerMode::Stored } else { AnswerMode::Live };
        let job = DistillJob {
            set: &inverted.set,
            set_name: "set".into(),
            teacher: Some(self.teacher),
            like: &self.teacher.config,
            student: self.student,
            answers,
            start: Start::Scratch,
            recipe: self.distill,
            early_stop: None,
            seed: self.seed,
        };
        let (student, provenance) = job.run(observer)?;
        let mut provenance = provenance;
        provenance["wall_seconds"]["inversion"] = inverted.set.provenance["wall_seconds"]["total"].clone();
        provenance["wall_seconds"]["total"] = json!(seconds(begin.elapsed()));
        Ok(Ran { inverted, student, provenance })
    }
}
