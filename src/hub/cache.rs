//! The cache on disk, in the layout of `huggingface_hub`, so that both programs use each other's files.
//!
//! ```text
//! CACHE/models--owner--name/blobs/HASH                     the content of a file
//!                          /refs/main                      the commit that a branch or tag was last seen at
//!                          /snapshots/COMMIT/config.json   -> ../../blobs/HASH
//!                          /.no_exist/COMMIT/README.md     empty: the commit has no such file
//! CACHE/.locks/models--owner--name/HASH.lock
//! ```

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::name::{RepoId, is_commit};
use crate::events::check_interrupt;
use crate::files::write_atomic;
use crate::{Error, Result};

/// How often a lock that another process holds is tried.
const GLANCE: Duration = Duration::from_millis(100);

/// The part of the cache that belongs to one repository.
pub(super) struct RepoCache {
    root: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub(super) fn new(cache: &Path, repo: &RepoId) -> Self {
        let folder = format!("{}s--{}--{}", repo.kind.word(), repo.owner, repo.name);
        Self { root: cache.join(&folder), locks: cache.join(".locks").join(folder) }
    }

    /// The content with this hash.
    pub(super) fn blob(&self, hash: &str) -> PathBuf {
        self.root.join("blobs").join(hash)
    }

    /// The files of a commit, as far as they have been fetched.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// Whether it is known that a commit has the file `name`, which is then here, or has not.
    pub(super) fn knows(&self, commit: &str, name: &str) -> bool {
        self.snapshot(commit).join(name).exists() || self.absent(commit, name).exists()
    }

    /// Notes that a commit has no file `name` (a safe path).
    pub(super) fn note_absent(&self, commit: &str, name: &str) -> Result<()> {
        if self.knows(commit, name) {
            return Ok(());
        }
        let path = self.absent(commit, name);
        make_parent(&path)?;
        File::create(&path).map(|_| ()).map_err(|error| refused("create", &path, error))
    }

    fn absent(&self, commit: &str, name: &str) -> PathBuf {
        self.root.join(".no_exist").join(commit).join(name)
    }

    /// The commit that a revision is, or was when the Hub was last asked.
    pub(super) fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.into());
        }
        let text = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        Some(text.trim().to_string()).filter(|commit| is_commit(commit))
    }

    /// Notes which commit a revision is.
    pub(super) fn note(&self, revision: &str, commit: &str) -> Result<()> {
        if self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(()); // a cache that is complete may be read-only
        }
        let path = self.root.join("refs").join(revision);
        make_parent(&path)?;
        write_atomic(&path, commit.as_bytes()).map_err(|error| explain(error, &path))
    }

    /// Makes the content `hash` the file `name` (a safe path) of a commit.
    pub(super) fn link(&self, commit: &str, name: &str, hash: &str) -> Result<()> {
        let pointer = self.snapshot(commit).join(name);
        if pointer.exists() {
            return Ok(());
        }
        make_parent(&pointer)?;
        let up = "../".repeat(name.matches('/').count() + 2);
        let made = symlink(Path::new(&format!("{up}blobs/{hash}")), &self.blob(hash), &pointer, &self.snapshot(commit));
        made.map_err(|error| refused("create", &pointer, error))
    }

    /// Waits until no other process fetches the content `hash`, and keeps others from it until the lock is dropped.
    ///
    /// Where files cannot be locked, two processes may fetch the same content, each into a file of its own.
    pub(super) fn lock(&self, hash: &str) -> Result<Lock> {
        let path = self.locks.join(format!("{hash}.lock"));
        make_parent(&path)?;
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| refused("create", &path, error))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {}
                held => return Ok(Lock { alone: held.is_ok(), _file: file }),
            }
            if !told {
                tracing::warn!("waiting for another process that fetches the same file ({})", path.display());
                told = true;
            }
            check_interrupt()?;
            sleep(GLANCE);
        }
    }
}

/// Held while a content is fetched; released when dropped, also by the end of the process.
pub(super) struct Lock {
    /// Whether others are really kept out; not where the file system knows no locks.
    pub alone: bool,
    _file: File,
}

