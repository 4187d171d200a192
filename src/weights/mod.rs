//! Trained weights on disk: reading checkpoints of any origin, strictly, and writing our own.
//!
//! ```text
//! folder / file ──▶ folder::locate ──▶ config.json ──▶ ModelConfig
//!                                 └──▶ Checkpoint::read ──▶ strict::fit (schemes) ──▶ tensors by canonical name
//! ```
//!
//! A [`Checkpoint`] is every tensor of a file, by the name and in the layout that the file has. [`strict::fit`] turns it
//! into exactly the tensors that a network expects, renaming by one of the tables of [`schemes`], or says on one line
//! what is missing, what is left over and what has the wrong shape.
//!
//! Nothing that a file says is believed before it is checked against the size of the file, and no file is executed:
//! pickles are read by a small machine that only builds inert values (`pickle/`).

pub mod config;
mod element;
mod fault;
pub mod folder;
pub mod licence;
mod pickle;
mod safetensors;
pub mod schemes;
pub(crate) mod sharded;
pub mod strict;

use std::collections::BTreeMap;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::files::{hex, write_atomic_with};
use crate::{Error, Result};
use fault::Fault;

pub use config::{EvalDataset, ModelConfig, PretrainedConfig};
pub use folder::{Source, locate};
pub use schemes::Scheme;
pub(crate) use schemes::numbered;
pub(crate) use sharded::is_index;
pub use strict::{Expected, fit};

/// The elements of a tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum RawData {
    /// Floating point: f16 and bf16 are widened, f64 is rounded.
    F32(Vec<f32>),
    /// Every integer type, and bool as 0 and 1.
    I64(Vec<i64>),
}

impl RawData {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I64(values) => values.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One tensor of a checkpoint, in the layout of the file: `[out, in, kh, kw]` for a convolution, `[out, in]` for a
/// linear layer; row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct RawTensor {
    /// The dimensions; empty for a scalar.
    pub shape: Vec<usize>,
    /// As many elements as the product of `shape`.
    pub data: RawData,
}

impl RawTensor {
    /// The elements of a floating-point tensor; `None` for an integer one.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            RawData::F32(values) => Some(values),
            RawData::I64(_) => None,
        }
    }

    /// The elements of an integer tensor; `None` for a floating-point one.
    pub fn as_i64(&self) -> Option<&[i64]> {
        match &self.data {
            RawData::I64(values) => Some(values),
            RawData::F32(_) => None,
        }
    }
}

/// All tensors of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The tensors by name, as the file names them (a `module.` in front of all of them is removed from a pickle).
    pub tensors: BTreeMap<String, RawTensor>,
    /// The file that was read.
    pub source: PathBuf,
    /// SHA-256 of that file, 64 lower-case hexadecimal digits; of several files, that of the lines `SHA256  NAME\n` of all, in
    /// name order.
    pub sha256: String,
    /// `__metadata__` of a safetensors file; the plain numbers and short texts beside the state dict of a pickle
    /// (`best_prec1`, `epoch`).
    pub metadata: BTreeMap<String, String>,
}

/// What a parser found in the bytes of a file.
struct Contents {
    tensors: BTreeMap<String, RawTensor>,
    metadata: BTreeMap<String, String>,
    /// What a person should know of what was read.
    warning: Option<String>,
}

impl Contents {
    /// Passes the warning on, now that the file has a name.
    fn warn(&self, source: &Path) {
        if let Some(warning) = &self.warning {
            tracing::warn!("{}: {warning}", source.display());
        }
    }
}

