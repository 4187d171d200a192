//! Which vectors stand for the classes where a generator reads their names.

use super::Access;
use crate::invert::{Input, LabelEmbeddings, Recipe};
use crate::model::Model;
use crate::text::TextEncoder;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// The embeddings of the teacher's class names by the recipe's text encoder; `None` where the generator reads none, and where
/// orthogonal ones serve: without an encoder, without names, or if the Hub does not give the encoder, of which a warning tells.
///
/// # Errors
/// As [`TextEncoder::open`] and [`TextEncoder::embed`], for an encoder that is there; [`Error::Interrupted`].
pub fn label_embeddings(teacher: &Model, recipe: &Recipe, access: &Access) -> Result<Option<LabelEmbeddings>> {
    let name = &recipe.generator.text_encoder;
    if recipe.generator.input != Input::LabelEmbedding || name.is_empty() {
        return Ok(None);
    }
    let Some(names) = &teacher.config.label_names else {
        tracing::warn!("the teacher does not name its classes: orthogonal embeddings stand for them");
        return Ok(None);
    };
    let (folder, source): (PathBuf, String) = match access.model(Path::new(name), &|_| Ok(())) {
        Ok(Some(fetched)) => (fetched.folder.clone(), fetched.source()),
        Ok(None) => (name.into(), name.clone()),
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => {
            tracing::warn!("{error}: orthogonal embeddings stand for the classes");
            return Ok(None);
        }
    };
    let encoder = TextEncoder::open(folder)?;
    Ok(Some(LabelEmbeddings::new(encoder.embed(names)?, encoder.width(), source)?))
}
