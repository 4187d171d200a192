//! From what a person typed to files: a path, or a name on the Hub.

use crate::Result;
use crate::data::{Labelled, ReadOptions};
use crate::hub::{Fetched, Hub, HubName, Kind, Settings};
use crate::report::Transfer;
use std::path::{Path, PathBuf};

/// How names on the Hub are looked up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Access {
    /// From the cache alone.
    pub offline: bool,
    /// Without a progress bar.
    pub quiet: bool,
}

impl Access {
    /// The Hub that the environment names.
    ///
    /// # Errors
    /// As [`Settings::from_env`].
    pub fn hub(&self) -> Result<Hub> {
        let settings = Settings::from_env()?;
        Ok(Hub::new(Settings { offline: settings.offline || self.offline, ..settings }))
    }

    /// The model that a name on the Hub stands for, fetched; `None` if `path` is a path.
    ///
    /// # Errors
    /// As [`HubName::of_path`] and [`Hub::model`].
    pub fn model(&self, path: &Path) -> Result<Option<Fetched>> {
        let Some(name) = HubName::of_path(path, Kind::Model)? else { return Ok(None) };
        self.hub()?.model(&name, &mut Transfer::stderr("fetching", self.quiet)).map(Some)
    }

    /// The folder of a set behind a path or a name on the Hub, and how provenance calls it.
    ///
    /// # Errors
    /// As [`HubName::of_path`] and [`Hub::set`].
    pub fn set(&self, path: &Path) -> Result<(PathBuf, String)> {
        match HubName::of_path(path, Kind::Dataset)? {
            None => Ok((path.to_path_buf(), path.display().to_string())),
            Some(name) => {
                let fetched = self.hub()?.set(&name, &mut Transfer::stderr("fetching", self.quiet))?;
                let source = fetched.source();
                Ok((fetched.folder, source))
            }
        }
    }

    /// Labelled images behind a path or a name on the Hub; those of the Hub are called `owner/name@commit/split`.
    ///
    /// # Errors
    /// As [`Labelled::read`], [`HubName::of_path`] and [`Hub::dataset`].
    pub fn labelled(&self, path: &Path, options: &ReadOptions) -> Result<Labelled> {
        let Some(name) = HubName::of_path(path, Kind::Dataset)? else { return Labelled::read(path, options) };
        let transfer = &mut Transfer::stderr("fetching", self.quiet);
        let fetched = self.hub()?.dataset(&name, options.split.as_deref(), options.limit, transfer)?;
        let mut data = Labelled::read(&fetched.folder, options)?;
        let folder = name.folder.map_or(String::new(), |folder| format!("/{folder}"));
        let split = data.name.rsplit_once('/').map_or("", |(_, split)| split);
        data.name = format!("{}{folder}/{split}", fetched.source());
        Ok(data)
    }
}
