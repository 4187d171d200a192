//! The card of a model on this machine, for what is measured once it is made.

use super::SHIPPED;
use crate::files::write_atomic;
use crate::hub::{HubName, Kind};
use crate::report::{MeasuredOn, with_accuracy};
use crate::train::Evaluation;
use crate::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// More than any card has.
const SIZE_LIMIT: u64 = 16 << 20;

/// A `README.md` that may be changed.
#[derive(Debug)]
pub struct CardFile {
    path: PathBuf,
    /// Name of the model's folder.
    model: String,
}

impl CardFile {
    /// The card in the folder `model`. Nothing is written yet: whether that can be is asked before a long measurement.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a model by name or a bare file; [`Error::File`] for a folder without a card, and for a card that
    /// may not be written to or is a link, as all files in the Hub's cache are.
    pub fn of(model: &Path) -> Result<Self> {
        let refuse = |found: &str, hint: &str| Err(Error::invalid(model.display().to_string(), found, hint));
        if HubName::of_path(model, Kind::Model)?.is_some() || (model == Path::new(SHIPPED) && !model.exists()) {
            return refuse("its card is not on this machine", "measure its folder with --card, and send that with `synth push`");
        }
        if !model.is_dir() {
            return refuse("only a model's folder has a card", "leave --card out, or name the folder");
        }
        let path = model.join("README.md");
        let refuse = |found: &str, hint: &str| Err(Error::file(&path, found, hint));
        let Ok(about) = fs::symlink_metadata(&path) else {
            return refuse("the folder has no card", "write a README.md, an empty one will do");
        };
        if !about.is_file() {
            return refuse("it is a link or a folder, as in the Hub's cache", "copy the model's folder, and measure the copy");
        }
        if about.len() > SIZE_LIMIT {
            return refuse("it is no card: more than 16 MB", "write a shorter one");
        }
        let folder = fs::metadata(model).map_err(Error::io("open", model))?;
        if about.permissions().readonly() || folder.permissions().readonly() {
            return refuse("it is read-only", "make the file and its folder writable, or leave --card out");
        }
        let full = fs::canonicalize(model).map_err(Error::io("open", model))?;
        let name = full.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { path, model: name })
    }

    /// Writes what was found into the card's head: see [`with_accuracy`]. The file is replaced whole.
    ///
    /// # Errors
    /// [`Error::File`] if its head cannot be changed without harm; [`Error::Io`].
    pub fn record(&self, on: &MeasuredOn, found: &Evaluation) -> Result<()> {
        let path = &self.path;
        let card = fs::read_to_string(path).map_err(Error::io("read", path))?;
        let hint = "correct the part between the lines `---`, as the Hub describes it";
        let new = with_accuracy(&card, &self.model, on, found).map_err(|found| Error::file(path, found, hint))?;
        if new == card {
            return Ok(());
        }
        let permissions = fs::metadata(path).map_err(Error::io("open", path))?.permissions();
        write_atomic(path, new.as_bytes())?;
        fs::set_permissions(path, permissions).map_err(Error::io("set the permissions of", path))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
