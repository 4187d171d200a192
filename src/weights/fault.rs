//! What a parser of bytes reports: it does not know the file's name, which is added on the way out.

use std::path::Path;

use crate::Error;

/// Result of a parser of bytes.
pub(super) type Parse<T> = Result<T, Fault>;

/// Something wrong in the bytes of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    pub(super) found: String,
    pub(super) hint: &'static str,
}

/// The way out when a file contradicts itself.
const DAMAGED: &str = "the file is damaged or incomplete; download or copy it again";

impl Fault {
    pub(super) fn new(found: impl Into<String>, hint: &'static str) -> Self {
        Self { found: found.into(), hint }
    }

    /// The file contradicts itself.
    pub(super) fn damaged(found: impl Into<String>) -> Self {
        Self::new(found, DAMAGED)
    }

    /// Names the file.
    pub(super) fn at(self, path: &Path) -> Error {
        Error::file(path, self.found, self.hint)
    }
}

/// A text from a file as part of a one-line message: control characters escaped, at most some 100 characters.
pub(super) fn quote(text: &str) -> String {
    const LIMIT: usize = 100;
    let short: String = text.chars().take(LIMIT).flat_map(char::escape_debug).collect();
    let ellipsis = if text.chars().nth(LIMIT).is_some() { "..." } else { "" };
    format!("`{short}{ellipsis}`")
}
