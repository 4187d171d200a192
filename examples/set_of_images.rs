//! A set of real images, answered by a teacher: for measuring what a student learns from such a set, and where a machine has no
//! time for inversion. `cargo run --release --example set_of_images -- TEACHER DATASET SPLIT COUNT SET`.

use std::path::Path;
use synth::data::{Framing, ReadOptions};
use synth::files::Staging;
use synth::jobs::{Access, answered_set, open_model};
use synth::model::Overrides;
use synth::teacher::Teacher;
use synth::train::labels_for;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [teacher, dataset, split, count, folder] = &arguments[..] else {
        anyhow::bail!("usage: set_of_images TEACHER DATASET SPLIT COUNT SET");
    };
    let access = Access::default();
    let model = open_model(Path::new(teacher), None, &Overrides::default(), &access)?;
    let frozen = Teacher::of(&model);
    let reading = ReadOptions {
        split: Some(split.clone()),
        framing: Some(Framing::stretched(frozen.size)),
        channels: Some(frozen.channels),
        limit: Some(count.parse()?),
        ..ReadOptions::default()
    };
    let mut data = access.labelled(Path::new(dataset), &reading)?;
    labels_for(&model.class_names(), &mut data)?;
    let source = serde_json::json!({ "name": data.name, "sha256": data.sha256 });
    let set = answered_set(&model, &frozen, data.images, Some(data.labels), source)?;
    let staging = Staging::create(folder, false)?;
    set.write(staging.path())?;
    staging.finish()?;
    println!("{folder}: {} images, the teacher gives {:.2} % their label", set.len(), 100.0 * set.agreement());
    Ok(())
}
