//! A run with its files: progress and log, states to go on from, and the result that appears in the end.

use super::job_sha256;
use crate::checkpoint::{Checkpoints, Resumable, Saved, Unfinished};
use crate::events::{Observer, Pupil, Record, check_interrupt};
use crate::files::{PROVENANCE, PROVENANCE_LIMIT, Staging};
use crate::ops::{self, Compute};
use crate::report::{Every, Reporter, Snapshots, alarms_under_way, duration};
use crate::signs::Signs;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// The name of a result's log.
const LOG: &str = "metrics.jsonl";
/// The name of the folder of snapshots.
const SNAPSHOTS: &str = "snapshots";

/// Watches the stages of a run and keeps their states.
pub struct Session {
    reporter: Reporter,
    checkpoints: Checkpoints,
    place: Unfinished,
    /// Whether an alarm ends the run.
    strict: bool,
    /// Names of the alarms that were raised under way.
    raised: Vec<&'static str>,
    /// Alarms of finished stages that were said.
    said: Vec<String>,
    /// The alarm that ends the run as soon as its state is whole.
    pending: Option<String>,
    /// Whether steps were done in this process.
    worked: bool,
    /// Whether what an earlier run has left is to go, once a stage begins: until then something may be wrong with this one.
    anew: bool,
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
        let anew = !place.goes_on();
        let checkpoints = Checkpoints::in_folder(place.states(), fingerprint, circumstances, every)?;
        if place.goes_on() {
            checkpoints.check()?;
        }
        let reporter = Reporter::new(quiet, Some(&place.log()))?;
        let (raised, said) = (Vec::new(), Vec::new());
        Ok(Self { reporter, checkpoints, place, strict, raised, said, pending: None, worked: false, anew })
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
        // If the disk refuses, the message says so.
        let _ = self.checkpoints.write(stage, state, &self.reporter);
        Err(match &self.pending {
            Some(alarm) if !interrupted => self.alarmed(alarm),
            _ => Error::Paused { kept: self.kept("--resume") },
        })
    }

    fn alarmed(&self, alarm: &str) -> Error {
        let hint = match self.anew {
            true => "nothing was done yet: begin without --stop-on-alarm to do it all the same".into(),
            false => self.kept("--resume and without --stop-on-alarm"),
        };
        Error::Failed { found: format!("alarm: {alarm}"), hint }
    }

    /// What there is of what was done, and `how` to go on from it.
    fn kept(&self, how: &str) -> String {
        let folder = self.place.folder().display();
        let Some((why, since)) = self.checkpoints.lost() else {
            return format!("{folder} keeps what was done: go on with {how}");
        };
        if !self.place.is_begun() {
            return format!("what was done is lost ({why})");
        }
        let lost = format!("what was done in the last {} is lost ({why})", duration(since));
        format!("{lost}; {folder} keeps the state before that: go on with {how}")
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
                    false => tracing::error!("alarm: {alarm}"),
                }
            }
        }
        Ok(())
    }

    fn alarm(&mut self, text: &str) -> Result<()> {
        if self.strict {
            return Err(self.alarmed(text));
        }
        // Both stages of a run look at its set.
        if !self.said.iter().any(|said| said == text) {
            tracing::error!("alarm: {text}");
            self.said.push(text.to_string());
        }
        Ok(())
    }

    fn earlier(&mut self, stage: &'static str) -> Result<Option<Saved>> {
        if std::mem::take(&mut self.anew) {
            self.place.clear()?;
            self.reporter.begin_anew();
        }
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

/// Removes what a kill has left of the run of `fingerprint` after its result had its name; states of another run stay.
///
/// # Errors
/// [`Error::Io`].
pub fn clear_up(place: Unfinished, fingerprint: &Value) -> Result<()> {
    if !place.is_begun() {
        return Ok(());
    }
    match Checkpoints::in_folder(place.states(), fingerprint.clone(), Value::Null, None)?.check() {
        Ok(()) => place.remove(),
        Err(_) => tracing::warn!("{} is an interrupted run of another kind, and stays", place.folder().display()),
    }
    Ok(())
}

/// What `synth.json` in `folder` says of the finished result of the run of `fingerprint`.
///
/// # Errors
/// [`Error::Invalid`] if there is none; [`Error::File`] if it is that of another run, or none of ours.
pub fn finished(folder: &Path, fingerprint: &Value) -> Result<Value> {
    let path = folder.join(PROVENANCE);
    let again = "choose another name, or use --force to replace it";
    let about = std::fs::metadata(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            let found = "it is not there, though the output exists, which is no result of this command";
            Error::invalid(path.display().to_string(), found, "choose another name")
        }
        _ => Error::io("read", &path)(error),
    })?;
    if about.len() > PROVENANCE_LIMIT {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Begin, Saver};
    use crate::ops::CPU;

    /// How many were done.
    struct Steps(usize);

    impl Resumable for Steps {
        fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
            to.value("done", self.0)
        }

        fn restore(&mut self, from: &Saved) -> Result<()> {
            self.0 = from.value("done")?;
            Ok(())
        }
    }

    fn session(folder: &Path, begin: Begin) -> Session {
        let place = Unfinished::open(folder.join("result"), begin).unwrap();
        Session::open(place, json!({}), &CPU, None, true, true).unwrap()
    }

    /// The steps that a session goes on from, and the lines of its log then.
    fn begun(mut session: Session) -> (Option<usize>, usize) {
        let state = session.earlier("train").unwrap();
        session.reporter.settle().unwrap();
        let log = std::fs::read_to_string(session.place.log()).unwrap();
        (state.map(|state| state.value("done").unwrap()), log.lines().count())
    }

    #[test]
    fn what_was_kept_goes_only_when_another_run_begins() {
        let folder = tempfile::tempdir().unwrap();
        let (anew, on) = (Begin { force: true, resume: false }, Begin { force: false, resume: true });
        let mut first = session(folder.path(), Begin::default());
        assert!(first.earlier("train").unwrap().is_none());
        first.record(&Record { stage: "train", done: 1, total: 9, images: 1, values: Vec::new() });
        first.ended("train", &Steps(1)).unwrap();
        drop(first);
        // Something is wrong before the first step: no teacher, a value out of its range.
        drop(session(folder.path(), anew));
        assert_eq!(begun(session(folder.path(), on)), (Some(1), 1));
        assert_eq!(begun(session(folder.path(), anew)), (None, 0));
        assert!(!folder.path().join("result.unfinished").exists());
    }

    #[test]
    fn an_alarm_before_anything_is_done_speaks_of_no_state() {
        let folder = tempfile::tempdir().unwrap();
        let text = session(folder.path(), Begin::default()).alarm("few classes").unwrap_err().to_string();
        assert!(text.contains("nothing was done yet") && !text.contains("--resume"), "{text}");
    }

    #[test]
    fn what_cannot_be_kept_is_said_to_be_lost() {
        let folder = tempfile::tempdir().unwrap();
        let mut session = session(folder.path(), Begin::default());
        assert!(session.earlier("train").unwrap().is_none());
        session.ended("train", &Steps(1)).unwrap();
        assert!(session.kept("--resume").ends_with("result.unfinished keeps what was done: go on with --resume"));
        session.pending = Some("nothing moves".into());
        let mut stopped = |done| session.between("train", &Steps(done)).unwrap_err().to_string();
        // A folder has the name that the next state is written under.
        let states = folder.path().join("result.unfinished/states");
        std::fs::create_dir(states.join("train-000002.safetensors")).unwrap();
        let text = stopped(2);
        assert!(text.contains("alarm: nothing moves; what was done in the last"), "{text}");
        assert!(text.contains("is lost (cannot write") && text.contains("keeps the state before that"), "{text}");
        std::fs::rename(&states, folder.path().join("away")).unwrap();
        let text = stopped(3);
        assert!(text.contains("what was done is lost (cannot create") && !text.contains("--resume"), "{text}");
    }
}
