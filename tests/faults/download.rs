//! A download that does not come to its end.

use super::hub::{Answer, HubServer, Manner, Repo};
use super::inputs::teacher;
use super::outcome::files;
use super::process::{Run, finish, start};
use super::table::{Row, times};
use super::work::{INVERSION, Work};
use std::path::Path;
use std::time::Duration;

/// Bytes of the weights that come before something happens; the other files are smaller.
const PART: usize = 50_000;

/// The teacher as a repository.
fn repository() -> Repo {
    let files: Vec<(String, Vec<u8>)> = files(&teacher())
        .into_iter()
        .map(|(name, path)| (name.to_str().unwrap().to_string(), std::fs::read(path).unwrap()))
        .collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    Repo::with(&files)
}

fn run(server: &HubServer, folder: &Path) -> Run {
    let arguments = [&["invert", "me/teacher", "--views", "2"], &INVERSION[..]].concat();
    let home = folder.join("home");
    Run::new(&arguments, &folder.join("set")).set("HF_ENDPOINT", server.url()).set("HF_HOME", home.display())
}

fn incomplete(folder: &Path) -> bool {
    let found = files(&folder.join("home"));
    found.iter().any(|(name, path)| {
        name.extension().is_some_and(|e| e == "incomplete")
            && std::fs::metadata(path).is_ok_and(|about| about.len() >= PART as u64)
    })
}

#[test]
fn the_hub_dies() {
    let mut row = Row::default();
    for _ in 0..times(1, 3) {
        let folder = tempfile::tempdir().unwrap();
        let server = HubServer::start();
        server.add("models/me/teacher", repository());
        server.trouble("store:", 1, |answer| Answer { manner: Manner::Truncated(PART), ..answer });
        server.trouble("store:", usize::MAX, |answer| Answer { manner: Manner::Raw(Vec::new()), ..answer });
        let first = run(&server, folder.path());
        let mut working = start(&first);
        assert!(working.until(|| incomplete(folder.path())), "{}", working.end().stderr);
        drop(server);
        row.tried += 1;
        working.end().expect_refusal(1, &["me/teacher"]);
        assert!(!first.output.exists() && !first.unfinished().exists());
        assert!(incomplete(folder.path()), "what came is gone");
        // It is there again, at another address.
        let server = HubServer::start();
        server.add("models/me/teacher", repository());
        let again = run(&server, folder.path());
        finish(&again.clone().resumed()).expect_success();
        row.check(Work::Invert.differences(&again.output));
        let ranged = server.state().requests.iter().any(|request| request.header("range").is_some());
        assert!(ranged, "it did not go on where it stopped");
    }
    row.ended = "one line, exit 1, no output; the Hub back: it goes on where it stopped, the same bits".into();
    row.record("Hub dies in the middle of a download");
}

#[test]
fn the_process_dies() {
    let mut row = Row::default();
    for _ in 0..times(1, 5) {
        let folder = tempfile::tempdir().unwrap();
        let server = HubServer::start();
        server.add("models/me/teacher", repository());
        let slow = Manner::Stalled(PART, Duration::from_secs(15));
        server.trouble("store:", 1, move |answer| Answer { manner: slow.clone(), ..answer });
        let run = run(&server, folder.path());
        let mut working = start(&run);
        assert!(working.until(|| incomplete(folder.path())), "{}", working.end().stderr);
        working.kill();
        row.tried += 1;
        finish(&run.clone().resumed()).expect_success();
        row.check(Work::Invert.differences(&run.output));
    }
    row.ended = "goes on where it stopped: the same bits".into();
    row.record("SIGKILL in the middle of a download");
}
