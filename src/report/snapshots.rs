//! Weights of the student at times of its run: what a curve of accuracy over time is measured on, afterwards and elsewhere, so that
//! the run spends no time on evaluation and sees no data.

use crate::events::{Observer, Pupil, Record};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The list of a folder's snapshots, one JSON object per line.
const INDEX: &str = "index.jsonl";
/// More lines than any run writes.
const MOST: usize = 100_000;

/// When to look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Every {
    Time(Duration),
    /// Updates of the student, in all stages together.
    Updates(usize),
}

impl Every {
    /// `count` times within `limit`, or, without one, within `updates` (at least one between two).
    pub fn of(count: usize, limit: Option<Duration>, updates: usize) -> Self {
        let count = count.max(1);
        match limit {
            Some(limit) => Self::Time(limit / count.min(MOST) as u32),
            None => Self::Updates(updates.div_ceil(count).max(1)),
        }
    }
}

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Name of the file in the folder.
    pub file: String,
    /// `adversary`, `distill` or `train`.
    pub stage: String,
    /// Updates so far, in all stages that are looked at.
    pub updates: usize,
    /// Since the run began, writing of snapshots not counted.
    pub seconds: f64,
    /// What writing them has taken so far.
    pub writing_seconds: f64,
}

/// Passes everything on to another observer and writes the student's weights now and then.
pub struct Snapshots<O> {
    inner: O,
    folder: PathBuf,
    /// Those stages whose network becomes the student.
    stages: &'static [&'static str],
    every: Every,
    began: Instant,
    writing: Duration,
    updates: usize,
    taken: usize,
    due: usize,
}

impl<O: Observer> Snapshots<O> {
    /// Snapshots of `stages` into `folder`, which is created; the clock starts now.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(inner: O, folder: &Path, stages: &'static [&'static str], every: Every) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let folder = folder.to_path_buf();
        Ok(Self {
            inner,
            folder,
            stages,
            every,
            began: Instant::now(),
            writing: Duration::ZERO,
            updates: 0,
            taken: 0,
            due: 1,
        })
    }

    /// How many times one should have been taken by now.
    fn passed(&self) -> usize {
        match self.every {
            Every::Updates(updates) => self.updates / updates.max(1),
            Every::Time(time) => {
                let spent = self.began.elapsed().saturating_sub(self.writing);
                (spent.as_secs_f64() / time.as_secs_f64().max(1e-3)) as usize
            }
        }
    }

    fn take(&mut self, stage: &str, pupil: &dyn Pupil) -> Result<()> {
        let start = Instant::now();
        let seconds = (start - self.began).saturating_sub(self.writing).as_secs_f64();
        let file = format!("{:04}.safetensors", self.taken + 1);
        pupil.write(&self.folder.join(&file))?;
        self.taken += 1;
        self.writing += start.elapsed();
        let line = Snapshot {
            file,
            stage: stage.into(),
            updates: self.updates,
            seconds,
            writing_seconds: self.writing.as_secs_f64(),
        };
        let path = self.folder.join(INDEX);
        let text = serde_json::to_string(&line).unwrap_or_default() + "\n";
        let log = OpenOptions::new().create(true).append(true).open(&path);
        log.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Error::io("write", &path))
    }
}

impl<O: Observer> Observer for Snapshots<O> {
    fn record(&mut self, record: &Record) {
        self.inner.record(record);
    }

    fn updated(&mut self, stage: &'static str, pupil: &dyn Pupil) -> Result<()> {
        self.inner.updated(stage, pupil)?;
        if !self.stages.contains(&stage) {
            return Ok(());
        }
        self.updates += 1;
        let passed = self.passed();
        if passed < self.due {
            return Ok(());
        }
        self.due = passed + 1;
        self.take(stage, pupil)
    }
}

/// The list of a folder's snapshots, oldest first; none where there is no such folder.
///
/// # Errors
/// [`Error::Io`]; [`Error::File`] for a list that is none.
pub fn read_snapshots(folder: &Path) -> Result<Vec<Snapshot>> {
    let path = folder.join(INDEX);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let wrong = |found: String| Error::file(&path, found, "remove the folder of this run and do it again");
    let one = |(i, line): (usize, &str)| {
        let snapshot: Snapshot = serde_json::from_str(line).map_err(|e| wrong(format!("line {}: {e}", i + 1)))?;
        let plain = Path::new(&snapshot.file).file_name() == Some(snapshot.file.as_ref());
        if plain { Ok(snapshot) } else { Err(wrong(format!("line {} names a file elsewhere", i + 1))) }
    };
    text.lines().take(MOST).enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Silent;

    struct Word;

    impl Pupil for Word {
        fn write(&self, path: &Path) -> Result<()> {
            fs::write(path, "weights").map_err(Error::io("write", path))
        }
    }

    #[test]
    fn snapshots_lie_evenly_over_the_updates_of_their_stages() {
        let folder = tempfile::tempdir().unwrap();
        let every = Every::of(4, None, 10);
        assert_eq!(every, Every::Updates(3));
        let mut watching = Snapshots::new(Silent, folder.path(), &["distill"], every).unwrap();
        for stage in ["adversary", "distill"] {
            (0..10).for_each(|_| watching.updated(stage, &Word).unwrap());
        }
        let found = read_snapshots(folder.path()).unwrap();
        assert_eq!(found.iter().map(|s| s.updates).collect::<Vec<_>>(), [3, 6, 9]);
        assert!(found.iter().all(|s| s.stage == "distill" && folder.path().join(&s.file).is_file()));
        assert!(found.windows(2).all(|pair| pair[0].seconds <= pair[1].seconds), "{found:?}");
    }

    #[test]
    fn with_a_time_limit_they_lie_evenly_over_time_and_a_long_update_brings_one() {
        let folder = tempfile::tempdir().unwrap();
        let every = Every::of(10, Some(Duration::from_millis(300)), 1);
        let mut watching = Snapshots::new(Silent, folder.path(), &["train"], every).unwrap();
        watching.updated("train", &Word).unwrap();
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(100));
            watching.updated("train", &Word).unwrap();
            watching.updated("train", &Word).unwrap();
        }
        let found = read_snapshots(folder.path()).unwrap();
        assert_eq!(found.iter().map(|s| s.updates).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn a_list_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_snapshots(folder.path()).unwrap(), []);
        for text in ["{", r#"{"file":"../a","stage":"x","updates":1,"seconds":1,"writing_seconds":0}"#] {
            fs::write(folder.path().join(INDEX), text).unwrap();
            let message = read_snapshots(folder.path()).unwrap_err().to_string();
            assert!(message.contains("line 1") && !message.contains('\n'), "{message}");
        }
    }
}
