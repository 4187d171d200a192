//! From what a person typed to files: a path, or a name on the Hub.

use crate::Result;
use crate::data::{LabelCodes, Labelled, Portion, ReadOptions, Segmented};
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

    /// The model that a name on the Hub stands for, fetched if `accept` does not refuse it; `None` if `path` is a path.
    ///
    /// # Errors
    /// As [`HubName::of_path`] and [`Hub::model_if`].
    pub fn model(&self, path: &Path, accept: &dyn Fn(&Path) -> Result<()>) -> Result<Option<Fetched>> {
        let Some(name) = HubName::of_path(path, Kind::Model)? else { return Ok(None) };
        self.hub()?.model_if(&name, accept, &mut Transfer::stderr("fetching", self.quiet)).map(Some)
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
        let Some((folder, called)) = self.dataset(path, options)? else { return Labelled::read(path, options) };
        let data = Labelled::read(&folder, options)?;
        Ok(Labelled { name: called(&data.name), ..data })
    }

    /// As [`Access::labelled`], of images with label images.
    ///
    /// # Errors
    /// As [`Segmented::read`], [`HubName::of_path`] and [`Hub::dataset`].
    pub fn segmented(&self, path: &Path, options: &ReadOptions, codes: &LabelCodes) -> Result<Segmented> {
        let Some((folder, called)) = self.dataset(path, options)? else { return Segmented::read(path, options, codes) };
        let data = Segmented::read(&folder, options, codes)?;
        Ok(Segmented { name: called(&data.name), ..data })
    }

    /// Where a dataset of the Hub was fetched to, and how what is read there is called; `None` if `path` is a path.
    fn dataset(
        &self,
        path: &Path,
        options: &ReadOptions,
    ) -> Result<Option<(PathBuf, impl Fn(&str) -> String + use<>)>> {
        let Some(name) = HubName::of_path(path, Kind::Dataset)? else { return Ok(None) };
        let transfer = &mut Transfer::stderr("fetching", self.quiet);
        let fetched = self.hub()?.dataset(&name, options.split.as_deref(), Portion::first(options.limit), transfer)?;
        let source = fetched.source();
        let inner = name.folder.map_or(String::new(), |folder| format!("/{folder}"));
        let called = move |read: &str| {
            let split = read.rsplit_once('/').map_or("", |(_, split)| split);
            format!("{source}{inner}/{split}")
        };
        Ok(Some((fetched.folder, called)))
    }
}
