//! Somebody asks to stop: the state is kept, and the last line says where.

use super::process::{finish, start};
use super::table::{Row, times};
use super::work::Work;
use std::path::Path;

fn stopped_by(signal: &str) -> Row {
    let (folder, mut row) = (tempfile::tempdir().unwrap(), Row::default());
    for i in 0..times(1, 3) {
        for work in Work::ALL {
            let run = work.run(&folder.path().join(format!("{}-{i}", work.name())));
            // Early, and not before it can be heard.
            let pause = work.takes().mul_f64(0.2 * i as f64);
            let mut working = start(&run);
            assert!(working.until(|| run.unfinished().join("metrics.jsonl").exists()));
            if working.wait(pause) {
                working.signal(signal);
            }
            let ended = working.end();
            if ended.code == Some(0) {
                continue; // it was faster
            }
            row.tried += 1;
            let place = run.unfinished();
            ended.expect_refusal(130, &["interrupted", place.to_str().unwrap(), "--resume"]);
            // Without --resume nothing is done, and nothing lost.
            finish(&run).expect_refusal(2, &["an interrupted run has left its state", "--resume", "--force"]);
            assert!(!run.states().is_empty());
            finish(&run.clone().resumed()).expect_success();
            row.check(work.differences(&run.output));
        }
    }
    row.ended = "exit 130, one line that says where the state is; the same bits".into();
    row
}

#[test]
fn ctrl_c() {
    stopped_by("INT").record("SIGINT (Ctrl-C)");
}

#[test]
fn sigterm() {
    stopped_by("TERM").record("SIGTERM");
}

/// The disk refuses the last state: the last line says what is lost, and the state before it serves.
#[test]
fn with_a_last_state_that_cannot_be_written() {
    let (folder, work) = (tempfile::tempdir().unwrap(), Work::Train);
    let run = work.run(&folder.path().join("result")).often();
    let mut working = start(&run);
    if !working.holds_when(|| !run.states().is_empty() && !run.is_writing()) {
        return; // it was faster
    }
    // Folders have the names that the next states are written under.
    let number = |path: &Path| -> Option<u32> { path.file_name()?.to_str()?.split(['-', '.']).nth(1)?.parse().ok() };
    let newest = run.states().last().and_then(|path| number(path)).unwrap();
    let next = [1, 2].map(|more| run.unfinished().join(format!("states/train-{:06}.safetensors", newest + more)));
    next.iter().for_each(|path| std::fs::create_dir(path).unwrap());
    working.signal("INT");
    working.signal("CONT");
    let ended = working.end();
    if ended.code == Some(0) {
        return; // it was faster
    }
    ended.expect_refusal(130, &["interrupted", "is lost", run.unfinished().to_str().unwrap(), "--resume"]);
    next.iter().for_each(|path| std::fs::remove_dir(path).unwrap());
    finish(&run.clone().resumed()).expect_success();
    assert_eq!(work.differences(&run.output), Vec::<String>::new());
}
