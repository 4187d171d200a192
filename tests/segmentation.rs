//! Networks that answer for every pixel: their reference logits, their measures on CamVid, and what they refuse.
//!
//! Data are looked for in `$SYNTH_TEST_DATA`, or in `shared/data` beside the repository; without them the tests that need
//! them say so and pass.

use candle_core::Tensor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use synth::model::{Model, Overrides};
use synth::nets::registry::{Shape, from_config, from_name, new_model};
use synth::nets::{Forward, Mode, Network, Task, infer};
use synth::ops::mem::{tensor, view};
use synth::rng::{Streams, normal};
use synth::tape::Tape;
use synth::weights::Checkpoint;

const TEACHER: &str = "models/sacmehta/espnet-camvid";

fn data() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let data = std::env::var_os("SYNTH_TEST_DATA").map_or(beside, PathBuf::from);
    if data.join(TEACHER).is_dir() {
        return Some(data);
    }
    eprintln!("skipped: no {TEACHER} in {}", data.display());
    None
}

/// max|a − b| / max|b|
fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0f32, |m, v| m.max(v.abs()));
    largest(&mut a.iter().zip(b).map(|(a, b)| a - b)) / largest(&mut b.iter().copied())
}

/// `[N, C, H, W]` of a file as `[N, H, W, C]`, with the channels in reverse if asked.
fn channels_last(checkpoint: &Checkpoint, name: &str, reverse: bool) -> Tensor {
    let raw = &checkpoint.tensors[name];
    let t = tensor(raw.as_f32().unwrap().to_vec(), raw.shape.clone()).unwrap();
    let t = if reverse { Tensor::cat(&[2, 1, 0].map(|c| t.narrow(1, c, 1).unwrap()), 1).unwrap() } else { t };
    t.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
}

/// The published network, from the folder and from the bare file: images come in as RGB and are turned inside.
#[test]
fn logits_are_those_of_pytorch() {
    let Some(data) = data() else { return };
    let folder = data.join(TEACHER);
    let reference = Checkpoint::read(folder.join("reference.safetensors")).unwrap();
    let logits = channels_last(&reference, "logits", false);
    let expected = view(&logits).unwrap();
    let model = Model::load(&folder, None, &Overrides::default()).unwrap();
    assert_eq!((model.network.arch.task, model.network.arch.parameters()), (Task::Segmentation, 354_517));
    let rgb = channels_last(&reference, "input_nchw", true);
    let found = infer(&model.network, &rgb).unwrap();
    assert_eq!(found.dims(), [1, 120, 160, 12]);
    let off = distance(&view(&found).unwrap(), &expected);
    println!("folder: {off:.1e}");
    assert!(off < 1e-4, "{off}");
    // The moments are collected by other passes, which do not fold norms into convolutions.
    let tape = Tape::new();
    let mut f = Forward::new(&tape, &model.network.weights, Mode::Match);
    let matched = model.network.forward(&mut f, tape.leaf(rgb)).unwrap().tensor().unwrap();
    assert!(distance(&view(&matched).unwrap(), &expected) < 1e-4);
    assert_eq!(f.moments.len(), model.network.arch.norm_layers());
    // The file as it was published does not say that its channels are BGR.
    let bare = folder.join("originals/espnet_p_2_q_8_camvid.pth");
    let bare = Model::load(bare, Some("espnet-p2-q8"), &Overrides::default()).unwrap();
    assert_eq!(bare.config.num_classes, 12);
    let found = infer(&bare.network, &channels_last(&reference, "input_nchw", false)).unwrap();
    assert!(distance(&view(&found).unwrap(), &expected) < 1e-4);
}

#[test]
fn a_model_survives_the_way_to_a_folder_and_back() {
    let Some(data) = data() else { return };
    let model = Model::load(data.join(TEACHER), None, &Overrides::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path(), "# A card\n", &serde_json::json!({})).unwrap();
    let again = Model::load(folder.path(), None, &Overrides::default()).unwrap();
    assert_eq!(again.config, model.config);
    assert_eq!(again.tensors().unwrap(), model.tensors().unwrap());
}

/// Every kind, small: forward and backward, a gradient for every parameter, one pair of moments per batch norm.
#[test]
fn networks_answer_for_every_pixel_and_train() {
    for (name, parameters) in [("espnet-p2-q8", 354_517), ("espnet-p1-q1", 0), ("espnet-c-p1-q2", 0)] {
        let shape = Shape { channels: 3, height: 24, width: 40, num_classes: 12 };
        let (architecture, config) = new_model(name, &shape, None, &[0.5; 3], &[0.25; 3]).unwrap();
        assert!(parameters == 0 || architecture.parameters() == parameters, "{name}: {}", architecture.parameters());
        assert_eq!((config.task.as_str(), config.pretrained_cfg.size_divisor), ("image-segmentation", Some(8)));
        assert_eq!(from_config(&config).unwrap().slots.len(), architecture.slots.len());
        let mut rng = Streams::new(1).stream("test", 0);
        let network = Network::init(Arc::new(architecture), &mut rng).unwrap();
        let x = tensor(normal(&mut rng, 2 * 24 * 40 * 3), (2, 24, 40, 3)).unwrap();
        for mode in [Mode::Train { momentum: 0.1 }, Mode::Match, Mode::Frozen] {
            let tape = Tape::new();
            let mut f = Forward::new(&tape, &network.weights, mode);
            let input = tape.leaf(x.clone());
            let y = network.forward(&mut f, input.clone()).unwrap();
            assert_eq!(y.dims(), [2, 24, 40, 12], "{name}");
            let seed = tensor(normal(&mut rng, 2 * 24 * 40 * 12), (2, 24, 40, 12)).unwrap();
            let mut grads = tape.backward([(y, seed)]).unwrap();
            assert!(view(&grads.take(&input).unwrap()).unwrap().iter().all(|v| v.is_finite()), "{name}");
            if mode == Mode::Match {
                assert_eq!(f.moments.len(), network.arch.norm_layers(), "{name}");
            }
            for (slot, grad) in network.weights.slots.iter().zip(f.gradients(&mut grads)) {
                let expected = slot.kind.trainable() && matches!(mode, Mode::Train { .. });
                assert_eq!(grad.is_some(), expected, "{name} {}", slot.name);
                assert!(grad.is_none_or(|grad| grad.dims() == slot.shape), "{name} {}", slot.name);
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_said_on_one_line() {
    let shape = Shape { channels: 3, height: 120, width: 160, num_classes: 12 };
    let message = |name: &str, shape: &Shape| from_name(name, shape).err().unwrap().to_string();
    let odd = message("espnet-p2-q8", &Shape { height: 100, ..shape });
    assert!(odd.contains("100x160") && odd.contains("multiples of 8") && odd.contains("96x160"), "{odd}");
    let few = message("espnet-p2-q8", &Shape { num_classes: 4, ..shape });
    assert!(few.contains("at least 5") && !few.contains('\n'), "{few}");
    assert!(message("espnet-p0-q8", &shape).contains("from 1 to 64"));
    let (_, mut config) =
        new_model("resnet20", &Shape { height: 32, width: 32, ..shape }, None, &[0.5; 3], &[0.25; 3]).unwrap();
    config.task = "semantic-segmentation".into();
    let wrong = from_config(&config).err().unwrap().to_string();
    assert!(wrong.contains("answers once per image") && !wrong.contains('\n'), "{wrong}");
}
