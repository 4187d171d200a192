//! The set's table: rows to parquet and back.

use super::SyntheticSet;
use super::folder::Description;
use crate::data::table::{FEATURES_KEY, Table};
use crate::data::{Collector, labels_of, push_pictures};
use crate::files::write_atomic_with;
use crate::loss::confidence;
use crate::ops::store::Store;
use crate::{Error, Result};
use arrow_array::builder::{Float32Builder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrayRef, BinaryArray, Float32Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field, Fields, Schema};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use rayon::prelude::*;
use serde_json::json;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Rows per row group, as in the datasets of the Hub that are made for browsing.
const GROUP_ROWS: usize = 1000;

/// Answers that are put together before they are written; a list column cannot hold more than 2³¹ numbers at once.
const BATCH_BYTES: usize = 64 << 20;

/// How far a stored confidence may be from the one that the stored logits give: another program's rounding.
const CONFIDENCE_TOLERANCE: f32 = 1e-4;

/// Writes some rows of a set as one parquet file; returns the bytes of the rows before they are compressed.
pub(super) fn write(set: &SyntheticSet, range: Range<usize>, path: &Path) -> Result<u64> {
    let mut bytes = 0;
    let features = features(set).to_string();
    let pairs = vec![KeyValue::new(FEATURES_KEY.to_string(), features)];
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_key_value_metadata(Some(pairs))
        .build();
    write_atomic_with(path, |file| {
        let failed = |e: parquet::errors::ParquetError| {
            Error::file(path, format!("it cannot be written ({e})"), "check the space on the disk")
        };
        let mut writer = ArrowWriter::try_new(file, Arc::new(schema(set)), Some(properties)).map_err(failed)?;
        let bytes_per_row = 4 * set.class_names.len() * set.view_count().max(1);
        let rows = (BATCH_BYTES / bytes_per_row.max(1)).clamp(1, GROUP_ROWS);
        for start in range.clone().step_by(rows) {
            let (batch, pictures) = batch(set, start..(start + rows).min(range.end))?;
            bytes += pictures;
            writer.write(&batch).map_err(failed)?;
            set.images.pixels.rest();
        }
        writer.close().map_err(failed)?;
        Ok(())
    })?;
    let numbers = set.class_names.len() * (1 + set.view_count()) + 2;
    Ok(bytes + (range.len() * (8 + 4 * numbers)) as u64)
}

/// Feature types as `datasets` writes them; `Sequence` is the spelling that its old and new versions read.
fn features(set: &SyntheticSet) -> serde_json::Value {
    let float = json!({"dtype": "float32", "_type": "Value"});
    let floats = json!({"feature": float, "_type": "Sequence"});
    let mut features = json!({
        "image": {"_type": "Image"},
        "label": {"names": set.class_names, "_type": "ClassLabel"},
        "teacher_logits": floats,
        "teacher_confidence": float,
        "priority": float,
    });
    if set.views.is_some() {
        features["view_logits"] = floats;
    }
    json!({"info": {"features": features}})
}

fn picture_fields() -> Fields {
    Fields::from(vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)])
}

fn schema(set: &SyntheticSet) -> Schema {
    let floats = || DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true)));
    let mut fields = vec![
        Field::new("image", DataType::Struct(picture_fields()), true),
        Field::new("label", DataType::Int64, true),
        Field::new("teacher_logits", floats(), true),
        Field::new("teacher_confidence", DataType::Float32, true),
        Field::new("priority", DataType::Float32, true),
    ];
    if set.views.is_some() {
        fields.push(Field::new("view_logits", floats(), true));
    }
    Schema::new(fields)
}

/// Some rows, and the bytes of their encoded pictures.
fn batch(set: &SyntheticSet, range: Range<usize>) -> Result<(RecordBatch, u64)> {
    let rows = range.len();
    let pictures = range.clone().into_par_iter().map(|i| png(set, i)).collect::<Result<Vec<_>>>()?;
    let size = pictures.iter().map(|p| p.len() as u64).sum();
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(&pictures));
    let paths: ArrayRef = Arc::new(StringArray::new_null(rows));
    let image = StructArray::new(picture_fields(), vec![bytes, paths], None);
    let confidences = range.clone().map(|i| confidence(set.answer(i)));
    let classes = set.class_names.len();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(image),
        Arc::new(Int64Array::from_iter_values(set.labels[range.clone()].iter().map(|&l| i64::from(l)))),
        lists(&set.logits, classes, range.clone()),
        Arc::new(Float32Array::from_iter_values(confidences)),
        Arc::new(Float32Array::from_iter_values(set.priority[range.clone()].iter().copied())),
    ];
    if let Some(views) = &set.views {
        columns.push(lists(&views.logits, views.list.len() * classes, range));
    }
    let batch = RecordBatch::try_new(Arc::new(schema(set)), columns)
        .map_err(|e| Error::shape("synthetic set", format!("columns that do not fit ({e})")))?;
    Ok((batch, size))
}

/// Rows `range` of a matrix with `len` columns, as a list column.
fn lists(values: &[f32], len: usize, range: Range<usize>) -> ArrayRef {
    let mut builder = ListBuilder::with_capacity(Float32Builder::with_capacity(range.len() * len), range.len());
    for row in range {
        builder.values().append_slice(&values[row * len..(row + 1) * len]);
        builder.append(true);
    }
    Arc::new(builder.finish())
}

/// An image as a PNG file, losslessly.
pub(super) fn png(set: &SyntheticSet, index: usize) -> Result<Vec<u8>> {
    let images = &set.images;
    let colour = if images.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive)
        .write_image(images.image(index), images.width as u32, images.height as u32, colour)
        .map_err(|e| Error::invalid(format!("image {index}"), e.to_string(), "it cannot become a PNG"))?;
    Ok(bytes)
}

