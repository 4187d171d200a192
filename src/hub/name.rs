//! Names of repositories on the Hub: `owner/name`, with `@revision`, with `hf://` in front.

use std::fmt;
use std::path::Path;

use crate::{Error, Result};

/// The branch that is meant when none is named.
pub const DEFAULT_REVISION: &str = "main";
/// In front of a name that can only be one on the Hub.
const SCHEME: &str = "hf://";
/// In front of the name of a dataset.
const DATASETS: &str = "datasets/";
/// What stands in front of a name in addresses, and cannot be an owner.
const KINDS: [&str; 3] = ["datasets", "models", "spaces"];
/// The longest owner or name, and the longest revision.
const PART_LIMIT: usize = 96;
const REVISION_LIMIT: usize = 255;
/// A name that ends like this is a file that is not there, not a repository.
const FILE_ENDINGS: [&str; 10] =
    [".safetensors", ".pth", ".pt", ".th", ".bin", ".parquet", ".json", ".onnx", ".zip", ".tar"];

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Model,
    Dataset,
}

impl Kind {
    /// `model` or `dataset`: in messages, and as the Hub's API calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
        }
    }

    /// In front of `owner/name` in the addresses of files and pages.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => DATASETS,
        }
    }
}

/// A repository. Both parts have been checked: 1 to 96 of `A-Z a-z 0-9 . _ -`, no `.` or `-` at either end, neither `..` nor
/// `--`; so they are safe in an address and in a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoId {
    pub kind: Kind,
    pub owner: String,
    pub name: String,
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// A repository at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    pub repo: RepoId,
    /// Branch, tag, commit hash or `refs/pr/N`, as it was named.
    pub revision: Option<String>,
    /// The folder within a dataset, for one that keeps several configurations.
    pub folder: Option<String>,
    /// Whether it was written without `hf://`, so that a path may have been meant.
    pub bare: bool,
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repo)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))?;
        self.folder.iter().try_for_each(|folder| write!(f, "/{folder}"))
    }
}

impl HubName {
    /// Reads `owner/name[@revision]`, `hf://owner/name[@revision]`, for a dataset also `datasets/owner/name[@revision]` and
    /// `hf://datasets/owner/name[@revision][/folder]`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else: other characters, other hosts, absolute paths, `..`, too long a name.
    pub fn parse(text: &str, kind: Kind) -> Result<Self> {
        let refuse = |found: &str| {
            let hint = "expected owner/name, owner/name@revision, or either with hf:// in front";
            Error::invalid(format!("Hub name {}", quote(text)), found, hint)
        };
        let (plain, with_scheme) = match text.strip_prefix(SCHEME) {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let named = match (plain.strip_prefix(DATASETS), kind) {
            (Some(_), Kind::Model) => return Err(refuse("it names a dataset where a model is needed")),
            (Some(rest), Kind::Dataset) => rest,
            (None, _) => plain.strip_prefix("models/").filter(|_| with_scheme && kind == Kind::Model).unwrap_or(plain),
        };
        let (id, revision, folder) = parts(named, with_scheme);
        let (owner, name) = id.split_once('/').ok_or_else(|| refuse("it has no owner"))?;
        for part in [owner, name] {
            check_part(part).map_err(refuse)?;
        }
        if KINDS.contains(&owner) {
            return Err(refuse("its owner has the name of a kind of repository"));
        }
        revision.map_or(Ok(()), check_revision).map_err(refuse)?;
        if let Some(folder) = folder
            && (kind == Kind::Model || !is_safe_path(folder))
        {
            return Err(refuse("it has too many parts"));
        }
        Ok(Self {
            repo: RepoId { kind, owner: owner.into(), name: name.into() },
            revision: revision.map(String::from),
            folder: folder.map(String::from),
            bare: !with_scheme,
        })
    }

    /// The name that a command-line argument stands for; `None` if it is to be taken as a path.
    ///
    /// A path that exists is a path. Otherwise `hf://...` is a name on the Hub, and so is `owner/name` with exactly one `/`
    /// that does not end like a file of weights or data.
    ///
    /// # Errors
    /// As [`HubName::parse`], where the text can only have been meant as a name.
    pub fn of_path(path: &Path, kind: Kind) -> Result<Option<Self>> {
        let Some(text) = path.to_str() else { return Ok(None) };
        if std::fs::symlink_metadata(path).is_ok() {
            return Ok(None);
        }
        if text.starts_with(SCHEME) {
            return Self::parse(text, kind).map(Some);
        }
        let id = text.split('@').next().unwrap_or_default();
        let id = id.strip_prefix(DATASETS).filter(|_| kind == Kind::Dataset).unwrap_or(id);
        let is_name = id.split_once('/').is_some_and(|(owner, name)| check_part(owner).and(check_part(name)).is_ok());
        let in_a_folder = id.split_once('/').is_some_and(|(owner, _)| KINDS.contains(&owner) && owner != "datasets");
        if !is_name || in_a_folder || FILE_ENDINGS.iter().any(|ending| id.ends_with(ending)) {
            return Ok(None);
        }
        Self::parse(text, kind).map(Some)
    }

    /// The revision that is meant.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(DEFAULT_REVISION)
    }
}

