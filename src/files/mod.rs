//! Files and folders that appear whole or not at all.
//!
//! A single file goes through [`write_atomic`]; a result folder is built inside a [`Staging`] and gets its final name
//! only when it is complete. Whenever the process is killed, the final name holds the old thing, the new thing or
//! nothing, never a part.
//!
//! | file | content |
//! |---|---|
//! | `staging.rs` | result folders under construction |
//! | `results.rs` | what tells results from other folders, and which of them a new one may replace |

mod results;
mod staging;

pub(crate) use results::{
    PROVENANCE, PROVENANCE_LIMIT, no_result, provenance_text, refuse_folder, run_instead, unwritable, write_provenance,
};
pub use staging::Staging;
pub(crate) use staging::{clean_up, is_gone};

use crate::{Error, Result};
use results::refuse_replacement;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

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

/// Parent folder and name of a path; `.` when it has no parent.
pub(crate) fn split(path: &Path) -> Result<(PathBuf, OsString)> {
    let name = path.file_name().ok_or_else(|| {
        Error::invalid(format!("path {}", path.display()), "it has no name of its own", "name a file or a new folder")
    })?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((parent.to_path_buf(), name.to_os_string()))
}

/// Whether something is there that a rename would lose.
pub(crate) fn occupied(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Err(_) => false,
        Ok(kind) if kind.is_dir() => fs::read_dir(path).map(|mut d| d.next().is_some()).unwrap_or(true),
        Ok(_) => true,
    }
}

pub(crate) fn remove(path: &Path) {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|m| m.is_dir());
    let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    if let Err(e) = removed {
        tracing::warn!("cannot remove {}: {e}", path.display());
    }
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
