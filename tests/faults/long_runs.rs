//! Long runs: memory, open files, log and states stay as they are after the first tenth.

use super::inputs::{set, teacher};
use super::process::{Run, start};
use super::table::{Row, is_full, times};
use std::path::Path;
use std::time::{Duration, Instant};

/// Share by which memory may grow after the first tenth of a run.
const GROWTH: f64 = 0.05;
/// Lines of the log per stage, at most.
const LINES: usize = 2002;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// What a process takes at a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    memory: u64,
    files: usize,
    states: u64,
}

impl Sample {
    /// `None` once it has ended.
    fn of(pid: u32, run: &Run) -> Option<Self> {
        let process = Path::new("/proc").join(pid.to_string());
        let status = std::fs::read_to_string(process.join("status")).ok()?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let memory: u64 = memory.trim().trim_end_matches(" kB").parse().ok()?;
        let files = std::fs::read_dir(process.join("fd")).ok()?.count();
        let states = run.states().iter().filter_map(|path| path.metadata().ok()).map(|about| about.len()).sum();
        Some(Self { memory: memory << 10, files, states })
    }
}

/// Follows a run of `steps` steps; `per` names them.
fn follow(fault: &'static str, run: Run, steps: String) {
    let run = run.with(&["--checkpoint-every", if is_full() { "2s" } else { "0s" }]);
    let (begin, mut working, mut samples) = (Instant::now(), start(&run), Vec::new());
    while working.wait(LOOK) {
        let sample = Sample::of(working.child.id(), &run);
        // Many files are flushed together at the end.
        samples.extend(sample.filter(|_| !run.is_ending()));
    }
    let (seconds, said) = (begin.elapsed().as_secs_f64(), working.end().expect_success());
    let early = typical(&samples[samples.len() / 10..samples.len() / 5]);
    let late = typical(&samples[samples.len() * 9 / 10..]);
    let most = |of: fn(&Sample) -> u64| samples.iter().map(of).max().unwrap_or(0);
    let log = std::fs::read_to_string(run.output.join("metrics.jsonl")).unwrap();
    let stages: std::collections::BTreeSet<String> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["stage"].as_str().unwrap().to_string())
        .collect();

    let grown = late.memory as f64 / early.memory as f64 - 1.0;
    // A short run has not long warmed up after a tenth.
    let slack = if is_full() { 0.0 } else { 0.15 };
    assert!(
        grown <= GROWTH + slack,
        "memory grows by {:.1} % after the first tenth: {early:?}, {late:?}",
        100.0 * grown
    );
    assert!(late.files <= early.files, "open files: {early:?}, {late:?}");
    assert!(
        most(|s| s.files as u64) <= early.files as u64 + 4,
        "open files: {early:?}, at most {}",
        most(|s| s.files as u64)
    );
    // Two states per stage, and a third one for a moment. Early in a short run there is one, of a learner that has not begun.
    let kept = if is_full() { early } else { typical(&samples[samples.len() / 2..samples.len() * 6 / 10]) };
    assert!(late.states as f64 <= 1.5 * kept.states as f64 + 1e5, "states: {kept:?}, {late:?}");
    assert!(log.lines().count() <= LINES * stages.len(), "{} lines of {stages:?}", log.lines().count());
    // A line per stage every half minute, one at its end, and what is alarming about so small a run.
    let expected = stages.len() * (2 + seconds as usize / 30) + 20;
    assert!(said.lines().count() <= expected && !said.contains('\r') && !said.contains('\u{1b}'), "{said}");

    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let ended = format!(
        "{steps} in {seconds:.0} s: memory {:.1} MiB after a tenth, {:.1} MiB at the end; {} open files, then {}; states of \
         {:.1} MiB, then {:.1} MiB; log {:.1} MiB; {} lines on stderr",
        mib(early.memory),
        mib(late.memory),
        early.files,
        late.files,
        mib(early.states),
        mib(late.states),
        mib(log.len() as u64),
        said.lines().count()
    );
    Row { tried: 1, ended, ..Row::default() }.record(fault);
}

/// Each number by itself: of the memory the median; of the open files the least and of the states the most, as any share of the looks
/// may meet a state that is being written or just replaced.
fn typical(samples: &[Sample]) -> Sample {
    assert!(!samples.is_empty(), "the run was too short to be followed");
    let mut memory: Vec<u64> = samples.iter().map(|s| s.memory).collect();
    memory.sort_unstable();
    Sample {
        memory: memory[memory.len() / 2],
        files: samples.iter().map(|s| s.files).min().unwrap_or_default(),
        states: samples.iter().map(|s| s.states).max().unwrap_or_default(),
    }
}

#[test]
fn an_inversion_of_many_rounds() {
    let (folder, rounds) = (tempfile::tempdir().unwrap(), times(1_200, 10_000));
    let (teacher, count) = (teacher().display().to_string(), format!("rounds={rounds}"));
    #[rustfmt::skip]
    let arguments = [
        "invert", &teacher, "--samples", "60", "--set", "batch=4", "--set", "practice=1", "--set", "fill=1", "--set", &count,
        "--set", "adversary_steps=2", "--set", "student.batch=8", "--set", "generator.width=2", "--set", "generator.inner_steps=1",
    ];
    follow("a long inversion", Run::new(&arguments, &folder.path().join("set")), format!("{rounds} rounds"));
}

#[test]
fn a_distillation_of_many_updates() {
    let (folder, updates) = (tempfile::tempdir().unwrap(), times(1500, 100_000));
    let (set, steps) = (set().display().to_string(), updates.to_string());
    let arguments = ["distill", &set, "--answers", "stored", "--steps", &steps, "--set", "student.batch=4"];
    follow("a long distillation", Run::new(&arguments, &folder.path().join("student")), format!("{updates} updates"));
}
