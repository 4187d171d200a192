//! The teachers inside the program.

use crate::model::{Model, Overrides};
use crate::weights::{Checkpoint, ModelConfig};
use crate::{Error, Result};
use std::path::Path;

/// Name of the teacher that `synth run` takes when none is given.
pub const SHIPPED: &str = "synth/resnet20-cifar10";

const CONFIG: &[u8] = include_bytes!("../../models/resnet20-cifar10/config.json");
const WEIGHTS: &[u8] = include_bytes!("../../models/resnet20-cifar10/model.safetensors");

/// The model at `path`, or the shipped one if `path` is its name and no such path exists.
///
/// # Errors
/// As [`Model::load`].
pub fn open_teacher(path: &Path, arch: Option<&str>, overrides: &Overrides) -> Result<Model> {
    if path != Path::new(SHIPPED) || path.exists() {
        return Model::load(path, arch, overrides);
    }
    if arch.is_some() || *overrides != Overrides::default() {
        return Err(Error::invalid(SHIPPED, "it needs no --arch and no other description", "leave those options out"));
    }
    let config = ModelConfig::parse(CONFIG, SHIPPED)?;
    Model::from_parts(config, Checkpoint::parse(WEIGHTS, SHIPPED)?, SHIPPED)
}
