//! Weights of the student at times of its run: what a curve of accuracy over time is measured on, afterwards and elsewhere, so that
//! the run spends no time on evaluation and sees no data.

use crate::checkpoint::{Resumable, Saved, Saver};
use crate::events::Pupil;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The list of a folder's snapshots, one JSON object per line.
const INDEX: &str = "index.jsonl";
/// More lines than any run writes.
const MOST: usize = 100_000;

/// When to look.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Every {
    Time(Duration),
    /// So many, evenly over the updates of the student, in all stages together.
    Updates {
        count: usize,
        of: usize,
    },
}

impl Every {
    /// `count` times within `limit`, or, without one, within `updates` (at least one between two).
    pub fn of(count: usize, limit: Option<Duration>, updates: usize) -> Self {
        let count = count.max(1);
        match limit {
            Some(limit) => Self::Time(limit / count.min(MOST) as u32),
            None => Self::Updates { count: count.min(updates).max(1), of: updates.max(1) },
        }
    }

    fn in_words(self) -> String {
        match self {
            Self::Time(time) => format!("every {:.1} s", time.as_secs_f64()),
            Self::Updates { count, of } => format!("{count} in {of} updates"),
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

/// Writes the student's weights now and then, and the list of what it wrote.
pub struct Snapshots {
    folder: PathBuf,
    /// Those stages whose network becomes the student.
    stages: &'static [&'static str],
    every: Every,
    began: Instant,
    /// What earlier processes of the same run spent, writing of snapshots not counted.
    earlier: Duration,
    writing: Duration,
    updates: usize,
    taken: Vec<Snapshot>,
    /// The how manieth is due next.
    due: usize,
}

impl Snapshots {
    /// Snapshots of `stages` into `folder`, which is created; the clock starts now.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(folder: &Path, stages: &'static [&'static str], every: Every) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        Ok(Self {
            folder: folder.to_path_buf(),
            stages,
            every,
            began: Instant::now(),
            earlier: Duration::ZERO,
            writing: Duration::ZERO,
            updates: 0,
            taken: Vec::new(),
            due: 1,
        })
    }

    /// Counts an update, and looks at the pupil if it is time.
    ///
    /// # Errors
    /// What [`Pupil::write`] reports; [`Error::Io`].
    pub fn updated(&mut self, stage: &str, pupil: &dyn Pupil) -> Result<()> {
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

    /// Copies what was taken, with its list, into `folder`, which is created.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn copy(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        for snapshot in &self.taken {
            let from = self.folder.join(&snapshot.file);
            fs::copy(&from, folder.join(&snapshot.file)).map_err(Error::io("copy", &from))?;
        }
        let line = |snapshot| serde_json::to_string(snapshot).unwrap_or_default() + "\n";
        let path = folder.join(INDEX);
        fs::write(&path, self.taken.iter().map(line).collect::<String>()).map_err(Error::io("write", &path))
    }

    /// Time of the run so far, over all of its processes.
    fn elapsed(&self) -> Duration {
        (self.earlier + self.began.elapsed()).saturating_sub(self.writing)
    }

    /// How many should have been taken by now.
    fn passed(&self) -> usize {
        match self.every {
            Every::Updates { count, of } => self.updates * count / of.max(1),
            Every::Time(time) => (self.elapsed().as_secs_f64() / time.as_secs_f64().max(1e-3)) as usize,
        }
    }

    fn take(&mut self, stage: &str, pupil: &dyn Pupil) -> Result<()> {
        let (start, seconds) = (Instant::now(), self.elapsed().as_secs_f64());
        let file = format!("{:04}.safetensors", self.taken.len() + 1);
        pupil.write(&self.folder.join(&file))?;
        self.writing += start.elapsed();
        let writing_seconds = self.writing.as_secs_f64();
        self.taken.push(Snapshot { file, stage: stage.into(), updates: self.updates, seconds, writing_seconds });
        Ok(())
    }
}

/// Those taken after the state are taken again, to the same bits and other times.
impl Resumable for Snapshots {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("every", self.every)?;
        to.value("seconds", self.elapsed().as_secs_f64().to_bits())?;
        to.value("updates", self.updates)?;
        to.value("due", self.due)?;
        to.value("taken", &self.taken)
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        let every: Every = from.value("every")?;
        if every != self.every {
            let (there, here) = (every.in_words(), self.every.in_words());
            return Err(begun_otherwise(from, &format!("with another number of --snapshots ({there}, here {here})")));
        }
        let seconds = f64::from_bits(from.value("seconds")?);
        self.earlier = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        (self.began, self.writing) = (Instant::now(), Duration::ZERO);
        self.updates = from.value("updates")?;
        self.due = from.value("due")?;
        self.taken = from.value("taken")?;
        let is_there = |snapshot: &Snapshot| is_plain(&snapshot.file) && self.folder.join(&snapshot.file).is_file();
        match self.taken.iter().all(is_there) {
            true => Ok(()),
            false => Err(from.fault("taken", "a snapshot is missing beside it")),
        }
    }
}

