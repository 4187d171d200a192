//! Models of other libraries as `fixtures/make_libraries.py` describes them: their checkpoints are rebuilt from a hash of
//! names and indices, written as files and loaded as anybody's would be.
#![allow(dead_code)]

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use synth::model::{Model, Overrides};
use synth::nets::infer;
use synth::nets::registry;
use synth::ops::mem::{tensor, view};
use synth::weights::{Checkpoint, RawData, RawTensor};

/// One architecture as one library builds, names and describes it.
#[derive(Deserialize)]
pub struct Row {
    pub library: String,
    pub version: String,
    /// What the library calls the architecture.
    pub name: String,
    /// For `--arch`, where the library writes no configuration.
    pub arch: Option<String>,
    /// Trainable values with 1,000 classes.
    pub parameters: usize,
    pub config: Option<Value>,
    pub preprocessor: Option<Value>,
    /// `[N, C, H, W]`.
    images: [usize; 4],
    /// Of how many logits one is stored; all where nothing is said.
    #[serde(default = "one")]
    every: usize,
    /// Row by row, one row per image; of answers for pixels, in the order of `[N, H, W, K]`.
    logits: Vec<f32>,
    /// Name, channels, and the factor of the weights.
    norms: Vec<(String, usize, f32)>,
    /// Name, shape, centre and half the range of the values.
    tensors: Vec<(String, Vec<usize>, f32, f32)>,
}

fn one() -> usize {
    1
}

/// All rows, in the order of their files' names.
pub fn rows() -> Vec<Row> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/libraries");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read(&path).unwrap();
        serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    paths.into_iter().map(read).collect()
}

/// Uniform on [-1, 1) by name and index, as `uniform` of the Python script.
fn uniform(name: &str, count: usize) -> impl Iterator<Item = f32> {
    let fnv = |seed: u64, byte: u8| (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325, fnv);
    (1..=count as u64).map(move |i| {
        let z = i.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(seed);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    })
}

impl Row {
    /// `timm resnet18`
    pub fn title(&self) -> String {
        format!("{} {}", self.library, self.name)
    }

    /// The state dict.
    pub fn tensors(&self) -> BTreeMap<String, RawTensor> {
        let filled = |name: &str, shape: &[usize], centre: f32, spread: f32| {
            let values = uniform(name, shape.iter().product()).map(|u| centre + spread * u).collect();
            (name.to_string(), RawTensor { shape: shape.to_vec(), data: RawData::F32(values) })
        };
        let mut all: BTreeMap<String, RawTensor> =
            self.tensors.iter().map(|(name, shape, centre, spread)| filled(name, shape, *centre, *spread)).collect();
        for (layer, channels, factor) in &self.norms {
            for (part, centre, spread) in [
                ("weight", *factor, factor / 2.0),
                ("bias", 0.0, 0.25),
                ("running_mean", 0.0, 0.25),
                ("running_var", 1.0, 0.5),
            ] {
                all.extend([filled(&format!("{layer}.{part}"), &[*channels], centre, spread)]);
            }
            let counter = RawTensor { shape: vec![], data: RawData::I64(vec![0]) };
            all.insert(format!("{layer}.num_batches_tracked"), counter);
        }
        all
    }

    /// Writes the files that the library would, with `tensors` for weights, and loads them.
    pub fn load(&self, tensors: &BTreeMap<String, RawTensor>) -> synth::Result<Model> {
        let folder = tempfile::tempdir().unwrap();
        let weights = folder.path().join("model.safetensors");
        Checkpoint::write_safetensors(&weights, tensors, &BTreeMap::new()).unwrap();
        for (name, value) in [("config.json", &self.config), ("preprocessor_config.json", &self.preprocessor)] {
            if let Some(value) = value {
                std::fs::write(folder.path().join(name), value.to_string()).unwrap();
            }
        }
        let from = if self.config.is_some() { folder.path() } else { weights.as_path() };
        Model::load(from, self.arch.as_deref(), &Overrides::default())
    }

    /// The largest error of the model's logits, relative to the largest logit of the library.
    pub fn error(&self, model: &Model) -> f32 {
        let [n, c, h, w] = self.images;
        let pixels: Vec<f32> = uniform("images", n * c * h * w).collect();
        let images = tensor(pixels, &self.images[..]).unwrap().permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
        let found = infer(&model.network, &images).unwrap();
        let all = view(&found).unwrap();
        let found: Vec<f32> = all.iter().step_by(self.every).copied().collect();
        assert_eq!(found.len(), self.logits.len(), "{}", self.title());
        let largest = self.logits.iter().fold(0f32, |most, logit| most.max(logit.abs()));
        let off = found.iter().zip(&self.logits).map(|(a, b)| (a - b).abs());
        off.fold(0f32, |most, off| if off > most || off.is_nan() { off } else { most }) / largest
    }

    /// Trainable values of `model`'s network with 1,000 classes.
    pub fn full_size(&self, model: &Model) -> usize {
        let mut config = synth::weights::ModelConfig { num_classes: 1000, label_names: None, ..model.config.clone() };
        config.model_args.remove("num_classes");
        registry::from_config(&config).unwrap().parameters()
    }
}
