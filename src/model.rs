//! A trained network with its configuration, loaded from and saved to a Hub-layout folder.

use crate::files::{write_atomic, write_provenance};
use crate::nets::registry::{self, Identity, Shape};
use crate::nets::{Kind, Network, Weights};
use crate::ops::mem::view;
use crate::weights::config::FILE_NAME;
use crate::weights::folder::WEIGHTS_NAME;
use crate::weights::{Checkpoint, Expected, ModelConfig, RawData, RawTensor, Scheme, fit, licence, locate, strict};
use crate::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A network with trained weights, and what its images and classes are.
#[derive(Clone)]
pub struct Model {
    pub network: Network,
    pub config: ModelConfig,
    /// SHA-256 of the file that the weights came from, 64 lower-case hexadecimal digits; empty for a network made here.
    pub sha256: String,
    /// The path that was given, for messages and provenance.
    pub source: String,
}

/// What a person says about a model, in place of its configuration or on top of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// Number of logits; of a bare file it is otherwise read off the last layer.
    pub num_classes: Option<usize>,
    /// `[channels, height, width]`.
    pub input_size: Option<[usize; 3]>,
    /// Per channel, for pixels in 0..1.
    pub mean: Option<Vec<f64>>,
    /// Per channel, for pixels in 0..1; above 0.
    pub std: Option<Vec<f64>>,
    /// Licence of the weights, as the Hub calls it; otherwise what the model's folder says.
    pub license: Option<String>,
}

impl Overrides {
    /// # Errors
    /// Of a file that says nothing itself, a mean without a standard deviation, or the other way round: the other half would be a guess.
    fn are_whole(&self) -> Result<()> {
        let (given, missing) = match (&self.mean, &self.std) {
            (Some(_), None) => ("--mean", "--std"),
            (None, Some(_)) => ("--std", "--mean"),
            _ => return Ok(()),
        };
        Err(Error::invalid(given, format!("there is no {missing}"), "name both, as the model was trained with"))
    }
}

impl Model {
    /// A network that was made here, and comes from no file.
    pub fn made(network: Network, config: ModelConfig) -> Self {
        Self { network, config, sha256: String::new(), source: String::new() }
    }

    /// Random weights, for tests; pixels of mean 0.5 and deviation 0.25.
    #[cfg(test)]
    pub(crate) fn random(arch: &str, [channels, height, width]: [usize; 3], num_classes: usize) -> Self {
        let shape = Shape { channels, height, width, num_classes };
        let (architecture, config) =
            registry::new_model(arch, &shape, None, &vec![0.5; channels], &vec![0.25; channels]).unwrap();
        let mut rng = crate::rng::Streams::new(7).stream(arch, 0);
        Self::made(Network::init(Arc::new(architecture), &mut rng).unwrap(), config)
    }

    /// Loads a model folder in Hub layout, or a bare `.safetensors`, `.pth`, `.pt` or `.th` file of the architecture
    /// `arch` (a name of [`registry::from_name`]); with a folder, `arch` replaces what its configuration says.
    ///
    /// Of a bare file, classes are counted on its last layer; its images are those that are usual for the architecture,
    /// with a mean of 0 and a standard deviation of 1, unless `overrides` says otherwise. A `config.json` that happens to
    /// lie near a bare file is not used.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown or missing architecture or values out of range; [`Error::Unfit`] for tensors that
    /// do not fit it; [`Error::File`] for values that are not finite, negative variances, and all that [`Checkpoint::read`]
    /// refuses.
    pub fn load(path: impl AsRef<Path>, arch: Option<&str>, overrides: &Overrides) -> Result<Self> {
        let path = path.as_ref();
        let source = locate(path)?;
        let guessed = source.config.is_none() && overrides.mean.is_none();
        if source.config.is_none() && arch.is_none() {
            Checkpoint::check_kind(&source.weights)?;
            return Err(unnamed(&source.weights));
        }
        if source.config.is_none() {
            overrides.are_whole()?;
        }
        // A network that is not here is said before a long read.
        arch.map(registry::usual_input).transpose()?;
        let stated = source.config.map(|config| known(config, arch, overrides)).transpose()?;
        let checkpoint = Checkpoint::read(&source.weights)?;
        let bare = stated.is_none();
        let config = match stated {
            Some(config) => Ok(config),
            None => described(arch.unwrap_or_default(), &checkpoint, overrides),
        };
        let model = config.and_then(|config| Self::from_parts(config, checkpoint, &path.display().to_string()));
        let twin = || registry::small_twin(arch?, overrides.input_size.map(|[_, height, width]| [height, width]));
        let mut model = model.map_err(|error| if bare { or_twin(error, twin()) } else { error })?;
        let licence = &mut model.config.pretrained_cfg.license;
        *licence = overrides
            .license
            .clone()
            .or(licence.take())
            .or_else(|| licence::stated_in(path).filter(|id| id != licence::OTHER));
        if guessed {
            tracing::warn!("{}: no --mean and --std, so pixels are only divided by 255", path.display());
        }
        Ok(model)
    }

