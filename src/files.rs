//! Files and folders that appear whole or not at all.
//!
//! A single file goes through [`write_atomic`]; a result folder is built inside a [`Staging`] and gets its final name
//! only when it is complete. Whenever the process is killed, the final name holds the old thing, the new thing or
//! nothing, never a part.

use crate::{Error, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Files that are flushed at a time: a journal takes many together, where in turn each waits for a commit of its own (1,200
/// small files on ext4: 8 s one by one, 0.3 s by 16 threads).
const FLUSHES: usize = 16;

/// The file of a result folder that says how it came about. Its presence is what tells the folder from others.
pub(crate) const PROVENANCE: &str = "synth.json";

/// What the folder of a run holds: its stages have a [`PROVENANCE`] each.
const OF_A_RUN: [&str; 4] = ["set", "student", "metrics.jsonl", "snapshots"];
/// What a model or a set holds.
const OF_A_RESULT: [&str; 10] = [
    PROVENANCE,
    "README.md",
    "metrics.jsonl",
    "snapshots",
    "config.json",
    "model.safetensors",
    "data",
    "preview.png",
    "generator.safetensors",
    "adversary.safetensors",
];

/// The largest `synth.json` that is read, in bytes. Parsed JSON can take 80 times its text.
pub(crate) const PROVENANCE_LIMIT: u64 = 4 << 20;

/// Writes `bytes` to `path`, replacing what was there, so that a reader sees the old content or the new, never a part.
///
/// # Errors
/// [`Error::Io`] when the folder does not exist, is not writable or is full; the old file is then untouched.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    write_atomic_with(path, |file| file.write_all(bytes).map_err(Error::io("write", path)))
}

/// Like [`write_atomic`], for content that is produced piece by piece: `fill` writes into a temporary file of the same
/// folder, which is flushed to the disk and renamed to `path` only when `fill` returns `Ok`.
///
/// # Errors
/// Whatever `fill` returns, and [`Error::Io`]; the old file is then untouched and the temporary file is removed.
pub fn write_atomic_with(path: impl AsRef<Path>, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let path = path.as_ref();
    let (folder, name) = split(path)?;
    let mut prefix = OsString::from(".");
    prefix.push(&name);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    if let Some(permissions) = ordinary_permissions(0o666) {
        builder.permissions(permissions);
    }
    let mut file = builder.tempfile_in(&folder).map_err(Error::io("create a temporary file for", path))?;
    fill(file.as_file_mut())?;
    file.as_file().sync_all().map_err(Error::io("flush", path))?;
    file.persist(path).map_err(|e| Error::io("write", path)(e.error))?;
    sync_folder(&folder)
}

/// The text of a JSON file of which `limit` bytes are read: indented, or on one line where only that can fit.
pub(crate) fn json_text(value: &impl Serialize, limit: u64) -> serde_json::Result<String> {
    let indented = serde_json::to_string_pretty(value)?;
    let mut text = if (indented.len() as u64) < limit { indented } else { serde_json::to_string(value)? };
    text.push('\n');
    Ok(text)
}

/// The text of `folder`'s [`PROVENANCE`].
///
/// # Errors
/// As [`unwritable`].
pub(crate) fn provenance_text(folder: &Path, value: &impl Serialize) -> Result<String> {
    json_text(value, PROVENANCE_LIMIT).map_err(|e| unwritable(folder, &e))
}

/// [`Error::File`] for provenance that is no JSON.
pub(crate) fn unwritable(folder: &Path, e: &serde_json::Error) -> Error {
    Error::file(folder.join(PROVENANCE), format!("it cannot be written ({e})"), "check the provenance")
}

/// Writes `folder`'s [`PROVENANCE`], whole.
///
/// # Errors
/// As [`provenance_text`] and [`write_atomic`].
pub(crate) fn write_provenance(folder: &Path, value: &impl Serialize) -> Result<()> {
    write_atomic(folder.join(PROVENANCE), provenance_text(folder, value)?.as_bytes())
}

/// Whether the result file `target` may be written: there is no such file yet, or `force` allows to replace it and it has the
/// `ending` of such results, such as `html`. Missing parent folders are created.
///
/// # Errors
/// [`Error::Invalid`] when it exists, or is a folder; [`Error::Io`].
pub fn prepare_file(target: impl AsRef<Path>, ending: &str, force: bool) -> Result<()> {
    let target = target.as_ref();
    let (parent, _) = split(target)?;
    if target.is_dir() {
        let what = format!("output {}", target.display());
        return Err(Error::invalid(what, "it is a folder", "name a file"));
    }
    if occupied(target) {
        refuse_replacement(target, force)?;
        if target.extension().is_none_or(|found| !found.eq_ignore_ascii_case(ending)) {
            let found = format!("it exists and does not end in .{ending}: --force replaces earlier results alone");
            return Err(Error::invalid(format!("output {}", target.display()), found, "choose another name"));
        }
    }
    fs::create_dir_all(&parent).map_err(Error::io("create", &parent))
}

/// SHA-256 of a file's content, as 64 lower-case hexadecimal digits.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read.
pub fn sha256_file(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hasher.finalize())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("read", path)(e)),
        }
    }
}

