//! Folders in which pictures and label images lie side by side.

use crate::data::image_folder::{entries, is_picture};
use crate::data::locate::{alias, choose};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The most pairs that a folder may hold.
const MAX_PAIRS: usize = 1_000_000;

/// Names of splits that folders have.
const SPLITS: [&str; 7] = ["train", "training", "validation", "val", "valid", "dev", "test"];

/// Where pictures and label images are, with `*` for the split, and the value of the first class.
struct Layout {
    pictures: &'static str,
    labels: &'static str,
    first: Option<u8>,
}

const fn layout(pictures: &'static str, labels: &'static str) -> Layout {
    Layout { pictures, labels, first: None }
}

const LAYOUTS: &[Layout] = &[
    // CamVid as SegNet's tutorial has it.
    layout("*", "*annot"),
    // NYUv2 with 13 classes, as the toolkit for Python writes it: 255 is void.
    layout("image/*", "seg13/*"),
    // NYUv2 with 13 classes, as its label images were published: 0 is void.
    Layout { pictures: "nyu_*_rgb", labels: "*_labels_13", first: Some(1) },
    Layout { pictures: "nyu_*_rgb", labels: "nyuv2_*_class13", first: Some(1) },
    layout("images/*", "annotations/*"),
    layout("images/*", "labels/*"),
    layout("images/*", "masks/*"),
    layout("*/images", "*/annotations"),
    layout("*/images", "*/labels"),
    layout("*/images", "*/masks"),
    layout("*", "*_labels"),
    layout("images", "annotations"),
    layout("images", "labels"),
    layout("images", "masks"),
];

/// Pictures with their label images.
pub(super) struct Pairs {
    pub split: Option<String>,
    pub files: Vec<(PathBuf, PathBuf)>,
    /// The value of the first class, where the layout says it.
    pub first: Option<u8>,
}

/// The pairs of a split below `root`; where no folder is that of a split, all are to train on.
pub(super) fn find(root: &Path, asked: Option<&str>) -> Result<Pairs> {
    for layout in LAYOUTS {
        if !layout.pictures.contains('*') {
            if !layout.holds(root, "") {
                continue;
            }
            if let Some(split) = asked.filter(|split| alias(split) != "train") {
                let found = format!("there is no folder for the split `{split}`");
                return Err(Error::file(root, found, "leave the split out to read the pictures in this folder"));
            }
            return Ok(Pairs { split: None, files: layout.pairs(root, "")?, first: layout.first });
        }
        let splits: Vec<&str> = SPLITS.into_iter().filter(|split| layout.holds(root, split)).collect();
        if !splits.is_empty() {
            let split = choose(root, &splits, asked)?;
            return Ok(Pairs { split: Some(split.into()), files: layout.pairs(root, split)?, first: layout.first });
        }
    }
    let hint = "give a parquet file with two picture columns, or folders such as test/ and testannot/ (CamVid), image/test/ and \
                seg13/test/ (NYUv2), images/ and labels/";
    Err(Error::file(root, "no pictures with label images beside them", hint))
}

impl Layout {
    fn folders(&self, root: &Path, split: &str) -> [PathBuf; 2] {
        [self.pictures, self.labels].map(|pattern| root.join(pattern.replace('*', split)))
    }

    fn holds(&self, root: &Path, split: &str) -> bool {
        self.folders(root, split).iter().all(|folder| folder.is_dir())
    }

    /// Every picture with the label image of the same name or, where no label image has that name, of the same number at its
    /// end.
    fn pairs(&self, root: &Path, split: &str) -> Result<Vec<(PathBuf, PathBuf)>> {
        let [pictures, labels] = self.folders(root, split);
        let (found, label_files) = (entries(&pictures, is_picture)?, entries(&labels, is_picture)?);
        if found.is_empty() || found.len() > MAX_PAIRS {
            let found = format!("{} pictures", found.len());
            return Err(Error::file(&pictures, found, format!("1 to {MAX_PAIRS} are read, PNG, JPEG or WebP")));
        }
        let by_name: BTreeMap<String, &PathBuf> = label_files.iter().map(|path| (stem(path), path)).collect();
        let names: BTreeSet<String> = found.iter().map(|path| stem(path)).collect();
        // A label image that has a picture of its name is of no other, and so is a picture; a number that two of the rest have names
        // none.
        let by_number = numbered(label_files.iter().filter(|path| !names.contains(&stem(path))));
        let pictures_by_number = numbered(found.iter().filter(|path| !by_name.contains_key(&stem(path))));
        let partner = |picture: &PathBuf| {
            let number = number(&stem(picture));
            let only = pictures_by_number.get(&number).is_some_and(Option::is_some);
            let numbered = || by_number.get(&number).copied().flatten().filter(|_| only);
            match by_name.get(&stem(picture)).copied().or_else(numbered) {
                Some(label) => Ok((picture.clone(), label.clone())),
                None => {
                    let found = format!("no label image for it in {}", labels.display());
                    Err(Error::file(picture, found, "add it, or remove the picture"))
                }
            }
        };
        found.iter().map(partner).collect()
    }
}

/// The file of every number at the end of a name; none where two have it.
fn numbered<'a>(files: impl Iterator<Item = &'a PathBuf>) -> BTreeMap<String, Option<&'a PathBuf>> {
    let mut all = BTreeMap::new();
    for path in files {
        let number = number(&stem(path));
        if !number.is_empty() {
            all.entry(number).and_modify(|known| *known = None).or_insert(Some(path));
        }
    }
    all
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The digits at the end of a name.
fn number(name: &str) -> String {
    name[name.trim_end_matches(|c: char| c.is_ascii_digit()).len()..].to_string()
}
