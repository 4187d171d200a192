//! Two processes on one output, and locks that nobody holds any more.

use super::process::{finish, interrupt, start};
use super::table::Row;
use super::work::Work;

#[test]
fn two_at_once() {
    let (folder, mut row) = (tempfile::tempdir().unwrap(), Row::default());
    for (i, work) in Work::rounds(&[Work::Collect, Work::Run], 5) {
        let run = work.run(&folder.path().join(format!("{}-{i}", work.name())));
        let mut working = start(&run);
        assert!(working.until(|| run.unfinished().join("metrics.jsonl").exists()));
        let holder = format!("process {} is working on it", working.child.id());
        for more in [&[][..], &["--resume"], &["--force"]] {
            let second = finish(&run.clone().with(more));
            if working.child.try_wait().unwrap().is_some() {
                break; // the first is no longer there to be disturbed
            }
            second.expect_refusal(2, &[&holder]);
            row.tried += 1;
        }
        working.end().expect_success();
        row.check(work.differences(&run.output));
    }
    row.ended = "the second: one line with the number of the first, exit 2; the first: the same bits".into();
    row.record("two processes on one output");
}

#[test]
fn stale_locks() {
    let dead = "SIGKILL leaves it; the next process takes it over: the same bits";
    stale("lock of a process that is dead", None, dead);
    stale("lock with the number of another program", Some(std::process::id()), "taken over: the same bits");
}

/// Goes on from a killed process, whose lock holds the number of another program if there is one.
fn stale(fault: &'static str, other: Option<u32>, ended: &str) {
    let (folder, mut row) = (tempfile::tempdir().unwrap(), Row { ended: ended.into(), ..Row::default() });
    for (i, work) in Work::rounds(&[Work::Invert, Work::Distill, Work::Train], 5) {
        let run = work.run(&folder.path().join(format!("{}-{i}", work.name())));
        let lock = run.unfinished().join("lock");
        match other {
            Some(other) => {
                interrupt(&run, 1);
                if lock.exists() {
                    std::fs::write(&lock, format!("{other}\n")).unwrap();
                }
            }
            None => {
                let mut working = start(&run.clone().often());
                working.until(|| !run.states().is_empty());
                working.kill();
            }
        }
        if run.output.exists() {
            continue; // it was faster
        }
        assert!(lock.exists());
        row.tried += 1;
        finish(&run.clone().resumed()).expect_success();
        row.check(work.differences(&run.output));
    }
    row.record(fault);
}