/// Splits `owner/name@commit`, as provenance has it, into name and commit; `None` for anything else.
pub fn split_commit(source: &str) -> Option<(&str, &str)> {
    let (id, commit) = source.split_once('@')?;
    (is_commit(commit) && HubName::parse(id, Kind::Model).is_ok()).then_some((id, commit))
}

/// Whether a revision is a full commit hash: 40 lower-case hexadecimal digits.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a path within a repository stays there: parts between `/` that are neither empty nor `.` nor `..`, without
/// backslashes, colons and control characters.
pub(super) fn is_safe_path(path: &str) -> bool {
    let is_safe = |part: &str| {
        !matches!(part, "" | "." | "..") && !part.contains(|c: char| c.is_control() || matches!(c, '\\' | ':'))
    };
    path.len() <= 1024 && path.split('/').all(is_safe)
}

/// `owner/name`, revision and folder. Behind `hf://` a revision ends at the next `/`, unless it is one of the Hub's `refs/`;
/// otherwise all that follows `@` is the revision, since branches may have a `/` in their names.
fn parts(named: &str, with_scheme: bool) -> (&str, Option<&str>, Option<&str>) {
    let Some((id, rest)) = named.split_once('@') else {
        let second = named.match_indices('/').nth(1).filter(|_| with_scheme);
        return match second {
            Some((at, _)) => (&named[..at], None, Some(&named[at + 1..])),
            None => (named, None, None),
        };
    };
    let slashes_within = if rest.starts_with("refs/") { 2 } else { 0 };
    match rest.match_indices('/').nth(slashes_within).filter(|_| with_scheme) {
        Some((at, _)) => (id, Some(&rest[..at]), Some(&rest[at + 1..])),
        None => (id, Some(rest), None),
    }
}

fn check_part(part: &str) -> std::result::Result<(), &'static str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    match part {
        "" => Err("owner or name is empty"),
        _ if part.len() > PART_LIMIT => Err("owner and name have at most 96 characters"),
        _ if !part.bytes().all(allowed) => Err("it has characters other than A-Z a-z 0-9 . _ -"),
        _ if part.starts_with(['.', '-']) || part.ends_with(['.', '-']) => Err("a part begins or ends with . or -"),
        _ if part.contains("..") || part.contains("--") => Err("it contains .. or --"),
        _ if part.ends_with(".git") => Err("it ends with .git"),
        _ => Ok(()),
    }
}

/// What git allows in a reference, and nothing that leaves the folder of references.
fn check_revision(revision: &str) -> std::result::Result<(), &'static str> {
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\@%#".contains(c);
    let bad_part = |part: &str| part.is_empty() || part.starts_with(['.', '-']) || part.ends_with('.');
    match revision {
        "" => Err("the revision is empty"),
        _ if revision.len() > REVISION_LIMIT => Err("the revision has more than 255 characters"),
        _ if revision.contains(forbidden) || revision.contains("..") || revision.ends_with(".lock") => {
            Err("the revision is no branch, tag or commit")
        }
        _ if revision.split('/').any(bad_part) => Err("the revision is no branch, tag or commit"),
        _ => Ok(()),
    }
}

