//! Where the models and the data of a suite lie on this machine.

use crate::hub::{HubName, Kind};
use crate::jobs::SHIPPED;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Folders that are looked in.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Folder of the suite's file, against which its paths stand.
    pub suite: PathBuf,
    /// A folder with `models/OWNER/NAME` and `datasets/OWNER/NAME`, in place of the Hub.
    pub local: Option<PathBuf>,
}

/// A model or a dataset that was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A path that exists.
    Here(PathBuf),
    /// The shipped model, or a name on the Hub.
    Named(PathBuf),
    /// Neither.
    Missing,
}

impl Places {
    /// What `name` is: the shipped model, `models/NAME` of the local folder, a path beside the suite, or a name on the Hub.
    pub fn model(&self, name: &str) -> Found {
        if name == SHIPPED {
            return Found::Named(name.into());
        }
        self.find("models", name, Kind::Model)
    }

    /// What `name` is: `datasets/NAME` of the local folder, a path beside the suite, or a name on the Hub.
    pub fn dataset(&self, name: &str) -> Found {
        self.find("datasets", name, Kind::Dataset)
    }

    /// What a suite calls what lies at `path`: without the local folder's, or the suite's own, part of it.
    pub fn name_of<'a>(&self, path: &'a str) -> &'a str {
        let local = self.local.iter().flat_map(|local| [local.join("models"), local.join("datasets")]);
        local.chain([self.suite.clone()]).find_map(|folder| below(&folder, path)).unwrap_or(path)
    }

    fn find(&self, folder: &str, name: &str, kind: Kind) -> Found {
        let local = self.local.iter().map(|local| local.join(folder).join(name));
        let mut candidates = local.chain([self.suite.join(name)]);
        match candidates.find(|path| path.exists()) {
            Some(path) => Found::Here(path),
            None => match HubName::of_path(Path::new(name), kind) {
                Ok(Some(_)) => Found::Named(name.into()),
                _ => Found::Missing,
            },
        }
    }
}

/// What follows `folder` in `path`, if anything does.
pub fn below<'a>(folder: &Path, path: &'a str) -> Option<&'a str> {
    Path::new(path).strip_prefix(folder).ok()?.to_str().filter(|rest| !rest.is_empty())
}

impl Found {
    /// What a command is given.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is missing; `what` is how the message calls it.
    pub fn path(self, what: String) -> Result<PathBuf> {
        match self {
            Self::Here(path) | Self::Named(path) => Ok(path),
            Self::Missing => {
                let hint = "correct the suite, or say with --local where models and datasets lie";
                Err(Error::invalid(what, "it is neither a path nor a name on the Hub", hint))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_folder_comes_before_the_suites_own_and_that_before_the_hub() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places { suite: folder.path().join("suite"), local: Some(folder.path().join("local")) };
        assert_eq!(places.model("a/b"), Found::Named("a/b".into()));
        let beside = folder.path().join("suite/a/b");
        std::fs::create_dir_all(&beside).unwrap();
        assert_eq!(places.model("a/b"), Found::Here(beside));
        let local = folder.path().join("local/models/a/b");
        std::fs::create_dir_all(&local).unwrap();
        assert_eq!(places.model("a/b"), Found::Here(local));
        let called = |path: &str| places.name_of(folder.path().join(path).to_str().unwrap()).to_string();
        assert_eq!([called("local/models/a/b"), called("suite/a/b")], ["a/b", "a/b"]);
        assert_eq!(called("other/a/b"), folder.path().join("other/a/b").to_str().unwrap());
        assert_eq!([places.name_of("a/b@1f2"), places.name_of("a text")], ["a/b@1f2", "a text"]);
        assert_eq!(places.dataset("x/y/z/w"), Found::Missing);
        assert_eq!(places.model(SHIPPED), Found::Named(SHIPPED.into()));
        let message = Found::Missing.path("data \"x\"".into()).unwrap_err().to_string();
        assert!(message.contains("--local"), "{message}");
    }
}
