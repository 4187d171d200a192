//! A disk that is full: states that do not fit are missed, a result that does not fit is one line, and with room again the run
//! goes on to the same bits.

use super::mount::Mounted;
use super::process::{Run, finish, interrupt, start};
use super::table::{Row, times};
use super::work::Work;
use std::path::Path;

/// KiB that hold a few states.
const ROOM: usize = 24 << 10;

#[test]
fn a_small_file_system() {
    let (folder, mut row) = (tempfile::tempdir().unwrap(), Row::default());
    for i in 0..times(1, 5) {
        for work in Work::ALL {
            let at = folder.path().join(format!("{}-{i}", work.name()));
            let Some(disk) = Mounted::new(&at, ROOM) else {
                row.ended = "not tried: no file system could be mounted here".into();
                return row.record("disk full (a small file system)");
            };
            fills_up(&mut row, work, &disk);
        }
    }
    row.ended =
        "states that do not fit: a warning, and the run goes on; the result: one line, exit 1; with room again: the \
                 same bits"
            .into();
    row.record("disk full (a small file system)");
}

/// The disk fills up once a state is there.
fn fills_up(row: &mut Row, work: Work, disk: &Mounted) {
    let run = work.run(&disk.path().join("result")).often();
    let mut working = start(&run);
    assert!(working.holds_when(|| !run.states().is_empty() && !run.is_writing()), "{}", work.name());
    let filler = disk.fill(0);
    working.signal("CONT");
    row.tried += 1;
    refused(working.end().stderr, &run);
    std::fs::remove_file(filler).unwrap();
    goes_on(row, work, &run);
}

fn refused(stderr: String, run: &Run) {
    let lines = |start: &str| stderr.lines().filter(|line| line.trim_start().starts_with(start)).count();
    assert!(lines("error: ") == 1 && stderr.trim_end().lines().last().unwrap().starts_with("error: "), "{stderr}");
    assert!(lines("WARN no checkpoint could be written") <= 2, "once per stretch: {stderr}");
    assert!(!run.output.exists() && !run.is_ending() && !run.is_writing(), "half-written files are left");
    assert!(!run.states().is_empty(), "the state is gone");
}

fn goes_on(row: &mut Row, work: Work, run: &Run) {
    finish(&run.clone().resumed()).expect_success();
    row.check(work.differences(&run.output));
    assert!(!run.unfinished().exists());
}

#[test]
fn a_limit_on_the_size_of_files() {
    let (folder, mut row) = (tempfile::tempdir().unwrap(), Row::default());
    for i in 0..times(1, 5) {
        for work in Work::ALL {
            let run = work.run(&folder.path().join(format!("{}-{i}", work.name())));
            if !interrupt(&run, 1) {
                continue; // it was faster
            }
            row.tried += 1;
            // 64 blocks of 512 or 1,024 bytes: less than any network.
            let limited = ["sh", "-c", "ulimit -f 64; trap '' XFSZ; exec \"$0\" \"$@\""];
            let ended = finish(&run.clone().often().resumed().through(&limited));
            assert_eq!(ended.code, Some(1), "{}", ended.stderr);
            assert!(ended.stderr.contains("WARN no checkpoint could be written"), "{}", ended.stderr);
            refused(ended.stderr, &run);
            goes_on(&mut row, work, &run);
        }
    }
    row.ended = "as above".into();
    row.record("disk full (a limit on the size of files)");
}

/// No state ever fits: nothing is kept, and nothing half-made is left.
#[test]
fn from_the_start() {
    let (folder, mut row) = (tempfile::tempdir().unwrap(), Row::default());
    let Some(disk) = Mounted::new(&folder.path().join("disk"), ROOM) else {
        row.ended = "not tried: no file system could be mounted here".into();
        return row.record("disk full from the start");
    };
    for (i, work) in Work::rounds(&[Work::Collect, Work::Distill, Work::Run], 3) {
        // Too little for a state of any work.
        let filler = disk.fill(if i == 0 { 4 << 10 } else { 0 });
        let run = work.run(&disk.path().join("result"));
        row.tried += 1;
        let ended = finish(&run.clone().often());
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{}", ended.stderr);
        std::fs::remove_file(filler).unwrap();
        assert_eq!(names(disk.path()), Vec::<String>::new(), "{}", work.name());
        finish(&run).expect_success();
        row.check(work.differences(&run.output));
        std::fs::remove_dir_all(&run.output).unwrap();
    }
    row.ended = "one line, exit 1, nothing left behind; with room: the same bits".into();
    row.record("disk full from the start");
}

fn names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
