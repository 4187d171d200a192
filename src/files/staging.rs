//! Result folders that get their names when they are complete.

use super::{occupied, ordinary_permissions, refuse_folder, remove, split, sync_folder};
use crate::{Error, Result};
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// Files that are flushed at a time: a journal takes many together, where in turn each waits for a commit of its own (1,200
/// small files on ext4: 8 s one by one, 0.3 s by 16 threads).
const FLUSHES: usize = 16;

/// A result folder under construction.
///
/// It lives beside its final name as `.NAME.partial-PID-xxxxxx`; [`Staging::finish`] gives it that name. Dropped
/// without `finish`, it is removed.
#[derive(Debug)]
pub struct Staging {
    partial: Option<PathBuf>,
    target: PathBuf,
    force: bool,
    /// Holds a lock on the folder: how another process tells a running neighbour from a dead one.
    _lock: Option<File>,
}

impl Staging {
    /// Starts the folder that will become `target`. Missing parent folders are created; what dead processes left
    /// half-made for the same target is removed.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `target` exists (an empty folder does not count) and `force` is false, or when
    /// replacing it would delete the current folder; [`Error::Io`] when the parent is not writable.
    pub fn create(target: impl AsRef<Path>, force: bool) -> Result<Self> {
        let target = target.as_ref().to_path_buf();
        let (parent, name) = split(&target)?;
        fs::create_dir_all(&parent).map_err(Error::io("create", &parent))?;
        clean_up(&parent, &name, &target);
        if occupied(&target) {
            refuse_folder(&target, force)?;
        }
        let mut builder = tempfile::Builder::new();
        let prefix = tagged(&name, &format!("partial-{}-", std::process::id()));
        builder.prefix(&prefix);
        if let Some(permissions) = ordinary_permissions(0o777) {
            builder.permissions(permissions);
        }
        let partial = builder.tempdir_in(&parent).map_err(Error::io("create a folder in", &parent))?.keep();
        // Not every file system can lock a folder; without the lock nobody removes it, which is the safe side.
        let lock = File::open(&partial).ok().filter(|f| f.try_lock().is_ok());
        Ok(Self { partial: Some(partial), target, force, _lock: lock })
    }

    /// Where to write meanwhile.
    pub fn path(&self) -> &Path {
        self.partial.as_deref().unwrap_or(&self.target)
    }

    /// The name that the folder gets in the end.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Flushes everything to the disk and gives the folder its final name; with `force` an older folder of that name is
    /// set aside first and deleted afterwards. Returns the final path.
    ///
    /// # Errors
    /// [`Error::Failed`] when the name was taken meanwhile or the system refuses; the finished work then stays beside it, in a
    /// folder that the message names and no later run removes.
    pub fn finish(mut self) -> Result<PathBuf> {
        let Some(partial) = self.partial.take() else { return Ok(self.target.clone()) };
        self.publish(&partial).map_err(|e| Error::Failed {
            found: format!("cannot move the finished folder to {}: {e}", self.target.display()),
            hint: format!("the result is kept in {}; move it by hand", self.set_apart(partial).display()),
        })?;
        Ok(self.target.clone())
    }

    /// Gives finished work that cannot have its name another one, under which nobody takes it for half-made; returns where it
    /// is.
    fn set_apart(&self, partial: PathBuf) -> PathBuf {
        let mut name = self.target.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".finished-{}", nonce(&partial)));
        let apart = self.target.with_file_name(name);
        match fs::rename(&partial, &apart) {
            Ok(()) => apart,
            // It has its name, and only the flush after that was refused.
            Err(_) if !partial.exists() => self.target.clone(),
            Err(_) => partial,
        }
    }

    fn publish(&self, partial: &Path) -> Result<()> {
        let (parent, name) = split(&self.target)?;
        sync_tree(partial)?;
        let old = parent.join(tagged(&name, &format!("old-{}-{}", std::process::id(), nonce(partial))));
        let replaced = self.force && occupied(&self.target);
        if replaced {
            fs::rename(&self.target, &old).map_err(Error::io("set aside", &self.target))?;
        }
        if let Err(e) = fs::rename(partial, &self.target) {
            if replaced {
                let _ = fs::rename(&old, &self.target);
            }
            return Err(Error::io("rename", partial)(e));
        }
        sync_folder(&parent)?;
        if replaced {
            remove(&old);
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Some(partial) = self.partial.take() {
            remove(&partial);
        }
    }
}

