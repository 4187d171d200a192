//! A run with its files: progress and log, states to go on from, and the result that appears in the end.

use super::job_sha256;
use crate::checkpoint::{Checkpoints, Resumable, Saved, Unfinished};
use crate::events::{Observer, Pupil, Record, check_interrupt};
use crate::files::Staging;
use crate::ops::{self, Compute};
use crate::report::{Every, Reporter, Snapshots, alarms_under_way};
use crate::signs::Signs;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// The name of a result's log.
const LOG: &str = "metrics.jsonl";
/// The name of the folder of snapshots.
const SNAPSHOTS: &str = "snapshots";
/// The largest `synth.json` of a finished result.
const LARGEST: u64 = 64 << 20;

/// Watches the stages of a run and keeps their states.
pub struct Session {
    reporter: Reporter,
    checkpoints: Checkpoints,
    place: Unfinished,
    /// Whether an alarm ends the run.
    strict: bool,
    /// Names of the alarms that were raised under way.
    raised: Vec<&'static str>,
    /// The alarm that ends the run as soon as its state is whole.
    pending: Option<String>,
    /// Whether steps were done in this process.
    worked: bool,
}

impl Session {
    /// A run of `fingerprint` in `place`, with a state every so often (`None`: only when it is interrupted and at the end of a
    /// stage). `strict`: the first alarm ends it.
    ///
    /// # Errors
    /// [`Error::Io`] where nothing can be written.
    pub fn open(
        place: Unfinished,
        fingerprint: Value,
        compute: &Compute,
        every: Option<Duration>,
        strict: bool,
        quiet: bool,
    ) -> Result<Self> {
        let circumstances = json!({
            "device": compute.name(),
            "precision": compute.precision.name(),
            "instructions": ops::simd::level().name(),
        });
        let checkpoints = Checkpoints::in_folder(place.states(), fingerprint, circumstances, every)?;
        let reporter = Reporter::new(quiet, Some(&place.log()))?;
        Ok(Self { reporter, checkpoints, place, strict, raised: Vec::new(), pending: None, worked: false })
    }

    /// Takes snapshots of the network of `stages`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn take_snapshots(&mut self, stages: &'static [&'static str], every: Every) -> Result<()> {
        let snapshots = Snapshots::new(&self.place.folder().join(SNAPSHOTS), stages, every)?;
        self.reporter.take_snapshots(snapshots);
        Ok(())
    }

    /// A folder for the result, with the log and the snapshots in it.
    ///
    /// # Errors
    /// As [`Staging::create`]; [`Error::Io`].
    pub fn staging(&mut self) -> Result<Staging> {
        let staging = self.place.staging()?;
        self.reporter.settle()?;
        let (from, to) = (self.place.log(), staging.path().join(LOG));
        std::fs::copy(&from, &to).map_err(Error::io("copy", &from))?;
        self.reporter.copy_snapshots(&staging.path().join(SNAPSHOTS))?;
        Ok(staging)
    }

    /// Gives the result its name, and removes what the run was kept in.
    ///
    /// # Errors
    /// As [`Staging::finish`]; the states are then still there.
    pub fn finish(self, staging: Staging) -> Result<()> {
        staging.finish()?;
        drop(self.reporter);
        self.place.remove();
        Ok(())
    }

    /// Ends the run, with its state kept, if somebody has asked for it or something is alarming.
    fn halt(&mut self, stage: &'static str, state: &dyn Resumable) -> Result<()> {
        let interrupted = check_interrupt().is_err();
        if !interrupted && self.pending.is_none() {
            return Ok(());
        }
        self.reporter.flush();
        let kept = self.checkpoints.try_write(stage, state, &self.reporter);
        Err(match (&self.pending, kept) {
            (Some(alarm), _) if !interrupted => self.alarmed(alarm),
            (_, true) => Error::Paused { path: self.place.folder().to_path_buf() },
            (_, false) => Error::Interrupted,
        })
    }

    fn alarmed(&self, alarm: &str) -> Error {
        let folder = self.place.folder().display();
        let hint = format!("{folder} keeps what was done: go on with --resume and without --stop-on-alarm");
        Error::Failed { found: format!("alarm: {alarm}"), hint }
    }
}

impl Observer for Session {
    fn record(&mut self, record: &Record) {
        self.reporter.record(record);
    }

    fn updated(&mut self, stage: &'static str, pupil: &dyn Pupil) -> Result<()> {
        self.reporter.updated(stage, pupil)
    }

    fn between(&mut self, stage: &'static str, state: &dyn Resumable) -> Result<()> {
        self.halt(stage, state)?;
        self.worked = true;
        if self.checkpoints.due() {
            self.reporter.flush();
            self.checkpoints.try_write(stage, state, &self.reporter);
        }
        Ok(())
    }

    fn ended(&mut self, stage: &'static str, state: &dyn Resumable) -> Result<()> {
        self.halt(stage, state)?;
        self.reporter.flush();
        self.checkpoints.try_write(stage, state, &self.reporter);
        Ok(())
    }

    fn signs(&mut self, signs: &Signs) -> Result<()> {
        for alarm in alarms_under_way(signs) {
            if !self.raised.contains(&alarm.name) {
                self.raised.push(alarm.name);
                match self.strict {
                    true => self.pending = Some(alarm.to_string()),
                    false => tracing::warn!("alarm: {alarm}"),
                }
            }
        }
        Ok(())
    }

    fn alarm(&mut self, text: &str) -> Result<()> {
        if self.strict {
            return Err(self.alarmed(text));
        }
        tracing::warn!("alarm: {text}");
        Ok(())
    }

    fn earlier(&mut self, stage: &'static str) -> Result<Option<Saved>> {
        let Some((state, reporter)) = self.checkpoints.newest(stage)? else { return Ok(None) };
        // A stage before it was done again, whose last state the disk had refused: the log that this state speaks of is gone.
        if self.worked {
            self.checkpoints.forget(stage);
            return Ok(None);
        }
        self.reporter.restore(&reporter)?;
        Ok(Some(state))
    }
}

/// What `synth.json` in `folder` says of the finished result of the run of `fingerprint`.
///
/// # Errors
/// [`Error::File`] if it is that of another run, or none of ours.
pub fn finished(folder: &Path, fingerprint: &Value) -> Result<Value> {
    let path = folder.join("synth.json");
    let again = "choose another name, or use --force to replace it";
    let about = std::fs::metadata(&path).map_err(Error::io("read", &path))?;
    if about.len() > LARGEST {
        return Err(Error::file(&path, "it is too large for a result of ours", again));
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let provenance: Value =
        serde_json::from_str(&text).map_err(|e| Error::file(&path, format!("no JSON ({e})"), again))?;
    if provenance["job_sha256"].as_str() != Some(&job_sha256(fingerprint)) {
        return Err(Error::file(&path, "it is the finished result of another run, of other choices", again));
    }
    Ok(provenance)
}
