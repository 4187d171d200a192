//! The pictures of tar files, as webdataset shards have them; other entries (labels, texts) are passed over.

use super::encoded::{Decoding, Encoded};
use super::folder::is_called_picture;
use super::picture::MAX_FILE_BYTES;
use super::source::{Each, Source, Tally};
use crate::files::{sha256_bytes, sha256_file};
use crate::{Error, Result};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Entries of one tar file that are looked at.
const MAX_ENTRIES: usize = 20_000_000;

/// Tar files; pictures are counted over all of them, in the order in which they lie there.
pub struct Archive {
    name: String,
    files: Vec<PathBuf>,
    /// Pictures in each file.
    pictures: Vec<usize>,
    sha256: String,
}

impl Archive {
    /// The tar file `path`, or all `*.tar` in the folder `path`, in name order. Their headers are read to count the pictures.
    ///
    /// # Errors
    /// [`Error::File`] for what is no tar file, or holds no file that is called like a picture.
    pub fn open(path: &Path) -> Result<Self> {
        let files = if path.is_file() { vec![path.to_path_buf()] } else { tars_in(path)? };
        let mut pictures = Vec::with_capacity(files.len());
        let mut lines = String::new();
        for file in &files {
            let mut count = 0;
            each_picture(file, |_, _| {
                count += 1;
                Ok(())
            })?;
            pictures.push(count);
            lines += &format!("{}  {}\n", sha256_file(file)?, file.file_name().unwrap_or_default().to_string_lossy());
        }
        if pictures.iter().sum::<usize>() == 0 {
            return Err(Error::file(path, "there is no picture in it", "PNG, JPEG and WebP files are read"));
        }
        let sha256 = sha256_bytes(lines.as_bytes());
        Ok(Self { name: path.display().to_string(), files, pictures, sha256 })
    }
}

/// The tar files in a folder, in name order.
pub(super) fn tars_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        if path.extension().is_some_and(|ending| ending == "tar") && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Passes every file of a tar that is called like a picture on, with its name and what reads it.
fn each_picture(file: &Path, mut each: impl FnMut(PathBuf, &mut dyn Read) -> Result<()>) -> Result<()> {
    let broken = |e: std::io::Error| {
        let found = format!("it cannot be read as a tar file ({e})");
        Error::file(file, found, "the file is damaged or compressed; unpack or get it again")
    };
    let opened = File::open(file).map_err(Error::io("open", file))?;
    let mut archive = tar::Archive::new(BufReader::new(opened));
    for (count, entry) in archive.entries_with_seek().map_err(broken)?.enumerate() {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path().map(|p| p.into_owned()).unwrap_or_default();
        if entry.header().entry_type().is_file() && is_called_picture(&name) {
            each(name, &mut entry)?;
        }
        if count >= MAX_ENTRIES {
            return Err(Error::file(file, format!("over {MAX_ENTRIES} entries"), "split it"));
        }
    }
    Ok(())
}

impl Source for Archive {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn items(&self) -> Option<usize> {
        Some(self.pictures.iter().sum())
    }

    fn provenance(&self) -> Value {
        let count: usize = self.pictures.iter().sum();
        json!({ "kind": "tar", "name": self.name, "files": self.files.len(), "pictures": count, "sha256": self.sha256 })
    }

    fn visit(&mut self, numbers: &[usize], dims: [usize; 3], tally: &mut Tally, each: &mut Each) -> Result<()> {
        let mut decoding = Decoding::new(dims, tally, each);
        let (mut first, mut rest) = (0, numbers);
        for (file, &pictures) in self.files.iter().zip(&self.pictures) {
            let (wanted, later) = rest.split_at(rest.partition_point(|n| *n < first + pictures));
            if !wanted.is_empty() {
                let mut wanted = wanted.iter().peekable();
                let mut number = first;
                each_picture(file, |name, reader| {
                    let is_wanted = wanted.next_if(|n| **n == number).is_some();
                    number += 1;
                    if !is_wanted {
                        return Ok(());
                    }
                    decoding.take(Encoded { number: number - 1, name: Some(name), bytes: load(reader) })
                })?;
            }
            (first, rest) = (first + pictures, later);
        }
        decoding.flush()
    }
}

fn load(reader: &mut dyn Read) -> std::result::Result<Vec<u8>, &'static str> {
    let mut bytes = Vec::new();
    reader.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|_| "cut off in its tar file")?;
    Ok(bytes)
}
