//! The teacher goes away, or becomes another one, while a run is interrupted.

use super::inputs::{copy, other_teacher, set, teacher};
use super::process::{Ended, Run, finish, interrupt};
use super::table::{Row, times};
use super::work::Work;
use std::path::Path;

/// Interrupts a run, does something to its teacher, tries to go on, puts the teacher back, and goes on.
fn tried(row: &mut Row, work: Work, change: fn(&Path), refusal: impl Fn(Ended)) {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("teacher");
    copy(&teacher(), &own);
    let run = work.with(&own, &folder.path().join("result"));
    if !interrupt(&run, 1) {
        return; // it was faster
    }
    row.tried += 1;
    let (states, again) = (run.states(), run.clone().resumed());
    change(&own);
    refusal(finish(&again));
    assert_eq!(run.states(), states, "the state has changed");
    assert!(!run.output.exists());
    let _ = std::fs::remove_dir_all(&own);
    copy(&teacher(), &own);
    finish(&again).expect_success();
    row.check(work.differences(&run.output));
}

const TAUGHT: [Work; 4] = [Work::Invert, Work::Collect, Work::Distill, Work::Run];

#[test]
fn gone() {
    let mut row = Row::default();
    let gone = |folder: &Path| std::fs::remove_dir_all(folder).unwrap();
    let half = |folder: &Path| std::fs::remove_file(folder.join("model.safetensors")).unwrap();
    for _ in 0..times(1, 3) {
        for work in TAUGHT {
            tried(&mut row, work, gone, |ended| drop(ended.expect_refusal(1, &["teacher", "no such file or folder"])));
        }
        tried(&mut row, Work::Invert, half, |ended| drop(ended.expect_refusal(1, &["expected model.safetensors"])));
        recorded_answers_do_not_take_its_place(&mut row);
    }
    row.ended = "one line, exit 1, the state stays; with the teacher back: the same bits".into();
    row.record("teacher gone before `--resume`");
}

/// A set with recorded answers can do without its teacher, but a run that began with it does not go on without.
fn recorded_answers_do_not_take_its_place(row: &mut Row) {
    let folder = tempfile::tempdir().unwrap();
    let (own, sets) = (folder.path().join("teacher"), folder.path().join("set"));
    copy(&teacher(), &own);
    copy(&set(), &sets);
    let about = sets.join("synth.json");
    let mut named: serde_json::Value = serde_json::from_slice(&std::fs::read(&about).unwrap()).unwrap();
    named["teacher"]["id"] = own.to_str().unwrap().into();
    std::fs::write(&about, named.to_string()).unwrap();
    let more = ["--steps", "500", "--set", "student.batch=8"];
    let arguments = [&["distill", sets.to_str().unwrap()], &more[..]].concat();
    let run = Run::new(&arguments, &folder.path().join("student"));
    if !interrupt(&run, 1) {
        return; // it was faster
    }
    row.tried += 1;
    std::fs::rename(&own, folder.path().join("away")).unwrap();
    finish(&run.clone().resumed()).expect_refusal(1, &["answers is \"live\" there and \"stored\" here"]);
    std::fs::rename(folder.path().join("away"), &own).unwrap();
    finish(&run.clone().resumed()).expect_success();
    row.check(Work::Distill.differences(&run.output));
}

#[test]
fn changed() {
    let mut row = Row::default();
    let change = |folder: &Path| copy(&other_teacher(), folder);
    for _ in 0..times(1, 3) {
        for work in TAUGHT {
            tried(&mut row, work, change, |ended| {
                drop(ended.expect_refusal(1, &["of another run", "teacher", "there and"]))
            });
        }
    }
    row.ended = "refused with the difference, exit 1, the state stays; with the teacher back: the same bits".into();
    row.record("teacher changed before `--resume`");
}

/// `--force` begins anew once nothing is wrong any more; until then what was kept stays.
#[test]
fn gone_before_a_run_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (own, away) = (folder.path().join("teacher"), folder.path().join("away"));
    copy(&teacher(), &own);
    for work in [Work::Invert, Work::Distill] {
        let run = work.with(&own, &folder.path().join(work.name()));
        if !interrupt(&run, 1) {
            continue; // it was faster
        }
        let (states, anew) = (run.states(), run.clone().with(&["--force"]));
        finish(&anew.clone().with(&["--set", "student.lr=1000"])).expect_refusal(2, &["student.lr"]);
        std::fs::rename(&own, &away).unwrap();
        finish(&anew).expect_refusal(1, &["teacher", "no such file or folder"]);
        std::fs::rename(&away, &own).unwrap();
        assert_eq!(run.states(), states, "the state has changed");
        finish(&run.clone().resumed()).expect_success();
        assert_eq!(work.differences(&run.output), Vec::<String>::new());
    }
}
