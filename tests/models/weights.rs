//! Reading checkpoints through the public interface: small files written by torch, and published models.
//!
//! The published models are looked for in `$SYNTH_TEST_DATA`, or in `shared/data` beside the repository; without them those
//! tests say so and pass.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use synth::weights::{Checkpoint, Expected, ModelConfig, RawData, RawTensor, Scheme, fit, locate};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pickles").join(name)
}

/// Folders of published models in Hub layout.
fn models() -> Vec<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let data = std::env::var_os("SYNTH_TEST_DATA").map_or(beside, PathBuf::from);
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    let mut models: Vec<PathBuf> = folders(&data.join("models")).iter().flat_map(|owner| folders(owner)).collect();
    models.sort();
    if models.is_empty() {
        eprintln!("skipped: no models in {}", data.display());
    }
    models
}

/// Equal to the last bit, so that NaN equals itself and 0 differs from -0.
fn assert_same(found: &BTreeMap<String, RawTensor>, expected: &BTreeMap<String, RawTensor>, what: &Path) {
    let names = |tensors: &BTreeMap<String, RawTensor>| tensors.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{}", what.display());
    for (name, tensor) in found {
        let other = &expected[name];
        assert_eq!(tensor.shape, other.shape, "{}: {name}", what.display());
        let same = match (&tensor.data, &other.data) {
            (RawData::F32(a), RawData::F32(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
            }
            (RawData::I64(a), RawData::I64(b)) => a == b,
            _ => false,
        };
        assert!(same, "{}: {name}: {:?} is not {:?}", what.display(), tensor.data, other.data);
    }
}

#[test]
fn torch_files_give_the_tensors_that_torch_gives() {
    for (name, twin) in [
        ("dtypes.pth", "dtypes"),
        ("dtypes_legacy.pth", "dtypes"),
        ("protocol4.pth", "protocol4"),
        ("protocol4_legacy.pth", "protocol4"),
        ("unsigned.pth", "unsigned"),
        ("views.pth", "views"),
        ("views_legacy.pth", "views"),
        ("big_endian.pth", "views"),
        ("deflated.pth", "views"),
        ("training.pth", "training"),
        ("training_legacy.pth", "training"),
    ] {
        let found = Checkpoint::read(fixture(name)).unwrap();
        let expected = Checkpoint::read(fixture(&format!("{twin}.safetensors"))).unwrap();
        assert_same(&found.tensors, &expected.tensors, Path::new(name));
        assert_eq!((found.source, found.sha256.len()), (fixture(name), 64));
    }
}

#[test]
fn plain_values_beside_the_state_dict_are_kept() {
    for name in ["training.pth", "training_legacy.pth"] {
        let metadata = Checkpoint::read(fixture(name)).unwrap().metadata;
        let expected = [("arch", "tiny"), ("epoch", "3"), ("loss", "0.25")];
        assert_eq!(metadata, expected.map(|(key, value)| (key.to_string(), value.to_string())).into());
    }
}

#[test]
fn what_is_not_a_state_dict_is_refused_with_its_reason() {
    for (name, reason) in [
        ("os_system.pth", "`posix.system`, which no weights need; nothing was run"),
        ("os_system_legacy.pth", "`posix.system`"),
        ("whole_module.pth", "`torch.nn.modules.linear.Linear`"),
        ("complex.pth", "tensor `weight`: elements of type complex64"),
        ("sparse.pth", "tensor `weight` is built by `_rebuild_sparse_tensor`"),
        ("no_tensors.pth", "the keys are `epoch`, `scores`"),
        ("expanded.pth", "tensor `weight` repeats its elements"),
    ] {
        let message = Checkpoint::read(fixture(name)).unwrap_err().to_string();
        assert!(message.contains(reason) && message.contains(name) && !message.contains('\n'), "{message}");
    }
    assert!(!Path::new("synth-was-here").exists());
}

#[test]
fn published_pickles_equal_their_safetensors() {
    for model in models() {
        let expected = Checkpoint::read(model.join("model.safetensors")).unwrap();
        for original in std::fs::read_dir(model.join("originals")).into_iter().flatten().flatten() {
            let found = Checkpoint::read(original.path()).unwrap();
            assert_same(&found.tensors, &expected.tensors, &original.path());
        }
    }
}

#[test]
fn damaged_published_pickles_are_read_or_refused() {
    const LARGEST: usize = 300_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pth");
    let originals =
        models().into_iter().flat_map(|model| std::fs::read_dir(model.join("originals"))).flatten().flatten();
    for bytes in originals.map(|file| std::fs::read(file.path()).unwrap()).filter(|bytes| bytes.len() < LARGEST) {
        // Cut anywhere; one byte changed among the first (a plain file's pickles) and the last (an archive's directory).
        let cuts = (0..100).map(|part| bytes[..bytes.len() / 100 * part].to_vec());
        let changed = (0..120).flat_map(|index| [index * 29, bytes.len() - 1 - index]).map(|at| {
            let mut copy = bytes.clone();
            copy[at] = copy[at].wrapping_mul(31).wrapping_add(7);
            copy
        });
        for copy in cuts.chain(changed) {
            std::fs::write(&path, copy).unwrap();
            if let Err(error) = Checkpoint::read(&path) {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }
}

#[test]
fn published_files_are_written_back_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    for model in models() {
        let source = locate(&model).unwrap();
        let read = Checkpoint::read(&source.weights).unwrap();
        let copy = folder.path().join("model.safetensors");
        Checkpoint::write_safetensors(&copy, &read.tensors, &read.metadata).unwrap();
        assert_eq!(Checkpoint::read(&copy).unwrap().sha256, read.sha256, "{}", model.display());
    }
}

#[test]
fn published_configurations_are_read_and_written_back() {
    let folder = tempfile::tempdir().unwrap();
    for model in models() {
        let config = ModelConfig::read(&model).unwrap();
        config.write(folder.path()).unwrap();
        assert_eq!(ModelConfig::read(folder.path()).unwrap(), config, "{}", model.display());
        let json = |folder: &Path| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap()
        };
        let (mut before, mut after) = (json(&model), json(folder.path()));
        for value in [&mut before, &mut after] {
            value.as_object_mut().unwrap().remove("task"); // written even where it is the default
        }
        assert_eq!(before, after, "{}", model.display());
    }
}

/// How kuangliu's code names projections and heads.
const SCHEMES: &[Scheme] =
    &[Scheme { name: "kuangliu", renames: &[("*.*.shortcut.*.*", "*.*.downsample.*.*"), ("linear.*", "fc.*")] }];

/// What a network with these tensors would ask for, under other names.
fn expected_of(checkpoint: &Checkpoint, rename: impl Fn(&str) -> String) -> Vec<Expected> {
    let one = |(name, tensor): (&String, &RawTensor)| Expected { name: rename(name), shape: tensor.shape.clone() };
    checkpoint.tensors.iter().map(one).collect()
}

#[test]
fn published_models_fit_under_other_names() {
    for model in models() {
        let read = || Checkpoint::read(model.join("model.safetensors")).unwrap();
        let same = expected_of(&read(), str::to_string);
        assert_same(&fit(read(), &same, SCHEMES).unwrap(), &read().tensors, &model);
        // The network calls its head and its projections as kuangliu's code does not.
        let canonical = expected_of(&read(), |name| SCHEMES[0].rename(name));
        assert_eq!(fit(read(), &canonical, SCHEMES).unwrap().len(), canonical.len(), "{}", model.display());
        let mut wider = same;
        let last = wider.iter().position(|tensor| tensor.shape.len() > 1).unwrap();
        wider[last].shape[0] += 1;
        let message = fit(read(), &wider, SCHEMES).unwrap_err().to_string();
        assert!(message.contains("1 of another shape"), "{message}");
    }
}
