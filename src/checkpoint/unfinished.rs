//! A result that is being worked on: a folder `NAME.unfinished` beside its name, which outlives the process.

use super::keeper::holds_any;
use crate::files::{Staging, clean_up, is_gone, occupied, refuse_folder, remove, split};
use crate::{Error, Result};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// What to do with what is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Begin {
    /// Replace a finished result, and start anew where an earlier process was interrupted.
    pub force: bool,
    /// Go on where an earlier process was interrupted.
    pub resume: bool,
}

/// The folder of a run that is not finished, held by this process alone.
///
/// It has a lock with the holder's process number and machine, the log, and the states. Dropped without a state in it, it is
/// removed.
#[derive(Debug)]
pub struct Unfinished {
    folder: PathBuf,
    target: PathBuf,
    begin: Begin,
    finished: bool,
    /// Held until the process ends, however it ends.
    lock: File,
}

/// Tries to get hold of a folder that another process is just removing.
const TRIES: usize = 10;

impl Unfinished {
    /// Takes hold of `TARGET.unfinished`, which is made if it is missing. An older result that a kill had left set aside gets
    /// its name back.
    ///
    /// # Errors
    /// [`Error::Invalid`] if another process works on it, if `target` exists and may not be replaced, or if there is a state and
    /// `begin` does not say what to do with it; [`Error::Io`] where nothing can be written.
    pub fn open(target: impl AsRef<Path>, begin: Begin) -> Result<Self> {
        let target = target.as_ref().to_path_buf();
        let (parent, name) = split(&target)?;
        clean_up(&parent, &name, &target);
        let folder = Self::folder_of(&target)?;
        let lock = hold(&folder, File::try_lock)?;
        // Asked when no other process can be just giving a result its name.
        let finished = occupied(&target);
        let unfinished = Self { folder, target, begin, finished, lock };
        if finished && (!begin.resume || begin.force) {
            refuse_folder(&unfinished.target, begin.force)?;
        }
        if unfinished.is_begun() && !begin.resume && !begin.force {
            let found = format!("an interrupted run has left its state in {}", unfinished.folder.display());
            let what = format!("output {}", unfinished.target.display());
            return Err(Error::invalid(what, found, "go on with --resume, or start anew with --force"));
        }
        Ok(unfinished)
    }

    /// Where what is not finished lies: `TARGET.unfinished`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a path without a name.
    pub fn folder_of(target: &Path) -> Result<PathBuf> {
        let (parent, mut name) = split(target)?;
        name.push(".unfinished");
        Ok(parent.join(name))
    }

    /// Removes the states of an earlier run, once it is certain that another one begins.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn clear(&self) -> Result<()> {
        let states = self.states();
        if states.exists() {
            fs::remove_dir_all(&states).map_err(Error::io("remove", &states))?;
        }
        fs::create_dir_all(&states).map_err(Error::io("create", &states))
    }

    /// Whether the result is there already, and was to be gone on with.
    pub fn is_finished(&self) -> bool {
        self.finished && self.begin.resume && !self.begin.force
    }

    /// Whether an earlier run has left a state.
    pub fn is_begun(&self) -> bool {
        holds_any(&self.states())
    }

    /// Whether there is a state that is to be gone on from.
    pub fn goes_on(&self) -> bool {
        self.begin.resume && self.is_begun()
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The name that the result gets in the end.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Where states lie.
    pub fn states(&self) -> PathBuf {
        self.folder.join("states")
    }

    /// Where the log lies.
    pub fn log(&self) -> PathBuf {
        self.folder.join("metrics.jsonl")
    }

    /// A folder for the result, which appears under its name when it is complete.
    ///
    /// # Errors
    /// As [`Staging::create`].
    pub fn staging(&self) -> Result<Staging> {
        Staging::create(&self.target, self.begin.force)
    }

    /// Removes the folder, once the result is under its name.
    pub fn remove(self) {
        remove(&self.folder);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.folder.exists() && !holds_any(&self.states()) {
            remove(&self.folder);
        }
        // Where files cannot be locked, the next process goes by what this one says: that nobody works here.
        let _ = self.lock.set_len(0);
    }
}

