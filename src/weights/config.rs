//! `config.json` of a model folder in Hub layout, with the fields that timm uses and a few of our own; what transformers and
//! older versions of timm write is brought into this form.

mod foreign;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fault::quote;
use crate::files::{json_text, write_atomic};
use crate::{Error, Result};

/// The name of the file in its folder.
pub const FILE_NAME: &str = "config.json";
/// The name of the file in which transformers describes a model's images.
pub const PREPROCESSOR_NAME: &str = "preprocessor_config.json";
/// A configuration with the names of tens of thousands of classes stays below this. Parsed JSON can take 80 times its text.
const SIZE_LIMIT: u64 = 4 << 20;
/// The largest image side, and the largest number of image channels.
pub(crate) const SIDE_LIMIT: usize = 4096;
const CHANNEL_LIMIT: usize = 64;
/// More classes than any classifier has.
pub(crate) const CLASS_LIMIT: usize = 10_000_000;

/// What a model is: architecture, classes, and the images it expects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Name of the architecture, e.g. `cifar_resnet20`.
    pub architecture: String,
    /// Family of networks, e.g. `cifar_resnet`; absent from timm's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_type: Option<String>,
    /// Arguments of the family, e.g. `{"depth": 20, "shortcut": "A"}`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub model_args: Map<String, Value>,
    /// Number of logits, at least 1.
    pub num_classes: usize,
    /// Width of the input of the last layer.
    #[serde(default)]
    pub num_features: Option<usize>,
    /// Global pooling before the last layer, e.g. `avg`.
    #[serde(default)]
    pub global_pool: Option<String>,
    /// One name per class, in the order of the logits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_names: Option<Vec<String>>,
    /// The images that the model was trained on.
    pub pretrained_cfg: PretrainedConfig,
    /// Labelled data to evaluate on, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_datasets: Option<BTreeMap<String, EvalDataset>>,
    /// `image-classification`, or `image-segmentation` (also called `semantic-segmentation`).
    #[serde(default = "image_classification")]
    pub task: String,
    /// Fields that we do not know; written back as they were.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The images that a model expects: `(pixel / 255 - mean) / std`, channels first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PretrainedConfig {
    /// Name of these weights, e.g. `a1_in1k`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// `[channels, height, width]`.
    pub input_size: [usize; 3],
    /// Whether other sizes are impossible.
    #[serde(default)]
    pub fixed_input_size: bool,
    /// Mean per channel, for pixels in 0..1.
    pub mean: Vec<f64>,
    /// Standard deviation per channel, for pixels in 0..1; above 0.
    pub std: Vec<f64>,
    /// `rgb` unless stated: `bgr` for models whose first channel is blue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_order: Option<String>,
    /// Label that evaluation leaves out (segmentation).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_index: Option<i64>,
    /// Image sides must be multiples of this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_divisor: Option<usize>,
    /// Value that the first class has in label images (segmentation): with 1, 0 is void.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_label: Option<u8>,
    /// Share of the sides that is left of resized pictures; see [`Framing::of`](crate::data::Framing::of).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop_pct: Option<f64>,
    /// `center` or `squash`: whether pictures keep their shape where they are resized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop_mode: Option<String>,
    /// How pictures are resized, e.g. `bicubic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<String>,
    /// Licence of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Fields that we do not use (`first_conv`, `classifier`, ...); written back as they were.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl PretrainedConfig {
    /// Whether the first channel of the images is blue, in `mean` and `std` too.
    pub fn is_bgr(&self) -> bool {
        self.channel_order.as_deref() == Some("bgr")
    }

    /// `mean` and `std` in the order of RGB images.
    pub fn rgb_mean_std(&self) -> (Vec<f64>, Vec<f64>) {
        let (mut mean, mut std) = (self.mean.clone(), self.std.clone());
        if self.is_bgr() {
            mean.reverse();
            std.reverse();
        }
        (mean, std)
    }
}

/// A labelled dataset to evaluate on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalDataset {
    /// Path of the parquet file, relative to the data folder.
    pub path: String,
    /// Column with the image.
    pub image: String,
    /// Column with the class, or with the label image.
    pub label: String,
}

