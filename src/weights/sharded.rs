//! Weights that are split over several files, with an index that says which tensor lies in which:
//! `model.safetensors.index.json` or `pytorch_model.bin.index.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Number;
use sha2::{Digest, Sha256};

use super::fault::quote;
use super::{Checkpoint, Contents, hex, parse, read_whole};
use crate::{Error, Result};

/// How the name of an index ends.
const ENDING: &str = ".index.json";
/// The index of a hundred thousand tensors stays below this.
const SIZE_LIMIT: u64 = 16 << 20;
/// More parts than any model has.
const PART_LIMIT: usize = 4096;
/// Bytes of the header length of a safetensors file.
const LENGTH: usize = 8;

/// Whether a file is an index, by its name.
pub(crate) fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ENDING))
}

/// A checked index: every part is a plain file name.
#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    /// File by tensor.
    map: BTreeMap<String, String>,
    /// Bytes of all tensors, if the index says so.
    total: Option<u64>,
}

#[derive(Deserialize)]
struct Written {
    weight_map: BTreeMap<String, String>,
    #[serde(default)]
    metadata: Option<About>,
}

/// Only this is kept of it: parsed JSON of any form can take 80 times its text.
#[derive(Deserialize)]
struct About {
    #[serde(default)]
    total_size: Option<Number>,
}

impl Index {
    /// Reads and checks an index; its parts need not be there yet.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`] if it is no index, is empty, or names a part outside of its own folder.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
        file.take(SIZE_LIMIT + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        Self::parse(&bytes, path)
    }

    /// As [`Index::read`], from the bytes of the file at `path`.
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let refuse = |found: String| Error::file(path, found, "the index is damaged; download or copy it again");
        if bytes.len() as u64 > SIZE_LIMIT {
            return Err(refuse(format!("over {SIZE_LIMIT} bytes")));
        }
        let written: Written = serde_json::from_slice(bytes).map_err(|error| refuse(format!("no index: {error}")))?;
        let files: BTreeSet<&String> = written.weight_map.values().collect();
        if files.is_empty() || files.len() > PART_LIMIT {
            return Err(refuse(format!("it names {} files, expected 1 to {PART_LIMIT}", files.len())));
        }
        if let Some(bad) = files.into_iter().find(|file| !is_part(file)) {
            return Err(refuse(format!("it names {}, which is no file of weights beside it", quote(bad))));
        }
        let total = written.metadata.and_then(|about| about.total_size);
        let total = total.and_then(|total| total.as_u64().or_else(|| total.as_f64().map(|bytes| bytes as u64)));
        Ok(Self { path: path.to_path_buf(), map: written.weight_map, total })
    }

    /// The parts, in name order.
    pub(crate) fn files(&self) -> Vec<String> {
        self.map.values().collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }

    /// Where a part lies.
    pub(super) fn part(&self, file: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(file)
    }

    /// Whether a part has exactly the tensors that the index says.
    fn check_part(&self, file: &str, contents: &Contents) -> Result<()> {
        let refuse = |found: String| {
            Error::file(&self.path, found, "index and parts do not belong together; get all of them again")
        };
        let here = |tensor: &&String| self.map.get(*tensor).is_some_and(|other| other == file);
        if let Some(surplus) = contents.tensors.keys().find(|tensor| !here(tensor)) {
            return Err(refuse(format!("tensor {} lies in {file}, where it should not be", quote(surplus))));
        }
        let said = self.map.iter().filter(|(_, other)| *other == file).map(|(tensor, _)| tensor);
        match said.into_iter().find(|tensor| !contents.tensors.contains_key(*tensor)) {
            Some(missing) => Err(refuse(format!("tensor {} is not in {file}", quote(missing)))),
            None => Ok(()),
        }
    }

    /// Whether the tensors have as many bytes as the index says.
    fn check_total(&self, found: Option<u64>) -> Result<()> {
        match (self.total, found) {
            (Some(said), Some(found)) if said != found => {
                let found = format!("total_size is {said}, the parts hold {found} bytes");
                Err(Error::file(&self.path, found, "index and parts do not belong together; get all of them again"))
            }
            _ => Ok(()),
        }
    }
}

/// A plain file name that ends like weights.
fn is_part(file: &str) -> bool {
    let is_plain = !file.starts_with('.') && !file.contains(|c: char| c.is_control() || matches!(c, '/' | '\\' | ':'));
    is_plain && file.len() <= 255 && [".safetensors", ".bin"].iter().any(|ending| file.ends_with(ending))
}

