//! When a state is written, which ones are kept, and which one a stage goes on from.

use super::file::{open, split_name, write};
use super::{Resumable, Saved, Saver};
use crate::{Error, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The form of the states: one written by a program with another number is refused.
const FORMAT: u32 = 2;
/// States kept per stage.
const KEPT: usize = 2;
/// Writing takes at most this share of the time.
const MOST: f64 = 0.05;

/// The states of one run, in a folder of their own.
pub struct Checkpoints {
    folder: PathBuf,
    /// What must be the same in a run that goes on.
    job: Value,
    /// What may differ, and then changes the rounding.
    circumstances: Value,
    every: Option<Duration>,
    /// When the last one was written or tried, and how long that took.
    last: Instant,
    took: Duration,
    /// When the last one was written, or this process began.
    kept: Instant,
    /// Why the disk refused the last time, if it did.
    refused: Option<String>,
    /// States that were found damaged when a sound one was taken up.
    damaged: Vec<PathBuf>,
}

impl Checkpoints {
    /// States in `folder`, which is made if it is missing; `every`: the time between two of them, none for only at the end of
    /// a stage and when the run is interrupted.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be made.
    pub fn in_folder(
        folder: impl Into<PathBuf>,
        job: Value,
        circumstances: Value,
        every: Option<Duration>,
    ) -> Result<Self> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let job = json!({ "format": FORMAT, "version": env!("CARGO_PKG_VERSION"), "job": job });
        let (last, took) = (Instant::now(), Duration::ZERO);
        Ok(Self { folder, job, circumstances, every, last, took, kept: last, refused: None, damaged: Vec::new() })
    }

    /// Whether it is time to write again.
    pub fn due(&self) -> bool {
        self.every.is_some_and(|every| self.last.elapsed() >= every.max(self.took.div_f64(MOST)))
    }

    /// Why the last state could not be written, and how long ago the one before it was, or this process began; `None` if it was
    /// written.
    pub fn lost(&self) -> Option<(&str, Duration)> {
        self.refused.as_deref().map(|why| (why, self.kept.elapsed()))
    }

    /// Writes the state of `stage` and removes those that are older than the sound one before it.
    ///
    /// # Errors
    /// [`Error::Io`]; the older ones are then still there.
    pub fn write<'a>(&mut self, stage: &str, state: &'a dyn Resumable, more: &'a dyn Resumable) -> Result<PathBuf> {
        let written = self.put(stage, state, more);
        self.refused = written.as_ref().err().map(ToString::to_string);
        written
    }

    fn put<'a>(&mut self, stage: &str, state: &'a dyn Resumable, more: &'a dyn Resumable) -> Result<PathBuf> {
        let begin = Instant::now();
        let mut saver = Saver::default();
        saver.value("job", &self.job)?;
        saver.value("circumstances", &self.circumstances)?;
        saver.part("state", state)?;
        saver.part("more", more)?;
        let older = found(&self.folder, stage);
        let number = older.first().map_or(1, |(number, _)| number + 1);
        let path = write(&self.folder, &format!("{stage}-{number:06}"), &saver)?;
        (self.last, self.took) = (Instant::now(), begin.elapsed());
        self.kept = self.last;
        let (damaged, sound): (Vec<_>, Vec<_>) = older.iter().partition(|(_, old)| self.damaged.contains(old));
        damaged.into_iter().chain(sound.into_iter().skip(KEPT - 1)).for_each(|(_, old)| remove(old));
        Ok(path)
    }

    /// As [`Checkpoints::write`]; a disk that refuses is no reason to stop: it is said once, and tried again later.
    pub fn try_write(&mut self, stage: &str, state: &dyn Resumable, more: &dyn Resumable) -> bool {
        let (begin, told) = (Instant::now(), self.refused.is_some());
        let written = self.write(stage, state, more);
        if let Err(error) = &written {
            if !told {
                tracing::warn!("no checkpoint could be written ({error}); the run goes on, and tries again later");
            }
            (self.last, self.took) = (Instant::now(), begin.elapsed());
        }
        written.is_ok()
    }

    /// Removes the states of `stage`; what cannot be removed is said.
    pub fn forget(&self, stage: &str) {
        found(&self.folder, stage).iter().for_each(|(_, path)| remove(path));
    }

    /// The newest sound state of `stage` (its part `state`, and `more`); `None` if there is none yet. Damaged ones that are newer
    /// stay until the next is written.
    ///
    /// # Errors
    /// One of another job or version, with the first difference, or if all are damaged.
    pub fn newest(&mut self, stage: &str) -> Result<Option<(Saved, Saved)>> {
        let mut damaged = Vec::new();
        for (_, path) in found(&self.folder, stage) {
            match open(&path) {
                Ok(saved) => {
                    self.check_job(&saved)?;
                    self.compare_circumstances(&saved)?;
                    self.damaged.append(&mut damaged);
                    return Ok(Some((saved.part("state"), saved.part("more"))));
                }
                Err(error) => {
                    tracing::warn!("{error}");
                    damaged.push(path);
                }
            }
        }
        match damaged.first() {
            None => Ok(None),
            Some(path) => Err(Error::file(path, "no sound checkpoint is left", "start anew with --force")),
        }
    }

    /// Refuses a folder whose states, of whatever stage, are of another run; one without a sound state may be of this one.
    ///
    /// # Errors
    /// As [`Checkpoints::newest`].
    pub fn check(&self) -> Result<()> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut states = entries.filter(|entry| entry.file_name().to_str().and_then(split_name).is_some());
        match states.find_map(|entry| open(&entry.path()).ok()) {
            Some(saved) => self.check_job(&saved),
            None => Ok(()),
        }
    }

    fn check_job(&self, saved: &Saved) -> Result<()> {
        let there: Value = saved.value("job")?;
        if let Some(found) = difference(&there, &self.job) {
            let found = format!("it is of another run: {found}");
            return Err(Error::file(
                saved.source(),
                found,
                "go on with what it was begun with, or start anew with --force",
            ));
        }
        Ok(())
    }

    fn compare_circumstances(&self, saved: &Saved) -> Result<()> {
        let there: Value = saved.value("circumstances")?;
        if let Some(found) = difference(&there, &self.circumstances) {
            tracing::warn!(
                "the run was begun elsewhere ({found}): its result will differ by rounding from that of one machine"
            );
        }
        Ok(())
    }
}

