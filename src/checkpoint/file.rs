//! One state as a file: safetensors, whose name holds the first half of its SHA-256.

use super::state::{Kept, Place, Saved, Saver};
use crate::files::{hex, sha256_file, sync_folder, write_atomic_with};
use crate::{Error, Result};
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The entry of the file's metadata that holds all values.
const VALUES: &str = "values";
/// Hexadecimal digits of the hash in a name.
const DIGITS: usize = 32;
/// The largest header that is read.
const HEADER_LIMIT: u64 = 100_000_000;
const EXTENSION: &str = ".safetensors";

/// Bytes of an array in a file that was checked.
pub(super) struct Region {
    file: Arc<File>,
    start: u64,
    len: u64,
}

impl Region {
    /// Reads it in pieces of `chunk` bytes.
    pub fn read(&self, path: &Path, chunk: usize, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut file = &*self.file;
        let mut buffer = vec![0u8; chunk.min(self.len as usize)];
        let mut left = self.len;
        file.seek(SeekFrom::Start(self.start)).map_err(Error::io("read", path))?;
        while left > 0 {
            let part = &mut buffer[..left.min(chunk as u64) as usize];
            file.read_exact(part).map_err(Error::io("read", path))?;
            take(part)?;
            left -= part.len() as u64;
        }
        Ok(())
    }
}

/// Hashes what passes through.
struct Hashing<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Writes a state into `folder` as `STEM-HASH.safetensors`, whole or not at all; returns its path.
pub(super) fn write(folder: &Path, stem: &str, state: &Saver) -> Result<PathBuf> {
    let header = header(state)?;
    let aside = folder.join(format!("{stem}{EXTENSION}"));
    let mut hash = String::new();
    write_atomic_with(&aside, |file| {
        let mut out = Hashing { out: BufWriter::with_capacity(1 << 20, file), hash: Sha256::new() };
        let mut write = || -> std::io::Result<()> {
            out.write_all(&(header.len() as u64).to_le_bytes())?;
            out.write_all(&header)?;
            state.arrays.values().try_for_each(|array| {
                let bytes = array.bytes().map_err(std::io::Error::other)?;
                out.write_all(&bytes)
            })?;
            out.flush()
        };
        write().map_err(Error::io("write", &aside))?;
        hash = digits(out.hash);
        Ok(())
    })?;
    // A file without a hash in its name is none of ours yet: a kill here leaves it to be removed.
    let path = folder.join(format!("{stem}-{hash}{EXTENSION}"));
    fs::rename(&aside, &path).map_err(Error::io("rename", &aside))?;
    sync_folder(folder)?;
    Ok(path)
}

/// `STEM` and hash of a checkpoint's file name.
pub(super) fn split_name(name: &str) -> Option<(&str, &str)> {
    let (stem, hash) = name.strip_suffix(EXTENSION)?.rsplit_once('-')?;
    (hash.len() == DIGITS && hash.bytes().all(|b| b.is_ascii_hexdigit())).then_some((stem, hash))
}

/// Opens a state, after all of its bytes were found to have the hash of its name.
pub(super) fn open(path: &Path) -> Result<Saved> {
    let damaged = |found: &str| Error::file(path, found, "it is left aside");
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let (_, expected) = split_name(name).ok_or_else(|| damaged("it has not the name of a checkpoint"))?;
    if sha256_file(path)?[..DIGITS] != *expected {
        return Err(damaged("it is damaged (its bytes have not the hash of its name)"));
    }
    let file = File::open(path).map_err(Error::io("open", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    let Header { metadata, values, start } = read_header(&mut &file, length).map_err(Error::io("read", path))?;
    let file = Arc::new(file);
    let arrays: BTreeMap<String, Kept> = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| {
            let (from, to) = info.data_offsets;
            let region = Region { file: file.clone(), start: start + from as u64, len: (to - from) as u64 };
            (name, Kept { dtype: info.dtype, shape: info.shape.clone(), place: Place::File(region) })
        })
        .collect();
    Ok(Saved { source: path.into(), prefix: String::new(), arrays: Arc::new(arrays), values: Arc::new(values) })
}

fn header(state: &Saver) -> Result<Vec<u8>> {
    let failed = |e: &dyn std::fmt::Display| Error::shape("checkpoint", format!("its header cannot be made: {e}"));
    let mut start = 0;
    let infos = state.arrays.iter().map(|(name, array)| {
        let end = start + array.len();
        let info = TensorInfo { dtype: array.dtype, shape: array.shape.clone(), data_offsets: (start, end) };
        start = end;
        (name.clone(), info)
    });
    let infos: Vec<_> = infos.collect();
    let values = serde_json::to_string(&state.values).map_err(|e| failed(&e))?;
    let metadata = Metadata::new(Some(HashMap::from([(VALUES.to_string(), values)])), infos).map_err(|e| failed(&e))?;
    serde_json::to_vec(&metadata).map_err(|e| failed(&e))
}

/// What stands before the data.
struct Header {
    metadata: Metadata,
    values: Map<String, Value>,
    /// Where the data start.
    start: u64,
}

/// The header of a file of `length` bytes, which describes all of it.
fn read_header(file: &mut impl Read, length: u64) -> std::io::Result<Header> {
    let invalid = |found: String| std::io::Error::new(std::io::ErrorKind::InvalidData, found);
    let mut size = [0u8; 8];
    file.read_exact(&mut size)?;
    let size = u64::from_le_bytes(size);
    if size > HEADER_LIMIT || size > length {
        return Err(invalid(format!("a header of {size} bytes")));
    }
    let mut header = vec![0u8; size as usize];
    file.read_exact(&mut header)?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| invalid(e.to_string()))?;
    let start = 8 + size;
    if start.checked_add(metadata.data_len() as u64) != Some(length) {
        return Err(invalid("the header does not describe the length of the file".into()));
    }
    let values = metadata.metadata().as_ref().and_then(|entries| entries.get(VALUES));
    let values = values.and_then(|text| serde_json::from_str(text).ok());
    let values = values.ok_or_else(|| invalid("the header has no values".into()))?;
    Ok(Header { metadata, values, start })
}

/// Reads the header of any bytes, for fuzzing.
pub(crate) fn read_bytes(bytes: &[u8]) -> std::io::Result<()> {
    let Header { metadata, start, .. } = read_header(&mut &*bytes, bytes.len() as u64)?;
    for (_, info) in metadata.tensors() {
        let (from, to) = info.data_offsets;
        assert!(from <= to && start as usize + to <= bytes.len());
        let bits = info.shape.iter().product::<usize>() * info.dtype.bitsize();
        assert_eq!(bits, (to - from) * 8);
    }
    Ok(())
}

fn digits(hash: Sha256) -> String {
    hex(&hash.finalize()[..DIGITS / 2])
}
