//! `metrics.jsonl`: one JSON object per record, thinned to a bounded number of lines.

use crate::checkpoint::{Resumable, Saved, Saver};
use crate::events::Record;
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Lines per stage at most, and a few more for what is always written: the first and the last record.
const LINES: usize = 2000;
/// What a killed run may lose.
const FLUSH: Duration = Duration::from_secs(2);

/// The log of a run.
///
/// A line is flat: `{"stage": "distill", "done": 40, "total": 4000, "seconds": 3.1, "loss": 0.52, "lr": 0.02}`; a value
/// that is no finite number is `null`. A disk that refuses is reported once, and the run goes on without a log.
pub struct Metrics {
    path: PathBuf,
    /// The file itself, to cut off what was written after the state from which a run goes on.
    file: Option<File>,
    out: Option<Box<dyn Write>>,
    bytes: u64,
    cut: Option<u64>,
    began: Instant,
    flushed: Instant,
    lines: BTreeMap<String, usize>,
}

impl Metrics {
    /// Opens `path`; lines are appended to what is there, so that a resumed run keeps its past.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be opened at all.
    pub fn open(path: &Path) -> Result<Self> {
        let file: File = OpenOptions::new().create(true).append(true).open(path).map_err(Error::io("open", path))?;
        let bytes = file.metadata().map_err(Error::io("open", path))?.len();
        let own = file.try_clone().map_err(Error::io("open", path))?;
        let mut metrics = Self::to(Box::new(BufWriter::new(file)), path);
        (metrics.file, metrics.bytes) = (Some(own), bytes);
        Ok(metrics)
    }

    fn to(out: Box<dyn Write>, path: &Path) -> Self {
        let now = Instant::now();
        let (file, out, lines) = (None, Some(out), BTreeMap::new());
        Self { path: path.to_path_buf(), file, out, bytes: 0, cut: None, began: now, flushed: now, lines }
    }

    /// Hands everything to the system.
    pub fn flush(&mut self) {
        self.write("", true);
    }

    /// Writes a record, if it is its turn.
    pub fn take(&mut self, record: &Record, now: Instant) {
        if self.out.is_none() || !self.is_due(record) {
            return;
        }
        let line = line(record, now.saturating_duration_since(self.began));
        let flush = record.done >= record.total || now.saturating_duration_since(self.flushed) >= FLUSH;
        self.write(&format!("{line}\n"), flush);
        if flush {
            self.flushed = now;
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

    fn write(&mut self, text: &str, flush: bool) {
        let Some(out) = &mut self.out else { return };
        if let (Some(cut), Some(file)) = (self.cut.take(), &self.file) {
            let there = file.metadata().map_or(0, |about| about.len());
            if let Err(error) = file.set_len(cut.min(there)) {
                tracing::warn!("cannot cut {} to where the run goes on: {error}", self.path.display());
            }
            self.bytes = cut.min(there);
        }
        self.bytes += text.len() as u64;
        let done = out.write_all(text.as_bytes()).and_then(|()| if flush { out.flush() } else { Ok(()) });
        if let Err(error) = done {
            tracing::warn!("cannot write {}: {error}; the run goes on without its log", self.path.display());
            self.out = None;
        }
    }
}

impl Resumable for Metrics {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("bytes", self.cut.unwrap_or(self.bytes))?;
        to.value("lines", &self.lines)?;
        to.value("seconds", self.began.elapsed().as_secs_f64().to_bits())
    }

    /// What was logged after the state is cut off before the next line: a later stage may have kept a later state.
    fn restore(&mut self, from: &Saved) -> Result<()> {
        self.cut = Some(from.value("bytes")?);
        self.lines = from.value("lines")?;
        let earlier = Duration::try_from_secs_f64(f64::from_bits(from.value("seconds")?)).unwrap_or_default();
        self.began = Instant::now().checked_sub(earlier).unwrap_or(self.began);
        Ok(())
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.write("", true);
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

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_ends_the_log_and_not_the_run() {
        let mut metrics = Metrics::to(Box::new(Full), Path::new("x"));
        metrics.take(&record(1, 3, 1.0), Instant::now());
        assert!(metrics.out.is_none());
        metrics.take(&record(2, 3, 1.0), Instant::now());
    }
}
