//! A folder of picture files, however deep.

use super::encoded::{Decoding, Encoded};
use super::picture::MAX_FILE_BYTES;
use super::source::{Each, Source, Tally};
use crate::files::sha256_bytes;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Files that are looked at, and folders within folders.
const MAX_FILES: usize = 20_000_000;
const MAX_DEPTH: usize = 16;

/// The picture files below a folder, in the order of their paths.
pub struct Folder {
    root: PathBuf,
    /// Relative to the root.
    files: Vec<PathBuf>,
    /// Of the list of files with their sizes.
    sha256: String,
}

impl Folder {
    /// Lists the files below `root` that are called like pictures, whatever they are. Links to folders are not followed.
    ///
    /// # Errors
    /// [`Error::Io`] for a folder that cannot be listed, [`Error::File`] where there is no such file.
    pub fn open(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        list(root, Path::new(""), 0, &mut files)?;
        if files.is_empty() {
            let hint = "files called .png, .jpg, .jpeg, .webp, .gif, .bmp and .tif are looked at";
            return Err(Error::file(root, "there is no picture in this folder", hint));
        }
        files.sort();
        let lines: String = files.iter().map(|(file, size)| format!("{size}  {}\n", file.display())).collect();
        let files = files.into_iter().map(|(file, _)| file).collect();
        Ok(Self { root: root.to_path_buf(), files, sha256: sha256_bytes(lines.as_bytes()) })
    }
}

fn list(root: &Path, inner: &Path, depth: usize, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    let folder = root.join(inner);
    for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
        let entry = entry.map_err(Error::io("list", &folder))?;
        let (name, kind) = (entry.file_name(), entry.file_type().map_err(Error::io("examine", entry.path()))?);
        let path = inner.join(&name);
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() && depth < MAX_DEPTH {
            list(root, &path, depth + 1, files)?;
        } else if !kind.is_dir() && is_called_picture(&path) {
            files.push((path, entry.metadata().map_or(0, |about| about.len())));
        }
        if files.len() > MAX_FILES {
            return Err(Error::file(root, format!("over {MAX_FILES} pictures"), "name a part of it"));
        }
    }
    Ok(())
}

/// Whether a name ends like that of a picture, of a kind that can be read or of another, which is then counted as skipped.
pub(super) fn is_called_picture(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    matches!(ending.as_str(), "png" | "jpg" | "jpeg" | "jpe" | "jfif" | "webp" | "gif" | "bmp" | "tif" | "tiff")
}

impl Source for Folder {
    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn items(&self) -> Option<usize> {
        Some(self.files.len())
    }

    fn provenance(&self) -> Value {
        json!({ "kind": "folder", "name": self.name(), "files": self.files.len(), "sha256_of_list": self.sha256 })
    }

    fn visit(&mut self, numbers: &[usize], dims: [usize; 3], tally: &mut Tally, each: &mut Each) -> Result<()> {
        let mut decoding = Decoding::new(dims, tally, each);
        for &number in numbers {
            let file = &self.files[number];
            decoding.take(Encoded { number, bytes: load(&self.root.join(file)), name: Some(file.clone()) })?;
        }
        decoding.flush()
    }
}

fn load(path: &Path) -> std::result::Result<Vec<u8>, &'static str> {
    let about = fs::metadata(path).map_err(|_| "cannot be opened")?;
    if !about.is_file() {
        return Err("no file");
    }
    if about.len() > MAX_FILE_BYTES {
        return Err("file of more than 64 MiB");
    }
    fs::read(path).map_err(|_| "cannot be opened")
}
