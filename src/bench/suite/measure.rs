//! Accuracy, measured when a run is over: its snapshots and its last weights on the images that were held back, the last weights
//! alone, once, on the test set.

use super::command::{Surroundings, model_folder, result_folder};
use super::file::Suite;
use super::run::{Kind, Run};
use crate::data::{Labelled, ReadOptions};
use crate::events::Silent;
use crate::jobs::{Access, open_model};
use crate::model::{Model, Overrides};
use crate::ops::Compute;
use crate::report::read_snapshots;
use crate::teacher::Teacher;
use crate::train::{batch_for, evaluate, labels_for};
use crate::weights::Checkpoint;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Images per pass.
const BATCH: usize = 256;

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Share of the images, 0 to 1.
    pub top1: f64,
    /// Mean cross-entropy in nats.
    pub loss: f64,
    pub images: usize,
    pub data: String,
    pub sha256: String,
    /// The data as the suite calls them.
    #[serde(default)]
    pub named: String,
}

/// What a suite wants to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// As the suite calls the data.
    pub data: &'a str,
    /// Whether the test set is read.
    pub test: bool,
    /// Images held back.
    pub hold_back: usize,
}

impl<'a> Wanted<'a> {
    pub fn of(suite: &'a Suite) -> Self {
        Self { data: &suite.data, test: suite.test, hold_back: suite.hold_back }
    }

    fn is_of_the_data(&self, score: &Score) -> bool {
        score.named == self.data
    }

    /// Whether the test set is still to be read, where `test` is what is known.
    fn lacks_test(&self, test: Option<&Score>) -> bool {
        self.test && !test.is_some_and(|score| self.is_of_the_data(score))
    }

    /// The same of the images held back.
    fn lacks_held_back(&self, held_back: Option<&Score>) -> bool {
        let serves = |score: &Score| self.is_of_the_data(score) && score.images == self.hold_back;
        self.hold_back > 0 && !held_back.is_some_and(serves)
    }

    /// Whether the suite holds these very images back.
    pub fn looks_at(&self, held_back: Option<&Score>) -> bool {
        self.hold_back > 0 && !self.lacks_held_back(held_back)
    }

    /// Whether nothing is left to measure.
    pub fn has_all(&self, test: Option<&Score>, held_back: Option<&Score>) -> bool {
        !self.lacks_test(test) && !self.lacks_held_back(held_back)
    }
}

/// A snapshot's accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Since the run began.
    pub seconds: f64,
    /// Updates of the student so far.
    pub updates: usize,
    pub stage: String,
    /// On the images held back.
    pub top1: f64,
}

/// All that is measured on a run: `evaluation.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Last weights on the test set; absent where a suite does not read it.
    pub test: Option<Score>,
    /// Last weights on the images held back.
    pub held_back: Option<Score>,
    pub curve: Vec<Point>,
    /// What reading the run's weights and evaluating them took; reading the images is not in it.
    pub seconds: f64,
}

impl Measured {
    /// Whether it has what is wanted.
    pub fn suffices(&self, wanted: &Wanted) -> bool {
        wanted.has_all(self.test.as_ref(), self.held_back.as_ref())
    }
}

/// Images with their labels as the dataset has them.
struct Data {
    labelled: Labelled,
    labels: Vec<u32>,
    names: Vec<String>,
}

impl Data {
    fn new(labelled: Labelled) -> Self {
        Self { labels: labelled.labels.clone(), names: labelled.class_names.clone(), labelled }
    }

    /// Of a model on the images of what a suite calls `named`.
    fn score(&mut self, model: &Model, named: &str, compute: &Compute) -> Result<Score> {
        let data = &mut self.labelled;
        (data.labels, data.class_names) = (self.labels.clone(), self.names.clone());
        labels_for(&model.class_names(), data)?;
        let teacher = Teacher::of(model).to(compute)?;
        let found = evaluate(&teacher, data, batch_for(BATCH, teacher.size), &mut Silent)?;
        let (data, sha256) = (data.name.clone(), data.sha256.clone());
        Ok(Score { top1: found.top1, loss: found.loss, images: found.count, data, sha256, named: named.into() })
    }
}

/// Evaluates runs; images are read when the first one needs them.
pub struct Measure<'a> {
    around: Surroundings<'a>,
    access: Access,
    compute: &'a Compute,
    test: Option<Data>,
    held_back: Option<Data>,
}

impl<'a> Measure<'a> {
    pub fn new(around: Surroundings<'a>, access: Access, compute: &'a Compute) -> Self {
        Self { around, access, compute, test: None, held_back: None }
    }

    /// Measures what `known` lacks.
    ///
    /// # Errors
    /// A model or images that cannot be read or do not fit each other; an interruption.
    pub fn run(&mut self, run: &Run, known: Measured) -> Result<Measured> {
        let wanted = Wanted::of(self.around.suite);
        let mut found = known;
        let model = open_model(&self.model_of(run)?, None, &Overrides::default(), &self.access)?;
        if wanted.lacks_held_back(found.held_back.as_ref()) {
            self.read_held_back(wanted.hold_back)?;
            let start = Instant::now();
            if let Some(data) = &mut self.held_back {
                let folder = result_folder(self.around.out, &run.folder).join("snapshots");
                found.curve = curve(&model, &folder, data, wanted.data, self.compute)?;
                found.held_back = Some(data.score(&model, wanted.data, self.compute)?);
            }
            found.seconds += start.elapsed().as_secs_f64();
        }
        if wanted.lacks_test(found.test.as_ref()) {
            self.read_test()?;
            let start = Instant::now();
            found.test = self.test.as_mut().map(|data| data.score(&model, wanted.data, self.compute)).transpose()?;
            found.seconds += start.elapsed().as_secs_f64();
        }
        Ok(found)
    }

    fn model_of(&self, run: &Run) -> Result<PathBuf> {
        if run.kind == Kind::Teacher { self.around.teacher(run) } else { Ok(model_folder(self.around.out, run)) }
    }

    fn read_test(&mut self) -> Result<()> {
        if self.test.is_none() {
            self.test = Some(Data::new(self.read("test")?));
        }
        Ok(())
    }

    fn read_held_back(&mut self, count: usize) -> Result<()> {
        if self.held_back.is_none() {
            self.held_back = Some(Data::new(self.read("train")?.held_back(count)?.1));
        }
        Ok(())
    }

    fn read(&self, split: &str) -> Result<Labelled> {
        let options = ReadOptions { split: Some(split.into()), ..ReadOptions::default() };
        self.access.labelled(&self.around.data()?, &options)
    }
}

/// The accuracy of every snapshot in `folder`.
fn curve(model: &Model, folder: &Path, data: &mut Data, named: &str, compute: &Compute) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    for snapshot in read_snapshots(folder)? {
        let path = folder.join(&snapshot.file);
        let weights = Checkpoint::read(&path)?;
        let then = Model::from_parts(model.config.clone(), weights, &path.display().to_string())?;
        let top1 = match data.score(&then, named, compute) {
            Ok(score) => score.top1,
            // A student that has blown up on the way answers nothing.
            Err(Error::Failed { .. }) => 0.0,
            Err(error) => return Err(error),
        };
        let (seconds, updates, stage) = (snapshot.seconds, snapshot.updates, snapshot.stage);
        points.push(Point { seconds, updates, stage, top1 });
    }
    Ok(points)
}
