//! From a path to a [`Labelled`] dataset.

use super::decode::{Collector, Refusal};
use super::table::{Cells, Table, guard, integers};
use super::{Labelled, MAX_CLASSES, MAX_SIDE, Portion, ReadOptions, image_folder, locate};
use crate::files::{sha256_bytes, sha256_file};
use crate::{Error, Result};
use arrow_array::RecordBatch;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

pub(super) fn read(path: &Path, options: &ReadOptions) -> Result<Labelled> {
    check(options)?;
    let kind = std::fs::metadata(path).map_err(Error::io("open", path))?;
    let name = dataset_name(path);
    if kind.is_file() {
        locate::check_split(path, options.split.as_deref())?;
        return read_tables(path, &[path.to_path_buf()], name, options);
    }
    match locate::shards_for(path, options.split.as_deref(), Portion::first(options.limit))? {
        Some((split, files)) => read_tables(path, &files, format!("{name}/{split}"), options),
        None => {
            check_no_columns(path, options)?;
            guard(path, || image_folder::read(path, &name, options))
        }
    }
}

/// Folders of pictures are not asked for columns.
pub(super) fn check_no_columns(folder: &Path, options: &ReadOptions) -> Result<()> {
    match options.image_column.as_deref().or(options.label_column.as_deref()) {
        Some(column) => {
            let found = format!("folders of pictures, which have no column `{column}`");
            Err(Error::file(folder, found, "leave the column out"))
        }
        None => Ok(()),
    }
}

pub(super) fn check(options: &ReadOptions) -> Result<()> {
    let sides = 1..=MAX_SIDE;
    if let Some([height, width]) = options.framing.map(|framing| framing.size)
        && !(sides.contains(&height) && sides.contains(&width))
    {
        return Err(Error::invalid("image size", format!("{height}x{width}"), format!("sides are 1 to {MAX_SIDE}")));
    }
    if let Some(channels) = options.channels
        && !matches!(channels, 1 | 3)
    {
        return Err(Error::invalid("channels", channels.to_string(), "1 is grey, 3 is colour"));
    }
    if options.limit == Some(0) {
        return Err(Error::invalid("limit", "0 rows", "read at least one row"));
    }
    Ok(())
}

/// The last part of a path, also of `.` and `..`.
pub(super) fn dataset_name(path: &Path) -> String {
    let full = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let name = if full.is_dir() { full.file_name() } else { full.file_stem() };
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// Labels of the rows read so far, with the classes that they may have.
struct Labels {
    column: String,
    names: Option<Vec<String>>,
    labels: Vec<u32>,
}

/// Reads shards one after another; the first decides about columns and class names, the others must agree.
fn read_tables(root: &Path, files: &[PathBuf], name: String, options: &ReadOptions) -> Result<Labelled> {
    let limit = options.limit.unwrap_or(usize::MAX);
    let mut collector = Collector::new(options);
    let mut found: Option<Labels> = None;
    let mut hashes = Vec::new();
    for file in files {
        let rows = found.as_ref().map_or(0, |f| f.labels.len());
        if rows >= limit {
            break;
        }
        // The hash costs a read of the file beside the decoding, which keeps the other threads busy.
        let (hash, read) =
            rayon::join(|| sha256_file(file), || read_table(file, options, limit - rows, &mut collector, &mut found));
        read?;
        hashes.push((hash?, file));
    }
    let nothing = || Error::file(root, "it has no rows", "choose another dataset or split");
    let (images, Labels { names, labels, .. }) = collector.finish().zip(found).ok_or_else(nothing)?;
    let class_names = names.unwrap_or_else(|| {
        let classes = labels.iter().max().map_or(0, |&top| top as usize + 1);
        (0..classes).map(|c| c.to_string()).collect()
    });
    let sha256 = combined_hash(&hashes);
    Ok(Labelled { images, labels, class_names, name, sha256 })
}

/// The hash of the one file, or of the lines that `sha256sum` prints of several.
pub(super) fn combined_hash(hashes: &[(String, &PathBuf)]) -> String {
    match hashes {
        [(only, _)] => only.clone(),
        several => {
            let line = |(hash, file): &(String, &PathBuf)| {
                format!("{hash}  {}\n", file.file_name().unwrap_or_default().to_string_lossy())
            };
            sha256_bytes(several.iter().map(line).collect::<String>().as_bytes())
        }
    }
}

fn read_table(
    file: &Path,
    options: &ReadOptions,
    limit: usize,
    collector: &mut Collector,
    found: &mut Option<Labels>,
) -> Result<()> {
    let table = Table::open(file)?;
    let image = table.image_column(options.image_column.as_deref())?;
    let asked = found.as_ref().map(|f| f.column.as_str()).or(options.label_column.as_deref());
    let column = table.label_column(asked)?;
    let names = table.class_names(&column)?;
    let labels = found.get_or_insert_with(|| Labels { column, names: names.clone(), labels: Vec::new() });
    if labels.names != names {
        return Err(Error::file(file, "its class names differ from those of the files before", "read it on its own"));
    }
    let column = labels.column.clone();
    table.read(&image, &[(&column, 1)], limit, |start, batch| {
        push_pictures(file, batch, &image, start, collector)?;
        push_labels(file, batch, start, labels)
    })
}

/// Decodes the pictures of a batch whose first row is `start` of `file`.
pub(crate) fn push_pictures(
    file: &Path,
    batch: &RecordBatch,
    column: &str,
    start: usize,
    collector: &mut Collector,
) -> Result<()> {
    let cells = Cells::of(batch, column)
        .ok_or_else(|| Error::file(file, format!("column `{column}` holds no pictures"), "name another column"))?;
    let cell = |row| {
        cells.get(row).map(Cow::Borrowed).ok_or_else(|| {
            Refusal::new("the picture is null", "embed the bytes of every picture, a path alone is not followed")
        })
    };
    collector
        .push(batch.num_rows(), cell)
        .map_err(|(row, refusal)| Error::file(file, format!("row {}: {}", start + row, refusal.found), refusal.hint))
}

fn push_labels(file: &Path, batch: &RecordBatch, start: usize, into: &mut Labels) -> Result<()> {
    let classes = into.names.as_ref().map_or(MAX_CLASSES, Vec::len);
    let column = &into.column;
    into.labels.extend(labels_of(file, batch, column, start, classes)?);
    Ok(())
}

/// The labels of a batch whose first row is `start` of `file`, each below `classes`.
pub(crate) fn labels_of(
    file: &Path,
    batch: &RecordBatch,
    column: &str,
    start: usize,
    classes: usize,
) -> Result<Vec<u32>> {
    let refuse = |found: String| Error::file(file, found, format!("labels are 0 to {}", classes.saturating_sub(1)));
    let values = batch.column_by_name(column).and_then(|c| integers(c.as_ref()));
    let values = values.ok_or_else(|| refuse(format!("column `{column}` holds no integers")))?;
    let checked = values.into_iter().enumerate().map(|(row, value)| match value {
        Some(v) => match u32::try_from(v) {
            Ok(label) if (label as usize) < classes => Ok(label),
            _ => Err(refuse(format!("row {}: label {v}", start + row))),
        },
        None => Err(refuse(format!("row {}: the label is null", start + row))),
    });
    checked.collect()
}
