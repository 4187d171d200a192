//! What an operation can refuse.

use std::path::{Path, PathBuf};

/// Every failure of the operations; `Display` gives one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },

    /// Something was asked for that this machine or this program does not have.
    #[error("{what}: {found}; {hint}")]
    Invalid { what: String, found: String, hint: String },

    /// A tensor does not have the shape or kind that an operation needs.
    #[error("{op}: {found}")]
    Shape { op: &'static str, found: String },

    /// The tensor substrate refused an operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// Result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What is not there.
    pub fn invalid(what: impl Into<String>, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), found: found.into(), hint: hint.into() }
    }

    /// A shape that does not fit.
    pub fn shape(op: &'static str, found: impl Into<String>) -> Self {
        Self::Shape { op, found: found.into() }
    }

    /// Turns an [`std::io::Error`] into ours: `.map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}