impl Checkpoint {
    /// Reads a checkpoint: safetensors, or a torch pickle in the zip or the older plain format; or all the files that a
    /// `*.index.json` names.
    ///
    /// The format is taken from the content; but for that of an index, the name of the file plays no part.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::File`] if it is none of the three formats, is damaged, asks
    /// for code to be run, or holds a tensor of a kind that has no place here (complex, quantised, sparse); if an index
    /// does not fit its parts.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if is_index(path) {
            return sharded::read(path);
        }
        Self::parse(&read_whole(path)?, path)
    }

    /// Whether the file begins as a checkpoint does, of which no more than that is read; an index of several files always does.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`], with what the file looks like.
    pub fn check_kind(path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if is_index(path) {
            return Ok(());
        }
        let mut head = Vec::new();
        let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
        file.take(HEAD).read_to_end(&mut head).map_err(Error::io("read", path))?;
        parser_of(&head).map(drop).map_err(|fault| fault.at(path))
    }

    /// As [`Checkpoint::read`], from the bytes of a file that messages call `source`.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn parse(bytes: &[u8], source: impl AsRef<Path>) -> Result<Self> {
        let source = source.as_ref();
        let contents = parse(bytes).map_err(|fault| fault.at(source))?;
        contents.warn(source);
        Ok(Self {
            tensors: contents.tensors,
            source: source.to_path_buf(),
            sha256: hex(&Sha256::digest(bytes)),
            metadata: contents.metadata,
        })
    }

    /// Writes a safetensors file: f32 and i64 tensors, `metadata` as `__metadata__`.
    ///
    /// The write is atomic (temporary file in the same folder, fsync, rename, fsync of the folder), and the same input
    /// always gives the same bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a tensor's shape does not fit its number of elements or its name is reserved;
    /// [`Error::Io`] if the file cannot be written.
    pub fn write_safetensors(
        path: impl AsRef<Path>,
        tensors: &BTreeMap<String, RawTensor>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<()> {
        let header = safetensors::header(tensors, metadata)?;
        let path = path.as_ref();
        write_atomic_with(path, |file| {
            let mut out = BufWriter::with_capacity(1 << 20, file);
            let written = safetensors::write(&mut out, &header, tensors).and_then(|()| out.flush());
            written.map_err(Error::io("write", path))
        })
    }
}

/// Bytes that tell what a file is.
const HEAD: u64 = 256;

/// Reads a regular file into memory; a pipe or a device is refused, since its size says nothing.
fn read_whole(path: &Path) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
    let about = file.metadata().map_err(Error::io("read", path))?;
    if !about.is_file() {
        return Err(Error::file(path, "not a regular file", "give the checkpoint file itself"));
    }
    let mut bytes = Vec::new();
    file.take(about.len()).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

type Parser = fn(&[u8]) -> fault::Parse<Contents>;

/// Recognises the format by content and parses it.
fn parse(bytes: &[u8]) -> fault::Parse<Contents> {
    parser_of(bytes)?(bytes)
}

/// The parser for a file that begins with `head`.
fn parser_of(head: &[u8]) -> fault::Parse<Parser> {
    match head {
        [] => Err(Fault::new("the file is empty", "download or copy it again")),
        [b'P', b'K', 3..=8, 4..=8, ..] => Ok(pickle::read_zip),
        // The ninth byte of a safetensors file opens its JSON header; in a torch pickle it lies inside the magic number.
        [_, _, _, _, _, _, _, _, b'{', ..] => Ok(safetensors::parse),
        [0x80, 2..=5, ..] => Ok(pickle::read_legacy),
        _ => Err(foreign(head)),
    }
}

/// Says what a file that is no checkpoint looks like.
fn foreign(bytes: &[u8]) -> Fault {
    let known: [(&[u8], &str, &str); 5] = [
        (b"version https://git-lfs", "a Git LFS pointer, not the weights", "fetch the file itself with `git lfs pull`"),
        (b"<", "a web page or XML, not a checkpoint", "the download went wrong; download it again"),
        (b"\x89HDF", "an HDF5 file (Keras)", "convert it to safetensors"),
        (b"{", "JSON text, not a checkpoint", "give the weights file, not its index or configuration"),
        (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    ];
    let found = known.into_iter().find(|(magic, _, _)| bytes.trim_ascii_start().starts_with(magic));
    match found {
        Some((_, what, hint)) => Fault::new(what, hint),
        None => Fault::new(
            "neither a safetensors file nor a torch checkpoint",
            "expected .safetensors, or .pth/.pt/.th as written by torch.save(model.state_dict(), path)",
        ),
    }
}

#[cfg(test)]
mod tests;
