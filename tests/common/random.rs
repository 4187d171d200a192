//! Networks with random weights, for tests that need a teacher and not what it knows.

use std::sync::Arc;
use synth::model::Model;
use synth::nets::Network;
use synth::nets::registry::{Shape, new_model};
use synth::rng::Streams;

/// `arch` for images of `shape`, with pixels of mean 0.5 and deviation 0.25.
pub fn random_model(arch: &str, shape: &Shape) -> Model {
    let (mean, std) = (vec![0.5; shape.channels], vec![0.25; shape.channels]);
    let (architecture, config) = new_model(arch, shape, None, &mean, &std).unwrap();
    let network = Network::init(Arc::new(architecture), &mut Streams::new(7).stream("teacher", 0)).unwrap();
    Model { network, config, sha256: "0".repeat(64), source: "random".into() }
}