/// The refusal of a state of a run that was begun with other snapshots than this one.
pub(super) fn begun_otherwise(from: &Saved, how: &str) -> Error {
    let hint = "go on with what it was begun with, or start anew: with --force, or without the folder NAME.unfinished";
    Error::file(from.source(), format!("its run was begun {how}"), hint)
}

/// Whether a name is that of a file in the folder itself.
fn is_plain(file: &str) -> bool {
    Path::new(file).file_name() == Some(file.as_ref())
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
        if is_plain(&snapshot.file) {
            Ok(snapshot)
        } else {
            Err(wrong(format!("line {} names a file elsewhere", i + 1)))
        }
    };
    text.lines().take(MOST).enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Word;

    impl Pupil for Word {
        fn write(&self, path: &Path) -> Result<()> {
            fs::write(path, "weights").map_err(Error::io("write", path))
        }
    }

    fn of(folder: &Path, stages: &'static [&'static str], every: Every) -> Snapshots {
        Snapshots::new(&folder.join("here"), stages, every).unwrap()
    }

    /// What the list in a copy says.
    fn copied(snapshots: &Snapshots, folder: &Path) -> Vec<Snapshot> {
        let there = folder.join("there");
        snapshots.copy(&there).unwrap();
        let found = read_snapshots(&there).unwrap();
        assert!(found.iter().all(|snapshot| there.join(&snapshot.file).is_file()));
        found
    }

    fn updates(found: &[Snapshot]) -> Vec<usize> {
        found.iter().map(|snapshot| snapshot.updates).collect()
    }

    #[test]
    fn snapshots_lie_evenly_over_the_updates_of_their_stages() {
        let folder = tempfile::tempdir().unwrap();
        let every = Every::of(4, None, 10);
        assert_eq!(every, Every::Updates { count: 4, of: 10 });
        let mut watching = of(folder.path(), &["distill"], every);
        for stage in ["adversary", "distill"] {
            (0..10).for_each(|_| watching.updated(stage, &Word).unwrap());
        }
        let found = copied(&watching, folder.path());
        assert_eq!(updates(&found), [3, 5, 8, 10]);
        assert!(found.iter().all(|s| s.stage == "distill"));
        assert!(found.windows(2).all(|pair| pair[0].seconds <= pair[1].seconds), "{found:?}");
    }

    #[test]
    fn with_a_time_limit_they_lie_evenly_over_time_and_a_long_update_brings_one() {
        let folder = tempfile::tempdir().unwrap();
        let every = Every::of(10, Some(Duration::from_secs(3)), 1);
        let mut watching = of(folder.path(), &["train"], every);
        watching.updated("train", &Word).unwrap();
        for _ in 0..2 {
            watching.earlier += Duration::from_secs(1);
            watching.updated("train", &Word).unwrap();
            watching.updated("train", &Word).unwrap();
        }
        assert_eq!(updates(&copied(&watching, folder.path())), [2, 4]);
    }

    #[test]
    fn a_run_that_goes_on_from_an_earlier_state_takes_again_what_came_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = of(folder.path(), &["train"], Every::Updates { count: 1, of: 2 });
        first.earlier = Duration::from_secs(100);
        (0..5).for_each(|_| first.updated("train", &Word).unwrap());
        let mut saver = Saver::default();
        first.save(&mut saver).unwrap();
        let state = saver.keep();
        (0..4).for_each(|_| first.updated("train", &Word).unwrap());

        let mut second = of(folder.path(), &["train"], Every::Updates { count: 1, of: 2 });
        second.restore(&state).unwrap();
        (0..4).for_each(|_| second.updated("train", &Word).unwrap());
        let found = copied(&second, folder.path());
        assert_eq!(updates(&found), [2, 4, 6, 8]);
        assert!(found.iter().all(|s| (100.0..200.0).contains(&s.seconds)), "{found:?}");
        fs::remove_file(folder.path().join("here/0001.safetensors")).unwrap();
        assert!(second.restore(&state).is_err());
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
