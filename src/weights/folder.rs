//! Finding the weights behind a path: a model folder in Hub layout, or a bare checkpoint file.

use std::path::{Path, PathBuf};

use super::config::{self, ModelConfig};
use super::fault::quote;
use super::sharded::{Index, is_index};
use crate::files::run_instead;
use crate::{Error, Result};

/// The weights file of a folder in Hub layout.
pub const WEIGHTS_NAME: &str = "model.safetensors";
/// Weights in one file, in order of preference, and the index of each if they are split over several.
pub(crate) const SINGLE_NAMES: [&str; 2] = [WEIGHTS_NAME, "pytorch_model.bin"];
pub(crate) const INDEX_NAMES: [&str; 2] = ["model.safetensors.index.json", "pytorch_model.bin.index.json"];
/// Extensions of torch pickles.
pub(crate) const PICKLE_EXTENSIONS: [&str; 3] = ["pth", "pt", "th"];

/// Where a model lies on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The configuration beside the weights; `None` for a bare file, whose architecture must be given.
    pub config: Option<ModelConfig>,
    /// The checkpoint file, or the index of several.
    pub weights: PathBuf,
}

/// Finds the configuration and the weights behind `path`.
///
/// A folder must hold `config.json`, and `model.safetensors`, its index, `pytorch_model.bin`, its index or exactly one `.pth`,
/// `.pt` or `.th` file, in this order of preference. A file is taken as the weights.
///
/// # Errors
/// [`Error::File`] if there is no such path, no configuration, no weights or several candidates; the errors of
/// [`ModelConfig::read`].
pub fn locate(path: impl AsRef<Path>) -> Result<Source> {
    let path = path.as_ref();
    let about = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::file(path, "no such file or folder", "give a model folder or a checkpoint file")
        }
        _ => Error::io("open", path)(error),
    })?;
    if !about.is_dir() {
        return Ok(Source { config: None, weights: path.to_path_buf() });
    }
    if !path.join(config::FILE_NAME).is_file() {
        let hint = "give a folder in Hub layout, or the checkpoint file itself together with its architecture";
        return Err(run_instead(path).unwrap_or_else(|| Error::file(path, "a folder without config.json", hint)));
    }
    let weights = weights_in(path)?;
    Ok(Source { config: Some(ModelConfig::read(path)?), weights })
}

/// Whether a folder holds a configuration and whole weights, as far as names and the index of parts say.
pub(crate) fn is_whole(folder: &Path) -> bool {
    let parts = |weights: &Path| match is_index(weights) {
        true => Index::read(weights).is_ok_and(|index| index.files().iter().all(|file| index.part(file).is_file())),
        false => true,
    };
    folder.join(config::FILE_NAME).is_file() && weights_in(folder).is_ok_and(|weights| parts(&weights))
}

pub(crate) fn weights_in(folder: &Path) -> Result<PathBuf> {
    let usual = SINGLE_NAMES.iter().zip(INDEX_NAMES).flat_map(|(single, index)| [*single, index]);
    if let Some(found) = usual.map(|name| folder.join(name)).find(|path| path.is_file()) {
        return Ok(found);
    }
    let mut candidates = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if PICKLE_EXTENSIONS.contains(&extension) && path.is_file() {
            candidates.push(path);
        }
    }
    candidates.sort();
    match candidates.as_slice() {
        [only] => Ok(only.clone()),
        [] => {
            Err(Error::file(folder, "a folder without weights", "expected model.safetensors or one .pth, .pt or .th"))
        }
        several => {
            let names = several.iter().filter_map(|path| path.file_name()?.to_str()).take(8).map(quote);
            let found = format!("{} checkpoints ({})", several.len(), names.collect::<Vec<_>>().join(", "));
            Err(Error::file(folder, found, "keep one of them, or give the file itself"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"architecture": "a", "num_classes": 1,
        "pretrained_cfg": {"input_size": [1, 8, 8], "mean": [0], "std": [1]}}"#;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in files {
            std::fs::write(folder.path().join(name), if *name == "config.json" { CONFIG } else { "" }).unwrap();
        }
        folder
    }

    fn found(files: &[&str]) -> std::result::Result<String, String> {
        let folder = folder(files);
        let source = locate(folder.path()).map_err(|error| error.to_string())?;
        assert!(source.config.is_some());
        Ok(source.weights.file_name().unwrap().to_str().unwrap().to_string())
    }

    #[test]
    fn weights_are_found_in_order_of_preference() {
        let all = ["config.json", "model.safetensors", "pytorch_model.bin", "a.pth", "reference.safetensors"];
        assert_eq!(found(&all), Ok("model.safetensors".into()));
        let index = "model.safetensors.index.json";
        assert_eq!(found(&["config.json", index, "pytorch_model.bin"]), Ok(index.into()));
        assert_eq!(found(&["config.json", "pytorch_model.bin", "a.pth"]), Ok("pytorch_model.bin".into()));
        assert_eq!(found(&["config.json", "a.th", "notes.txt"]), Ok("a.th".into()));
    }

    #[test]
    fn what_is_missing_is_said() {
        assert!(found(&["a.th"]).unwrap_err().contains("a folder without config.json"));
        assert!(found(&["config.json"]).unwrap_err().contains("a folder without weights"));
        assert!(found(&["config.json", "a.th", "b.pt"]).unwrap_err().contains("2 checkpoints (`a.th`, `b.pt`)"));
        assert!(locate("/no/such/path").unwrap_err().to_string().contains("no such file or folder"));
    }

    #[test]
    fn a_bare_file_has_no_configuration() {
        let folder = folder(&["config.json", "a.th"]);
        let source = locate(folder.path().join("a.th")).unwrap();
        assert_eq!((source.config, source.weights), (None, folder.path().join("a.th")));
    }
}
