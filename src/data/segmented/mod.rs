//! Pictures with a class for every pixel.
//!
//! [`Segmented::read`] takes a parquet file or a Hugging Face dataset folder with two picture columns, or folders of pictures
//! and label images side by side, as CamVid and NYUv2 come (`layouts.rs`).

mod labels;
mod layouts;
#[cfg(test)]
mod tests;

pub use labels::{LabelCodes, VOID};

use super::decode::{Collector, Refusal, dimensions};
use super::image_folder::load;
use super::labelled::{check, check_no_columns, combined_hash, dataset_name, push_pictures};
use super::table::{Cells, Table, guard};
use super::{Framing, Images, Portion, ReadOptions, locate};
use crate::files::{sha256_bytes, sha256_file};
use crate::ops::store::Store;
use crate::{Error, Result};
use arrow_array::RecordBatch;
use labels::LabelCollector;
use layouts::Pairs;
use rayon::prelude::*;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Pictures with their label images, all of one size.
#[derive(Debug)]
pub struct Segmented {
    pub images: Images,
    /// `[N, H, W]`: a class, or [`VOID`] where nothing is said.
    pub labels: Store<u8>,
    /// The value that the first class had in the label images.
    pub first: u8,
    /// Folder or file name and split, such as `camvid/test`.
    pub name: String,
    /// Of the one parquet file that was read, else of the list of all files as `sha256sum` prints it.
    pub sha256: String,
}

impl Segmented {
    /// Reads pictures and label images; `codes` says what the values of the latter mean. With a size in `options`, pictures
    /// are resized bilinearly and label images to the nearest pixel.
    ///
    /// # Errors
    /// As [`super::Labelled::read`]; a label image that is no PNG, is in colour, has another size than its picture, or a value
    /// that is no class, named with the file, the row and the pixel; a picture without a label image.
    pub fn read(path: impl AsRef<Path>, options: &ReadOptions, codes: &LabelCodes) -> Result<Self> {
        let path = path.as_ref();
        check(options)?;
        let kind = std::fs::metadata(path).map_err(Error::io("open", path))?;
        let name = dataset_name(path);
        if kind.is_file() {
            locate::check_split(path, options.split.as_deref())?;
            return Self::of_tables(path, &[path.to_path_buf()], name, options, codes);
        }
        match locate::shards_for(path, options.split.as_deref(), Portion::first(options.limit))? {
            Some((split, files)) => Self::of_tables(path, &files, format!("{name}/{split}"), options, codes),
            None => {
                check_no_columns(path, options)?;
                guard(path, || Self::of_folders(path, &name, options, codes))
            }
        }
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// The labels of image `index`, `[H, W]`.
    ///
    /// # Panics
    /// When `index >= len()`, like any slice.
    pub fn label(&self, index: usize) -> &[u8] {
        let len = self.images.height * self.images.width;
        &self.labels[index * len..(index + 1) * len]
    }

    fn of_tables(
        root: &Path,
        files: &[PathBuf],
        name: String,
        options: &ReadOptions,
        codes: &LabelCodes,
    ) -> Result<Self> {
        let limit = options.limit.unwrap_or(usize::MAX);
        let mut gathered = Gathered::new(options, *codes);
        let mut hashes = Vec::new();
        for file in files {
            if gathered.rows >= limit {
                break;
            }
            let (hash, read) = rayon::join(|| sha256_file(file), || gathered.table(file, options, limit));
            read?;
            hashes.push((hash?, file));
        }
        gathered.finish(root, name, combined_hash(&hashes))
    }

    fn of_folders(root: &Path, name: &str, options: &ReadOptions, codes: &LabelCodes) -> Result<Self> {
        let Pairs { split, mut files, first } = layouts::find(root, options.split.as_deref())?;
        files.truncate(options.limit.unwrap_or(usize::MAX));
        let codes = LabelCodes { first: codes.first.or(first), ..*codes };
        let mut gathered = Gathered::new(options, codes);
        gathered.files(&files)?;
        let line = |path: &PathBuf| {
            let relative = path.strip_prefix(root).unwrap_or(path);
            Ok(format!("{}  {}\n", sha256_file(path)?, relative.display()))
        };
        let lines: Vec<String> =
            files.par_iter().flat_map_iter(|(picture, label)| [line(picture), line(label)]).collect::<Result<_>>()?;
        let name = split.map_or(name.to_string(), |split| format!("{name}/{split}"));
        gathered.finish(root, name, sha256_bytes(lines.concat().as_bytes()))
    }
}

/// What was read so far.
struct Gathered {
    pictures: Collector,
    labels: LabelCollector,
    resize: bool,
    rows: usize,
}

impl Gathered {
    fn new(options: &ReadOptions, codes: LabelCodes) -> Self {
        let framing = options.framing.map(|framing| Framing::stretched(framing.size));
        Self {
            pictures: Collector::new(&ReadOptions { framing, ..options.clone() }),
            labels: LabelCollector::new(codes),
            resize: framing.is_some(),
            rows: 0,
        }
    }

