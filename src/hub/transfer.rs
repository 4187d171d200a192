//! One file from the Hub into the cache: checked, resumed, never half there under its name.
//!
//! The content arrives in `blobs/HASH.incomplete`, which stays when the transfer ends early, and is renamed to `blobs/HASH`
//! when its hash is right. A later try asks for the rest of it (`Range`). `If-Range` would not help: the stores that the Hub
//! redirects to have tags of their own. The hash over the whole says whether old and new bytes belong together; if not, the
//! file is fetched once more from its first byte.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Instant;

use super::cache::{RepoCache, make_parent, refused};
use super::fault::Fault;
use super::hash::{Hash, Running};
use super::http::{Call, Http, Reply, Tries};
use crate::events::check_interrupt;

/// The largest file that is fetched: more than any vision model has, and what the Hub serves over HTTP.
const FILE_LIMIT: u64 = 50_000_000_000;
/// Bytes read at once.
const CHUNK: usize = 128 << 10;
/// A broken transfer that brought this much counts as a success, and the tries begin anew.
const GAIN: u64 = 1 << 20;

/// A file as the Hub describes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    /// Its path within the repository.
    pub file: String,
    pub url: String,
    pub hash: Hash,
    /// Bytes.
    pub size: u64,
}

impl Wanted {
    /// Asks the Hub for hash and size of `file` of the commit that `url` names.
    pub(super) fn ask(http: &Http, file: &str, url: String, commit: &str) -> Result<Self, Fault> {
        let call = Call::head(url.clone()).with("Accept-Encoding", "identity");
        let reply = http.send(&call).map_err(|fault| name_file(fault, file))?;
        if let Some(other) = reply.header("X-Repo-Commit").filter(|known| *known != commit) {
            return Err(Fault::Malformed(format!("commit {} instead of {commit}", super::name::quote(other))));
        }
        let etag = reply.header("X-Linked-Etag").or_else(|| reply.header("ETag")).and_then(Hash::of_etag);
        let is_redirect = (300..400).contains(&reply.status);
        let length = reply.header("Content-Length").filter(|_| !is_redirect);
        let size = reply.header("X-Linked-Size").or(length).and_then(|text| text.parse().ok());
        let hash = etag.ok_or_else(|| Fault::NoHash(file.into()))?;
        let size = size.ok_or_else(|| Fault::Malformed(format!("no size of {}", super::name::quote(file))))?;
        if size > FILE_LIMIT {
            return Err(Fault::TooLarge { file: file.into(), size });
        }
        Ok(Self { file: file.into(), url, hash, size })
    }
}

/// Puts the name of a file into a fault that was found before it was known.
fn name_file(fault: Fault, file: &str) -> Fault {
    match fault {
        Fault::NoFile(_) => Fault::NoFile(file.into()),
        other => other,
    }
}

/// Fetches a file into the cache unless it is there. `watch` is told how many of its bytes have arrived.
pub(super) fn bring(http: &Http, cache: &RepoCache, wanted: &Wanted, watch: &mut dyn FnMut(u64)) -> Result<(), Fault> {
    let blob = cache.blob(wanted.hash.hex());
    make_parent(&blob)?;
    let lock = cache.lock(wanted.hash.hex())?;
    if fs::metadata(&blob).is_ok_and(|about| about.len() == wanted.size) {
        watch(wanted.size);
        return Ok(());
    }
    let mut partial = Partial::open(cache, wanted, lock.alone)?;
    let resumed = partial.done > 0;
    partial.fill(http, watch)?;
    if resumed && partial.hash() != wanted.hash.hex() {
        tracing::warn!("{}: what was there from an earlier try does not fit; fetching it anew", wanted.file);
        partial.restart()?;
        partial.fill(http, watch)?;
    }
    partial.keep(blob)?;
    Ok(())
}

/// A file that is arriving.
struct Partial<'a> {
    wanted: &'a Wanted,
    path: PathBuf,
    file: File,
    done: u64,
    running: Running,
}

impl<'a> Partial<'a> {
    /// Opens what an earlier try left, or nothing; a new file if others may be at work (not `alone`).
    fn open(cache: &RepoCache, wanted: &'a Wanted, alone: bool) -> Result<Self, Fault> {
        let own = if alone { String::new() } else { format!(".{}", std::process::id()) };
        let path = cache.blob(&format!("{}{own}.incomplete", wanted.hash.hex()));
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let file = file.map_err(|error| refused("create", &path, error))?;
        let mut partial = Self { wanted, path, file, done: 0, running: wanted.hash.digest(wanted.size) };
        let length = partial.file.metadata().map_err(|error| partial.refused(error))?.len();
        match length {
            0 => {}
            _ if length > wanted.size => partial.restart()?,
            _ => partial.read_again()?,
        }
        Ok(partial)
    }

    /// Hashes what is there; afterwards more can be appended.
    fn read_again(&mut self) -> Result<(), Fault> {
        let mut buffer = vec![0; CHUNK];
        loop {
            check_interrupt()?;
            let count = self.file.read(&mut buffer).map_err(|error| self.refused(error))?;
            if count == 0 {
                return Ok(());
            }
            self.running.update(&buffer[..count]);
            self.done += count as u64;
        }
    }

