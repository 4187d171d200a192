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
    let accept = |folder: &Path| Model::is_known(folder, arch, overrides);
    fetched(path, access, &accept, |path| Model::load(path, arch, overrides))
}

/// The teacher that provenance describes as [`super::identity`] does: that commit on the Hub, or that path, with the `config` that it had
/// (what was said of a bare file, or on top of a folder's own). A path that is gone is not looked for on the Hub.
///
/// # Errors
/// As [`open_model`]; [`Error::Invalid`] if it names none.
pub fn open_again(identity: &Value, config: ModelConfig, access: &Access) -> Result<Model> {
    match (identity["id"].as_str(), identity["revision"].as_str()) {
        (Some(id), Some(commit)) => {
            let path = format!("hf://{id}@{commit}");
            fetched(Path::new(&path), access, &|_| Ok(()), |path| Model::load_as(path, config))
        }
        (Some(SHIPPED), None) => open_model(Path::new(SHIPPED), None, &Overrides::default(), access),
        (Some(path), None) => Model::load_as(path, config),
        _ => Err(Error::invalid("provenance", "it names no teacher", "name it with --teacher")),
    }
}

/// What `load` makes of the folder at `path`, or of that which comes from the Hub if `path` is a name there.
fn fetched(
    path: &Path,
    access: &Access,
    accept: &dyn Fn(&Path) -> Result<()>,
    load: impl FnOnce(&Path) -> Result<Model>,
) -> Result<Model> {
    let Some(fetched) = access.model(path, accept)? else { return load(path) };
    Ok(Model { source: fetched.source(), ..load(&fetched.folder)? })
}

fn shipped(arch: Option<&str>, overrides: &Overrides) -> Result<Model> {
    if arch.is_some() || *overrides != Overrides::default() {
        return Err(Error::invalid(SHIPPED, "it needs no --arch and no other description", "leave those options out"));
    }
    let config = ModelConfig::parse(CONFIG, SHIPPED)?;
    Model::from_parts(config, Checkpoint::parse(WEIGHTS, SHIPPED)?, SHIPPED)
}
