//! BERT (Devlin et al., 2018): the mean of the last states of all tokens, as sentence encoders built on it have it.

use super::{Encoder, Fields, builder};
use crate::Result;
use candle_core::{Device, Tensor};
use candle_transformers::models::bert::{BertModel, Config};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

struct Bert {
    model: BertModel,
    width: usize,
}

/// A BERT from its configuration and tensors; the second value is how many tokens it takes.
pub(super) fn open(json: &Value, path: &Path, named: HashMap<String, Tensor>) -> Result<(Box<dyn Encoder>, usize)> {
    let fields = Fields { json, path };
    let sizes = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"];
    sizes.into_iter().try_for_each(|key| fields.size(key).map(|_| ()))?;
    let width = fields.size("hidden_size")?;
    if !width.is_multiple_of(fields.size("num_attention_heads")?) {
        return Err(fields.refused("num_attention_heads", "heads divide the width"));
    }
    let longest = fields.size("max_position_embeddings")?;
    let config: Config = serde_json::from_value(json.clone())
        .map_err(|error| crate::Error::file(path, error.to_string(), "expected a configuration of BERT"))?;
    let model = BertModel::load(builder(named), &config).map_err(|error| fields.wrong(&error))?;
    Ok((Box::new(Bert { model, width }), longest))
}

impl Encoder for Bert {
    fn width(&self) -> usize {
        self.width
    }

    fn encode(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        let ids = Tensor::from_slice(tokens, (1, tokens.len()), &Device::Cpu)?;
        let states = self.model.forward(&ids, &ids.zeros_like()?, None)?;
        Ok(states.mean(1)?.flatten_all()?.to_vec1()?)
    }
}
