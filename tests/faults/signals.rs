//! Somebody asks to stop: the state is kept, and the last line says where.

use super::process::{finish, start};
use super::table::{Row, times};
use super::work::Work;

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
