//! `metrics.jsonl`: one JSON object per record, thinned to a bounded number of lines.

use crate::checkpoint::{Resumable, Saved, Saver};
use crate::events::Record;
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Lines per stage at most, and a few more for what is always written: the first and the last record.
const LINES: usize = 2000;
/// What a killed run may lose.
const FLUSH: Duration = Duration::from_secs(2);

/// Bytes that wait for the disk before they are handed over.
const WAITING: usize = 8 << 10;

/// The log of a run.
///
/// A line is flat: `{"stage": "distill", "done": 40, "total": 4000, "seconds": 3.1, "loss": 0.52, "lr": 0.02}`; a value
/// that is no finite number is `null`. A disk that refuses is reported once, and its lines wait in memory until it takes them.
pub struct Metrics {
    path: PathBuf,
    out: Box<dyn Log>,
    /// Lines that are not with the system yet.
    waiting: Vec<u8>,
    /// Bytes that are.
    written: u64,
    /// Where to cut the file before anything is added to it.
    cut: Option<u64>,
    /// Whether the disk refused the last time.
    refused: bool,
    began: Instant,
    flushed: Instant,
    lines: BTreeMap<String, usize>,
}

/// A file that grows, and may be cut off.
trait Log: Write {
    /// Cuts off what is behind `length`, if there is more; gives the length that it has then.
    fn cut(&mut self, length: u64) -> std::io::Result<u64>;
}

impl Log for File {
    fn cut(&mut self, length: u64) -> std::io::Result<u64> {
        let there = self.metadata()?.len();
        if length < there {
            self.set_len(length)?;
        }
        Ok(length.min(there))
    }
}

impl Metrics {
    /// Opens `path`; lines are appended to what is there, so that a resumed run keeps its past.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be opened at all.
    pub fn open(path: &Path) -> Result<Self> {
        let file: File = OpenOptions::new().create(true).append(true).open(path).map_err(Error::io("open", path))?;
        let written = file.metadata().map_err(Error::io("open", path))?.len();
        Ok(Self::to(Box::new(file), written, path))
    }

    fn to(out: Box<dyn Log>, written: u64, path: &Path) -> Self {
        let (path, began, flushed) = (path.to_path_buf(), Instant::now(), Instant::now());
        let (waiting, lines) = (Vec::new(), BTreeMap::new());
        Self { path, out, waiting, written, cut: None, refused: false, began, flushed, lines }
    }

    /// Cuts off all that an earlier run has logged, before anything is added.
    pub fn begin_anew(&mut self) {
        self.cut = Some(0);
    }

