//! The commands that take long, as runs of about a second.

use super::inputs::{pictures, scratch, set, teacher};
use super::outcome::differences;
use super::process::{Run, finish};
use super::table::is_full;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// A tiny inversion.
#[rustfmt::skip]
pub const INVERSION: [&str; 16] = [
    "--samples", "60", "--set", "batch=6", "--set", "practice=2", "--set", "fill=2", "--set", "rounds=24",
    "--set", "adversary_steps=6", "--set", "student.batch=8", "--set", "generator.width=4",
];

/// A collection of which every part takes a while.
#[rustfmt::skip]
const COLLECTION: [&str; 14] = [
    "--from", "shaders=2", "--from", "noise", "--pool", "6000", "--samples", "1500", "--related", "--distinct", "--boundary", "120",
    "--views", "4",
];

/// What a command makes of the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Invert,
    Collect,
    Distill,
    Run,
    Train,
}

impl Work {
    pub const ALL: [Self; 5] = [Self::Invert, Self::Collect, Self::Distill, Self::Run, Self::Train];

    /// The runs of a fault that meets what all works share: once each of `some`, or all of them `often` times if the table is to be
    /// full; each with its round.
    pub fn rounds(some: &[Self], often: usize) -> Vec<(usize, Self)> {
        let (works, rounds) = if is_full() { (&Self::ALL[..], often) } else { (some, 1) };
        (0..rounds).flat_map(|round| works.iter().map(move |work| (round, *work))).collect()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Invert => "invert",
            Self::Collect => "collect",
            Self::Distill => "distill",
            Self::Run => "run",
            Self::Train => "train",
        }
    }

    /// The run that makes `output`.
    pub fn run(self, output: &Path) -> Run {
        self.with(&teacher(), output)
    }

    /// As [`Work::run`], with another teacher.
    pub fn with(self, teacher: &Path, output: &Path) -> Run {
        let (teacher, set, pictures) = (path(teacher), path(&set()), path(&pictures()));
        let words: Vec<&str> = match self {
            Self::Invert => [&["invert", &teacher, "--views", "2"], &INVERSION[..]].concat(),
            Self::Collect => [&["collect", &teacher], &COLLECTION[..]].concat(),
            Self::Distill => {
                vec!["distill", &set, "--teacher", &teacher, "--steps", "500", "--set", "student.batch=8"]
            }
            Self::Run => {
                let own = ["run", &teacher, "--student", "resnet8", "--set", "finish_steps=200", "--init", "adversary"];
                [&own[..], &INVERSION[..], &["--set", "rounds=12"]].concat()
            }
            Self::Train => vec!["train", "resnet8", "--data", &pictures, "--epochs", "60", "--set", "batch=8"],
        };
        Run::new(&words, output)
    }

    /// The undisturbed result, and how long it took.
    fn reference(self) -> (PathBuf, Duration) {
        static MADE: [OnceLock<Duration>; 5] = [const { OnceLock::new() }; 5];
        static TURN: Mutex<()> = Mutex::new(());
        let output = scratch().join(format!("undisturbed-{}", self.name()));
        let took = *MADE[self as usize].get_or_init(|| {
            let run = self.run(&output);
            let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
            let begin = Instant::now();
            finish(&run).expect_success();
            begin.elapsed()
        });
        (output, took)
    }

    /// How long it takes.
    pub fn takes(self) -> Duration {
        self.reference().1
    }

    /// How a result differs from the undisturbed one.
    pub fn differences(self, output: &Path) -> Vec<String> {
        differences(&self.reference().0, output)
    }
}

fn path(path: &Path) -> String {
    path.to_str().unwrap().to_string()
}
