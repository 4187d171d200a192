//! Accuracy, measured when a run is over: its snapshots and its last weights on the images that were held back, the last weights
//! alone, once, on the test set.

use super::command::{Surroundings, model_folder, result_folder};
use super::plan::{Kind, Run};
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
    /// Whether it has what a suite with these choices asks for.
    pub fn suffices(&self, test: bool, hold_back: usize) -> bool {
        let held_back = self.held_back.as_ref().map_or(0, |score| score.images);
        (!test || self.test.is_some()) && (hold_back == 0 || held_back == hold_back)
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

    fn score(&mut self, model: &Model, compute: &Compute) -> Result<Score> {
        let data = &mut self.labelled;
        (data.labels, data.class_names) = (self.labels.clone(), self.names.clone());
        labels_for(&model.class_names(), data)?;
        let teacher = Teacher::of(model).to(compute)?;
        let found = evaluate(&teacher, data, batch_for(BATCH, teacher.size), &mut Silent)?;
        let (data, sha256) = (data.name.clone(), data.sha256.clone());
        Ok(Score { top1: found.top1, loss: found.loss, images: found.count, data, sha256 })
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
        let (test, hold_back) = (self.around.suite.test, self.around.suite.hold_back);
        let mut found = known;
        let model = open_model(&self.model_of(run)?, None, &Overrides::default(), &self.access)?;
        if hold_back > 0 && !found.suffices(false, hold_back) {
            self.read_held_back(hold_back)?;
            let start = Instant::now();
            if let Some(data) = &mut self.held_back {
                let folder = result_folder(self.around.out, &run.id).join("snapshots");
                found.curve = curve(&model, &folder, data, self.compute)?;
                found.held_back = Some(data.score(&model, self.compute)?);
            }
            found.seconds += start.elapsed().as_secs_f64();
        }
        if test && found.test.is_none() {
            self.read_test()?;
            let start = Instant::now();
            found.test = self.test.as_mut().map(|data| data.score(&model, self.compute)).transpose()?;
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
fn curve(model: &Model, folder: &Path, data: &mut Data, compute: &Compute) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    for snapshot in read_snapshots(folder)? {
        let path = folder.join(&snapshot.file);
        let weights = Checkpoint::read(&path)?;
        let then = Model::from_parts(model.config.clone(), weights, &path.display().to_string())?;
        let top1 = match data.score(&then, compute) {
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
