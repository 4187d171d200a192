//! The pictures of parquet files: Hugging Face datasets, and sets of this program.

use super::encoded::{Decoding, Encoded};
use super::source::{Each, Source, Tally};
use crate::data::table::{Cells, Table};
use crate::data::{Portion, shards_for};
use crate::files::{sha256_bytes, sha256_file};
use crate::set::{OWN_COLUMNS, UNKNOWN, holds_inverted};
use crate::{Error, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Parquet files that hold pictures in one column; rows are counted over all of them.
pub struct Dataset {
    name: String,
    files: Vec<PathBuf>,
    /// Rows of each file.
    rows: Vec<usize>,
    /// As [`crate::data::Labelled::sha256`].
    sha256: String,
    /// `true` for a set with images that inversion made, [`UNKNOWN`] for one that does not say.
    inverted: Option<Value>,
}

impl Dataset {
    /// The parquet file `path`, or those of a split in the folder `path`: `split`, else `train`, else the one that evaluation
    /// would take; of numbered files those that hold the `portion`, though others may be missing. `name` is how provenance
    /// calls it.
    ///
    /// # Errors
    /// As [`crate::data::Labelled::read`], for files, columns and splits; labels are not looked at.
    pub fn open(path: &Path, name: &str, split: Option<&str>, portion: Portion) -> Result<Self> {
        let (files, split) = match path.is_file() {
            true => (vec![path.to_path_buf()], None),
            false => {
                let (split, files) = found(path, split, portion)?
                    .ok_or_else(|| Error::file(path, "there is no parquet file in this folder", "name another"))?;
                (files, Some(split))
            }
        };
        let (mut rows, mut is_set) = (Vec::with_capacity(files.len()), false);
        for file in &files {
            let table = Table::open(file)?;
            table.image_column(None)?;
            rows.push(table.rows());
            is_set |= OWN_COLUMNS.iter().all(|column| table.columns().contains(column));
        }
        let name = split.map_or(name.to_string(), |split| format!("{name}/{split}"));
        let sha256 = hash(&files)?;
        let inverted = match holds_inverted(path) {
            Some(inverted) => inverted.then_some(json!(true)),
            None if is_set => {
                tracing::warn!("{name} is a set without its synth.json: its images count as made by inversion");
                Some(json!(UNKNOWN))
            }
            None => None,
        };
        Ok(Self { name, files, rows, sha256, inverted })
    }
}

fn found(path: &Path, asked: Option<&str>, portion: Portion) -> Result<Option<(String, Vec<PathBuf>)>> {
    match asked {
        Some(_) => shards_for(path, asked, portion),
        None => match shards_for(path, Some("train"), portion) {
            Err(Error::NoSplit { .. }) => shards_for(path, None, portion),
            found => found,
        },
    }
}

fn hash(files: &[PathBuf]) -> Result<String> {
    if let [only] = files {
        return sha256_file(only);
    }
    let mut lines = String::new();
    for file in files {
        lines += &format!("{}  {}\n", sha256_file(file)?, file.file_name().unwrap_or_default().to_string_lossy());
    }
    Ok(sha256_bytes(lines.as_bytes()))
}

impl Source for Dataset {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn items(&self) -> Option<usize> {
        Some(self.rows.iter().sum())
    }

    fn provenance(&self) -> Value {
        let rows: usize = self.rows.iter().sum();
        let mut about = json!({ "kind": "dataset", "name": self.name, "rows": rows, "sha256": self.sha256 });
        if let Some(inverted) = &self.inverted {
            about["inverted"] = inverted.clone();
        }
        about
    }

    fn visit(&mut self, numbers: &[usize], dims: [usize; 3], tally: &mut Tally, each: &mut Each) -> Result<()> {
        let mut decoding = Decoding::new(dims, tally, each);
        let (mut first, mut rest) = (0, numbers);
        for (file, &rows) in self.files.iter().zip(&self.rows) {
            let (wanted, later) = rest.split_at(rest.partition_point(|n| *n < first + rows));
            if let Some(last) = wanted.last() {
                visit_file(file, first, wanted, last + 1 - first, &mut decoding)?;
            }
            (first, rest) = (first + rows, later);
        }
        decoding.flush()
    }
}

/// Passes the rows `wanted` of one file on, whose first row has the number `first`; `limit` rows have to be read.
fn visit_file(file: &Path, first: usize, wanted: &[usize], limit: usize, decoding: &mut Decoding) -> Result<()> {
    let table = Table::open(file)?;
    let column = table.image_column(None)?;
    table.read(&column, &[], limit, |start, batch| {
        let cells = Cells::of(batch, &column)
            .ok_or_else(|| Error::file(file, format!("column `{column}` holds no pictures"), "name another dataset"))?;
        let start = first + start;
        let from = wanted.partition_point(|n| *n < start);
        let to = wanted.partition_point(|n| *n < start + batch.num_rows());
        for &number in &wanted[from..to] {
            let bytes = cells.get(number - start).map(<[u8]>::to_vec).ok_or("row without a picture");
            decoding.take(Encoded { number, name: None, bytes })?;
        }
        Ok(())
    })
}
