//! Clocks that jump.

use super::process::{Run, finish, interrupt, start};
use super::table::Row;
use super::work::Work;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The library that gives a process another time, where it is installed.
fn faketime() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let paths = folders.map(|folder| Path::new(folder).join("faketime/libfaketimeMT.so.1"));
    paths.into_iter().find(|path| path.exists())
}

/// The clock of the day is false, the one that only counts on is not.
fn false_clock(run: Run, library: &Path) -> Run {
    run.set("LD_PRELOAD", library.display()).set("FAKETIME_DONT_FAKE_MONOTONIC", 1).set("FAKETIME_NO_CACHE", 1)
}

#[test]
fn between_two_processes() {
    let (folder, mut row) = (tempfile::tempdir().unwrap(), Row::default());
    let day = Duration::from_secs(86_400);
    for (i, work) in Work::rounds(&[Work::Collect, Work::Distill, Work::Run], 3) {
        for ahead in [true, false] {
            let run = work.run(&folder.path().join(format!("{}-{i}-{ahead}", work.name())));
            if !interrupt(&run, 2) {
                continue; // it was faster
            }
            // The older state gets the newer time: progress decides, not the clock.
            let now = SystemTime::now();
            let states = run.states();
            for (k, state) in states.iter().rev().enumerate() {
                let jump = day * (1 + k as u32);
                let time = if ahead { now + jump } else { now - 400 * day + jump };
                std::fs::File::options().write(true).open(state).unwrap().set_modified(time).unwrap();
            }
            let mut again = run.clone().often().resumed();
            if let Some(library) = faketime() {
                again = false_clock(again, &library).set("FAKETIME", if ahead { "-700d" } else { "+700d" });
            }
            row.tried += 1;
            finish(&again).expect_success();
            row.check(work.differences(&run.output));
        }
    }
    row.ended = "the same bits".into();
    row.record("clock jumps between two processes");
}

#[test]
fn in_a_running_process() {
    let (folder, mut row) = (tempfile::tempdir().unwrap(), Row::default());
    let Some(library) = faketime() else {
        row.ended = "not tried: libfaketime is not installed here".into();
        return row.record("clock jumps in a running process");
    };
    for (i, work) in Work::rounds(&[Work::Invert, Work::Train], 3) {
        let times = folder.path().join("time");
        std::fs::write(&times, "+0\n").unwrap();
        let run = work.run(&folder.path().join(format!("{}-{i}", work.name()))).often();
        let mut working = start(&false_clock(run.clone(), &library).set("FAKETIME_TIMESTAMP_FILE", times.display()));
        for jump in ["+1000d", "-1000d", "+3d"] {
            working.wait(work.takes().mul_f64(0.2));
            std::fs::write(&times, format!("{jump}\n")).unwrap();
        }
        row.tried += 1;
        working.end().expect_success();
        row.check(work.differences(&run.output));
    }
    row.ended = "the same bits".into();
    row.record("clock jumps in a running process");
}
