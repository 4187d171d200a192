//! Both stages in one: a teacher becomes a student.

use super::{AnswerMode, DistillJob, InvertJob, Start, identity, merge, seconds};
use crate::Result;
use crate::distill::{Stop, StudentRecipe};
use crate::events::Observer;
use crate::invert::Recipe;
use crate::jobs::invert::Inverted;
use crate::model::Model;
use crate::train::Schedule;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Options of a run.
pub struct RunJob<'a> {
    pub teacher: &'a Model,
    pub student: &'a str,
    pub recipe: &'a Recipe,
    /// Whether the student of the second stage starts from fresh weights, else from the adversary.
    pub from_scratch: bool,
    /// The adversary is the student and leaves the loop trained; there is no second stage.
    pub on_the_fly: bool,
    /// Time for the whole run, in place of the recipe's `rounds` and `finish_steps`. The result says how many there were;
    /// with those numbers in the recipe the same seed gives the same student again.
    pub limit: Option<Duration>,
    pub seed: u64,
}

/// What a run leaves.
pub struct Ran {
    pub inverted: Inverted,
    pub student: Model,
    /// What `synth.json` of the student says.
    pub provenance: Value,
}

/// Share of a limited run that belongs to the second stage.
const FINISH_SHARE: f64 = 0.3;

impl RunJob<'_> {
    /// A student that starts from the adversary only has to settle: no warm-up, rate falling to 0.
    fn second_stage(&self, inverted: &Inverted, begin: Instant) -> StudentRecipe {
        let left = self.limit.map(|limit| limit.saturating_sub(begin.elapsed()));
        let fitting = left.map(|left| {
            let steps = (inverted.rounds * self.recipe.adversary_steps).max(1);
            let each = inverted.adversary_time.as_secs_f64() / steps as f64;
            ((left.as_secs_f64() / each.max(1e-6)) as usize).max(1)
        });
        if self.from_scratch {
            let steps = fitting.unwrap_or(self.recipe.student.steps);
            return StudentRecipe { steps, ..self.recipe.student.clone() };
        }
        StudentRecipe {
            steps: fitting.unwrap_or(self.recipe.finish_steps),
            schedule: Schedule::Cosine { floor: 0.0 },
            warmup: 0,
            ..self.recipe.student.clone()
        }
    }

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
            on_the_fly: self.on_the_fly,
            limit: self.limit.map(|limit| limit.mul_f64(1.0 - FINISH_SHARE)),
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
        let recipe = self.second_stage(&inverted, begin);
        let job = DistillJob {
            set: &inverted.set,
            set_name: "set".into(),
            teacher: Some(self.teacher),
            like: &self.teacher.config,
            student: self.student,
            answers,
            start: if self.from_scratch { Start::Scratch } else { Start::Network(&inverted.adversary.network) },
            recipe: &recipe,
            stop: Stop::default(),
            seed: self.seed,
        };
        let (student, provenance) = job.run(observer)?;
        let mut provenance = provenance;
        provenance["wall_seconds"]["inversion"] = inverted.set.provenance["wall_seconds"]["total"].clone();
        provenance["wall_seconds"]["total"] = json!(seconds(begin.elapsed()));
        Ok(Ran { inverted, student, provenance })
    }
}
