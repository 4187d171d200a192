//! A model's answers to real images, for `tests/python/check_students.py`:
//! `cargo run --release --example answers -- MODEL DATASET COUNT FILE.safetensors`. The file gets `pixels` `[N, C, H, W]` (0 to 255,
//! converted to what the model reads), `labels` `[N]` and `logits` `[N, K]`.

use std::collections::BTreeMap;
use std::path::Path;
use synth::data::{Framing, ReadOptions};
use synth::jobs::{Access, open_model};
use synth::model::Overrides;
use synth::teacher::Teacher;
use synth::train::{batch_for, labels_for};
use synth::weights::{Checkpoint, RawData, RawTensor};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, dataset, count, file] = &arguments[..] else {
        anyhow::bail!("usage: answers MODEL DATASET COUNT FILE.safetensors");
    };
    let access = Access::default();
    let model = open_model(Path::new(model), None, &Overrides::default(), &access)?;
    let frozen = Teacher::of(&model);
    let reading = ReadOptions {
        framing: Some(Framing::stretched(frozen.size)),
        channels: Some(frozen.channels),
        limit: Some(count.parse()?),
        ..ReadOptions::default()
    };
    let mut data = access.labelled(Path::new(dataset), &reading)?;
    labels_for(&model.class_names(), &mut data)?;
    let logits = frozen.answers_u8(&data.images, batch_for(256, frozen.size))?;
    let shape = |dims: &[usize]| dims.to_vec();
    let tensors = BTreeMap::from([
        ("pixels".to_string(), pixels(&data.images)),
        (
            "labels".to_string(),
            RawTensor {
                shape: shape(&[data.len()]),
                data: RawData::I64(data.labels.iter().map(|l| i64::from(*l)).collect()),
            },
        ),
        ("logits".to_string(), RawTensor { shape: shape(&[data.len(), frozen.classes]), data: RawData::F32(logits) }),
    ]);
    Checkpoint::write_safetensors(file, &tensors, &BTreeMap::new())?;
    Ok(())
}

/// Channels first, as Python has them.
fn pixels(images: &synth::data::Images) -> RawTensor {
    let (c, area) = (images.channels, images.height * images.width);
    let mut values = Vec::with_capacity(images.pixels.len());
    for i in 0..images.len() {
        let image = images.image(i);
        values.extend((0..c * area).map(|at| f32::from(image[at % area * c + at / area])));
    }
    RawTensor { shape: vec![images.len(), c, images.height, images.width], data: RawData::F32(values) }
}