/// Whether any state lies in `folder`; what a kill left half-written there is removed.
pub(super) fn holds_any(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let mut any = false;
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        match split_name(name) {
            Some(_) => any = true,
            None if path.is_file() => remove(&path),
            None => {}
        }
    }
    any
}

/// States of a stage with their numbers, the newest first. The order is that of the numbers: clocks jump, and a stage that was
/// set back is behind what it was before.
fn found(folder: &Path, stage: &str) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let number = |name: &str| -> Option<u64> {
        let (of, number) = split_name(name)?.0.rsplit_once('-')?;
        (of == stage).then_some(number.parse().ok()?)
    };
    let mut found: Vec<(u64, PathBuf)> =
        entries.flatten().filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path()))).collect();
    found.sort_by(|a, b| b.cmp(a));
    found
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!("cannot remove {}: {error}", path.display());
    }
}

/// The first place where two JSON values differ, in words: `recipe.generator.lr is 0.003 there and 0.005 here`.
pub fn difference(there: &Value, here: &Value) -> Option<String> {
    fn first(path: &str, there: &Value, here: &Value) -> Option<String> {
        if let (Value::Object(a), Value::Object(b)) = (there, here) {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            let below = |key: &String| if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let get = |map: &serde_json::Map<String, Value>, key: &String| map.get(key).cloned().unwrap_or_default();
            return keys.into_iter().find_map(|key| first(&below(key), &get(a, key), &get(b, key)));
        }
        (there != here).then(|| format!("{path} is {there} there and {here} here"))
    }
    let found = first("", there, here)?;
    Some(found.strip_prefix("job.").map(String::from).unwrap_or(found))
}
