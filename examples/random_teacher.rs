//! Writes a model folder with random weights: a teacher for trying out sizes and speeds.
//!
//! `cargo run --release --example random_teacher -- ARCHITECTURE SIDE CLASSES FOLDER`

use std::path::Path;
use std::sync::Arc;
use synth::model::Model;
use synth::nets::Network;
use synth::nets::registry::{Shape, new_model};
use synth::rng::Streams;
use synth::{Error, Result};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let usage = || Error::invalid("arguments", format!("{} of them", args.len()), "ARCHITECTURE SIDE CLASSES FOLDER");
    let [arch, side, classes, folder] = args.as_slice() else { return Err(usage()) };
    let (side, num_classes) = (side.parse().map_err(|_| usage())?, classes.parse().map_err(|_| usage())?);
    let shape = Shape { channels: 3, height: side, width: side, num_classes };
    let (architecture, config) = new_model(arch, &shape, None, &[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225])?;
    let network = Network::init(Arc::new(architecture), &mut Streams::new(0).stream("random teacher", 0))?;
    let model = Model::made(network, config);
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    model.save(Path::new(folder), "# Random weights\n", &serde_json::json!({ "kind": "random" }))
}