/// Creates the folder that a file of the cache lies in.
pub(super) fn make_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|error| refused("create", folder, error))
}

/// Says what to do when the cache cannot be written.
pub(super) fn refused(action: &'static str, path: &Path, error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            let hint = "free some space, or set HF_HOME to a folder on another disk; what has arrived is kept";
            Error::file(path, "the disk is full", hint)
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory => {
            let found = format!("the cache cannot be written ({error})");
            Error::file(path, found, "set HF_HOME to a folder that you may write to")
        }
        _ => Error::io(action, path)(error),
    }
}

/// The same for errors that have been wrapped already.
fn explain(error: Error, path: &Path) -> Error {
    match error {
        Error::Io { action, source, .. } => refused(action, path, source),
        other => other,
    }
}

/// A relative link where the system has them, else a second name or a copy of the content. It is made in `folder` and renamed,
/// so that a link that another process has just made is replaced by its equal.
fn symlink(target: &Path, blob: &Path, pointer: &Path, folder: &Path) -> std::io::Result<()> {
    let make = |path: &Path| {
        #[cfg(unix)]
        let made = std::os::unix::fs::symlink(target, path);
        #[cfg(windows)]
        let made = std::os::windows::fs::symlink_file(target, path);
        made.or_else(|_| fs::hard_link(blob, path)).or_else(|_| fs::copy(blob, path).map(|_| ()))
    };
    let aside = tempfile::Builder::new().prefix(".link-").make_in(folder, make)?;
    aside.persist(pointer).map(|_| ()).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::name::{HubName, Kind};

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn cache(folder: &Path) -> RepoCache {
        RepoCache::new(folder, &HubName::parse("a/b", Kind::Dataset).unwrap().repo)
    }

    #[test]
    fn the_layout_is_that_of_the_python_library() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, root) = (cache(folder.path()), folder.path().join("datasets--a--b"));
        let hash = "f".repeat(40);
        make_parent(&cache.blob(&hash)).unwrap();
        fs::write(cache.blob(&hash), "content").unwrap();
        cache.link(COMMIT, "data/x/train.parquet", &hash).unwrap();
        cache.link(COMMIT, "data/x/train.parquet", &hash).unwrap();
        let pointer = root.join("snapshots").join(COMMIT).join("data/x/train.parquet");
        assert_eq!(fs::read_to_string(&pointer).unwrap(), "content");
        #[cfg(unix)]
        assert_eq!(fs::read_link(&pointer).unwrap(), Path::new("../../../../blobs").join(&hash));
        assert_eq!(fs::read_dir(pointer.parent().unwrap()).unwrap().count(), 1);
        cache.note("refs/pr/1", COMMIT).unwrap();
        assert_eq!(fs::read_to_string(root.join("refs/refs/pr/1")).unwrap(), COMMIT);
        assert_eq!(cache.commit_of("refs/pr/1").as_deref(), Some(COMMIT));
        assert_eq!((cache.commit_of("main"), cache.commit_of(COMMIT).as_deref()), (None, Some(COMMIT)));
        fs::write(root.join("refs/odd"), "../../../etc").unwrap();
        assert_eq!(cache.commit_of("odd"), None);
    }

    #[test]
    fn a_lock_keeps_others_out_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let first = cache(folder.path()).lock("abc").unwrap();
        let path = folder.path().to_path_buf();
        let (sender, receiver) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            let _second = cache(&path).lock("abc").unwrap();
            sender.send(()).unwrap();
        });
        assert!(receiver.recv_timeout(Duration::from_millis(300)).is_err());
        drop(first);
        receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        other.join().unwrap();
    }

    #[test]
    fn a_cache_that_cannot_be_written_says_what_to_set() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let message = cache(&folder.path().join("file")).note("main", COMMIT).unwrap_err().to_string();
        assert!(message.contains("cannot be written") && message.contains("HF_HOME"), "{message}");
        let full = refused("write", folder.path(), std::io::Error::from(ErrorKind::StorageFull)).to_string();
        assert!(full.contains("the disk is full") && full.contains("HF_HOME"), "{full}");
    }
}