/// SHA-256 of some bytes, as 64 lower-case hexadecimal digits.
pub fn sha256_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

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

/// Parent folder and name of a path; `.` when it has no parent.
pub(crate) fn split(path: &Path) -> Result<(PathBuf, OsString)> {
    let name = path.file_name().ok_or_else(|| {
        Error::invalid(format!("path {}", path.display()), "it has no name of its own", "name a file or a new folder")
    })?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((parent.to_path_buf(), name.to_os_string()))
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

/// Whether something is there that a rename would lose.
pub(crate) fn occupied(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Err(_) => false,
        Ok(kind) if kind.is_dir() => fs::read_dir(path).map(|mut d| d.next().is_some()).unwrap_or(true),
        Ok(_) => true,
    }
}

pub(crate) fn refuse_replacement(target: &Path, force: bool) -> Result<()> {
    let what = format!("output {}", target.display());
    if !force {
        return Err(Error::invalid(what, "it exists already", "choose another name or use --force to replace it"));
    }
    let here = std::env::current_dir().and_then(fs::canonicalize);
    if let (Ok(here), Ok(there)) = (here, fs::canonicalize(target))
        && here.starts_with(there)
    {
        return Err(Error::invalid(what, "it contains the current folder", "choose another name"));
    }
    Ok(())
}

/// The same for a folder, which is replaced only if a command has left all of it.
///
/// # Errors
/// As [`refuse_replacement`]; [`Error::Invalid`] for a file, and for a folder with anything else in it.
pub(crate) fn refuse_folder(target: &Path, force: bool) -> Result<()> {
    refuse_replacement(target, force)?;
    let refuse = |found: String| {
        let what = format!("output {}", target.display());
        Err(Error::invalid(what, found, "choose another name, or remove it by hand"))
    };
    if !target.is_dir() {
        return refuse("it is a file, and is not replaced by a folder".into());
    }
    match strange_in(target).map_err(Error::io("list", target))? {
        Some(name) => refuse(format!("it holds {name}, which this program did not make, and is not replaced")),
        None => Ok(()),
    }
}

/// The first name in `folder` that no command has left there. Exported pictures have folders and names of their own.
fn strange_in(folder: &Path) -> io::Result<Option<String>> {
    let stages = stages_in(folder);
    let is_result = folder.join(PROVENANCE).is_file();
    let pictures = is_result && !["config.json", "data"].iter().any(|name| folder.join(name).exists());
    let is_own = |entry: &fs::DirEntry, name: &str| match (pictures, is_result) {
        (true, _) => name == PROVENANCE || name == "legend.txt" || name.ends_with(".png") || entry.path().is_dir(),
        (false, true) => OF_A_RESULT.contains(&name),
        (false, false) => !stages.is_empty() && OF_A_RUN.contains(&name),
    };
    let mut names = Vec::new();
    for stage in stages.iter().filter(|_| !is_result) {
        let name = stage.file_name().unwrap_or_default().to_string_lossy();
        names.extend(strange_in(stage)?.map(|inner| format!("{name}/{inner}")));
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_own(&entry, &name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names.into_iter().next())
}

/// What to say of a folder in which something else was looked for, if it is that of a run.
pub(crate) fn run_instead(folder: &Path) -> Option<Error> {
    let stages: Vec<String> = stages_in(folder).iter().map(|stage| stage.display().to_string()).collect();
    (!stages.is_empty())
        .then(|| Error::file(folder, "the folder of a whole run", format!("take {} by itself", stages.join(" or "))))
}

/// The stages of a run that lie in `folder`: `set`, `student`.
pub(crate) fn stages_in(folder: &Path) -> Vec<PathBuf> {
    ["set", "student"].map(|stage| folder.join(stage)).into_iter().filter(|s| s.join(PROVENANCE).is_file()).collect()
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

pub(crate) fn remove(path: &Path) {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|m| m.is_dir());
    let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    if let Err(e) = removed {
        tracing::warn!("cannot remove {}: {e}", path.display());
    }
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

#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("flush", folder))
}

#[cfg(not(unix))]
pub(crate) fn sync_folder(_folder: &Path) -> Result<()> {
    Ok(()) // A folder cannot be opened for flushing there; the rename itself is journalled.
}

/// Permissions that the umask narrows, as for any other program's files (temporary files are private otherwise).
#[cfg(unix)]
fn ordinary_permissions(mode: u32) -> Option<Permissions> {
    use std::os::unix::fs::PermissionsExt;
    Some(Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn ordinary_permissions(_mode: u32) -> Option<Permissions> {
    None
}

#[cfg(test)]
mod tests;
