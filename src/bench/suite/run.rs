//! One run of a suite.

use super::file::{Budget, Method, Training};
use serde_json::Value;

/// What a run is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Training of a teacher that the suite does not find ready-made.
    TrainTeacher {
        net: String,
        train: Training,
    },
    /// Evaluation of the teacher.
    Teacher,
    Supervised,
    KdReal,
    KdNoise,
    /// A method without data.
    DataFree(Method),
}

impl Kind {
    /// As `results.jsonl` calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TrainTeacher { .. } => "train-teacher",
            Self::Teacher => "teacher",
            Self::Supervised => "supervised",
            Self::KdReal => "kd-real",
            Self::KdNoise => "kd-noise",
            Self::DataFree(_) => "data-free",
        }
    }

    /// As tables call it.
    pub fn label(&self) -> &str {
        match self {
            Self::TrainTeacher { .. } => "training of the teacher",
            Self::Teacher => "teacher",
            Self::Supervised => "trained on real data",
            Self::KdReal => "KD on real data",
            Self::KdNoise => "KD on noise",
            Self::DataFree(method) => method.label(),
        }
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its name: readable, with the start of the hash of `settings`.
    pub id: String,
    /// Name of the folder of its work: its own, or that of the run that does the same. (What a student learns from labels is the
    /// same beside every teacher.)
    pub folder: String,
    pub kind: Kind,
    /// Name of the teacher in the suite.
    pub teacher: String,
    /// Architecture of the student; of the teacher where that is the subject.
    pub student: String,
    pub seed: u64,
    /// None where the amount of work is fixed otherwise.
    pub budget: Option<Budget>,
    /// All that the result depends on, beside the program and the machine.
    pub settings: Value,
    /// The run that makes its teacher.
    pub needs: Option<String>,
}

impl Run {
    /// `wrn-16-2 to wrn-16-1, ssd, 20 min, seed 0`
    pub fn line(&self) -> String {
        let Self { teacher, student, kind, seed, .. } = self;
        match (kind, &self.budget) {
            (Kind::Teacher | Kind::TrainTeacher { .. }, _) => format!("{teacher}, {}", kind.label()),
            (_, None) => format!("{teacher} to {student}, {}, seed {seed}", kind.label()),
            (_, Some(budget)) => format!("{teacher} to {student}, {}, {}, seed {seed}", kind.label(), budget.label()),
        }
    }

    /// Whether all of `texts` are in its line, in capitals or not.
    pub fn has(&self, texts: &[String]) -> bool {
        let line = self.line().to_lowercase();
        texts.iter().all(|text| line.contains(&text.to_lowercase()))
    }
}
