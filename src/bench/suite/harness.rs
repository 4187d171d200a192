//! A suite from its first run to its page.

use super::baseline::SetKey;
use super::command::{RUNS, Surroundings, result_folder, run_folder};
use super::file::Suite;
use super::known::Known;
use super::machine::{Machine, Program, Ticks, now};
use super::measure::{Measure, Measured, Wanted};
use super::page::page;
use super::peers::Peers;
use super::places::Places;
use super::plan::Plan;
use super::process::{Outcome, carry_out};
use super::results::{Begun, Made, Row, Status, read, write, write_rows};
use super::run::{Kind, Run};
use super::summary::Summary;
use super::table::markdown;
use crate::events::check_interrupt;
use crate::files::write_atomic;
use crate::jobs::Access;
use crate::ops::peak::multiply_add_rate;
use crate::ops::{Compute, Precision};
use crate::{Error, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// What `synth bench SUITE` was told.
pub struct Options {
    /// Folder of the results.
    pub out: PathBuf,
    pub places: Places,
    /// Texts that a run's line must have, all of them.
    pub filter: Vec<String>,
    /// Rows of runs that were made elsewhere.
    pub known: Known,
    /// The program that does the runs.
    pub program: PathBuf,
    /// Options for each of its commands.
    pub more: Vec<String>,
    pub access: Access,
}

/// How many runs of a suite stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub done: usize,
    pub failed: usize,
    pub open: usize,
}

/// Does the runs of `suite` that are not done, one at a time, and writes `results.jsonl`, `table.md` and `index.html` after each.
/// `tell` gets a line for people now and then.
///
/// # Errors
/// [`Error::Invalid`] before the first run for a suite that cannot be done here; [`Error::Interrupted`], after which the same
/// call goes on; [`Error::Io`]. A run that fails is a row, not an error.
pub fn carry_out_suite(suite: &Suite, options: &Options, compute: &Compute, tell: &dyn Fn(&str)) -> Result<Count> {
    let plan = Plan::of(suite, &options.places)?;
    if let Some(problem) = plan.problems.first() {
        let more = plan.problems.len() - 1;
        let rest = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        return Err(Error::invalid("suite", format!("{problem}{rest}"), "see --dry-run for all"));
    }
    fs::create_dir_all(&options.out).map_err(Error::io("create", &options.out))?;
    refuse_foreign(&options.out)?;
    let _alone = alone(&options.out)?;
    let around = Surroundings { suite, places: &options.places, out: &options.out, more: &options.more };
    let all = plan.runs.clone();
    options.known.check(&all)?;
    let runs = plan.filtered(&options.filter)?.runs;
    let mut work = Work {
        around,
        options,
        compute,
        measure: Measure::new(around, options.access, compute),
        machine: Machine::here(),
    };
    for (i, run) in runs.iter().enumerate() {
        check_interrupt()?;
        if work.is_done(run) && !work.is_missed(run, &runs) || work.is_done_elsewhere(run, &runs) {
            continue;
        }
        tell(&format!("[{}/{}] {}", i + 1, runs.len(), run.line()));
        work.one(run)?;
        tell(&format!("        {}", in_words(&Row::of(&around, run))));
        publish(&around, &options.known, &all)?;
    }
    let rows = publish(&around, &options.known, &all)?;
    let of = |status| rows.iter().filter(|row| row.status == status).count();
    Ok(Count { done: of(Status::Done), failed: of(Status::Failed), open: of(Status::Open) })
}

/// Writes what all runs of a suite have left so far.
fn publish(around: &Surroundings, known: &Known, runs: &[Run]) -> Result<Vec<Row>> {
    let out = around.out;
    let rows: Vec<Row> = runs.iter().map(|run| known.or(Row::of(around, run))).collect();
    let ended: Vec<Row> = rows.iter().filter(|row| row.status != Status::Open).cloned().collect();
    write_rows(&out.join("results.jsonl"), &ended)?;
    let (summary, peers) = (Summary::of(around.suite, &rows), Peers::known()?);
    write_atomic(out.join("table.md"), markdown(&summary, &peers).as_bytes())?;
    write_atomic(out.join("index.html"), page(&summary, &peers).as_bytes())?;
    Ok(rows)
}

/// # Errors
/// A folder with something in it that no suite has worked in, whose tables would replace whatever has their names there.
fn refuse_foreign(out: &Path) -> Result<()> {
    let of_a_suite = [LOCK, RUNS].iter().any(|name| out.join(name).exists());
    let first =
        fs::read_dir(out).map_err(Error::io("list", out))?.next().transpose().map_err(Error::io("list", out))?;
    match first {
        Some(entry) if !of_a_suite => {
            let found = format!("it holds {}, and is not the folder of a suite", entry.file_name().display());
            Err(Error::invalid(format!("output {}", out.display()), found, "name a new folder"))
        }
        _ => Ok(()),
    }
}

/// The file that a harness at work holds locked.
const LOCK: &str = ".lock";

/// Keeps a second harness out of the folder.
fn alone(out: &Path) -> Result<File> {
    let path = out.join(LOCK);
    let file = File::create(&path).map_err(Error::io("create", &path))?;
    match file.try_lock() {
        Err(fs::TryLockError::WouldBlock) => {
            let what = format!("output {}", out.display());
            Err(Error::invalid(what, "another `synth bench` works there", "wait for it, or name another folder"))
        }
        _ => Ok(file),
    }
}