/// Reads all parts of an index.
///
/// The hash is that of the lines `SHA256  NAME\n` of the parts in name order, as `sha256sum` prints them.
pub(super) fn read(path: &Path) -> Result<Checkpoint> {
    let index = Index::read(path)?;
    let (mut tensors, mut metadata) = (BTreeMap::new(), BTreeMap::new());
    let (mut lines, mut total) = (Sha256::new(), Some(0));
    for file in index.files() {
        let part = index.part(&file);
        let bytes = read_whole(&part)?;
        let contents = parse(&bytes).map_err(|fault| fault.at(&part))?;
        index.check_part(&file, &contents)?;
        contents.warn(&part);
        total = total.zip(tensor_bytes(&bytes)).map(|(sum, more)| sum + more);
        lines.update(format!("{}  {file}\n", hex(&Sha256::digest(&bytes))));
        tensors.extend(contents.tensors);
        metadata.extend(contents.metadata);
    }
    index.check_total(total)?;
    Ok(Checkpoint { tensors, source: path.to_path_buf(), sha256: hex(&lines.finalize()), metadata })
}

/// Bytes of the tensors of a safetensors file, which has been parsed; a pickle does not say.
fn tensor_bytes(bytes: &[u8]) -> Option<u64> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
    let header = u64::from_le_bytes(*length);
    (rest.first() == Some(&b'{')).then(|| (rest.len() as u64).checked_sub(header))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{RawData, RawTensor};
    use serde_json::{Value, json};

    const NAMES: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

    fn tensor(values: &[f32]) -> RawTensor {
        RawTensor { shape: vec![values.len()], data: RawData::F32(values.to_vec()) }
    }

    /// Two parts with the tensors `a`, `b` and `c`; the index as `change` leaves it.
    fn folder(change: impl Fn(&mut Value)) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, tensors: &[(&str, &[f32])]| {
            let tensors = tensors.iter().map(|(name, values)| (name.to_string(), tensor(values))).collect();
            Checkpoint::write_safetensors(folder.path().join(name), &tensors, &BTreeMap::new()).unwrap();
        };
        write(NAMES[0], &[("a", &[1.0, 2.0]), ("b", &[3.0])]);
        write(NAMES[1], &[("c", &[4.0])]);
        let mut index =
            json!({"metadata": {"total_size": 16}, "weight_map": {"a": NAMES[0], "b": NAMES[0], "c": NAMES[1]}});
        change(&mut index);
        std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
        folder
    }

    fn read_in(folder: &tempfile::TempDir) -> Result<Checkpoint> {
        Checkpoint::read(folder.path().join("model.safetensors.index.json"))
    }

    #[test]
    fn parts_are_read_as_one() {
        let folder = folder(|_| ());
        let found = read_in(&folder).unwrap();
        assert_eq!(found.tensors.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!((&found.tensors["a"], &found.tensors["c"]), (&tensor(&[1.0, 2.0]), &tensor(&[4.0])));
        let line = |name: &str| format!("{}  {name}\n", crate::files::sha256_file(folder.path().join(name)).unwrap());
        assert_eq!(found.sha256, crate::files::sha256_bytes(NAMES.map(line).concat().as_bytes()));
        // 5e9 is how some programs write it.
        let float = folder_with_total(json!(16.0));
        assert!(read_in(&float).is_ok());
    }

    fn folder_with_total(total: Value) -> tempfile::TempDir {
        folder(|index| index["metadata"]["total_size"] = total.clone())
    }

    #[test]
    fn an_index_that_does_not_fit_its_parts_is_refused() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 10] = [
            (|i| i["weight_map"]["d"] = json!(NAMES[1]), "tensor `d` is not in model-00002"),
            (|i| drop(i["weight_map"].as_object_mut().unwrap().remove("b")), "tensor `b` lies in model-00001"),
            (|i| i["weight_map"]["b"] = json!(NAMES[1]), "tensor `b` lies in model-00001"),
            (|i| i["metadata"]["total_size"] = json!(17), "total_size is 17, the parts hold 16 bytes"),
            (|i| i["weight_map"]["c"] = json!("../c.safetensors"), "`../c.safetensors`, which is no file of weights"),
            (|i| i["weight_map"]["c"] = json!("/etc/passwd"), "`/etc/passwd`"),
            (|i| i["weight_map"]["c"] = json!("config.json"), "`config.json`, which is no file of weights"),
            (|i| i["weight_map"] = json!({}), "it names 0 files"),
            (|i| *i = json!({"a": 1}), "no index: missing field `weight_map`"),
            (|i| i["weight_map"]["c"] = json!(3), "no index: invalid type"),
        ];
        for (change, message) in cases {
            let error = read_in(&folder(change)).unwrap_err().to_string();
            assert!(error.contains(message) && !error.contains('\n'), "{message}: {error}");
        }
        let gone = folder(|_| ());
        std::fs::remove_file(gone.path().join(NAMES[1])).unwrap();
        assert!(read_in(&gone).unwrap_err().to_string().contains(NAMES[1]));
    }
}
