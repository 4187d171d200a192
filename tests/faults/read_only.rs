//! A folder that may not be written to.

use super::mount::Mounted;
use super::process::{finish, interrupt};
use super::table::Row;
use super::work::Work;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A folder that can be closed.
enum Place {
    Mounted(Mounted),
    /// Root may write where permissions forbid it.
    Permissions(PathBuf),
}

impl Place {
    fn new(folder: &Path) -> Option<Self> {
        if let Some(mounted) = Mounted::new(folder, 24 << 10) {
            return Some(Self::Mounted(mounted));
        }
        let place = Self::Permissions(folder.into());
        place.open(false);
        let obeyed = std::fs::write(folder.join("x"), "x").is_err();
        place.open(true);
        obeyed.then_some(place)
    }

    fn open(&self, open: bool) {
        let of =
            |path: &Path, mode: u32| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        match self {
            Self::Mounted(mounted) => mounted.writable(open),
            Self::Permissions(folder) => {
                let folders =
                    [folder.clone(), folder.join("result.unfinished"), folder.join("result.unfinished/states")];
                let mode = |path: &Path| if path.is_dir() { 0o555 } else { 0o444 };
                for path in folders.iter().rev().chain(&[folder.join("result.unfinished/lock")]).filter(|p| p.exists())
                {
                    of(path, if open { mode(path) | 0o200 } else { mode(path) });
                }
            }
        }
    }
}

#[test]
fn read_only_folders() {
    let (folder, mut row) = (tempfile::tempdir().unwrap(), Row::default());
    for (i, work) in Work::rounds(&[Work::Invert, Work::Train], 3) {
        let at = folder.path().join(format!("{}-{i}", work.name()));
        std::fs::create_dir(&at).unwrap();
        let Some(place) = Place::new(&at) else {
            row.ended = "not tried: root may write everywhere, and nothing could be mounted here".into();
            return row.record("read-only folder for the result");
        };
        let run = work.run(&at.join("result"));
        place.open(false);
        finish(&run).expect_refusal(1, &[at.to_str().unwrap()]);
        row.tried += 1;
        place.open(true);
        if !interrupt(&run, 1) {
            continue; // it was faster
        }
        place.open(false);
        let (states, again) = (run.states(), run.clone().resumed());
        finish(&again).expect_refusal(1, &[at.to_str().unwrap()]);
        assert_eq!(run.states(), states);
        row.tried += 1;
        place.open(true);
        finish(&again).expect_success();
        row.check(work.differences(&run.output));
    }
    row.ended = "one line before any work, exit 1; writable again: the same bits".into();
    row.record("read-only folder for the result");
}
