//! A result that is being worked on: a folder `NAME.unfinished` beside its name, which outlives the process.

use super::keeper::holds_any;
use crate::files::{Staging, clean_up, is_gone, occupied, refuse_replacement, remove, split};
use crate::{Error, Result};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
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
/// It has a lock with the holder's process number, the log, and the states. Dropped without a state in it, it is removed.
#[derive(Debug)]
pub struct Unfinished {
    folder: PathBuf,
    target: PathBuf,
    begin: Begin,
    finished: bool,
    /// Held until the process ends, however it ends.
    _lock: File,
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
        let mut name = name;
        name.push(".unfinished");
        let folder = parent.join(name);
        let finished = occupied(&target);
        if finished && !begin.resume {
            refuse_replacement(&target, begin.force)?;
        }
        let lock = hold(&folder)?;
        let unfinished = Self { folder, target, begin, finished, _lock: lock };
        unfinished.clear()?;
        Ok(unfinished)
    }

    /// Removes what is not to be gone on with.
    fn clear(&self) -> Result<()> {
        let states = self.states();
        let left = holds_any(&states);
        if left && !self.begin.resume && !self.begin.force {
            let found = format!("an interrupted run has left its state in {}", self.folder.display());
            let what = format!("output {}", self.target.display());
            return Err(Error::invalid(what, found, "go on with --resume, or start anew with --force"));
        }
        if left && self.begin.resume {
            return Ok(());
        }
        if states.exists() {
            fs::remove_dir_all(&states).map_err(Error::io("remove", &states))?;
        }
        match fs::remove_file(self.log()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", self.log())(e)),
            _ => Ok(()),
        }
    }

    /// Whether the result is there already, and was to be gone on with.
    pub fn is_finished(&self) -> bool {
        self.finished && self.begin.resume && !self.begin.force
    }

    /// Whether there is a state to go on from.
    pub fn is_begun(&self) -> bool {
        holds_any(&self.states())
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
    }
}

/// Takes the lock of `folder`.
fn hold(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    for _ in 0..TRIES {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = match opened {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            opened => opened.map_err(Error::io("open", &path))?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(folder, &mut file)),
            // No locks on this file system: the number of the process has to do.
            Err(TryLockError::Error(_)) if holder(&mut file).is_some_and(is_alive) => {
                return Err(held(folder, &mut file));
            }
            Err(TryLockError::Error(_)) => {}
        }
        if !is_at(&file, &path) {
            continue;
        }
        let number = format!("{}\n", std::process::id());
        if let Err(error) = file.set_len(0).and_then(|()| file.write_all(number.as_bytes())) {
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

fn held(folder: &Path, lock: &mut File) -> Error {
    let who = holder(lock).map_or("another process".into(), |pid| format!("process {pid}"));
    let found = format!("{who} is working on it");
    Error::invalid(format!("output folder {}", folder.display()), found, "wait for it, or name another output")
}

fn holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Whether another process of this number may be alive.
fn is_alive(pid: u32) -> bool {
    pid != std::process::id() && !is_gone(pid)
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
