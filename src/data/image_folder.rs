//! Pictures in one folder per class.

use super::decode::{Collector, Refusal};
use super::locate::{choose, is_split};
use super::{Labelled, MAX_CLASSES, ReadOptions};
use crate::files::{sha256_bytes, sha256_file};
use crate::{Error, Result};
use rayon::prelude::*;
use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

/// The largest picture file, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Reads `root/CLASS/*.png` or, with a folder per split, `root/SPLIT/CLASS/*.png`. Classes are the folders in name order.
pub(super) fn read(root: &Path, name: &str, options: &ReadOptions) -> Result<Labelled> {
    let (root, name) = split_folder(root, name, options.split.as_deref())?;
    let root = root.as_path();
    let classes = entries(root, |path| path.is_dir())?;
    if classes.is_empty() || classes.len() > MAX_CLASSES {
        let found = format!("{} folders and no parquet file", classes.len());
        return Err(Error::file(root, found, "give it one folder of pictures per class, or a parquet file"));
    }
    let files = classes.iter().map(|class| entries(class, is_picture)).collect::<Result<Vec<_>>>()?;
    let chosen = evenly(&files, options.limit.unwrap_or(usize::MAX));
    if chosen.is_empty() {
        return Err(Error::file(root, "no picture in its folders", "PNG, JPEG and WebP files are read"));
    }
    let path = |i: usize| &files[chosen[i].0][chosen[i].1];
    let mut collector = Collector::new(options);
    collector
        .push(chosen.len(), |i| load(path(i)).map(Cow::Owned))
        .map_err(|(i, refusal)| Error::file(path(i), refusal.found, refusal.hint))?;
    let images = collector.finish().ok_or_else(|| Error::file(root, "no picture", "choose another folder"))?;
    let hashes = (0..chosen.len()).into_par_iter().map(|i| {
        let relative = path(i).strip_prefix(root).unwrap_or(path(i));
        Ok(format!("{}  {}\n", sha256_file(path(i))?, relative.display()))
    });
    let sha256 = sha256_bytes(hashes.collect::<Result<Vec<_>>>()?.concat().as_bytes());
    let class_names =
        classes.iter().map(|c| c.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect();
    let labels = chosen.iter().map(|&(class, _)| class as u32).collect();
    Ok(Labelled { images, labels, class_names, name, sha256 })
}

/// The folder of the wanted split, where the sub-folders are splits; the folder itself where they are classes.
fn split_folder(root: &Path, name: &str, asked: Option<&str>) -> Result<(PathBuf, String)> {
    let mut names = Vec::new();
    for folder in entries(root, |path| path.is_dir())? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // A split holds classes; a class that is called `train` holds pictures.
        if is_split(&name) && !entries(&folder, |path| path.is_dir())?.is_empty() {
            names.push(name);
        }
    }
    let splits: Vec<&str> = names.iter().map(String::as_str).collect();
    if splits.is_empty() {
        return match asked {
            None | Some("train") => Ok((root.to_path_buf(), name.to_string())),
            Some(split) => {
                let found = format!("there is no folder for the split `{split}`");
                Err(Error::file(root, found, "leave the split out to read the classes in this folder"))
            }
        };
    }
    let split = choose(root, &splits, asked)?;
    Ok((root.join(split), format!("{name}/{split}")))
}

/// The visible entries of a folder that pass a test, in name order.
pub(super) fn entries(folder: &Path, fits: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        let hidden = path.file_name().is_none_or(|n| n.to_string_lossy().starts_with('.'));
        if !hidden && fits(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether it is a file that is called like a picture.
pub(super) fn is_picture(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    matches!(extension.as_str(), "png" | "jpg" | "jpeg" | "webp") && path.is_file()
}

/// `(class, file)` of at most `limit` files, one per class and round, in class order.
fn evenly(files: &[Vec<PathBuf>], limit: usize) -> Vec<(usize, usize)> {
    let all = files.iter().enumerate().flat_map(|(class, list)| (0..list.len()).map(move |file| (class, file)));
    let mut chosen: Vec<(usize, usize)> = all.collect();
    chosen.sort_by_key(|&(class, file)| (file, class));
    chosen.truncate(limit);
    chosen.sort();
    chosen
}

/// The bytes of a picture file.
pub(super) fn load(path: &Path) -> std::result::Result<Vec<u8>, Refusal> {
    const HINT: &str = "remove the file or make it readable";
    let size = fs::metadata(path).map_err(|e| Refusal::new(e.to_string(), HINT))?.len();
    if size > MAX_FILE_BYTES {
        return Err(Refusal::new(format!("{size} bytes for one picture"), "at most 64 MiB are read"));
    }
    fs::read(path).map_err(|e| Refusal::new(e.to_string(), HINT))
}
