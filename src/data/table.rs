//! One parquet file: its columns, its class names, its rows in batches of the columns that are asked for.

use super::pages;
use crate::data::MAX_CLASSES;
use crate::{Error, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{Array, BinaryArray, RecordBatch};
use arrow_schema::DataType;
use arrow_select::concat::concat_batches;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Rows decoded at once: few enough that a batch is small, enough to keep every thread busy.
const BATCH_ROWS: usize = 1024;

/// Bytes that a batch may take where its rows are large.
const BATCH_BYTES: u64 = 128 << 20;

/// Bytes of batches that are passed on together.
const WAITING_BYTES: usize = 32 << 20;

/// The largest description of features: the names of [`MAX_CLASSES`] classes stay below this.
const FEATURES_LIMIT: usize = 4 << 20;

/// What a column with pictures is.
const PICTURE: &str = "picture (struct with binary `bytes`)";

/// Key of the schema metadata under which `datasets` keeps feature types and class names, as JSON.
pub(crate) const FEATURES_KEY: &str = "huggingface";

/// An opened parquet file.
pub(crate) struct Table {
    path: PathBuf,
    file: File,
    metadata: ArrowReaderMetadata,
    features: serde_json::Value,
}

impl Table {
    /// Opens a file and reads its footer. The column types are those of parquet itself; an embedded arrow schema is
    /// ignored, so that a file cannot choose exotic types (which also bounds a batch of byte strings by 2 GiB).
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = guard(path, || ArrowReaderMetadata::load(&file, options).map_err(|e| damaged(path, &e)))?;
        check_ranges(path, &file, &metadata)?;
        check_codecs(path, &metadata)?;
        let pairs = metadata.metadata().file_metadata().key_value_metadata();
        let json = pairs.into_iter().flatten().find(|kv| kv.key == FEATURES_KEY).and_then(|kv| kv.value.as_deref());
        let features = match json {
            Some(json) if json.len() > FEATURES_LIMIT => {
                let found = format!("its feature description has {} bytes", json.len());
                return Err(Error::file(path, found, format!("at most {FEATURES_LIMIT} are read")));
            }
            Some(json) => serde_json::from_str::<serde_json::Value>(json).map_err(|e| {
                Error::file(path, format!("its feature description is broken JSON ({e})"), "rewrite it")
            })?,
            None => serde_json::Value::Null,
        };
        Ok(Self { path: path.to_path_buf(), file, metadata, features })
    }

    /// Rows, as the footer says.
    pub fn rows(&self) -> usize {
        usize::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Names of the columns, in order.
    pub fn columns(&self) -> Vec<&str> {
        self.metadata.schema().fields().iter().map(|f| f.name().as_str()).collect()
    }

    fn kind(&self, column: &str) -> Option<&DataType> {
        self.metadata.schema().fields().iter().find(|f| f.name() == column).map(|f| f.data_type())
    }

    /// The column with the pictures: the one asked for, or `image`, or `img`, or the only one of its kind.
    pub fn image_column(&self, asked: Option<&str>) -> Result<String> {
        let is_image = |column: &str| self.is_image(column);
        self.choose(asked, PICTURE, "image column", is_image, &["image", "img"])
    }

    /// The column with the label images of the pictures in `image`: the one asked for, or the first of the usual names, or the
    /// only other one with pictures.
    pub fn label_image_column(&self, asked: Option<&str>, image: &str) -> Result<String> {
        let is_other = |column: &str| column != image && self.is_image(column);
        let usual = ["annotation", "label", "labels", "mask", "semantic_segmentation", "segmentation_mask", "seg13"];
        self.choose(asked, PICTURE, "label column", is_other, &usual)
    }

    fn is_image(&self, column: &str) -> bool {
        matches!(self.kind(column), Some(DataType::Struct(fields))
            if fields.iter().any(|f| f.name() == "bytes" && *f.data_type() == DataType::Binary))
    }

    /// The column with the labels: the one asked for, or the first of the usual names, or the only one of its kind.
    pub fn label_column(&self, asked: Option<&str>) -> Result<String> {
        let is_label = |column: &str| self.kind(column).is_some_and(DataType::is_integer);
        let usual = ["label", "labels", "fine_label", "class", "target", "y"];
        self.choose(asked, "integer", "label column", is_label, &usual)
    }

    fn choose(
        &self,
        asked: Option<&str>,
        kind: &str,
        what: &str,
        fits: impl Fn(&str) -> bool,
        usual: &[&str],
    ) -> Result<String> {
        let columns = self.columns();
        let refuse = |found: String| {
            let hint = format!("choose the {what} among: {}", columns.join(", "));
            Err(Error::file(&self.path, found, hint))
        };
        if let Some(asked) = asked {
            return match columns.contains(&asked) {
                true if fits(asked) => Ok(asked.to_string()),
                true => refuse(format!("column `{asked}` is no {kind} column")),
                false => refuse(format!("there is no column `{asked}`")),
            };
        }
        let candidates: Vec<&str> = columns.iter().copied().filter(|c| fits(c)).collect();
        let by_name = usual.iter().find(|name| candidates.contains(name));
        match (by_name, candidates.as_slice()) {
            (Some(name), _) => Ok(name.to_string()),
            (None, [only]) => Ok(only.to_string()),
            (None, []) => refuse(format!("there is no {kind} column")),
            (None, several) => refuse(format!("{} {kind} columns are there", several.len())),
        }
    }

    /// Class names of a label column, when the file has them.
    pub fn class_names(&self, column: &str) -> Result<Option<Vec<String>>> {
        let names = &self.features["info"]["features"][column]["names"];
        let Some(list) = names.as_array() else { return Ok(None) };
        let names: Option<Vec<String>> = list.iter().map(|n| n.as_str().map(str::to_string)).collect();
        match names {
            Some(names) if (1..=MAX_CLASSES).contains(&names.len()) => Ok(Some(names)),
            _ => {
                let found = format!("its class names of `{column}` are no list of 1 to {MAX_CLASSES} texts");
                Err(Error::file(&self.path, found, "rewrite the file"))
            }
        }
    }

    /// Passes the rows of some columns to `each`, in batches, with the row number of each batch's first row; of the
    /// column `image` only the `bytes` are read. `others` are columns with the most values that a row has in them: 1, or
    /// more in a list.
    pub fn read(
        self,
        image: &str,
        others: &[(&str, usize)],
        limit: usize,
        mut each: impl FnMut(usize, &RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let Self { path, file, metadata, .. } = self;
        let columns = metadata.parquet_schema().columns().iter().enumerate();
        let leaves: Vec<(usize, usize)> = columns
            .filter_map(|(index, leaf)| {
                let parts = leaf.path().parts();
                let root = parts.first().map_or("", |s| s.as_str());
                let of_image = root == image && parts.get(1).is_some_and(|s| s == "bytes");
                let most = others.iter().find(|(name, _)| *name == root).map(|(_, most)| *most);
                Some((index, if of_image { 1 } else { most? }))
            })
            .collect();
        let row_bytes = check_pages(&path, &file, &metadata, &leaves)?;
        let mask = ProjectionMask::leaves(metadata.parquet_schema(), leaves.iter().map(|(index, _)| *index));
        let batch_rows =
            usize::try_from(BATCH_BYTES / row_bytes.max(1)).unwrap_or(BATCH_ROWS).clamp(1, BATCH_ROWS.min(limit));
        let promised = metadata.metadata().file_metadata().num_rows();
        guard(&path, || {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
            let builder = builder.with_projection(mask).with_batch_size(batch_rows).with_limit(limit);
            let (mut start, mut waiting) = (0, Waiting::default());
            for batch in builder.build().map_err(|e| damaged(&path, &e))? {
                waiting.take(batch.map_err(|e| damaged(&path, &e))?);
                if waiting.rows >= BATCH_ROWS || waiting.bytes >= WAITING_BYTES {
                    start += waiting.pass_on(&path, start, &mut each)?;
                }
            }
            start += waiting.pass_on(&path, start, &mut each)?;
            if start < limit && start as i64 != promised {
                return Err(damaged(&path, &format!("{start} rows instead of {promised}")));
            }
            Ok(())
        })
    }
}

/// Batches that are one to whoever reads: where a dictionary says little of how large a row is, the reader has to make small ones, and
/// pictures are decoded in parallel within one.
#[derive(Default)]
struct Waiting {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Waiting {
    fn take(&mut self, batch: RecordBatch) {
        self.rows += batch.num_rows();
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
    }

    /// Passes on what waits, if something does, of which the first row is `start`; gives how many rows that are.
    fn pass_on(
        &mut self,
        path: &Path,
        start: usize,
        each: &mut impl FnMut(usize, &RecordBatch) -> Result<()>,
    ) -> Result<usize> {
        let Self { batches, rows, .. } = std::mem::take(self);
        match &batches[..] {
            [] => {}
            [one] => each(start, one)?,
            [first, ..] => {
                let whole = concat_batches(first.schema_ref(), &batches).map_err(|e| damaged(path, &e))?;
                each(start, &whole)?;
            }
        }
        Ok(rows)
    }
}

/// Refuses column chunks that lie outside the file, on which the parquet crate panics.
fn check_ranges(path: &Path, file: &File, metadata: &ArrowReaderMetadata) -> Result<()> {
    let length = file.metadata().map_err(Error::io("examine", path))?.len();
    let inside = |start: i64, bytes: i64| {
        let end = u64::try_from(start).ok().zip(u64::try_from(bytes).ok()).and_then(|(s, b)| s.checked_add(b));
        end.is_some_and(|end| end <= length)
    };
    let mut chunks = metadata.metadata().row_groups().iter().flat_map(|group| group.columns());
    let sound = chunks.all(|chunk| {
        let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
        inside(start, chunk.compressed_size()) && inside(chunk.data_page_offset(), 0)
    });
    if sound { Ok(()) } else { Err(damaged(path, &"a column lies outside the file")) }
}

/// Refuses columns that the parquet crate, as it is built here, cannot unpack.
fn check_codecs(path: &Path, metadata: &ArrowReaderMetadata) -> Result<()> {
    let mut chunks = metadata.metadata().row_groups().iter().flat_map(|group| group.columns());
    match chunks.find(|chunk| !matches!(chunk.compression(), Compression::UNCOMPRESSED | Compression::SNAPPY)) {
        Some(chunk) => {
            let found = format!("its columns are compressed with {}", chunk.compression());
            Err(Error::file(path, found, "write it anew with snappy, or without compression"))
        }
        None => Ok(()),
    }
}

/// Looks at the pages of columns, each with the most values per row; gives the bytes that a row may take.
fn check_pages(path: &Path, file: &File, metadata: &ArrowReaderMetadata, leaves: &[(usize, usize)]) -> Result<u64> {
    let mut row_bytes = 0;
    for &(leaf, most) in leaves {
        let mut largest = 0;
        for group in metadata.metadata().row_groups() {
            let chunk = group.columns().get(leaf).ok_or_else(|| damaged(path, &"a column is missing"))?;
            let found = pages::walk(file, chunk).map_err(|refusal| match refusal {
                pages::Refusal::Damaged(found) => damaged(path, &found),
                pages::Refusal::TooLarge(bytes) => {
                    let found = format!("one of its pages has {bytes} bytes, more than are read at once");
                    Error::file(path, found, "write it anew with smaller groups of rows, or without a dictionary")
                }
            })?;
            // An empty list takes a level too.
            let rows = u64::try_from(group.num_rows()).unwrap_or(0);
            if found.values > rows.saturating_mul(most.max(1) as u64) {
                return Err(damaged(path, &format!("{} values of one column in {rows} rows", found.values)));
            }
            largest = found.value_bytes.max(largest);
        }
        row_bytes += largest.saturating_mul(most as u64);
    }
    Ok(row_bytes)
}

/// Turns a panic of a decoder on a damaged file into an error: our own code has none, the libraries below may.
pub(crate) fn guard<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::file(path, "its content breaks the decoder", "the file is damaged; get it again"))
    })
}

