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
            return refuse(
                "its card is not on this machine",
                "measure its folder with --card, and send that with `synth push`",
            );
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
            return refuse(
                "it is a link or a folder, as in the Hub's cache",
                "copy the model's folder, and measure the copy",
            );
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Framing, Images, Labelled};

    fn model() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("README.md"), "---\nlicense: mit\n---\n# x\n").unwrap();
        folder
    }

    fn refusal(model: &Path) -> String {
        let message = CardFile::of(model).unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    }

    #[test]
    fn what_was_measured_is_on_the_card_once() {
        let folder = model();
        let images = Images::new(vec![0; 4], 1, 1, 1).unwrap();
        let names = vec!["a".to_string()];
        let data =
            Labelled { images, labels: vec![0; 4], class_names: names, name: "d/test".into(), sha256: String::new() };
        let found = Evaluation {
            count: 4,
            correct: 1,
            top1: 0.25,
            top5: None,
            loss: 1.0,
            images_per_s: 1.0,
            confusion: vec![vec![4]],
        };
        let read = || fs::read_to_string(folder.path().join("README.md")).unwrap();
        for _ in 0..2 {
            CardFile::of(folder.path())
                .unwrap()
                .record(&MeasuredOn::of(&data, Some(Framing::stretched([8, 8]))), &found)
                .unwrap();
            let card = read();
            assert_eq!((card.matches("value: 0.25").count(), card.matches("- task").count()), (1, 1), "{card}");
            assert!(card.starts_with("---\nlicense: mit\nmodel-index:\n") && card.ends_with("---\n# x\n"), "{card}");
            assert!(card.contains("        framing: stretched to 8x8 (bilinear)\n"), "{card}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::write(folder.path().join("README.md"), "---\nlicense: [mit\n---\n").unwrap();
        let card = CardFile::of(folder.path()).unwrap();
        let message = card.record(&MeasuredOn::of(&data, None), &found).unwrap_err().to_string();
        assert!(message.contains("README.md: its head is no YAML") && !message.contains('\n'), "{message}");
        assert_eq!(read(), "---\nlicense: [mit\n---\n");
    }

    #[test]
    fn a_card_that_is_not_there_or_not_ours_is_refused() {
        assert!(refusal(Path::new("no-such-owner/no-such-name")).contains("not on this machine"));
        assert!(refusal(Path::new(SHIPPED)).contains("not on this machine"));
        let folder = model();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("weights.pth"), "x").unwrap();
        assert!(refusal(&at("weights.pth")).contains("only a model's folder has a card"));
        fs::create_dir(at("empty")).unwrap();
        assert!(refusal(&at("empty")).contains("the folder has no card"));

        let mut permissions = fs::metadata(at("README.md")).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(at("README.md"), permissions).unwrap();
        assert!(refusal(folder.path()).contains("it is read-only"));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_into_the_cache_is_not_replaced() {
        let (blob, folder) = (model(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(blob.path().join("README.md"), folder.path().join("README.md")).unwrap();
        assert!(refusal(folder.path()).contains("it is a link"));
    }
}