    fn table(&mut self, file: &Path, options: &ReadOptions, limit: usize) -> Result<()> {
        let table = Table::open(file)?;
        let image = table.image_column(options.image_column.as_deref())?;
        let label = table.label_image_column(options.label_column.as_deref(), &image)?;
        let left = limit - self.rows;
        table.read(&image, &[(&label, 1)], left, |start, batch| {
            push_pictures(file, batch, &image, start, &mut self.pictures)?;
            self.push_labels(file, batch, &image, &label, start)
        })
    }

    fn push_labels(&mut self, file: &Path, batch: &RecordBatch, image: &str, label: &str, start: usize) -> Result<()> {
        let (Some(pictures), Some(labels)) = (Cells::of(batch, image), Cells::of(batch, label)) else {
            return Err(Error::file(file, format!("column `{label}` holds no pictures"), "name another column"));
        };
        let cell = |row| {
            let bytes = labels.get(row).map(Cow::Borrowed);
            let bytes =
                bytes.ok_or_else(|| Refusal::new("the label image is null", "every picture needs its labels"))?;
            Ok((bytes, dimensions(pictures.get(row).unwrap_or_default())?))
        };
        let to_error = |(row, refusal): (usize, Refusal)| {
            Error::file(file, format!("row {}: {}", start + row, refusal.found), refusal.hint)
        };
        self.push(batch.num_rows(), cell).map_err(to_error)
    }

    fn files(&mut self, files: &[(PathBuf, PathBuf)]) -> Result<()> {
        self.pictures
            .push(files.len(), |i| load(&files[i].0).map(Cow::Owned))
            .map_err(|(i, refusal)| Error::file(&files[i].0, refusal.found, refusal.hint))?;
        let cell = |i: usize| Ok((Cow::Owned(load(&files[i].1)?), dimensions(&load(&files[i].0)?)?));
        self.push(files.len(), cell).map_err(|(i, refusal)| Error::file(&files[i].1, refusal.found, refusal.hint))
    }

    /// Label images of pictures that were pushed before; `cell` gives the bytes, and the picture's sides.
    fn push<'a>(
        &mut self,
        count: usize,
        cell: impl Fn(usize) -> std::result::Result<(Cow<'a, [u8]>, [usize; 2]), Refusal> + Sync,
    ) -> std::result::Result<(), (usize, Refusal)> {
        let Some(sides) = self.pictures.sides() else { return Ok(()) };
        self.rows += count;
        self.labels.push(count, sides, self.resize, cell)
    }

    fn finish(self, root: &Path, name: String, sha256: String) -> Result<Segmented> {
        let nothing = || Error::file(root, "it has no rows", "choose another dataset or split");
        let images = self.pictures.finish().ok_or_else(nothing)?;
        let first = self.labels.first();
        Ok(Segmented { images, labels: self.labels.finish(), first, name, sha256 })
    }
}
