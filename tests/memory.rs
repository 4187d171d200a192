//! The estimate of a batch's memory beside the memory that steps really take.
#![cfg(target_os = "linux")]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use synth::nets::registry::{Shape, from_name};
use synth::nets::{GeneratorConfig, Mode, Network, generator};
use synth::ops::Compute;
use synth::rng::Streams;
use synth::train::Need;

const TRAIN: Mode = Mode::Train { momentum: 0.1 };
/// Latent size of the recipes, and width of the reference's generator.
const GENERATOR: (usize, usize) = (256, 128);

/// The largest resident size of a process, in bytes.
fn peak(mut child: Child) -> f64 {
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0.0f64;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
        most = most.max(line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) * 1024.0);
        std::thread::sleep(Duration::from_millis(2));
    }
    most
}

/// Bytes per image of the step that `synth bench` does, from batches of two sizes.
fn measured(pass: &str, net: &str, [small, large]: [usize; 2]) -> f64 {
    let of = |batch: usize| {
        let batch = batch.to_string();
        let arguments =
            ["bench", "step", "--pass", pass, "--net", net, "--batch", &batch, "--seconds", "0.1", "--json"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_synth"));
        command.args(arguments).args(["--device", "cpu"]).stdout(Stdio::null()).stderr(Stdio::null());
        peak(command.spawn().unwrap())
    };
    (of(large) - of(small)) / (large - small) as f64
}

fn network(name: &str) -> Network {
    let shape = Shape { channels: 3, height: 32, width: 32, num_classes: 10 };
    let (architecture, ..) = from_name(name, &shape).unwrap();
    let network = Network::init(Arc::new(architecture), &mut Streams::new(0).stream("t", 0)).unwrap();
    network.to(&Compute::cpu()).unwrap()
}

fn verify(what: &str, estimate: Need, truth: f64) {
    let share = estimate.total() / truth;
    println!(
        "{what}: estimated {:.0} KiB per image, measured {:.0} KiB, {share:.2}",
        estimate.total() / 1024.0,
        truth / 1024.0
    );
    assert!(
        (0.9..=1.5).contains(&share),
        "{what}: the estimate is {share:.2} of the truth, {truth:.0} bytes per image"
    );
}

#[test]
fn a_training_step_takes_what_is_estimated() {
    for net in ["resnet20", "wrn-16-2"] {
        let estimate = Need::of(&network(net), &[32, 32, 3], TRAIN, true).unwrap();
        verify(net, estimate, measured("train", net, [16, 400]));
    }
}

#[test]
fn an_inner_step_of_an_inversion_takes_what_is_estimated() {
    let (latent, width) = GENERATOR;
    let config = GeneratorConfig::new(latent, width, 3, [32, 32]);
    let maker = Network::init(Arc::new(generator(&config).unwrap()), &mut Streams::new(0).stream("g", 0)).unwrap();
    let made = Need::of(&maker, &[latent], TRAIN, true).unwrap();
    for net in ["resnet20", "wrn-16-2"] {
        let estimate = made.with(Need::of(&network(net), &[32, 32, 3], Mode::Match, true).unwrap());
        verify(&format!("generator and {net}"), estimate, measured("invert", net, [16, 200]));
    }
}
