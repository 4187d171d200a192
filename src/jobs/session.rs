//! A run with its files: progress and log, states to go on from, and the result that appears in the end.

use super::job_sha256;
use crate::checkpoint::{Checkpoints, Resumable, Saved, Unfinished};
use crate::events::{Observer, Record, check_interrupt};
use crate::files::Staging;
use crate::ops::{self, Compute};
use crate::report::Reporter;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// The name of a result's log.
const LOG: &str = "metrics.jsonl";
/// The largest `synth.json` of a finished result.
const LARGEST: u64 = 64 << 20;

/// Watches the stages of a run and keeps their states.
pub struct Session {
    reporter: Reporter,
    checkpoints: Checkpoints,
    place: Unfinished,
}

impl Session {
    /// A run of `fingerprint` in `place`, with a state every so often (`None`: only when it is interrupted and at the end of a
    /// stage).
    ///
    /// # Errors
    /// [`Error::Io`] where nothing can be written.
    pub fn open(
        place: Unfinished,
        fingerprint: Value,
        compute: &Compute,
        every: Option<Duration>,
        quiet: bool,
    ) -> Result<Self> {
        let circumstances = json!({
            "device": compute.name(),
            "precision": compute.precision.name(),
            "instructions": ops::simd::level().name(),
        });
        let checkpoints = Checkpoints::in_folder(place.states(), fingerprint, circumstances, every)?;
        let reporter = Reporter::new(quiet, Some(&place.log()))?;
        Ok(Self { reporter, checkpoints, place })
    }

    /// A folder for the result, with the log in it.
    ///
    /// # Errors
    /// As [`Staging::create`]; [`Error::Io`].
    pub fn staging(&mut self) -> Result<Staging> {
        let staging = self.place.staging()?;
        self.reporter.settle()?;
        let (from, to) = (self.place.log(), staging.path().join(LOG));
        std::fs::copy(&from, &to).map_err(Error::io("copy", &from))?;
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

    fn stop(&mut self, stage: &'static str, done: usize, state: &dyn Resumable) -> Error {
        self.reporter.flush();
        match self.checkpoints.try_write(stage, done, state, &self.reporter) {
            true => Error::Paused { path: self.place.folder().to_path_buf() },
            false => Error::Interrupted,
        }
    }
}

impl Observer for Session {
    fn record(&mut self, record: &Record) {
        self.reporter.record(record);
    }

    fn between(&mut self, stage: &'static str, done: usize, state: &dyn Resumable) -> Result<()> {
        if check_interrupt().is_err() {
            return Err(self.stop(stage, done, state));
        }
        if self.checkpoints.due() {
            self.reporter.flush();
            self.checkpoints.try_write(stage, done, state, &self.reporter);
        }
        Ok(())
    }

    fn ended(&mut self, stage: &'static str, done: usize, state: &dyn Resumable) -> Result<()> {
        if check_interrupt().is_err() {
            return Err(self.stop(stage, done, state));
        }
        self.reporter.flush();
        self.checkpoints.try_write(stage, done, state, &self.reporter);
        Ok(())
    }

    fn earlier(&mut self, stage: &'static str) -> Result<Option<Saved>> {
        let Some((state, reporter)) = self.checkpoints.newest(stage)? else { return Ok(None) };
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