    /// Whether the network that the configuration in `folder` describes is here; weights are not looked at.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn is_known(folder: &Path, arch: Option<&str>, overrides: &Overrides) -> Result<()> {
        known(ModelConfig::read(folder)?, arch, overrides).map(drop)
    }

    /// The weights of a model folder, or of a bare file, as `config` describes them: what was said of them before, in place of all
    /// that lies beside them.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_as(path: impl AsRef<Path>, config: ModelConfig) -> Result<Self> {
        let path = path.as_ref();
        Self::from_parts(config, Checkpoint::read(&locate(path)?.weights)?, &path.display().to_string())
    }

    /// The model that `config` describes with the tensors of `checkpoint`; `source` is how messages call it.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_parts(config: ModelConfig, checkpoint: Checkpoint, source: &str) -> Result<Self> {
        let arch = Arc::new(registry::from_config(&config)?);
        let sha256 = checkpoint.sha256.clone();
        let weights = weights_of(&arch.slots, checkpoint, registry::schemes(&config)?)?;
        Ok(Self { network: Network { arch, weights }, config, sha256, source: source.to_string() })
    }

    /// Writes `model.safetensors` (tensors in file layout under the architecture's own names), `config.json`, `README.md`
    /// and `synth.json` into `folder`, each whole. For a folder that appears at once, write into a
    /// [`crate::files::Staging`].
    ///
    /// # Errors
    /// [`Error::Failed`] if a weight is not finite: such a model is never written; [`Error::Io`].
    pub fn save(&self, folder: impl AsRef<Path>, card: &str, synth_json: &serde_json::Value) -> Result<()> {
        let folder = folder.as_ref();
        if let Some((name, count)) = self.network.weights.non_finite()? {
            let found = format!("tensor {name} of the network has {count} values that are not finite");
            return Err(Error::Failed { found, hint: "nothing was saved; lower the learning rate".into() });
        }
        let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
        let mut tensors = self.tensors()?;
        tensors.extend(self.counters());
        Checkpoint::write_safetensors(folder.join(WEIGHTS_NAME), &tensors, &metadata)?;
        self.config.write(folder)?;
        write_atomic(folder.join("README.md"), card.as_bytes())?;
        write_provenance(folder, synth_json)
    }

    /// All tensors in the layout of files, by name.
    pub fn tensors(&self) -> Result<BTreeMap<String, RawTensor>> {
        tensors_of(&self.network.weights)
    }

    /// PyTorch's counter of updates per batch norm, which its strict loaders miss otherwise: 0, since nothing here counts them, and
    /// PyTorch itself only reads it where a norm has no momentum.
    fn counters(&self) -> impl Iterator<Item = (String, RawTensor)> {
        let norms = self.network.arch.slots.iter().filter_map(|slot| slot.name.strip_suffix("running_mean"));
        norms.map(|norm| {
            (format!("{norm}num_batches_tracked"), RawTensor { shape: vec![], data: RawData::I64(vec![0]) })
        })
    }

    /// Names of the classes in the order of the logits: those of the configuration, else `0`, `1`, ...
    pub fn class_names(&self) -> Vec<String> {
        let numbers = || (0..self.config.num_classes).map(|class| class.to_string()).collect();
        self.config.label_names.clone().unwrap_or_else(numbers)
    }
}

fn tensors_of(weights: &Weights) -> Result<BTreeMap<String, RawTensor>> {
    let one = |(i, slot): (usize, &crate::nets::Slot)| {
        let data = RawData::F32(weights.to_file(i)?);
        Ok((slot.name.clone(), RawTensor { shape: slot.file_shape(), data }))
    };
    weights.slots.iter().enumerate().map(one).collect()
}

/// Writes the weights alone, wherever they are, as a `.safetensors` file in the layout of [`Model::save`].
///
/// # Errors
/// [`Error::Io`].
pub fn write_weights(network: &Network, path: &Path) -> Result<()> {
    Checkpoint::write_safetensors(path, &tensors_of(&network.weights)?, &BTreeMap::new())
}

/// Says what is missing for a bare file, and where it may lie.
fn unnamed(weights: &Path) -> Error {
    let folder = weights.ancestors().skip(1).take(2).find(|folder| folder.join(FILE_NAME).is_file());
    let near = folder.map(|folder| match folder.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => folder.to_path_buf(),
    });
    let hint = match near {
        Some(folder) => format!("name it with --arch, or give the folder {} to use its config.json", folder.display()),
        None => format!("name it with --arch: {}", registry::families()),
    };
    Error::file(weights, "a bare checkpoint does not say what architecture it is", hint)
}

