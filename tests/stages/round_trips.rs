//! Whatever is saved is loaded again bit by bit: model folders, bare checkpoints, and states of interrupted runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use synth::checkpoint::{Checkpoints, Resumable, Saved, Saver};
use synth::model::{Model, Overrides};
use synth::nets::Network;
use synth::nets::registry::{self, Shape};
use synth::rng::Streams;
use synth::weights::{Checkpoint, RawData, RawTensor};

/// Small networks of every form of configuration: our own, timm's, with and without arguments.
const NAMES: [(&str, usize); 7] = [
    ("resnet8", 3),
    ("wrn-10-1", 3),
    ("mnist-convnet", 1),
    ("lenet5", 1),
    ("mlperf-resnet8", 3),
    ("cifar-mobilenetv2_050", 3),
    ("imagenet-resnet10", 3),
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["\\PC{0,12}", "[\\x00-\\x7f]{0,8}", Just("license: mit\n---".to_string())]
}

/// Bits of all tensors by name; NaN is a value like others.
fn bits(tensors: &BTreeMap<String, RawTensor>) -> BTreeMap<&str, (&[usize], Vec<u64>)> {
    let values = |data: &RawData| match data {
        RawData::F32(values) => values.iter().map(|value| value.to_bits().into()).collect(),
        RawData::I64(values) => values.iter().map(|value| *value as u64).collect(),
    };
    tensors.iter().map(|(name, tensor)| (name.as_str(), (&tensor.shape[..], values(&tensor.data)))).collect()
}

fn raw_tensor() -> impl Strategy<Value = RawTensor> {
    (vec(0usize..4, 0..4), any::<bool>(), any::<u64>()).prop_map(|(shape, whole, seed)| {
        let number =
            |i: usize| seed.wrapping_mul(6_364_136_223_846_793_005).rotate_left(i as u32).wrapping_add(i as u64);
        let numbers = (0..shape.iter().product()).map(number);
        let data = match whole {
            true => RawData::I64(numbers.map(|number| number as i64).collect()),
            false => RawData::F32(numbers.map(|number| f32::from_bits(number as u32)).collect()),
        };
        RawTensor { shape, data }
    })
}

/// Arrays and numbers by name, as a state.
#[derive(Debug, Default)]
struct Anything {
    bytes: BTreeMap<String, Vec<u8>>,
    wide: BTreeMap<String, Vec<u64>>,
    numbers: BTreeMap<String, u64>,
}

impl Resumable for Anything {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> synth::Result<()> {
        self.bytes.iter().for_each(|(name, values)| to.array(name, values));
        to.within("below", |to| {
            self.wide.iter().for_each(|(name, values)| to.owned(name, values));
            self.numbers.iter().try_for_each(|(name, number)| to.value(name, number))
        })
    }

    fn restore(&mut self, from: &Saved) -> synth::Result<()> {
        let below = from.part("below");
        for (name, values) in &mut self.bytes {
            *values = from.array(name)?;
        }
        for (name, values) in &mut self.wide {
            *values = below.array(name)?;
        }
        for (name, number) in &mut self.numbers {
            *number = below.value(name)?;
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_state_of_a_run_comes_back(
        bytes in btree_map("[a-z.]{1,8}", vec(any::<u8>(), 0..40), 0..6),
        wide in btree_map("\\PC{1,8}", vec(any::<u64>(), 0..9), 0..6),
        numbers in btree_map("[ -~]{1,8}", any::<u64>(), 0..6),
        text in text(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let job = serde_json::json!({ "text": text });
        let written = Anything { bytes, wide, numbers };
        let mut kept = Checkpoints::in_folder(folder.path(), job, serde_json::json!({}), None).unwrap();
        kept.write("stage", &written, &()).unwrap();
        let (state, _) = kept.newest("stage").unwrap().unwrap();
        // The same names, other values: what comes back is what was written.
        let mut read = Anything {
            bytes: written.bytes.keys().map(|name| (name.clone(), vec![1])).collect(),
            wide: written.wide.keys().map(|name| (name.clone(), vec![1])).collect(),
            numbers: written.numbers.keys().map(|name| (name.clone(), 1)).collect(),
        };
        read.restore(&state).unwrap();
        prop_assert_eq!((&read.bytes, &read.wide, &read.numbers), (&written.bytes, &written.wide, &written.numbers));
    }

    #[test]
    fn a_model_folder_comes_back(
        (name, channels) in prop::sample::select(&NAMES[..]),
        seed: u64,
        labels in vec(text(), 1..6),
        named: bool,
        pixels in vec((0u32..1000, 1u32..1000), 3),
        licence in prop::option::of("[a-z0-9.-]{1,12}"),
        card in text(),
    ) {
        let side = if channels == 1 { 28 } else { 32 };
        let shape = Shape { channels, height: side, width: side, num_classes: labels.len() };
        let of = |part: &dyn Fn(&(u32, u32)) -> u32| -> Vec<f64> {
            pixels[..channels].iter().map(|pair| f64::from(part(pair)) / 1000.0).collect()
        };
        let (mean, std) = (of(&|pair| pair.0), of(&|pair| pair.1));
        let (arch, mut config) = registry::new_model(name, &shape, named.then_some(labels), &mean, &std).unwrap();
        config.pretrained_cfg.license = licence;
        let network = Network::init(Arc::new(arch), &mut Streams::new(seed).stream("test", 0)).unwrap();
        let model = Model::made(network, config);
        let folder = tempfile::tempdir().unwrap();
        model.save(folder.path(), &card, &serde_json::json!({"kind": "supervised"})).unwrap();
        let back = Model::load(folder.path(), None, &Overrides::default()).unwrap();
        let (found, expected) = (back.tensors().unwrap(), model.tensors().unwrap());
        prop_assert_eq!(bits(&found), bits(&expected));
        let mut expected = model.config.clone();
        // A configuration without a licence takes that of the card's head.
        expected.pretrained_cfg.license = expected.pretrained_cfg.license.or(back.config.pretrained_cfg.license.clone());
        prop_assert_eq!(&back.config, &expected);
        let again = tempfile::tempdir().unwrap();
        back.save(again.path(), &card, &serde_json::json!({"kind": "supervised"})).unwrap();
        let read = |folder: &tempfile::TempDir| std::fs::read(folder.path().join("model.safetensors")).unwrap();
        prop_assert_eq!(read(&again), read(&folder), "the same weights are other bytes");
    }

    #[test]
    fn a_checkpoint_comes_back(
        tensors in btree_map(text().prop_filter("reserved", |name| name != "__metadata__"), raw_tensor(), 0..8),
        metadata in btree_map(text(), text(), 0..4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        Checkpoint::write_safetensors(&path, &tensors, &metadata).unwrap();
        let back = Checkpoint::read(&path).unwrap();
        prop_assert_eq!(bits(&back.tensors), bits(&tensors));
        prop_assert_eq!(&back.metadata, &metadata);
        prop_assert_eq!(&back.sha256, &synth::files::sha256_file(&path).unwrap());
    }
}