/// `.NAME.TAG`
fn tagged(name: &OsString, tag: &str) -> OsString {
    let mut tagged = OsString::from(".");
    tagged.push(name);
    tagged.push(".");
    tagged.push(tag);
    tagged
}

/// The random end of a temporary folder's name.
fn nonce(partial: &Path) -> String {
    partial.to_string_lossy().rsplit('-').next().unwrap_or("0").to_string()
}

/// Removes what dead processes left for `target`, and puts an older result back that a kill had left set aside.
pub(crate) fn clean_up(parent: &Path, name: &OsString, target: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let partial = tagged(name, "partial-").to_string_lossy().into_owned();
    let old = tagged(name, "old-").to_string_lossy().into_owned();
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(found) = path.file_name().and_then(|n| n.to_str()) else { continue };
        if let Some(rest) = found.strip_prefix(&partial) {
            if owner_is_dead(rest) && unlocked(&path) {
                remove(&path);
            }
        } else if let Some(rest) = found.strip_prefix(&old)
            && owner_is_dead(rest)
            && !is_locked(&parent.join(format!("{partial}{rest}")))
        {
            put_back(&path, target);
        }
    }
}

/// Gives an older result its name back; where there is a newer one, nobody needs it any more.
fn put_back(old: &Path, target: &Path) {
    if occupied(target) {
        remove(old);
    } else if let Err(e) = fs::rename(old, target) {
        tracing::warn!("cannot give {} its name back: {e}", old.display());
    }
}

/// Whether `PID-xxxxxx` names a process that is certainly gone. Our own number was that of an earlier one: in a container every
/// run may have the same, and what is still worked on here is locked.
fn owner_is_dead(rest: &str) -> bool {
    let owner = rest.split('-').next().and_then(|p| p.parse().ok());
    owner.is_some_and(|pid: u32| pid == std::process::id() || is_gone(pid))
}

/// Whether there is certainly no process of this number; where the system does not say, there may be.
pub(crate) fn is_gone(pid: u32) -> bool {
    Path::new("/proc/self").exists() && !Path::new(&format!("/proc/{pid}")).exists()
}

/// Whether somebody certainly works in this folder.
fn is_locked(folder: &Path) -> bool {
    File::open(folder).is_ok_and(|f| matches!(f.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Whether nobody, on this machine or another that shares the disk, holds the folder's lock.
fn unlocked(folder: &Path) -> bool {
    File::open(folder).is_ok_and(|f| !matches!(f.try_lock(), Err(TryLockError::WouldBlock | TryLockError::Error(_))))
}

/// Flushes a folder with all that is in it.
fn sync_tree(folder: &Path) -> Result<()> {
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            let entry = entry.map_err(Error::io("list", &folder))?;
            let kind = entry.file_type().map_err(Error::io("examine", entry.path()))?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
        folders.push(folder);
    }
    let flush = |path: &PathBuf| File::open(path).and_then(|f| f.sync_all()).map_err(Error::io("flush", path));
    let part = files.len().div_ceil(FLUSHES).max(1);
    std::thread::scope(|scope| {
        let parts = files.chunks(part).map(|part| scope.spawn(move || part.iter().try_for_each(flush)));
        let threads: Vec<_> = parts.collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    folders.iter().rev().try_for_each(|folder| sync_folder(folder))
}