fn damaged(path: &Path, e: &dyn std::fmt::Display) -> Error {
    let found = format!("it cannot be read as parquet ({})", e.to_string().replace(['\n', '\r'], " "));
    Error::file(path, found, "the file is damaged or cut off; get it again")
}

/// The encoded pictures of a batch: the picture column, and its `bytes`.
pub(crate) struct Cells<'a> {
    outer: &'a dyn Array,
    bytes: &'a BinaryArray,
}

impl<'a> Cells<'a> {
    /// The cells of `column`, or nothing when the column has another type.
    pub fn of(batch: &'a RecordBatch, column: &str) -> Option<Self> {
        let outer = batch.column_by_name(column)?;
        let bytes = outer.as_struct_opt()?.column_by_name("bytes")?.as_binary_opt::<i32>()?;
        Some(Self { outer: outer.as_ref(), bytes })
    }

    /// The bytes of one cell; nothing for a null.
    pub fn get(&self, row: usize) -> Option<&'a [u8]> {
        (self.outer.is_valid(row) && self.bytes.is_valid(row)).then(|| self.bytes.value(row))
    }
}

/// An integer column as signed numbers, null as `None`; nothing when it is no integer column.
pub(crate) fn integers(array: &dyn Array) -> Option<Vec<Option<i64>>> {
    macro_rules! widen {
        ($kind:ty) => {
            // A number past the range of i64 is as good as any other that no class has.
            array.as_primitive_opt::<$kind>()?.iter().map(|v| v.map(|v| i64::try_from(v).unwrap_or(-1))).collect()
        };
    }
    Some(match array.data_type() {
        DataType::Int8 => widen!(Int8Type),
        DataType::Int16 => widen!(Int16Type),
        DataType::Int32 => widen!(Int32Type),
        DataType::Int64 => array.as_primitive_opt::<Int64Type>()?.iter().collect(),
        DataType::UInt8 => widen!(UInt8Type),
        DataType::UInt16 => widen!(UInt16Type),
        DataType::UInt32 => widen!(UInt32Type),
        DataType::UInt64 => widen!(UInt64Type),
        _ => return None,
    })
}