/// The bytes of a small file.
fn limited(path: &Path) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
    let mut bytes = Vec::new();
    file.take(SIZE_LIMIT + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > SIZE_LIMIT {
        return Err(Error::file(path, "more than 4 MB", "expected a small JSON file"));
    }
    Ok(bytes)
}

/// What a file should have been.
const EXPECTED: &str = "expected a model configuration as timm or transformers writes it";

fn json(bytes: &[u8], source: &Path) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|error| Error::file(source, error.to_string(), EXPECTED))
}

fn image_classification() -> String {
    "image-classification".to_string()
}

impl ModelConfig {
    /// Reads and checks `config.json` in `folder`, with the `preprocessor_config.json` of transformers if it is there.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::File`] if it is not JSON, lacks a field, or a value is out of range.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        let path = folder.as_ref().join(FILE_NAME);
        let beside = folder.as_ref().join(PREPROCESSOR_NAME);
        let preprocessor = match beside.is_file() {
            true => Some(json(&limited(&beside)?, &beside)?),
            false => None,
        };
        Self::of_json(json(&limited(&path)?, &path)?, preprocessor.as_ref(), &path)
    }

    /// As [`ModelConfig::read`], from the bytes of a file that messages call `source`.
    ///
    /// # Errors
    /// [`Error::File`] as for [`ModelConfig::read`].
    pub fn parse(bytes: &[u8], source: impl AsRef<Path>) -> Result<Self> {
        Self::parse_with(bytes, None, source.as_ref())
    }

    /// As [`ModelConfig::read`], from the bytes of `config.json` and, if it is there, `preprocessor_config.json`.
    pub(crate) fn parse_with(bytes: &[u8], preprocessor: Option<&[u8]>, source: &Path) -> Result<Self> {
        let preprocessor = preprocessor.map(|bytes| json(bytes, source)).transpose()?;
        Self::of_json(json(bytes, source)?, preprocessor.as_ref(), source)
    }

    fn of_json(value: Value, preprocessor: Option<&Value>, source: &Path) -> Result<Self> {
        let refuse = |found: String| Error::file(source, found, EXPECTED);
        let undescribed = value.get("pretrained_cfg").is_none() && preprocessor.is_none();
        let value = foreign::translated(value, preprocessor).map_err(refuse)?;
        let config: Self = serde_json::from_value(value).map_err(|error| refuse(error.to_string()))?;
        config.check().map_err(|found| Error::file(source, found, "correct the file"))?;
        if undescribed && config.model_type.is_some() {
            let path = source.display();
            tracing::warn!(
                "{path}: no {PREPROCESSOR_NAME} beside it, so pixels are only divided by 255; see --mean and --std"
            );
        }
        Ok(config)
    }

    /// Checks and writes `config.json` in `folder`, atomically; field order is fixed.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a value is out of range, or it is too large to be read; [`Error::Io`] if the file cannot be
    /// written.
    pub fn write(&self, folder: impl AsRef<Path>) -> Result<()> {
        let invalid = |found| Error::invalid("model configuration", found, "it cannot be written");
        self.check().map_err(invalid)?;
        let text = json_text(self, SIZE_LIMIT).map_err(|error| invalid(error.to_string()))?;
        if text.len() as u64 > SIZE_LIMIT {
            return Err(invalid(format!("{} bytes, more than the {SIZE_LIMIT} that are read", text.len())));
        }
        write_atomic(folder.as_ref().join(FILE_NAME), text.as_bytes())
    }

    /// The first value that is out of range, in words.
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let Self { num_classes, label_names, pretrained_cfg: images, .. } = self;
        if !(1..=CLASS_LIMIT).contains(num_classes) {
            return Err(format!("num_classes is {num_classes}, not 1 to {CLASS_LIMIT}"));
        }
        if let Some(names) = label_names
            && names.len() != *num_classes
        {
            return Err(format!("{} label_names for num_classes {num_classes}", names.len()));
        }
        let [channels, height, width] = images.input_size;
        let sides = [height, width].iter().all(|side| (1..=SIDE_LIMIT).contains(side));
        if !sides || !(1..=CHANNEL_LIMIT).contains(&channels) {
            let limits = format!("1 to {CHANNEL_LIMIT} channels and sides of 1 to {SIDE_LIMIT}");
            return Err(format!("input_size is {:?}, expected {limits}", images.input_size));
        }
        for (name, values) in [("mean", &images.mean), ("std", &images.std)] {
            if values.len() != channels {
                return Err(format!("{} values of {name} for {channels} channels", values.len()));
            }
            // As f32: that is what images are.
            if let Some(value) = values.iter().find(|value| !(**value as f32).is_finite()) {
                return Err(format!("{name} has the value {value}, expected a finite one"));
            }
        }
        if let Some(mean) = images.mean.iter().find(|mean| **mean > 1.0) {
            return Err(format!(
                "mean has the value {mean}, expected one of pixels in 0..1: divide mean and std by 255"
            ));
        }
        // Positive as f32 too: that is what images are divided by.
        if let Some(value) = images.std.iter().find(|value| !(**value as f32).is_normal() || **value < 0.0) {
            return Err(format!("std has the value {value}, expected one above 0"));
        }
        if images.size_divisor == Some(0) {
            return Err("size_divisor is 0".into());
        }
        match images.channel_order.as_deref() {
            Some("bgr") if channels != 3 => Err(format!("channel_order is bgr for {channels} channels")),
            None | Some("rgb" | "bgr") => Ok(()),
            Some(other) => Err(format!("channel_order is {}, expected rgb or bgr", quote(other))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"architecture": "cifar_resnet20", "num_classes": 2, "label_names": ["a", "b"],
        "pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "crop_pct": 1.0},
        "unknown": [1, 2]}"#;

    fn read(text: &str) -> Result<ModelConfig> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), text).unwrap();
        ModelConfig::read(folder.path())
    }

    #[test]
    fn what_is_written_is_read_back() {
        let config = read(GOOD).unwrap();
        assert_eq!(config.task, "image-classification");
        let folder = tempfile::tempdir().unwrap();
        config.write(folder.path()).unwrap();
        assert_eq!(ModelConfig::read(folder.path()).unwrap(), config);
        assert_eq!(config.extra["unknown"], serde_json::json!([1, 2]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_too_long_indented_is_written_on_one_line_or_not_at_all() {
        let mut config = read(GOOD).unwrap();
        let folder = tempfile::tempdir().unwrap();
        config.extra.insert("unknown".into(), serde_json::json!(vec![0; 700_000]));
        config.write(folder.path()).unwrap();
        assert_eq!(ModelConfig::read(folder.path()).unwrap(), config);
        config.extra.insert("unknown".into(), serde_json::json!(vec![0; 2_200_000]));
        let error = config.write(folder.path()).unwrap_err().to_string();
        assert!(error.contains("more than the 4194304 that are read"), "{error}");
    }

    #[test]
    fn values_out_of_range_are_named() {
        for (from, to, message) in [
            ("\"num_classes\": 2", "\"num_classes\": 3", "2 label_names for num_classes 3"),
            ("\"num_classes\": 2", "\"num_classes\": 0", "num_classes is 0"),
            ("[3, 32, 32]", "[3, 32, 5000]", "input_size is [3, 32, 5000]"),
            ("[3, 32, 32]", "[1, 32, 32]", "3 values of mean for 1 channels"),
            ("[3, 32, 32]", "[3, 32]", "invalid length 2"),
            ("[0.2, 0.2, 0.2]", "[0.2, 0.0, 0.2]", "std has the value 0"),
            ("[0.2, 0.2, 0.2]", "[0.2, -1, 0.2]", "std has the value -1"),
            ("[0.2, 0.2, 0.2]", "[0.2, 1e-60, 0.2]", "std has the value 0.000"),
            ("[0.2, 0.2, 0.2]", "[0.2, 1e999, 0.2]", "number out of range"),
            ("[0.5, 0.5, 0.5]", "[0.5, 1e39, 0.5]", "mean has the value 1000"),
            ("[0.5, 0.5, 0.5]", "[123.7, 116.3, 103.5]", "mean has the value 123.7, expected one of pixels in 0..1"),
            ("\"crop_pct\": 1.0", "\"channel_order\": \"gbr\"", "channel_order is `gbr`"),
            ("\"architecture\"", "\"arch\"", "missing field `architecture`"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = read(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(message) && error.contains(FILE_NAME) && !error.contains('\n'), "{error}");
        }
    }
}
