//! SIGKILL: at random moments, while a state is written, while the result is.

use super::inputs::{copy, pictures, set, teacher};
use super::outcome::{Bystanders, half_written};
use super::process::{Run, Working, finish, start};
use super::table::{Row, began, times};
use super::work::Work;
use rand::RngExt;
use std::path::Path;
use std::time::Duration;
use synth::rng::{Stream, Streams};

/// Kills of one run, after which it may end.
const PER_RUN: usize = 3;
/// About as long as a result's files are written, and another's are removed.
const ENDING: Duration = Duration::from_millis(5);

/// When to kill.
#[derive(Clone, Copy)]
enum Moment {
    Any,
    /// While a state is being written.
    State,
    /// While the result is.
    Result,
    /// While it is, or shortly after.
    Replacement,
}

impl Moment {
    /// Waits for it; `false` if the process ended before.
    fn wait(self, run: &Run, working: &mut Working, whole: Duration, rng: &mut Stream) -> bool {
        let some = |longest: Duration, rng: &mut Stream| longest.mul_f64(rng.random::<f64>());
        match self {
            Self::Any => working.wait(some(whole, rng)),
            Self::State => working.until(|| run.is_writing()) && working.wait(some(Duration::from_millis(10), rng)),
            Self::Result => working.until(|| run.is_ending()) && working.wait(some(ENDING, rng)),
            // Half of the time the end is awaited: then come the renames and the removal of the old result.
            Self::Replacement => {
                let begun = working.until(|| run.is_ending());
                let late = begun && rng.random::<bool>() && working.until(|| !run.is_ending());
                begun && (late || working.wait(some(ENDING, rng)))
            }
        }
    }
}

/// Kills runs of `work` until `kills` hit a living process, and brings each of them to its end.
fn kill(row: &mut Row, work: Work, moment: Moment, kills: usize, name: &str) -> usize {
    began();
    let (folder, whole) = (tempfile::tempdir().unwrap(), work.takes());
    let bystanders = Bystanders::of(&[&teacher(), &set(), &pictures()]);
    let streams = Streams::new(std::process::id().into());
    let (before, mut runs) = (row.tried, 0);
    while row.tried < before + kills {
        assert!(runs < 20 * kills, "{name}: the moment does not come");
        let run = work.run(&folder.path().join(format!("{name}-{runs}"))).often().resumed();
        let mut rng = streams.stream(work.name(), runs as u64);
        for _ in 0..PER_RUN.min(before + kills - row.tried) {
            let mut working = start(&run);
            if moment.wait(&run, &mut working, whole, &mut rng) {
                row.tried += 1;
            }
            working.kill();
            row.bytes_lost += half_written(|found| work.differences(found), &run.output);
        }
        let ended = finish(&run);
        match ended.code {
            Some(0) => row.check(work.differences(&run.output)),
            _ => row.lost.push(format!("{name} {runs}: {}", ended.stderr)),
        }
        row.check(left_over(folder.path(), &run));
        let _ = std::fs::remove_dir_all(&run.output);
        runs += 1;
    }
    row.bytes_lost += bystanders.lost();
    runs
}

/// What a finished run has left beside its result.
fn left_over(folder: &Path, run: &Run) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    names.filter(|path| *path != run.output).map(|path| format!("{} is left", path.display())).collect()
}

fn at_random_moments(fault: &'static str, work: Work) {
    let mut row = Row::default();
    let runs = kill(&mut row, work, Moment::Any, times(4, 30), work.name());
    row.ended = format!("{runs} runs, the same bits");
    row.record(fault);
}

#[test]
fn inversions_are_killed() {
    at_random_moments("SIGKILL of `invert` at a random moment", Work::Invert);
}

#[test]
fn collections_are_killed() {
    at_random_moments("SIGKILL of `collect` at a random moment", Work::Collect);
}

#[test]
fn distillations_are_killed() {
    at_random_moments("SIGKILL of `distill` at a random moment", Work::Distill);
}

#[test]
fn whole_runs_are_killed() {
    at_random_moments("SIGKILL of `run` at a random moment", Work::Run);
}

#[test]
fn trainings_are_killed() {
    at_random_moments("SIGKILL of `train` at a random moment", Work::Train);
}

#[test]
fn while_a_state_is_written() {
    let (mut row, mut runs) = (Row::default(), 0);
    for work in [Work::Run, Work::Train] {
        runs += kill(&mut row, work, Moment::State, times(3, 20), &format!("state-{}", work.name()));
    }
    row.ended = format!("{runs} runs, the same bits");
    row.record("SIGKILL while a state is written");
}

#[test]
fn while_the_result_is_written() {
    let (mut row, mut runs) = (Row::default(), 0);
    for work in [Work::Invert, Work::Distill] {
        runs += kill(&mut row, work, Moment::Result, times(2, 15), &format!("result-{}", work.name()));
    }
    row.ended = format!("{runs} runs, the same bits");
    row.record("SIGKILL while the result is written");
}

/// With `--force` the old result stays until the new one is whole; a kill between leaves one or the other.
#[test]
fn while_an_older_result_is_replaced() {
    let (folder, work) = (tempfile::tempdir().unwrap(), Work::Train);
    let run = work.run(&folder.path().join("result"));
    let (mut row, streams) = (Row::default(), Streams::new(std::process::id().into()));
    copy(&teacher(), &run.output);
    let old = Bystanders::of(&[&run.output]);
    let (mut olds, mut news, mut runs) = (0, 0, 0);
    let (kills, whole) = (times(4, 20), work.takes());
    while row.tried < kills {
        assert!(runs < 20 * kills, "the moment does not come");
        let mut working = start(&run.clone().often().with(&["--force"]));
        let mut rng = streams.stream("replace", runs as u64);
        let hit = Moment::Replacement.wait(&run, &mut working, whole, &mut rng);
        working.kill();
        // A kill between two renames leaves the old result set aside; whatever writes there next puts it back.
        let looked = finish(&run);
        assert_eq!(looked.code, Some(2), "{}", looked.stderr);
        let (lost, is_new) = (old.lost(), work.differences(&run.output).is_empty());
        if lost > 0 && is_new {
            std::fs::remove_dir_all(&run.output).unwrap();
            copy(&teacher(), &run.output);
        } else {
            row.bytes_lost += lost;
        }
        row.tried += usize::from(hit);
        olds += usize::from(hit && lost == 0);
        news += usize::from(hit && is_new);
        runs += 1;
    }
    row.ended = format!("{runs} runs; {olds} times the old result, {news} times the new one, whole");
    row.record("SIGKILL while an older result is replaced");
}
