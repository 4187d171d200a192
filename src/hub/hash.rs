//! The two hashes by which the Hub names the content of files: SHA-256 of large ones, the git blob hash of small ones.

use crate::files::hex;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What a file's content must hash to, as lower-case hexadecimal digits: the file's name in the cache too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    /// 40 digits: SHA-1 over `blob SIZE\0` and the content.
    GitBlob(String),
    /// 64 digits.
    Sha256(String),
}

impl Hash {
    /// Reads the value of an `ETag`: `"..."` or `W/"..."`; `None` if it is neither kind of hash.
    pub(super) fn of_etag(etag: &str) -> Option<Self> {
        let text = etag.trim().trim_start_matches("W/").trim_matches('"');
        let is_hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match text.len() {
            40 if is_hex => Some(Self::GitBlob(text.into())),
            64 if is_hex => Some(Self::Sha256(text.into())),
            _ => None,
        }
    }

    pub(super) fn hex(&self) -> &str {
        match self {
            Self::GitBlob(hex) | Self::Sha256(hex) => hex,
        }
    }

    /// Starts hashing a content of `size` bytes in the same way.
    pub(super) fn digest(&self, size: u64) -> Running {
        match self {
            Self::GitBlob(_) => Running::git_blob(size),
            Self::Sha256(_) => Running::sha256(),
        }
    }
}

/// A hash in the making.
pub(super) enum Running {
    GitBlob(Sha1),
    Sha256(Sha256),
}

impl Running {
    pub(super) fn git_blob(size: u64) -> Self {
        Self::GitBlob(Sha1::new_with_prefix(format!("blob {size}\0")))
    }

    pub(super) fn sha256() -> Self {
        Self::Sha256(Sha256::new())
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::GitBlob(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
        }
    }

    /// Lower-case hexadecimal digits.
    pub(super) fn finish(self) -> String {
        match self {
            Self::GitBlob(hasher) => hex(&hasher.finalize()),
            Self::Sha256(hasher) => hex(&hasher.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf 'what is up, doc?' | git hash-object --stdin` and `| sha256sum`.
    #[test]
    fn hashes_are_those_of_git_and_sha256sum() {
        let content = b"what is up, doc?";
        for expected in [
            "bd9dbf5aae1a3862dd1526723246b20206e5fc37",
            "af4e812d13b4eae6da91024f15f7679dae49d40aee3fb4c7216b56d04193f46c",
        ] {
            for etag in [format!("\"{expected}\""), format!("W/\"{expected}\""), expected.to_string()] {
                let hash = Hash::of_etag(&etag).unwrap();
                let mut running = hash.digest(content.len() as u64);
                content.chunks(5).for_each(|chunk| running.update(chunk));
                assert_eq!((running.finish().as_str(), hash.hex()), (expected, expected));
            }
        }
    }

    #[test]
    fn other_tags_are_no_hashes() {
        for etag in
            ["", "\"\"", "\"abc\"", "../../../../etc/passwd00000000000000000000000", &"G".repeat(40), &"A".repeat(64)]
        {
            assert_eq!(Hash::of_etag(etag), None, "{etag}");
        }
    }
}
