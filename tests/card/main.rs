//! What a card computes against what the CPU computes: losses, optimizers, whole steps, and every family of networks.
//!
//! The first test runs the others, and those against PyTorch, on the emulator of `tests/cuda_emulator`; on a machine with a card,
//! `SYNTH_TEST_DEVICE=cuda cargo test --release --features cuda -- --include-ignored` runs them there.
#![cfg(all(feature = "cuda", target_os = "linux"))]

#[path = "../common/mod.rs"]
mod common;
mod families;
mod losses;
mod moments;
mod steps;

use candle_core::Tensor;
use common::device::card;
use common::distance;
use std::path::Path;
use std::process::{Command, Stdio};
use synth::ops::mem::tensor;
use synth::ops::{Compute, Precision};
use synth::rng::{Streams, normal};

/// The card of `SYNTH_TEST_DEVICE`, where every step is queued call by call.
fn on(precision: Precision) -> Compute {
    let card = card().expect("set SYNTH_TEST_DEVICE=cuda");
    Compute { precision, graphs: false, ..card }
}

fn random(dims: &[usize], seed: u64) -> Tensor {
    tensor(normal(&mut Streams::new(seed).stream("values", 0), dims.iter().product()), dims).unwrap()
}

fn near(what: &str, got: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(got.dims(), expected.dims(), "{what}");
    let d = distance(got, expected);
    assert!(d <= tolerance, "{what}: off by {d:.2e} of the largest value");
}

fn near_number(what: &str, got: f64, expected: f64, tolerance: f64) {
    let off = (got - expected).abs() / expected.abs().max(1e-3);
    assert!(off <= tolerance, "{what}: {got} instead of {expected}");
}

#[test]
fn everything_on_the_emulator() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda_emulator");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda_emulator/build.sh");
    let built = Command::new("bash").arg(script).arg(&folder).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    // Those of one process share its card, and run one at a time; the families take as long as all others.
    let halves = [vec!["families::"], vec!["--skip", "families::"]].map(|half| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--test-threads", "1"])
            .args(half)
            .env("SYNTH_CUDA_LIBS", &folder)
            .env("SYNTH_TEST_DEVICE", "cuda")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    });
    for half in halves {
        let run = half.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success() && said.contains(" passed; 0 failed") && !said.contains(" 0 passed"), "{said}");
    }
}
