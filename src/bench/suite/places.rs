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
        assert_eq!(places.dataset("x/y/z/w"), Found::Missing);
        assert_eq!(places.model(SHIPPED), Found::Named(SHIPPED.into()));
        let message = Found::Missing.path("data \"x\"".into()).unwrap_err().to_string();
        assert!(message.contains("--local"), "{message}");
    }
}
