//! Text encoders: a class name becomes a vector, which NAYER's generator reads.
//!
//! CLIP's text encoder and BERT, as modules of candle-transformers, from folders as transformers writes them (`config.json`,
//! `tokenizer.json`, weights). They run once per class on the CPU.

mod bert;
mod clip;

use crate::weights::folder::weights_in;
use crate::weights::{Checkpoint, RawData, RawTensor};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tokenizers::Tokenizer;

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
/// Bytes read of a configuration, and of a tokenizer: the largest ones of such encoders have a tenth of that.
const LIMITS: (u64, u64) = (1 << 20, 64 << 20);
/// Hyper-parameters above these are of no encoder.
const MOST: usize = 1 << 20;
/// Tokens of a prompt at most.
const LONGEST: usize = 77;

/// Something that makes a vector of tokens.
trait Encoder {
    /// Values of a vector.
    fn width(&self) -> usize;
    /// The vector of one text.
    fn encode(&self, tokens: &[u32]) -> Result<Vec<f32>>;
}

/// A text encoder with its tokenizer.
pub struct TextEncoder {
    tokenizer: Tokenizer,
    encoder: Box<dyn Encoder>,
    longest: usize,
}

impl TextEncoder {
    /// Reads a folder of CLIP (or its text half) or BERT.
    ///
    /// # Errors
    /// [`Error::File`] for a file that is missing, another kind of model, a hyper-parameter that is not known, tensors that are
    /// missing or of another shape.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let config = folder.join(CONFIG);
        let json: Value = serde_json::from_slice(&read(&config, LIMITS.0)?)
            .map_err(|error| Error::file(&config, error.to_string(), "expected a configuration of transformers"))?;
        let path = folder.join(TOKENIZER);
        // `Tokenizer::from_bytes` would make its reading of all kinds of tokenizers a part of this crate.
        let bytes = read(&path, LIMITS.1)?;
        let parsed = std::str::from_utf8(&bytes).map_err(tokenizers::Error::from).and_then(str::parse::<Tokenizer>);
        let mut tokenizer = parsed
            .map_err(|error| Error::file(&path, error.to_string(), "expected a tokenizer of the tokenizers library"))?;
        // A name is one sequence, and one that is too long is refused.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| {
            Error::file(&path, error.to_string(), "expected a tokenizer that can do without truncation")
        })?;
        let (encoder, longest): (Box<dyn Encoder>, usize) = match json["model_type"].as_str() {
            Some("clip" | "clip_text_model") => clip::open(&json, &config, weights(folder)?)?,
            Some("bert") => bert::open(&json, &config, weights(folder)?)?,
            other => {
                let found = format!("model_type is {}", other.unwrap_or("missing"));
                return Err(Error::file(&config, found, "take a CLIP or a BERT"));
            }
        };
        Ok(Self { tokenizer, encoder, longest: longest.min(LONGEST) })
    }

    /// Values of a vector.
    pub fn width(&self) -> usize {
        self.encoder.width()
    }

    /// One vector per class, of "a photo of a NAME": `[names, width]`.
    ///
    /// # Errors
    /// A name that the tokenizer does not take, or that is too long.
    pub fn embed(&self, names: &[String]) -> Result<Vec<f32>> {
        let mut rows = Vec::with_capacity(names.len() * self.width());
        for name in names {
            let prompt = format!("a photo of a {}", name.replace('_', " "));
            let refused = |found: String| Error::invalid(format!("class name {name:?}"), found, "rename the class");
            let tokens = self.tokenizer.encode(prompt, true).map_err(|error| refused(error.to_string()))?;
            let ids = tokens.get_ids();
            if ids.is_empty() || ids.len() > self.longest {
                return Err(refused(format!("it has {} tokens, the encoder takes {}", ids.len(), self.longest)));
            }
            rows.extend(self.encoder.encode(ids)?);
        }
        Ok(rows)
    }
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::io("read", path))?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    match bytes.len() as u64 > limit {
        false => Ok(bytes),
        true => Err(Error::file(path, format!("it is larger than {limit} bytes"), "take another encoder")),
    }
}

/// All tensors of a folder, under the names that candle asks for.
fn weights(folder: &Path) -> Result<HashMap<String, Tensor>> {
    let checkpoint = Checkpoint::read(weights_in(folder)?)?;
    let mut named = HashMap::new();
    for (name, tensor) in checkpoint.tensors {
        // Old BERTs call the weights of their layer norms so.
        let name = name.replace(".gamma", ".weight").replace(".beta", ".bias");
        let RawTensor { shape, data } = tensor;
        if let RawData::F32(values) = data {
            named.insert(name, Tensor::from_vec(values, shape, &Device::Cpu)?);
        }
    }
    Ok(named)
}

fn builder(named: HashMap<String, Tensor>) -> VarBuilder<'static> {
    VarBuilder::from_tensors(named, DType::F32, &Device::Cpu)
}

/// Hyper-parameters of a configuration.
struct Fields<'a> {
    json: &'a Value,
    path: &'a Path,
}

impl Fields<'_> {
    fn get<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        serde_json::from_value(self.json[key].clone()).map_err(|_| self.refused(key, "take another encoder"))
    }

    /// A size from 1 to [`MOST`].
    fn size(&self, key: &str) -> Result<usize> {
        let size: usize = self.get(key)?;
        if (1..=MOST).contains(&size) { Ok(size) } else { Err(self.refused(key, "take another encoder")) }
    }

    /// Refuses the value of `key`.
    fn refused(&self, key: &str, hint: &str) -> Error {
        Error::file(self.path, format!("{key} is {}", self.json[key]), hint)
    }

    /// A tensor that is missing or has another shape.
    fn wrong(&self, error: &candle_core::Error) -> Error {
        let text = error.to_string();
        Error::file(self.path, text.lines().next().unwrap_or_default(), "weights and configuration do not fit")
    }
}

#[cfg(test)]
mod tests;