struct Work<'a> {
    around: Surroundings<'a>,
    options: &'a Options,
    compute: &'a Compute,
    measure: Measure<'a>,
    machine: Machine,
}

impl Work<'_> {
    fn is_done(&self, run: &Run) -> bool {
        let folder = run_folder(self.around.out, &run.folder);
        let made: Option<Made> = read(&folder.join("made.json"));
        let measured: Measured = read(&folder.join("evaluation.json")).unwrap_or_default();
        let is_made = made.is_some_and(|made| made.failed.is_none());
        is_made && measured.suffices(&Wanted::of(self.around.suite))
    }

    /// Whether its row has come from elsewhere. A teacher that a run here is still to learn from has not: rows have no weights.
    fn is_done_elsewhere(&self, run: &Run, runs: &[Run]) -> bool {
        self.is_known(run) && !self.is_awaited(run, runs)
    }

    /// Whether its weights are gone that a run here is still to learn from.
    fn is_missed(&self, run: &Run, runs: &[Run]) -> bool {
        self.is_awaited(run, runs) && !result_folder(self.around.out, &run.folder).exists()
    }

    fn is_known(&self, run: &Run) -> bool {
        self.options.known.has(&run.id)
    }

    fn is_awaited(&self, run: &Run, runs: &[Run]) -> bool {
        let is_its = |other: &&Run| other.needs.as_ref() == Some(&run.id);
        runs.iter().filter(is_its).any(|other| !self.is_known(other) && !self.is_done(other))
    }

    /// Does what is left of a run; what goes wrong is written down.
    fn one(&mut self, run: &Run) -> Result<()> {
        let folder = run_folder(self.around.out, &run.folder);
        let path = folder.join("made.json");
        let known: Option<Made> = read(&path);
        let (goes_on, before) = (self.around.goes_on(run), Ticks::now());
        let outcome = self.made(run).or_else(|error| words(error).map(Outcome::Failed))?;
        let about = match Begun::of(&folder) {
            Some(begun) => begun.about,
            None => self.about()?,
        };
        let noted = |process_seconds: Option<f64>, failed| {
            let others = Ticks::now().zip(before).and_then(|(now, before)| now.of_others(&before));
            let others = others.filter(|_| process_seconds.is_some());
            Made { others, ended: now(), process_seconds, failed, ..about.clone() }
        };
        let made = match (outcome, known) {
            (Outcome::Failed(why), _) => return write(&path, &noted(None, Some(why))),
            // What an earlier call has made is noted: its program, and what else went on then.
            (Outcome::Done(None), Some(known)) if known.failed.is_none() || known.process_seconds.is_some() => {
                Made { failed: None, ..known }
            }
            (Outcome::Done(seconds), _) => noted(seconds.filter(|_| !goes_on), None),
        };
        write(&path, &made)?;
        match self.measured(run) {
            Ok(()) => Ok(()),
            Err(error) => {
                let why = format!("evaluation: {}", words(error)?);
                write(&path, &Made { failed: Some(why), ..made })
            }
        }
    }

    /// What is noted of a process before it starts: the program may be another one than at the last run.
    fn about(&self) -> Result<Made> {
        let program = Program::here(&self.options.program, &self.options.places.suite)?;
        let peak_gflops = Some(multiply_add_rate(Precision::F32) / 1e9);
        Ok(Made { program, machine: self.machine.clone(), peak_gflops, ..Made::default() })
    }

    /// Makes the result of a run, unless it is there.
    fn made(&self, run: &Run) -> Result<Outcome> {
        if let Some(id) = run.needs.as_ref().filter(|id| !result_folder(self.around.out, id).exists()) {
            return Ok(Outcome::Failed(format!("its teacher is missing: there is no result of {id}")));
        }
        if matches!(run.kind, Kind::KdReal | Kind::KdNoise) {
            let key = SetKey::of(run, self.around.suite);
            key.make(run, &self.around, &self.options.access, self.compute)?;
        }
        let Some(words) = self.around.arguments(run)? else { return Ok(Outcome::Done(None)) };
        let folder = run_folder(self.around.out, &run.folder);
        let result = result_folder(self.around.out, &run.folder);
        let begun = || Begun { snapshots: self.around.snapshots(run), about: self.about()? }.note(&folder);
        carry_out(&self.options.program, &words, &folder, &result, begun)
    }

    fn measured(&mut self, run: &Run) -> Result<()> {
        let path = run_folder(self.around.out, &run.folder).join("evaluation.json");
        let known: Measured = read(&path).unwrap_or_default();
        if known.suffices(&Wanted::of(self.around.suite)) {
            return Ok(());
        }
        let found = self.measure.run(run, known)?;
        write(&path, &found)
    }
}

/// An error as a failed run's row has it; an interruption stays one.
fn words(error: Error) -> Result<String> {
    match error {
        Error::Interrupted => Err(Error::Interrupted),
        Error::Paused { .. } => Err(Error::Interrupted),
        Error::Failed { found, hint } => Ok(format!("{found}; {hint}")),
        other => Ok(other.to_string()),
    }
}

fn in_words(row: &Row) -> String {
    match (&row.error, row.top1()) {
        (Some(error), _) => format!("failed: {error}"),
        (None, Some(top1)) => format!("{:.2} % after {:.1} min", 100.0 * top1, row.seconds.total / 60.0),
        (None, None) => "nothing measured".into(),
    }
}
