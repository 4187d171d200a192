//! What a run shows, logs and says about itself.
//!
//! | file | content |
//! |---|---|
//! | `progress.rs` | bars on a terminal, an occasional line elsewhere |
//! | `metrics.rs` | `metrics.jsonl`, one object per record |
//! | `summary.rs` | last values, time and trend per stage |
//! | `health/` | numbers of a finished run that need no real data |
//! | `snapshots.rs` | the student's weights at times of its run, for a curve of its accuracy |
//! | `alarms.rs` | which of them mean that the run has failed, and why |
//! | `criteria/` | what makes a set good to learn from, and a score |
//! | `describe.rs`, `page/` | `synth inspect` of a set, as text, JSON and HTML |
//! | `transfer.rs` | a bar for files from and to the Hub |
//! | `card.rs`, `model_index.rs` | the README of a model, and the accuracies in its head |

mod alarms;
mod card;
pub mod criteria;
mod describe;
pub mod health;
mod metrics;
mod model_index;
mod page;
mod progress;
mod snapshots;
mod summary;
mod transfer;

pub use alarms::{Alarm, alarms, alarms_of, alarms_under_way, few_classes};
pub use card::{held_out, model_card};
pub use criteria::Criteria;
pub use describe::{Description, describe_set};
pub use health::Health;
pub use metrics::Metrics;
pub use model_index::{Arguments, MeasuredOn, with_accuracy};
pub(crate) use page::escape;
pub use progress::Progress;
pub(crate) use progress::duration;
pub use snapshots::{Every, Snapshot, Snapshots, read_snapshots};
pub use summary::{StageSummary, Summary, Trend};
pub use transfer::Transfer;

use crate::Result;
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::events::{Observer, Pupil, Record};
use std::path::Path;
use std::time::Instant;

/// Progress for a person, the metrics log, and what is kept for the result.
pub struct Reporter {
    progress: Progress,
    metrics: Option<Metrics>,
    summary: Summary,
    snapshots: Option<Snapshots>,
}

impl Reporter {
    /// Shows progress on stderr unless `quiet`, and logs to `log` if there is one.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the log cannot be opened; later trouble with the disk is reported and does not end the run.
    pub fn new(quiet: bool, log: Option<&Path>) -> Result<Self> {
        let metrics = log.map(Metrics::open).transpose()?;
        Ok(Self { progress: Progress::stderr(quiet), metrics, summary: Summary::default(), snapshots: None })
    }

    /// Takes snapshots from now on.
    pub fn take_snapshots(&mut self, snapshots: Snapshots) {
        self.snapshots = Some(snapshots);
    }

    /// Copies the snapshots taken, if they were, into `folder`.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    pub fn copy_snapshots(&self, folder: &Path) -> Result<()> {
        self.snapshots.as_ref().map_or(Ok(()), |snapshots| snapshots.copy(folder))
    }

    /// Leaves nothing in the log of what an earlier run has written there.
    pub fn begin_anew(&mut self) {
        self.metrics.iter_mut().for_each(Metrics::begin_anew);
    }

    /// Hands the log to the system, as far as it is written.
    pub fn flush(&mut self) {
        self.metrics.iter_mut().for_each(Metrics::flush);
    }

    /// Brings the log to its end, for the result.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the disk refuses.
    pub fn settle(&mut self) -> Result<()> {
        self.metrics.as_mut().map_or(Ok(()), Metrics::settle)
    }

    /// Stages so far: last values, seconds, trends.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

impl Observer for Reporter {
    fn record(&mut self, record: &Record) {
        let now = Instant::now();
        let spent = self.summary.take(record, now);
        self.progress.take(record, now, spent);
        if let Some(metrics) = &mut self.metrics {
            metrics.take(record, now);
        }
    }

    fn updated(&mut self, stage: &'static str, pupil: &dyn Pupil) -> Result<()> {
        self.snapshots.as_mut().map_or(Ok(()), |snapshots| snapshots.updated(stage, pupil))
    }
}

/// What is logged goes on where it was; progress and summary are of this process. Snapshots are taken to the end as they were
/// begun: a curve with a part missing is none.
impl Resumable for Reporter {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        self.metrics.as_ref().map_or(Ok(()), |metrics| to.part("metrics", metrics))?;
        self.snapshots.as_ref().map_or(Ok(()), |snapshots| to.part("snapshots", snapshots))
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        if let Some(metrics) = self.metrics.as_mut().filter(|_| from.has("metrics")) {
            from.restore("metrics", metrics)?;
        }
        match (&mut self.snapshots, from.has("snapshots")) {
            (Some(snapshots), true) => from.restore("snapshots", snapshots),
            (Some(_), false) => Err(snapshots::begun_otherwise(from, "without --snapshots")),
            (None, true) => Err(snapshots::begun_otherwise(from, "with --snapshots")),
            (None, false) => Ok(()),
        }
    }
}

/// A summary alone is an observer too.
impl Observer for Summary {
    fn record(&mut self, record: &Record) {
        self.take(record, Instant::now());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::data::Images;
    use crate::set::SyntheticSet;
    use std::time::Duration;

    /// A set of 4x4 grey images of `K` classes; `pixel(image, position)` gives the values.
    pub fn set_of<const K: usize>(labels: &[u32], logits: &[[f32; K]], pixel: fn(usize, usize) -> u8) -> SyntheticSet {
        let pixels: Vec<u8> = (0..labels.len()).flat_map(|i| (0..16).map(move |j| pixel(i, j))).collect();
        SyntheticSet {
            images: Images::new(pixels, 1, 4, 4).unwrap().into(),
            labels: labels.to_vec(),
            logits: logits.concat().into(),
            priority: vec![1.0; labels.len()],
            class_names: (0..K).map(|k| format!("class {k}")).collect(),
            views: None,
            provenance: serde_json::json!({}),
        }
    }

    #[test]
    fn a_reporter_logs_and_keeps_what_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("metrics.jsonl");
        let mut reporter = Reporter::new(true, Some(&log)).unwrap();
        for done in 1..=3 {
            let values = vec![("loss", 1.0 / done as f64)];
            reporter.record(&Record { stage: "distill", done, total: 3, images: 8, values });
        }
        assert_eq!(reporter.summary().stage("distill").unwrap().images, 24);
        assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 3);
        assert!(Reporter::new(true, Some(&folder.path().join("no/such/folder"))).is_err());
    }

    #[test]
    fn a_run_goes_on_with_the_snapshots_that_it_was_begun_with() {
        let folder = tempfile::tempdir().unwrap();
        let reporter = |every: Option<Every>| {
            let mut reporter = Reporter::new(true, None).unwrap();
            if let Some(every) = every {
                reporter.take_snapshots(Snapshots::new(folder.path(), &["train"], every).unwrap());
            }
            reporter
        };
        let ways = [
            None,
            Some(Every::Updates { count: 1, of: 4 }),
            Some(Every::Updates { count: 1, of: 9 }),
            Some(Every::Time(Duration::from_secs(9))),
        ];
        for begun in ways {
            let state = Saver::of(&reporter(begun)).unwrap().keep();
            for now in ways {
                let found = reporter(now).restore(&state).map_err(|error| error.to_string());
                assert_eq!(found.is_ok(), begun == now, "{begun:?}, {now:?}: {found:?}");
                assert!(found.err().is_none_or(|text| text.contains("--snapshots") && text.contains("begun with")));
            }
        }
    }
}
