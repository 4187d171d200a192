//! Both stages in one: a teacher becomes a student.

use super::{AnswerMode, DistillJob, InvertJob, Start, fresh_student, identity, job_sha256, merge, seconds};
use crate::distill::{Stop, StudentRecipe, shared_parameters};
use crate::events::Observer;
use crate::invert::{Feed, LabelEmbeddings, Recipe, Unread};
use crate::jobs::invert::Inverted;
use crate::model::Model;
use crate::ops::Compute;
use crate::rng::Streams;
use crate::train::Schedule;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Options of a run.
#[derive(Clone, Copy)]
pub struct RunJob<'a> {
    pub teacher: &'a Model,
    pub student: &'a str,
    pub recipe: &'a Recipe,
    /// See [`crate::invert::Options::embeddings`].
    pub embeddings: Option<&'a LabelEmbeddings>,
    pub init: Init,
    /// The adversary is the student and leaves the loop trained; there is no second stage.
    pub on_the_fly: bool,
    /// Whether the set holds the teacher's answers to all of the recipe's views even if the student does not read them.
    pub all_views: bool,
    /// Time for the whole run, in place of the recipe's `rounds` and `finish_steps`. The result says how many there were;
    /// with those numbers in the recipe the same seed gives the same student again, where no rates follow the rounds (those of
    /// a student on the fly and of `generator.over_run` do).
    pub limit: Option<Duration>,
    pub seed: u64,
    pub compute: &'a Compute,
}

/// Where the weights of a run's student come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// From fresh weights in both stages: the fair start in a comparison of methods.
    Scratch,
    /// The second stage goes on with the adversary, which started from fresh weights and has seen every image.
    Adversary,
    /// As `Adversary`, but the adversary started with those tensors of the teacher whose names and shapes agree with its own:
    /// a shallower network of the same family is the teacher without some of its blocks.
    TeacherBlocks,
}

impl Init {
    /// `TeacherBlocks` if they make up at least half of the student's parameters, else `Adversary`.
    ///
    /// # Errors
    /// A student that does not fit the teacher's images.
    pub fn fitting(teacher: &Model, student: &str) -> Result<Self> {
        let (network, _) = fresh_student(student, &teacher.config, None, &mut Streams::new(0).stream("fit", 0))?;
        let shared = shared_parameters(&network, &teacher.network);
        Ok(if 2 * shared >= network.arch.parameters() { Self::TeacherBlocks } else { Self::Adversary })
    }
}

/// What a run leaves.
pub struct Ran {
    pub inverted: Inverted,
    pub student: Model,
    /// What `synth.json` of the student says.
    pub provenance: Value,
}

/// Share of a limited run that belongs to the second stage.
pub(crate) const FINISH_SHARE: f64 = 0.3;
/// Share of what is left to a second stage that its updates may take; it allows for its checks itself.
const UPDATES_SHARE: f64 = 0.96;

/// What a run on the fly keeps of its time for the batch norms, the set and the report: no more than the two stages of other
/// runs leave over, or equal times would not be equal.
fn kept_for_the_end(limit: Duration) -> Duration {
    limit.mul_f64(0.02).max(Duration::from_secs(3)).min(limit.mul_f64(0.08))
}

/// How a student comes to be, as far as its recipe's values depend on it.
#[derive(Clone, Copy)]
pub struct Making<'a> {
    pub recipe: &'a Recipe,
    pub init: Init,
    pub on_the_fly: bool,
}

impl Making<'_> {
    /// Whether the student is what the adversary has become. (One that had no rounds knows nothing.)
    pub fn goes_on(&self) -> bool {
        self.on_the_fly || self.init != Init::Scratch && self.recipe.adversary_updates() > 0
    }

    /// Keys of the recipe that have no part in it: whoever changes them means others.
    pub fn unread(&self) -> Vec<Unread> {
        let mut all = Vec::new();
        let mut unread = |when: bool, keys: &[&'static str], why, hint| {
            if when {
                all.extend(keys.iter().map(|&key| Unread { key, why, hint }));
            }
        };
        let goes_on = self.goes_on();
        unread(
            goes_on,
            &["student.steps"],
            "the student goes on from the adversary",
            "its updates are `rounds` times `adversary_steps`, then `finish_steps`; or say --init scratch",
        );
        unread(
            !goes_on,
            &["finish_steps"],
            "the student starts anew, with a number of updates of its own",
            "say student.steps",
        );
        unread(
            self.init != Init::TeacherBlocks,
            &["blocks_share"],
            "the student does not start with the teacher's blocks",
            "leave it out, or say --init teacher-blocks",
        );
        unread(
            self.on_the_fly,
            &["finish_steps"],
            "the student is finished when the rounds are",
            "leave it out, or --on-the-fly",
        );
        unread(
            self.on_the_fly,
            &["student.rand_augment", "student.signal"],
            "the student is the adversary, which does without",
            "leave it out, or say on_the_fly = false",
        );
        unread(
            self.on_the_fly && self.recipe.feed == Feed::Batch,
            &["student.batch"],
            "the student learns from the batches as they are made (feed = batch)",
            "say batch, or say on_the_fly = false",
        );
        unread(
            goes_on && !self.on_the_fly,
            &["student.schedule"],
            "the rate is constant in the rounds and falls along a cosine after them",
            "leave it out, or say --init scratch or --on-the-fly",
        );
        all
    }
}