/// A text from outside as part of a one-line message.
pub(super) fn quote(text: &str) -> String {
    const LIMIT: usize = 120;
    let short = text.chars().take(LIMIT).map(|c| if c.is_control() { c.escape_debug().to_string() } else { c.into() });
    let short: String = short.collect();
    let ellipsis = if text.chars().nth(LIMIT).is_some() { "..." } else { "" };
    format!("`{short}{ellipsis}`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str, kind: Kind) -> std::result::Result<[String; 4], String> {
        let name = HubName::parse(text, kind).map_err(|error| error.to_string())?;
        let HubName { repo, revision, folder, .. } = name;
        Ok([repo.owner, repo.name, revision.unwrap_or_default(), folder.unwrap_or_default()])
    }

    #[test]
    fn every_form_of_a_name_is_read() {
        for (text, kind, expected) in [
            ("timm/resnet18.a1_in1k", Kind::Model, ["timm", "resnet18.a1_in1k", "", ""]),
            ("a/b@v1.0", Kind::Model, ["a", "b", "v1.0", ""]),
            ("a/b@refs/pr/3", Kind::Model, ["a", "b", "refs/pr/3", ""]),
            ("a/b@feature/x", Kind::Model, ["a", "b", "feature/x", ""]),
            ("hf://a/b", Kind::Model, ["a", "b", "", ""]),
            ("hf://models/a/b@main", Kind::Model, ["a", "b", "main", ""]),
            ("a/b", Kind::Dataset, ["a", "b", "", ""]),
            ("datasets/a/b@v2", Kind::Dataset, ["a", "b", "v2", ""]),
            ("hf://datasets/a/b", Kind::Dataset, ["a", "b", "", ""]),
            ("hf://datasets/a/b/plain_text", Kind::Dataset, ["a", "b", "", "plain_text"]),
            ("hf://datasets/a/b@main/c/d", Kind::Dataset, ["a", "b", "main", "c/d"]),
            ("hf://datasets/a/b@refs/convert/parquet/c", Kind::Dataset, ["a", "b", "refs/convert/parquet", "c"]),
        ] {
            assert_eq!(parsed(text, kind), Ok(expected.map(String::from)), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("a/{}", "b".repeat(97));
        for text in [
            "",
            "a",
            "a/",
            "/b",
            "a//b",
            "a/b/c",
            "../b",
            "a/..",
            "a/b..c",
            "a/b--c",
            "a/.b",
            "-a/b",
            "a/b.",
            "a/b.git",
            "a b/c",
            "a/b\n",
            "ä/b",
            "a/b@",
            "a/b@../x",
            "a/b@x//y",
            "a/b@/x",
            "a/b@x y",
            "a/b@x.lock",
            "a/b@.x",
            "a/b@a%2Fb",
            "https://huggingface.co/a/b",
            "hf://a",
            "hf:///a/b",
            "hf://a/b/c",
            "hf://evil.com/a/b/c",
            "C:\\a/b",
            &long,
        ] {
            let message = parsed(text, Kind::Model).unwrap_err();
            assert!(message.contains("owner/name") && !message.contains('\n'), "{text}: {message}");
        }
        assert!(parsed("hf://datasets/a/b", Kind::Model).unwrap_err().contains("a dataset where a model is needed"));
        assert!(parsed("hf://datasets/a/b/../c", Kind::Dataset).is_err());
    }

    #[test]
    fn a_path_that_exists_wins_and_other_paths_stay_paths() {
        let is_name = |text: &str| HubName::of_path(Path::new(text), Kind::Model).unwrap().is_some();
        assert!(is_name("no-such-owner/no-such-name") && is_name("hf://a/b") && is_name("a/b@refs/pr/1"));
        for path in ["src/hub", "src/lib.rs", "nowhere", "a/b/c", "./a", "../a", "/a", "~/a", "a/b.pth", "a b/c", "a/"]
        {
            assert!(!is_name(path), "{path}");
        }
        assert!(HubName::of_path(Path::new("hf://../b"), Kind::Model).is_err());
        assert!(HubName::of_path(Path::new("datasets/a/b"), Kind::Model).unwrap().is_none());
        assert!(HubName::of_path(Path::new("datasets/a/b"), Kind::Dataset).unwrap().is_some());
    }

    proptest! {
        /// Whatever is typed: a name that reads the same when written, and that stays within its place, or an error on one line.
        #[test]
        fn anything_may_be_typed(text in "(hf://)?(datasets/)?[a-z./@~\\\\-]{0,12}(/[A-Za-z0-9._@/%-]{0,20}){0,3}|\\PC{0,40}") {
            for kind in [Kind::Model, Kind::Dataset] {
                match HubName::parse(&text, kind) {
                    Ok(name) => {
                        let prefix = if name.folder.is_some() { "hf://datasets/" } else { "" };
                        let again = HubName::parse(&format!("{prefix}{name}"), kind).unwrap();
                        prop_assert_eq!((&again.repo, &again.revision, &again.folder), (&name.repo, &name.revision, &name.folder));
                        let path = format!("{}/{}", name.repo, name.revision());
                        prop_assert!(is_safe_path(&path) && name.folder.as_deref().is_none_or(is_safe_path), "{}", path);
                    }
                    Err(error) => prop_assert!(!error.to_string().contains(char::is_control)),
                }
                let _ = HubName::of_path(Path::new(&text), kind);
            }
        }
    }

    #[test]
    fn a_name_with_its_commit_is_told_from_a_path() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(split_commit(&format!("a/b@{commit}")), Some(("a/b", commit)));
        for source in ["a/b", "a/b@main", "/x/y@z", "a/b@0123456789ABCDEF0123456789abcdef01234567"] {
            assert_eq!(split_commit(source), None, "{source}");
        }
    }

    #[test]
    fn paths_that_leave_the_repository_are_told() {
        for path in ["config.json", "data/train-00000-of-00001.parquet", "a b/c"] {
            assert!(is_safe_path(path), "{path}");
        }
        for path in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/./b", "a\\b", "C:/x", "a\0b"] {
            assert!(!is_safe_path(path), "{path}");
        }
    }
}
