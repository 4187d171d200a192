//! States that a disk has damaged.

use super::process::{finish, interrupt};
use super::table::Row;
use super::work::Work;
use std::path::Path;

/// What happens to a file.
const DAMAGES: [fn(&Path); 3] = [
    |path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    },
    |path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    },
    |path| std::fs::write(path, []).unwrap(),
];

#[test]
fn the_newest_state() {
    let (folder, mut row) = (tempfile::tempdir().unwrap(), Row::default());
    for (i, work) in Work::rounds(&Work::ALL, 3) {
        let run = work.run(&folder.path().join(format!("{}-{i}", work.name())));
        if !interrupt(&run, 2) {
            continue; // it was faster
        }
        let states = run.states();
        let newest = states.last().unwrap();
        DAMAGES[(i + work as usize) % DAMAGES.len()](newest);
        row.tried += 1;
        let said = finish(&run.clone().resumed()).expect_success();
        let name = newest.file_name().unwrap().to_str().unwrap();
        assert!(said.lines().any(|line| line.contains("WARN") && line.contains(name)), "{said}");
        row.check(work.differences(&run.output));
    }
    row.ended = "a warning that names it; on from the one before: the same bits".into();
    row.record("newest state damaged");
}

#[test]
fn all_states() {
    let (folder, mut row) = (tempfile::tempdir().unwrap(), Row::default());
    for (i, work) in Work::rounds(&[Work::Invert, Work::Distill, Work::Train], 3) {
        let run = work.run(&folder.path().join(format!("{}-{i}", work.name())));
        if !interrupt(&run, 2) {
            continue; // it was faster
        }
        let states = run.states();
        states.iter().for_each(|state| DAMAGES[(i + work as usize) % DAMAGES.len()](state));
        row.tried += 1;
        finish(&run.clone().resumed()).expect_refusal(1, &["no sound checkpoint is left", "--force"]);
        assert_eq!(run.states(), states, "they are left for whoever wants to look");
        finish(&run.clone().with(&["--force"])).expect_success();
        row.check(work.differences(&run.output));
    }
    row.ended = "refused, exit 1, nothing removed; anew with `--force`: the same bits".into();
    row.record("all states damaged");
}
