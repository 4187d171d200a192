//! Writes a small synthetic set, for `tests/python/check_set.py` and for looking at the format:
//! `cargo run --release --example write_set -- FOLDER [grey]`. Beside it, `FOLDER.expected.json` gets the SHA-256 of
//! the pixels (`[N, H, W, C]`) and what else the reader should find.

use std::path::{Path, PathBuf};
use synth::data::Images;
use synth::files::{Staging, sha256_bytes, write_atomic};
use synth::set::{SyntheticSet, View, Views};

const COUNT: usize = 1200;
const CLASSES: usize = 10;
const SIDE: usize = 32;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or_else(|| anyhow::anyhow!("name the folder to write"))?);
    let channels = if arguments.next().is_some_and(|a| a == "grey") { 1 } else { 3 };
    let set = sample(channels)?;
    let staging = Staging::create(&folder, true)?;
    set.write(staging.path())?;
    staging.finish()?;
    anyhow::ensure!(SyntheticSet::read(&folder)?.images == set.images, "the set does not come back");
    let expected = serde_json::json!({
        "pixels_sha256": sha256_bytes(&set.images.pixels), "count": COUNT, "shape": [SIDE, SIDE, channels],
        "class_names": set.class_names, "labels": set.labels,
    });
    write_atomic(beside(&folder), expected.to_string().as_bytes())?;
    Ok(())
}

fn beside(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_os_string();
    name.push(".expected.json");
    name.into()
}

/// Stripes whose direction, colour and phase depend on the class and the image, answered by a confident teacher.
fn sample(channels: usize) -> synth::Result<SyntheticSet> {
    let mut pixels = Vec::with_capacity(COUNT * SIDE * SIDE * channels);
    for i in 0..COUNT {
        let angle = (i % CLASSES) as f32 * std::f32::consts::PI / CLASSES as f32;
        for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
            let wave = (x as f32 * angle.cos() + y as f32 * angle.sin() + i as f32 * 0.7).sin();
            pixels.extend((0..channels).map(|c| (127.5 + 127.0 * wave / (1 + (c + i) % 3) as f32) as u8));
        }
    }
    let answer = |i: usize, strength: f32| (0..CLASSES).map(move |c| if c == i % CLASSES { strength } else { 0.1 });
    let list = vec![View { dy: 0, dx: 0, flip: true }, View { dy: -2, dx: 3, flip: false }];
    let views = Views { logits: (0..COUNT).flat_map(|i| answer(i, 6.0).chain(answer(i, 5.0))).collect(), list };
    let awkward = ["a: b", "it's", "\"quoted\"", "naïve", "two words", "- dash", "yes", "1", "tab\there", "{curly}"];
    Ok(SyntheticSet {
        images: Images::new(pixels, channels, SIDE, SIDE)?.into(),
        labels: (0..COUNT).map(|i| (i % CLASSES) as u32).collect(),
        logits: (0..COUNT).flat_map(|i| answer(i, 7.0)).collect(),
        priority: (0..COUNT).map(|i| i as f32 / COUNT as f32).collect(),
        class_names: awkward.map(String::from).to_vec(),
        views: Some(views),
        provenance: serde_json::json!({"teacher": {"id": "example/none"}, "recipe": {"name": "stripes"}, "seed": 0}),
    })
}
