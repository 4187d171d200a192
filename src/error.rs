//! What can go wrong, said in one line: what was attempted, what was found, what to do.

use std::path::{Path, PathBuf};

/// Every failure of the library.
///
/// `Display` gives one line that names the place, what was found there and the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}{}", path.display(), way_out(source))]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },

    /// A file from outside is not what it claims to be.
    #[error("{}: {found}; {hint}", path.display())]
    File { path: PathBuf, found: String, hint: String },

    /// A checkpoint whose tensors are those of another network.
    #[error("{}: {found}; {hint}", path.display())]
    Unfit { path: PathBuf, found: String, hint: String },

    /// A dataset without the split that was asked for; `known` lists those that it has.
    #[error("{}: there is no split `{split}`; choose among: {known}", path.display())]
    NoSplit { path: PathBuf, split: String, known: String },

    /// The Hugging Face Hub, or the way there. `absent`: nothing failed, it just is not there.
    #[error("{name}: {found}; {hint}")]
    Hub { name: String, found: String, hint: String, absent: bool },

    /// An option, recipe value or argument is out of its range.
    #[error("{what}: {found}; {hint}")]
    Invalid { what: String, found: String, hint: String },

    /// A tensor does not have the shape or kind that an operation needs.
    #[error("{op}: {found}")]
    Shape { op: &'static str, found: String },

    /// A run went wrong in a way that its alarms can name (collapse, non-finite loss, ...).
    #[error("run failed: {found}; {hint}")]
    Failed { found: String, hint: String },

    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,

    /// The user asked to stop. `kept`: what there is of what was done, and how to go on from it.
    #[error("interrupted; {kept}")]
    Paused { kept: String },

    /// The tensor substrate refused an operation.
    #[error(transparent)]
    Candle(candle_core::Error),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        if cfg!(feature = "cuda") && error.to_string().contains("CUDA_ERROR_OUT_OF_MEMORY") {
            let hint = "take a smaller batch (--set batch=N; student.batch=N is the student's), or --device cpu";
            return Self::Failed { found: "the card's memory is full".into(), hint: hint.into() };
        }
        Self::Candle(error)
    }
}

impl From<synth_ops::Error> for Error {
    fn from(error: synth_ops::Error) -> Self {
        use synth_ops::Error as Op;
        match error {
            Op::Io { action, path, source } => Self::Io { action, path, source },
            Op::Invalid { what, found, hint } => Self::invalid(what, found, hint),
            Op::Shape { op, found } => Self::Shape { op, found },
            Op::Candle(error) => error.into(),
        }
    }
}

/// Result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A file that is not what it claims to be.
    pub fn file(path: impl AsRef<Path>, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::File { path: path.as_ref().to_path_buf(), found: one_line(found.into()), hint: one_line(hint.into()) }
    }

    /// A checkpoint of another network.
    pub fn unfit(path: impl AsRef<Path>, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Unfit { path: path.as_ref().to_path_buf(), found: one_line(found.into()), hint: one_line(hint.into()) }
    }

    /// A dataset without the split that was asked for.
    pub fn no_split(path: impl AsRef<Path>, split: &str, known: &[&str]) -> Self {
        let (split, known) = (one_line(split.into()), one_line(known.join(", ")));
        Self::NoSplit { path: path.as_ref().to_path_buf(), split, known }
    }

    /// An argument out of range.
    pub fn invalid(what: impl Into<String>, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid { what: one_line(what.into()), found: one_line(found.into()), hint: one_line(hint.into()) }
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

/// What to do about a refusal of the operating system, where it is not plain from it.
fn way_out(refused: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    match refused.kind() {
        StorageFull | QuotaExceeded => "; make room there and call it again, with --resume where a state was kept",
        _ => "",
    }
}

/// A text that may come from outside, on one line and without control characters, which could change what a terminal or a
/// log shows.
pub(crate) fn one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    text.replace(char::is_control, " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_say_stays_on_its_line() {
        let error = Error::file("x", "key `a\n\u{1b}[31mb`", "look\there");
        assert_eq!(error.to_string(), "x: key `a [31mb`; look here");
        let full = Error::io("write", "x")(std::io::ErrorKind::StorageFull.into());
        assert!(
            full.to_string().ends_with("; make room there and call it again, with --resume where a state was kept")
        );
        let error = Error::invalid("recipe", "at line 1\n  |\n1 | x\n", "see it");
        assert_eq!(error.to_string(), "recipe: at line 1 | 1 | x; see it");
    }
}
