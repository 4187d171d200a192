//! What is kept of a run's records: last values, time and trend per stage.

use crate::events::Record;
use crate::trend::Ends;
pub use crate::trend::Trend;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Records behind each end of a trend: the first and the last so many.
const TREND: usize = 50;

/// One stage of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageSummary {
    pub stage: &'static str,
    pub done: usize,
    pub total: usize,
    /// Images worked on.
    pub images: usize,
    /// Time spent on this stage; stages that take turns share the clock without overlap.
    pub seconds: f64,
    /// Values of the last record.
    #[serde(serialize_with = "as_map")]
    pub values: Vec<(&'static str, f64)>,
    /// Trend of the value `loss`, if the stage has one.
    pub loss: Option<Trend>,
    /// Values that were no finite numbers.
    pub non_finite: usize,
    #[serde(skip)]
    ends: Ends,
}

/// All stages so far, in the order in which they began.
#[derive(Clone, Debug)]
pub struct Summary {
    stages: Vec<StageSummary>,
    began: Instant,
    latest: Instant,
}

impl Default for Summary {
    fn default() -> Self {
        Self::starting(Instant::now())
    }
}

impl Summary {
    /// An empty summary whose clock starts at `now`.
    pub fn starting(now: Instant) -> Self {
        Self { stages: Vec::new(), began: now, latest: now }
    }

    /// Takes in a record; the time since the last record, of whichever stage, belongs to this one. Returns that time.
    pub fn take(&mut self, record: &Record, now: Instant) -> Duration {
        let spent = now.saturating_duration_since(self.latest);
        self.latest = now;
        let at = self.stages.iter().position(|s| s.stage == record.stage).unwrap_or_else(|| {
            self.stages.push(StageSummary::new(record.stage));
            self.stages.len() - 1
        });
        self.stages[at].take(record, spent);
        spent
    }

    /// Every stage that has reported.
    pub fn stages(&self) -> &[StageSummary] {
        &self.stages
    }

    /// One stage by name.
    pub fn stage(&self, name: &str) -> Option<&StageSummary> {
        self.stages.iter().find(|s| s.stage == name)
    }

    /// From the start of the clock to the last record.
    pub fn seconds(&self) -> f64 {
        self.latest.saturating_duration_since(self.began).as_secs_f64()
    }

    /// For the `--json` results: `{"warm-up": {"seconds": ..., "values": {...}, ...}, ...}`.
    pub fn to_json(&self) -> serde_json::Value {
        let one = |s: &StageSummary| (s.stage.to_string(), serde_json::to_value(s).unwrap_or_default());
        serde_json::Value::Object(self.stages.iter().map(one).collect())
    }
}

impl StageSummary {
    fn new(stage: &'static str) -> Self {
        Self {
            stage,
            done: 0,
            total: 0,
            images: 0,
            seconds: 0.0,
            values: Vec::new(),
            loss: None,
            non_finite: 0,
            ends: Ends::of(TREND),
        }
    }

    fn take(&mut self, record: &Record, spent: Duration) {
        self.done = record.done;
        self.total = record.total;
        self.images += record.images;
        self.seconds += spent.as_secs_f64();
        self.values.clone_from(&record.values);
        self.non_finite += record.values.iter().filter(|(_, v)| !v.is_finite()).count();
        let loss = record.values.iter().find(|(name, v)| *name == "loss" && v.is_finite());
        if let Some((_, loss)) = loss {
            self.ends.take(*loss);
            self.loss = self.ends.trend();
        }
    }
}

/// Named values as a JSON object.
pub(super) fn as_map<S: serde::Serializer>(values: &[(&'static str, f64)], s: S) -> Result<S::Ok, S::Error> {
    s.collect_map(values.iter().map(|(name, value)| (name, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(stage: &'static str, done: usize, loss: f64) -> Record {
        Record { stage, done, total: 200, images: 10, values: vec![("loss", loss), ("lr", 0.1)] }
    }

    #[test]
    fn stages_that_take_turns_share_the_clock() {
        let start = Instant::now();
        let mut summary = Summary::starting(start);
        for (i, stage) in ["synthesis", "adversary", "adversary", "synthesis"].into_iter().enumerate() {
            summary.take(&record(stage, i, 1.0), start + Duration::from_secs([1, 3, 6, 10][i]));
        }
        let seconds = |name| summary.stage(name).unwrap().seconds;
        assert_eq!((seconds("synthesis"), seconds("adversary"), summary.seconds()), (5.0, 5.0, 10.0));
        assert_eq!(summary.stage("adversary").unwrap().images, 20);
    }

    #[test]
    fn a_trend_compares_the_ends_and_counts_what_is_no_number() {
        let mut summary = Summary::default();
        for step in 0..200 {
            let loss = if step == 100 { f64::NAN } else { 200.0 - step as f64 };
            summary.take(&record("distill", step + 1, loss), Instant::now());
        }
        let stage = summary.stage("distill").unwrap();
        // Means of 200..151 and of 50..1.
        assert_eq!(stage.loss, Some(Trend { first: 175.5, last: 25.5 }));
        assert_eq!(stage.non_finite, 1);
        let json = summary.to_json();
        assert_eq!(json["distill"]["values"]["loss"], 1.0);
        assert_eq!(json["distill"]["done"], 200);
        assert!(json["distill"].get("ends").is_none());
    }
}