impl RunJob<'_> {
    /// How its student comes to be.
    pub fn making(&self) -> Making<'_> {
        Making { recipe: self.recipe, init: self.init, on_the_fly: self.on_the_fly }
    }

    /// See [`Making::goes_on`].
    pub fn goes_on(&self) -> bool {
        self.making().goes_on()
    }

    /// A student that starts from the adversary only has to settle: no warm-up, rate falling to 0.
    fn second_stage(&self) -> StudentRecipe {
        let recipe = self.recipe.student(self.init == Init::TeacherBlocks);
        if !self.goes_on() {
            return recipe;
        }
        StudentRecipe {
            steps: self.recipe.finish_steps,
            schedule: Schedule::Cosine { floor: 0.0 },
            warmup: 0,
            ..recipe
        }
    }

    /// The stages whose network becomes the student, and the updates of it that the recipe asks for.
    pub fn updates(&self) -> (&'static [&'static str], usize) {
        let inversion = self.recipe.adversary_updates();
        match (self.on_the_fly, self.init) {
            (true, _) => (&["adversary"], inversion),
            (false, Init::Scratch) => (&["distill"], self.second_stage().steps),
            (false, _) => (&["adversary", "distill"], inversion + self.second_stage().steps),
        }
    }

    /// Recorded answers are faster, but mixing, RandAugment and parts of images need live ones.
    fn answers(&self) -> AnswerMode {
        let student = &self.recipe.student;
        let changed = student.mixup_until > 0.0 || student.rand_augment > 0 || student.scale < 1.0;
        match self.recipe.views > 0 && !changed {
            true => AnswerMode::Stored,
            false => AnswerMode::Live,
        }
    }

    /// All that the result depends on.
    pub fn fingerprint(&self) -> Value {
        let whole = json!({
            "command": "run",
            "init": format!("{:?}", self.init),
            "limit_seconds": self.limit.map(|limit| limit.as_secs_f64()),
        });
        merge(self.inversion().fingerprint(), whole)
    }

    /// The first stage, in which the student is the adversary.
    fn inversion(&self) -> InvertJob<'_> {
        let rounds = |limit: Duration| match self.on_the_fly {
            true => limit - kept_for_the_end(limit),
            false => limit.mul_f64(1.0 - FINISH_SHARE),
        };
        InvertJob {
            teacher: self.teacher,
            recipe: self.recipe,
            embeddings: self.embeddings,
            adversary: self.student,
            teacher_blocks: self.init == Init::TeacherBlocks,
            on_the_fly: self.on_the_fly,
            all_views: self.all_views || !self.on_the_fly && self.answers() == AnswerMode::Stored,
            limit: self.limit.map(rounds),
            seed: self.seed,
            compute: self.compute,
        }
    }

    /// Runs both stages, or the one of `on_the_fly`.
    ///
    /// # Errors
    /// As [`InvertJob::run`] and [`DistillJob::run`]; a student on the fly that would have no update.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<Ran> {
        if self.on_the_fly && self.recipe.adversary_updates() == 0 {
            let hint = "set rounds and adversary_steps above 0, or leave on_the_fly out";
            return Err(Error::invalid("on_the_fly", "the adversary is the student and would have no update", hint));
        }
        let begin = Instant::now();
        let mut inverted = self.inversion().run(observer)?;
        let (student, mut provenance) = match self.on_the_fly {
            true => (inverted.adversary.clone(), self.on_the_fly_provenance(&inverted)),
            false => self.finish(&inverted, begin, observer)?,
        };
        if self.goes_on() && !self.on_the_fly {
            // Beside the numbers of batches and rounds: with a limit, the recipe's own says nothing.
            inverted.set.provenance["recipe"]["finish_steps"] = provenance["steps"].clone();
        }
        provenance["job_sha256"] = json!(job_sha256(&self.fingerprint()));
        Ok(Ran { inverted, student, provenance })
    }

    /// What is said of an adversary that is the student.
    fn on_the_fly_provenance(&self, inverted: &Inverted) -> Value {
        let student = json!({
            "kind": "student",
            "teacher": identity(self.teacher),
            "start": inverted.set.provenance["adversary_start"],
            "on_the_fly": true,
            "steps": inverted.updates,
        });
        merge(inverted.set.provenance.clone(), student)
    }

    /// The second stage of a run that this process began at `begin`, with what is said of both.
    fn finish(&self, inverted: &Inverted, begin: Instant, observer: &mut dyn Observer) -> Result<(Model, Value)> {
        let spent = begin.elapsed() + inverted.earlier;
        let job = DistillJob {
            set: &inverted.set,
            set_name: "set".into(),
            teacher: Some(self.teacher),
            like: &self.teacher.config,
            student: self.student,
            size: None,
            answers: self.answers(),
            start: match self.init {
                // An adversary that had no rounds is fresh weights like any.
                Init::Adversary if !self.goes_on() => Start::Scratch,
                Init::Scratch => Start::Scratch,
                _ => Start::Network(&inverted.adversary.network),
            },
            recipe: &self.second_stage(),
            stop: Stop {
                limit: self.limit.map(|limit| limit.saturating_sub(spent).mul_f64(UPDATES_SHARE)),
                ..Stop::default()
            },
            seed: self.seed,
            compute: self.compute,
        };
        let second = Instant::now();
        let (student, mut provenance) = job.run(observer)?;
        let whole = provenance["wall_seconds"]["distillation"].as_f64().unwrap_or_default();
        let earlier = (whole - second.elapsed().as_secs_f64()).max(0.0) + inverted.earlier.as_secs_f64();
        provenance["wall_seconds"]["inversion"] = inverted.set.provenance["wall_seconds"]["total"].clone();
        provenance["wall_seconds"]["total"] = json!(seconds(begin.elapsed() + Duration::from_secs_f64(earlier)));
        Ok((student, provenance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_on_the_fly_has_nearly_all_of_its_time() {
        let kept = |seconds: f64| kept_for_the_end(Duration::from_secs_f64(seconds)).as_secs_f64();
        assert_eq!([kept(600.0), kept(60.0), kept(10.0)], [12.0, 3.0, 0.8]);
    }
}