    fn restart(&mut self) -> Result<(), Fault> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|error| self.refused(error))?;
        (self.done, self.running) = (0, self.wanted.hash.digest(self.wanted.size));
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.file.write_all(bytes).map_err(|error| self.refused(error))?;
        self.running.update(bytes);
        self.done += bytes.len() as u64;
        Ok(())
    }

    /// Fetches the rest, however many tries it takes.
    fn fill(&mut self, http: &Http, watch: &mut dyn FnMut(u64)) -> Result<(), Fault> {
        let mut tries = Tries::new(http.patience());
        while self.done < self.wanted.size {
            let before = self.done;
            let Err(fault) = self.receive(http, watch) else { continue };
            if self.done >= before + GAIN {
                tries.reset();
            }
            match fault {
                Fault::Status(416, _) if before > 0 => self.restart()?, // the server has less than what is here
                fault => tries.wait(name_file(fault, &self.wanted.file))?,
            }
        }
        Ok(())
    }

    /// One request for what is missing.
    fn receive(&mut self, http: &Http, watch: &mut dyn FnMut(u64)) -> Result<(), Fault> {
        let mut call = Call::get(self.wanted.url.clone()).with("Accept-Encoding", "identity");
        if self.done > 0 {
            call = call.with("Range", format!("bytes={}-", self.done));
        }
        let reply = http.once(&call)?;
        self.accept(&reply)?;
        let (host, patience) = (reply.host.clone(), *http.patience());
        let mut body = reply.reader();
        let mut buffer = vec![0; CHUNK];
        let mut pace = Pace { since: Instant::now(), bytes: 0 };
        while self.done < self.wanted.size {
            check_interrupt()?;
            let count = match body.read(&mut buffer) {
                Ok(0) => return Err(self.truncated()),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err(self.truncated()),
                Err(error) => return Err(super::http::fault_of(error.into(), &host, &patience)),
            };
            let room = self.wanted.size - self.done;
            if count as u64 > room {
                return Err(self.wrong_size(self.done + count as u64));
            }
            self.append(&buffer[..count])?;
            watch(self.done);
            if self.done < self.wanted.size {
                pace.check(count as u64, &host, &patience)?;
            }
        }
        Ok(())
    }

    /// Whether the answer continues what is here; a server that sends the whole file again is taken at its word.
    fn accept(&mut self, reply: &Reply) -> Result<(), Fault> {
        match reply.status {
            206 => {
                let range = reply.header("Content-Range").and_then(start_and_total);
                if range.is_none_or(|(start, total)| start != self.done || total.is_some_and(|t| t != self.wanted.size))
                {
                    return Err(Fault::Malformed("a range other than the one that was asked for".into()));
                }
            }
            200 if self.done > 0 => self.restart()?,
            200 => {}
            status => return Err(Fault::Status(status, String::new())),
        }
        let length: Option<u64> = reply.header("Content-Length").and_then(|text| text.parse().ok());
        match length.map(|length| length.saturating_add(self.done)) {
            Some(total) if total != self.wanted.size => Err(self.wrong_size(total)),
            _ => Ok(()),
        }
    }

    /// The hash of what is here; the file goes on from there.
    fn hash(&self) -> String {
        match &self.running {
            Running::GitBlob(hasher) => Running::GitBlob(hasher.clone()),
            Running::Sha256(hasher) => Running::Sha256(hasher.clone()),
        }
        .finish()
    }

    /// Gives the content its name if its hash is right; removes it otherwise.
    fn keep(self, blob: PathBuf) -> Result<(), Fault> {
        let (said, found) = (self.wanted.hash.hex().to_string(), self.hash());
        if found != said {
            let _ = fs::remove_file(&self.path);
            return Err(Fault::WrongHash { file: self.wanted.file.clone(), said, found });
        }
        self.file.sync_all().map_err(|error| self.refused(error))?;
        fs::rename(&self.path, &blob).map_err(|error| refused("rename", &self.path, error))?;
        Ok(())
    }

    fn truncated(&self) -> Fault {
        Fault::Truncated { file: self.wanted.file.clone(), got: self.done, of: self.wanted.size }
    }

    /// Nothing of a file that is longer or shorter than announced is worth keeping.
    fn wrong_size(&self, found: u64) -> Fault {
        let _ = fs::remove_file(&self.path);
        Fault::WrongSize { file: self.wanted.file.clone(), said: self.wanted.size, found }
    }

    fn refused(&self, error: std::io::Error) -> crate::Error {
        refused("write", &self.path, error)
    }
}

/// First byte and, if it is said, total of `bytes 5-9/10`.
fn start_and_total(range: &str) -> Option<(u64, Option<u64>)> {
    let (span, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = span.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}

/// How fast bytes arrive: a server that sends one now and then never runs into a time-out.
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn check(&mut self, count: u64, host: &str, patience: &super::settings::Patience) -> Result<(), Fault> {
        self.bytes += count;
        if self.since.elapsed() < patience.window {
            return Ok(());
        }
        if self.bytes < patience.least {
            let rate = patience.least as f64 / patience.window.as_secs_f64();
            return Err(Fault::Slow(host.into(), rate.ceil() as u64));
        }
        *self = Self { since: Instant::now(), bytes: 0 };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::start_and_total;

    #[test]
    fn ranges_are_read() {
        assert_eq!(start_and_total("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(start_and_total("bytes 5-9/*"), Some((5, None)));
        for range in ["", "bytes */10", "items 5-9/10", "bytes x-9/10"] {
            assert_eq!(start_and_total(range), None, "{range}");
        }
    }
}
