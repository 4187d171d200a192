//! The teachers inside the program, and every other one by path or by name.

use super::Access;
use crate::model::{Model, Overrides};
use crate::weights::{Checkpoint, ModelConfig};
use crate::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// Name of the teacher that `synth run` takes when none is given.
pub const SHIPPED: &str = "synth/resnet20-cifar10";

const CONFIG: &[u8] = include_bytes!("../../models/resnet20-cifar10/config.json");
const WEIGHTS: &[u8] = include_bytes!("../../models/resnet20-cifar10/model.safetensors");

/// The model at `path`; if there is no such path, the shipped one if `path` is its name, else the one that has this name on
/// the Hub, whose source is then `owner/name@commit`.
///
/// # Errors
/// As [`Model::load`] and [`Access::model`].
pub fn open_model(path: &Path, arch: Option<&str>, overrides: &Overrides, access: &Access) -> Result<Model> {
    if path == Path::new(SHIPPED) && !path.exists() {
        return shipped(arch, overrides);
    }
    let fetched = access.model(path)?;
    let mut model = Model::load(fetched.as_ref().map_or(path, |fetched| &fetched.folder), arch, overrides)?;
    if let Some(fetched) = &fetched {
        model.source = fetched.source();
    }
    Ok(model)
}

/// The teacher that provenance describes as [`super::identity`] does: that commit on the Hub, or that path. A path that is gone
/// is not looked for on the Hub.
///
/// # Errors
/// As [`open_model`]; [`Error::Invalid`] if it names none.
pub fn open_again(identity: &Value, access: &Access) -> Result<Model> {
    let overrides = Overrides::default();
    match (identity["id"].as_str(), identity["revision"].as_str()) {
        (Some(id), Some(commit)) => open_model(Path::new(&format!("hf://{id}@{commit}")), None, &overrides, access),
        (Some(SHIPPED), None) => open_model(Path::new(SHIPPED), None, &overrides, access),
        (Some(path), None) => Model::load(path, None, &overrides),
        _ => Err(Error::invalid("provenance", "it names no teacher", "name it with --teacher")),
    }
}

fn shipped(arch: Option<&str>, overrides: &Overrides) -> Result<Model> {
    if arch.is_some() || *overrides != Overrides::default() {
        return Err(Error::invalid(SHIPPED, "it needs no --arch and no other description", "leave those options out"));
    }
    let config = ModelConfig::parse(CONFIG, SHIPPED)?;
    Model::from_parts(config, Checkpoint::parse(WEIGHTS, SHIPPED)?, SHIPPED)
}
