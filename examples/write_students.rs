//! Writes students with arbitrary weights for `tests/python/check_timm.py`:
//! `cargo run --release --example write_students -- FOLDER NAME[@CHANNELS] ...`. Each becomes a model folder as `synth
//! distill` would write it; beside it, `NAME.expected.safetensors` gets images `[N, C, H, W]` and their logits.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use synth::model::Model;
use synth::nets::registry::{self, Shape};
use synth::nets::{Kind, Network, infer};
use synth::ops::mem::{tensor, update, view};
use synth::rng::{Stream, Streams, normal, uniform};
use synth::weights::{Checkpoint, RawData, RawTensor};

const CLASSES: usize = 12;
const IMAGES: [usize; 2] = [72, 88];

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or_else(|| anyhow::anyhow!("name the folder to write"))?);
    for wanted in arguments {
        let (name, channels) = wanted.split_once('@').unwrap_or((&wanted, "3"));
        write(&folder, &wanted, name, channels.parse()?)?;
    }
    Ok(())
}

fn write(folder: &std::path::Path, called: &str, name: &str, channels: usize) -> anyhow::Result<()> {
    let [height, width] = IMAGES;
    let shape = Shape { channels, height: 224, width: 224, num_classes: CLASSES };
    let labels = (0..CLASSES).map(|class| format!("class {class}")).collect();
    let (mean, std) = (vec![0.5; channels], vec![0.25; channels]);
    let (architecture, config) = registry::new_model(name, &shape, Some(labels), &mean, &std)?;
    let mut rng = Streams::new(0).stream("students", 0);
    let network = Network::init(Arc::new(architecture), &mut rng)?;
    trained(&network, &mut rng)?;
    let model = Model { source: name.to_string(), ..Model::made(network, config) };
    let target = folder.join(called);
    std::fs::create_dir_all(&target)?;
    model.save(&target, "A student with arbitrary weights.\n", &serde_json::json!({}))?;

    let images = tensor(normal(&mut rng, 2 * channels * height * width), (2, channels, height, width))?;
    let logits = infer(&model.network, &images.permute((0, 2, 3, 1))?.contiguous()?)?;
    let raw = |t: &candle_core::Tensor| -> synth::Result<RawTensor> {
        Ok(RawTensor { shape: t.dims().to_vec(), data: RawData::F32(view(t)?.to_vec()) })
    };
    let expected = BTreeMap::from([("images".to_string(), raw(&images)?), ("logits".to_string(), raw(&logits)?)]);
    Checkpoint::write_safetensors(folder.join(format!("{called}.expected.safetensors")), &expected, &BTreeMap::new())?;
    Ok(())
}

/// Statistics and norms as training leaves them: none is what it began as.
fn trained(network: &Network, rng: &mut Stream) -> synth::Result<()> {
    for (slot, values) in network.weights.iter() {
        let (centre, spread) = match slot.kind {
            Kind::NormWeight | Kind::RunningVar => (1.0, 0.25),
            Kind::NormBias | Kind::Bias | Kind::RunningMean { .. } => (0.0, 0.25),
            Kind::ConvWeight | Kind::LinearWeight | Kind::Plain => continue,
        };
        let drawn = uniform(rng, slot.len(), spread);
        update(values, |values| values.iter_mut().zip(drawn).for_each(|(value, u)| *value = centre + u))?;
    }
    Ok(())
}
