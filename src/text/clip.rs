//! The text half of CLIP (Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021): the
//! state at the end of the text, projected to where images and texts meet.

use super::{Encoder, Fields, builder};
use crate::{Error, Result};
use candle_core::{Device, IndexOp, Tensor};
use candle_transformers::models::clip::text_model::{Activation, ClipTextConfig, ClipTextTransformer};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// Where old configurations give a number that no tokenizer used, and the end of a text is its largest token.
const OLD_END: u32 = 2;

struct Clip {
    transformer: ClipTextTransformer,
    /// `[projection, width]`
    projection: Tensor,
    end: u32,
}

/// A CLIP from its configuration and tensors; the second value is how many tokens it takes.
pub(super) fn open(json: &Value, path: &Path, named: HashMap<String, Tensor>) -> Result<(Box<dyn Encoder>, usize)> {
    let fields = Fields { json: if json["text_config"].is_object() { &json["text_config"] } else { json }, path };
    if fields.get::<String>("hidden_act")? != "quick_gelu" {
        return Err(fields.refused("hidden_act", "take a CLIP with quick_gelu"));
    }
    if (fields.get::<f64>("layer_norm_eps")? - 1e-5).abs() > 1e-9 {
        return Err(fields.refused("layer_norm_eps", "take a CLIP with 1e-5"));
    }
    let width = fields.size("hidden_size")?;
    let heads = fields.size("num_attention_heads")?;
    if !width.is_multiple_of(heads) {
        return Err(fields.refused("num_attention_heads", "heads divide the width"));
    }
    // Newer configurations have it beside the halves.
    let projection_dim = match json["projection_dim"].as_u64() {
        Some(dim) => dim as usize,
        None => fields.size("projection_dim")?,
    };
    let config = ClipTextConfig {
        vocab_size: fields.size("vocab_size")?,
        embed_dim: width,
        activation: Activation::QuickGelu,
        intermediate_size: fields.size("intermediate_size")?,
        max_position_embeddings: fields.size("max_position_embeddings")?,
        pad_with: None,
        num_hidden_layers: fields.size("num_hidden_layers")?,
        num_attention_heads: heads,
        projection_dim,
    };
    let tensors = builder(named);
    let wrong = |error: candle_core::Error| fields.wrong(&error);
    let transformer = ClipTextTransformer::new(tensors.pp("text_model"), &config).map_err(wrong)?;
    let projection = tensors.get((projection_dim, width), "text_projection.weight").map_err(wrong)?;
    let end = fields.get("eos_token_id").unwrap_or(OLD_END);
    let longest = config.max_position_embeddings;
    Ok((Box::new(Clip { transformer, projection, end }), longest))
}

impl Encoder for Clip {
    fn width(&self) -> usize {
        self.projection.dims()[0]
    }

    fn encode(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        let last = match self.end {
            OLD_END => (0..tokens.len()).max_by_key(|&i| (tokens[i], std::cmp::Reverse(i))),
            end => tokens.iter().position(|token| *token == end),
        };
        let last = last.ok_or_else(|| Error::shape("clip", "a text without an end"))?;
        let ids = Tensor::from_slice(tokens, (1, tokens.len()), &Device::Cpu)?;
        let states = self.transformer.forward_with_mask(&ids, usize::MAX)?;
        let state = states.i((0, last))?.unsqueeze(0)?;
        Ok(state.matmul(&self.projection.t()?)?.flatten_all()?.to_vec1()?)
    }
}