    /// Hands everything to the system, as far as the disk takes it.
    pub fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        match self.write() {
            Ok(()) => self.refused = false,
            Err(error) => {
                if !self.refused {
                    tracing::warn!("cannot write {}: {error}; the run goes on, and tries again", self.path.display());
                }
                self.refused = true;
            }
        }
    }

    /// Brings the file to its end: nothing waits any more, and nothing follows that was logged by an earlier process after the
    /// state from which this one went on.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk refuses.
    pub fn settle(&mut self) -> Result<()> {
        self.write().map_err(Error::io("write", &self.path))
    }

    /// Writes a record, if it is its turn.
    pub fn take(&mut self, record: &Record, now: Instant) {
        if !self.is_due(record) {
            return;
        }
        let line = line(record, now.saturating_duration_since(self.began));
        self.waiting.extend_from_slice(format!("{line}\n").as_bytes());
        let ends = record.done >= record.total;
        if ends || self.waiting.len() >= WAITING || now.saturating_duration_since(self.flushed) >= FLUSH {
            self.flushed = now;
            self.flush();
        }
    }

    /// Every so many records, so that a stage of any length leaves a bounded number of lines.
    fn is_due(&mut self, record: &Record) -> bool {
        let lines = self.lines.entry(record.stage.to_string()).or_default();
        let every = record.total.div_ceil(LINES).max(1);
        let turn = record.done.is_multiple_of(every) && *lines < LINES;
        let due = turn || *lines == 0 || record.done == record.total;
        *lines += usize::from(due);
        due
    }

    fn write(&mut self) -> std::io::Result<()> {
        if let Some(cut) = self.cut {
            self.written = self.out.cut(cut)?;
            self.cut = None;
        }
        while !self.waiting.is_empty() {
            match self.out.write(&self.waiting) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    self.waiting.drain(..taken);
                    self.written += taken as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Resumable for Metrics {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("bytes", self.cut.unwrap_or(self.written))?;
        to.array("waiting", &self.waiting);
        to.value("lines", &self.lines)?;
        to.value("seconds", self.began.elapsed().as_secs_f64().to_bits())
    }

    /// What was logged after the state is cut off before the next line and at the end, not now: a later stage may have kept a
    /// later state.
    fn restore(&mut self, from: &Saved) -> Result<()> {
        self.cut = Some(from.value("bytes")?);
        self.waiting = from.array("waiting")?;
        self.lines = from.value("lines")?;
        let earlier = Duration::try_from_secs_f64(f64::from_bits(from.value("seconds")?)).unwrap_or_default();
        self.began = Instant::now().checked_sub(earlier).unwrap_or(self.began);
        Ok(())
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.flush();
    }
}

fn line(record: &Record, since: Duration) -> Value {
    let mut line = Map::new();
    line.insert("stage".into(), json!(record.stage));
    line.insert("done".into(), json!(record.done));
    line.insert("total".into(), json!(record.total));
    line.insert("seconds".into(), json!((since.as_secs_f64() * 1000.0).round() / 1000.0));
    line.extend(record.values.iter().map(|(name, value)| (name.to_string(), json!(value))));
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn record(done: usize, total: usize, loss: f64) -> Record {
        Record { stage: "distill", done, total, images: 1, values: vec![("loss", loss)] }
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    #[test]
    fn lines_are_flat_and_a_second_run_appends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        for (done, loss) in [(1, 0.5), (2, f64::NAN)] {
            let mut metrics = Metrics::open(&path).unwrap();
            metrics.take(&record(done, 2, loss), metrics.began + Duration::from_millis(1500));
        }
        let found = lines(&path);
        assert_eq!(found[0], json!({"stage": "distill", "done": 1, "total": 2, "seconds": 1.5, "loss": 0.5}));
        assert_eq!((found.len(), &found[1]["loss"]), (2, &Value::Null));
    }

    #[test]
    fn long_stages_are_thinned_and_keep_their_ends() {
        let folder = tempfile::tempdir().unwrap();
        for total in [100_001, 0] {
            let path = folder.path().join(format!("{total}.jsonl"));
            let mut metrics = Metrics::open(&path).unwrap();
            (1..=100_001).for_each(|done| metrics.take(&record(done, total, 1.0), Instant::now()));
            drop(metrics);
            let found = lines(&path);
            assert!((1000..=LINES + 2).contains(&found.len()), "{}", found.len());
            assert_eq!(found[0]["done"], 1);
            assert!(total == 0 || found[found.len() - 1]["done"] == 100_001);
        }
    }

    /// A disk with room for so many bytes.
    #[derive(Clone)]
    struct Small(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let (there, room) = &mut *self.0.lock().unwrap();
            let fits = bytes.len().min(*room - there.len());
            there.extend_from_slice(&bytes[..fits]);
            if fits == 0 { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(fits) }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Log for Small {
        fn cut(&mut self, length: u64) -> std::io::Result<u64> {
            let (there, _) = &mut *self.0.lock().unwrap();
            there.truncate(length as usize);
            Ok(there.len() as u64)
        }
    }

    #[test]
    fn what_a_full_disk_refuses_is_written_once_there_is_room() {
        let disk = Small(Arc::new(Mutex::new((Vec::new(), 100))));
        let mut metrics = Metrics::to(Box::new(disk.clone()), 0, Path::new("x"));
        (1..=5).for_each(|done| metrics.take(&record(done, 5, 1.0), Instant::now()));
        assert!(metrics.refused && metrics.settle().is_err() && disk.0.lock().unwrap().0.len() == 100);
        // A state that is kept meanwhile knows what waits.
        let state = Saver::of(&metrics).unwrap().keep();
        disk.0.lock().unwrap().1 = 10_000;
        metrics.settle().unwrap();
        let whole = disk.0.lock().unwrap().0.clone();
        assert_eq!(String::from_utf8(whole.clone()).unwrap().lines().count(), 5);
        drop(metrics);
        let mut again = Metrics::to(Box::new(disk.clone()), 0, Path::new("x"));
        again.restore(&state).unwrap();
        again.settle().unwrap();
        assert_eq!(disk.0.lock().unwrap().0, whole);
    }

    #[test]
    fn a_later_stage_goes_on_behind_what_it_logged_and_not_behind_the_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let now = Instant::now();
        let (first, second) = {
            let mut metrics = Metrics::open(&path).unwrap();
            let mut log = |done| {
                metrics.take(&record(done, 9, 1.0), now);
                metrics.flush();
                Saver::of(&metrics).unwrap().keep()
            };
            (log(1), (log(2), log(3)).0)
        };
        assert_eq!(lines(&path).len(), 3);
        let mut metrics = Metrics::open(&path).unwrap();
        // The earlier stage is over; its state is written once more before the later one is found.
        metrics.restore(&first).unwrap();
        metrics.flush();
        assert_eq!(
            Saver::of(&metrics).unwrap().keep().value::<u64>("bytes").unwrap(),
            first.value::<u64>("bytes").unwrap()
        );
        metrics.restore(&second).unwrap();
        metrics.settle().unwrap();
        let done = |path: &Path| lines(path).iter().map(|line| line["done"].as_u64().unwrap()).collect::<Vec<_>>();
        assert_eq!(done(&path), [1, 2]);
        metrics.take(&record(3, 9, 1.0), now);
        metrics.flush();
        assert_eq!(done(&path), [1, 2, 3]);
    }
}
