//! A folder of picture files, however deep.

use super::encoded::{Decoding, Encoded};
use super::picture::MAX_FILE_BYTES;
use super::source::{Each, Source, Tally};
use crate::files::sha256_bytes;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Files that are looked at, and folders within folders.
const MAX_FILES: usize = 20_000_000;
const MAX_DEPTH: usize = 64;

/// The picture files below a folder, in the order of their paths.
pub struct Folder {
    root: PathBuf,
    /// Relative to the root.
    files: Vec<PathBuf>,
    /// Of the list of files with their sizes.
    sha256: String,
}

impl Folder {
    /// Lists the files below `root` that are called like pictures, whatever they are. Links are followed; a folder that is reached
    /// twice is listed once.
    ///
    /// # Errors
    /// [`Error::Io`] for a folder that cannot be listed, [`Error::File`] where there is no such file, or where folders are 64 deep.
    pub fn open(root: &Path) -> Result<Self> {
        let mut listing = Listing { root, files: Vec::new(), listed: HashSet::new() };
        listing.list(Path::new(""), 0)?;
        let mut files = listing.files;
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

struct Listing<'a> {
    root: &'a Path,
    /// With their sizes.
    files: Vec<(PathBuf, u64)>,
    /// Folders, by their paths without links.
    listed: HashSet<PathBuf>,
}

impl Listing<'_> {
    fn list(&mut self, inner: &Path, depth: usize) -> Result<()> {
        let folder = self.root.join(inner);
        if depth > MAX_DEPTH {
            return Err(Error::file(
                &folder,
                format!("more than {MAX_DEPTH} folders deep"),
                "name a folder further down",
            ));
        }
        if !self.listed.insert(fs::canonicalize(&folder).map_err(Error::io("list", &folder))?) {
            return Ok(());
        }
        // In order, so that which of two ways to a folder is taken does not depend on the system.
        let entries = fs::read_dir(&folder).and_then(|all| all.map(|entry| Ok(entry?.file_name())).collect());
        let mut names: Vec<OsString> = entries.map_err(Error::io("list", &folder))?;
        names.sort();
        for name in names.into_iter().filter(|name| !name.to_string_lossy().starts_with('.')) {
            let path = inner.join(&name);
            // A link that leads nowhere is a file that cannot be opened.
            let about = fs::metadata(self.root.join(&path)).ok();
            if about.as_ref().is_some_and(fs::Metadata::is_dir) {
                self.list(&path, depth + 1)?;
            } else if is_called_picture(&path) {
                self.files.push((path, about.map_or(0, |about| about.len())));
            }
            if self.files.len() > MAX_FILES {
                return Err(Error::file(self.root, format!("over {MAX_FILES} pictures"), "name a part of it"));
            }
        }
        Ok(())
    }
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