/// [`overridden`], if there is such a network here.
fn known(config: ModelConfig, arch: Option<&str>, overrides: &Overrides) -> Result<ModelConfig> {
    let config = overridden(config, arch, overrides)?;
    registry::from_config(&config)?;
    Ok(config)
}

/// A folder's configuration with what a person says on top of it.
fn overridden(mut config: ModelConfig, arch: Option<&str>, overrides: &Overrides) -> Result<ModelConfig> {
    if let Some(count) = overrides.num_classes {
        config.num_classes = count;
        config.model_args.remove("num_classes");
    }
    let images = &mut config.pretrained_cfg;
    images.input_size = overrides.input_size.unwrap_or(images.input_size);
    images.mean = overrides.mean.clone().unwrap_or(std::mem::take(&mut images.mean));
    images.std = overrides.std.clone().unwrap_or(std::mem::take(&mut images.std));
    if config.label_names.as_ref().is_some_and(|names| names.len() != config.num_classes) {
        config.label_names = None;
    }
    if let Some(name) = arch {
        let [channels, height, width] = images.input_size;
        let shape = Shape { channels, height, width, num_classes: config.num_classes };
        let (_, Identity { architecture, model_type, model_args }) = registry::from_name(name, &shape)?;
        (config.architecture, config.model_type, config.model_args) = (architecture, model_type, model_args);
        images.extra.remove("classifier");
    }
    checked(config)
}

/// The configuration of a bare file.
fn described(arch: &str, checkpoint: &Checkpoint, overrides: &Overrides) -> Result<ModelConfig> {
    let [channels, height, width] = overrides.input_size.map_or_else(|| registry::usual_input(arch), Ok)?;
    let shape = |num_classes| Shape { channels, height, width, num_classes };
    let num_classes = match overrides.num_classes {
        Some(count) => count,
        None => {
            let (network, config) = registry::new_model(
                arch,
                &shape(registry::ANY_CLASSES),
                None,
                &vec![0.0; channels],
                &vec![1.0; channels],
            )?;
            let head = match network.slots.iter().rfind(|slot| slot.kind == Kind::LinearWeight) {
                Some(slot) => slot.name.clone(),
                None => {
                    let named = config.pretrained_cfg.extra.get("classifier").and_then(Value::as_str);
                    format!("{}.weight", named.unwrap_or("fc"))
                }
            };
            classes_of(checkpoint, &head, registry::schemes(&config)?)?
        }
    };
    let mean = overrides.mean.clone().unwrap_or(vec![0.0; channels]);
    let std = overrides.std.clone().unwrap_or(vec![1.0; channels]);
    let (_, config) = registry::new_model(arch, &shape(num_classes), None, &mean, &std)?;
    checked(config)
}

fn checked(config: ModelConfig) -> Result<ModelConfig> {
    config.check().map_err(|found| Error::invalid("model", found, "correct the options"))?;
    Ok(config)
}

/// The error with the name of the network that may have been meant instead, if it is about tensors of another one.
fn or_twin(error: Error, twin: Option<String>) -> Error {
    match (error, twin) {
        (Error::Unfit { path, found, hint }, Some(twin)) => {
            Error::Unfit { path, found, hint: format!("{hint}, or take --arch {twin}") }
        }
        (error, _) => error,
    }
}

/// Rows of the last layer.
fn classes_of(checkpoint: &Checkpoint, head: &str, schemes: &[Scheme]) -> Result<usize> {
    match strict::find(checkpoint, head, schemes).map(|tensor| &tensor.shape[..]) {
        Some(&[classes, ..]) if classes > 0 => Ok(classes),
        _ => {
            let found = format!("it has no last layer {head} to count the classes on");
            Err(Error::unfit(&checkpoint.source, found, "check --arch, or give --num-classes"))
        }
    }
}

/// The tensors of a checkpoint in the slots of a network.
fn weights_of(slots: &Arc<Vec<crate::nets::Slot>>, checkpoint: Checkpoint, schemes: &[Scheme]) -> Result<Weights> {
    let path = checkpoint.source.clone();
    let expected: Vec<Expected> =
        slots.iter().map(|slot| Expected { name: slot.name.clone(), shape: slot.file_shape() }).collect();
    let mut tensors = fit(checkpoint, &expected, schemes)?;
    let weights =
        Weights::from_file(slots.clone(), |slot| match tensors.remove(&slot.name).map(|tensor| tensor.data) {
            Some(RawData::F32(values)) => Ok(values),
            _ => Err(Error::file(&path, format!("tensor {} is not there", slot.name), "check the architecture")),
        })?;
    for (slot, tensor) in weights.iter().filter(|(slot, _)| slot.kind == Kind::RunningVar) {
        if view(tensor)?.iter().any(|variance| *variance < 0.0) {
            let hint = "a variance cannot be; the file is damaged, use another checkpoint";
            return Err(Error::file(&path, format!("tensor {} has values below 0", slot.name), hint));
        }
    }
    Ok(weights)
}