/// Rows read so far, each checked against the description.
pub(super) struct Reader<'a> {
    description: &'a Description,
    pub collector: Collector,
    pub labels: Vec<u32>,
    pub logits: Store<f32>,
    pub priority: Vec<f32>,
    pub view_logits: Store<f32>,
    pub class_names: Vec<String>,
}

impl<'a> Reader<'a> {
    pub fn new(description: &'a Description) -> Self {
        Self {
            description,
            collector: Collector::exactly(description.height, description.width, description.channels),
            labels: Vec::new(),
            logits: Store::new(),
            priority: Vec::new(),
            view_logits: Store::new(),
            class_names: Vec::new(),
        }
    }

    /// Reads one shard behind those already read.
    pub fn read(&mut self, file: &Path) -> Result<()> {
        let refuse = |found: String, hint: &str| Err(Error::file(file, found, hint));
        let table = Table::open(file)?;
        let room = self.description.count - self.labels.len().min(self.description.count);
        if table.rows() > room {
            return refuse(format!("{} rows", table.rows()), "that is more than synth.json says; get the set again");
        }
        let names = table.class_names("label")?.unwrap_or_default();
        if names.len() != self.description.classes {
            let found = format!("{} class names, synth.json says {}", names.len(), self.description.classes);
            return refuse(found, "get the set again");
        }
        if !self.class_names.is_empty() && names != self.class_names {
            return refuse("class names that differ from those of the set's other files".into(), "get the set again");
        }
        self.class_names = names;
        let classes = self.description.classes;
        let mut columns = vec![("label", 1), ("teacher_logits", classes), ("teacher_confidence", 1), ("priority", 1)];
        if !self.description.views.is_empty() {
            columns.push(("view_logits", classes * self.description.views.len()));
        }
        let present = table.columns();
        if let Some(missing) = columns.iter().map(|(name, _)| name).chain(&["image"]).find(|c| !present.contains(c)) {
            return refuse(format!("there is no column `{missing}`"), "get the set again");
        }
        table.read("image", &columns, usize::MAX, |start, batch| self.push(file, start, batch))
    }

    fn push(&mut self, file: &Path, start: usize, batch: &RecordBatch) -> Result<()> {
        let classes = self.description.classes;
        push_pictures(file, batch, "image", start, &mut self.collector)?;
        self.labels.extend(labels_of(file, batch, "label", start, classes)?);
        let first = self.logits.len();
        push_lists(file, batch, "teacher_logits", start, classes, &mut self.logits)?;
        if !self.description.views.is_empty() {
            let len = self.description.views.len() * classes;
            push_lists(file, batch, "view_logits", start, len, &mut self.view_logits)?;
        }
        let stored = floats(file, batch, "teacher_confidence", start)?;
        for (row, (answer, stored)) in self.logits[first..].chunks_exact(classes).zip(stored).enumerate() {
            let computed = confidence(answer);
            if (computed - stored).abs() > CONFIDENCE_TOLERANCE {
                let found = format!("row {}: teacher_confidence {stored}, logits that give {computed}", start + row);
                return Err(Error::file(file, found, "the set was changed by hand; get it again"));
            }
        }
        let priority = floats(file, batch, "priority", start)?;
        if let Some(row) = priority.iter().position(|&p| p < 0.0) {
            let found = format!("row {}: priority {}", start + row, priority[row]);
            return Err(Error::file(file, found, "priorities are 0 or more"));
        }
        self.priority.extend(priority);
        Ok(())
    }
}

/// A column of finite numbers.
fn floats(file: &Path, batch: &RecordBatch, column: &str, start: usize) -> Result<Vec<f32>> {
    let values = batch.column_by_name(column).and_then(|c| c.as_primitive_opt::<Float32Type>());
    let values = values.ok_or_else(|| Error::file(file, format!("`{column}` is no float32 column"), "get it again"))?;
    let finite = |(row, value): (usize, Option<f32>)| {
        let refuse = || {
            let found = value.map_or("missing".into(), |value| value.to_string());
            Error::file(file, format!("row {}: `{column}` is {found}", start + row), "get the set again")
        };
        value.filter(|v| v.is_finite()).ok_or_else(refuse)
    };
    values.iter().enumerate().map(finite).collect()
}

/// Appends a column of lists, each of `len` finite numbers, to `into`.
fn push_lists(
    file: &Path,
    batch: &RecordBatch,
    column: &str,
    start: usize,
    len: usize,
    into: &mut Store<f32>,
) -> Result<()> {
    let refuse = |row: usize, found: String| {
        Err(Error::file(file, format!("row {}: `{column}` {found}", start + row), "get the set again"))
    };
    let list = batch.column_by_name(column).and_then(|c| c.as_list_opt::<i32>());
    let Some(list) = list else { return refuse(0, "is no list".into()) };
    for row in 0..list.len() {
        if list.is_null(row) {
            return refuse(row, "is null".into());
        }
        let values = list.value(row);
        let Some(values) = values.as_primitive_opt::<Float32Type>() else { return refuse(row, "is no float32".into()) };
        if values.len() != len || values.null_count() > 0 {
            return refuse(
                row,
                format!("has {} numbers of which {} are null, not {len}", values.len(), values.null_count()),
            );
        }
        if let Some(bad) = values.values().iter().find(|v| !v.is_finite()) {
            return refuse(row, format!("holds {bad}"));
        }
        into.extend(values.values())?;
    }
    Ok(())
}