/// Takes the lock of `folder`, as `try_lock` does.
fn hold(folder: &Path, try_lock: fn(&File) -> std::result::Result<(), TryLockError>) -> Result<File> {
    let path = folder.join("lock");
    for _ in 0..TRIES {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = match opened {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            opened => opened.map_err(Error::io("open", &path))?,
        };
        match try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(held(folder, Holder::read(&mut file), "wait for it, or name another output".into()));
            }
            // No locks on this file system: the number of the process has to do.
            Err(TryLockError::Error(_)) => {
                if let Some(holder) = Holder::read(&mut file).filter(Holder::may_be_alive) {
                    let hint = format!("wait for it, or remove {} if it is gone", path.display());
                    return Err(held(folder, Some(holder), hint));
                }
            }
        }
        if !is_at(&file, &path) {
            continue;
        }
        if let Err(error) = Holder::here().write(&mut file) {
            // A full disk: what was made for nothing goes, a state does not.
            if !holds_any(&folder.join("states")) {
                remove(folder);
            }
            return Err(Error::io("write", &path)(error));
        }
        return Ok(file);
    }
    Err(Error::file(folder, "it appears and disappears", "is another process working on the same output?"))
}

fn held(folder: &Path, holder: Option<Holder>, hint: String) -> Error {
    let who = holder.map_or("another process".into(), |holder| holder.in_words());
    Error::invalid(format!("output folder {}", folder.display()), format!("{who} is working on it"), hint)
}

/// Who works in a folder: what the lock file says.
#[derive(PartialEq)]
struct Holder {
    pid: u32,
    /// The name of its machine, where that is known.
    host: Option<String>,
}

impl Holder {
    /// This process.
    fn here() -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let host = host.and_then(|name| name.split_whitespace().next().map(String::from));
        Self { pid: std::process::id(), host }
    }

    fn read(lock: &mut File) -> Option<Self> {
        let mut text = String::new();
        lock.rewind().ok()?;
        lock.take(512).read_to_string(&mut text).ok()?;
        let mut words = text.split_whitespace();
        Some(Self { pid: words.next()?.parse().ok()?, host: words.next().map(String::from) })
    }

    /// In place of what the file says.
    fn write(&self, lock: &mut File) -> std::io::Result<()> {
        let text = format!("{} {}", self.pid, self.host.as_deref().unwrap_or_default());
        lock.rewind()?;
        lock.set_len(0)?;
        lock.write_all(format!("{}\n", text.trim_end()).as_bytes())
    }

    fn is_elsewhere(&self) -> bool {
        self.host.is_some() && self.host != Self::here().host
    }

    /// Whether it may be another process that is alive; of other machines nobody here knows.
    fn may_be_alive(&self) -> bool {
        self.is_elsewhere() || (self.pid != std::process::id() && !is_gone(self.pid))
    }

    fn in_words(&self) -> String {
        match &self.host {
            Some(host) if self.is_elsewhere() => format!("process {} on {host}", self.pid),
            _ => format!("process {}", self.pid),
        }
    }
}

/// Whether the open file is still the one of that name: the last holder may have removed it meanwhile.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// As on a file system that has no locks.
    fn no_locks(_: &File) -> std::result::Result<(), TryLockError> {
        Err(TryLockError::Error(std::io::ErrorKind::Unsupported.into()))
    }

    #[test]
    fn whoever_leaves_a_state_behind_is_not_said_to_work_on_it() {
        let folder = tempfile::tempdir().unwrap();
        let left = Unfinished::open(folder.path().join("r"), Begin::default()).unwrap();
        fs::create_dir_all(left.states()).unwrap();
        fs::write(left.states().join(format!("train-000001-{}.safetensors", "0".repeat(32))), "x").unwrap();
        let lock = left.folder().join("lock");
        drop(left);
        assert_eq!(fs::read_to_string(lock).unwrap(), "");
    }

    #[test]
    fn without_locks_what_the_lock_file_says_has_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock");
        // No process has the first number: it is past the largest that Linux gives out.
        for gone in [4_194_999, std::process::id()] {
            fs::write(&lock, format!("{gone}\n")).unwrap();
            let mut file = hold(folder.path(), no_locks).unwrap();
            assert!(Holder::read(&mut file) == Some(Holder::here()), "{:?}", fs::read_to_string(&lock));
        }
        // A process that is alive, and one of a machine whose processes cannot be seen from here.
        let parent = std::os::unix::process::parent_id();
        for (living, who) in [
            (parent.to_string(), format!("process {parent}")),
            ("4194999 elsewhere".into(), "process 4194999 on elsewhere".into()),
        ] {
            fs::write(&lock, living).unwrap();
            let text = hold(folder.path(), no_locks).unwrap_err().to_string();
            assert!(text.contains(&format!("{who} is working on it")), "{text}");
            assert!(text.contains(&format!("remove {} if it is gone", lock.display())), "{text}");
        }
    }
}
