//! What the tests against PyTorch share: fixtures, comparison, and the loop over instruction sets and thread counts.
#![allow(dead_code)]

pub mod device;

use candle_core::Tensor;
use std::sync::{Mutex, MutexGuard};
use synth::ops::mem::{host, tensor, view};
use synth::ops::simd::{self, Level};
use synth::ops::{Compute, Precision};

/// One comparison: what, ours, the reference.
pub type Pair = (String, Tensor, Tensor);

/// The tensors of one file in `tests/fixtures`.
pub struct Fixtures {
    bytes: Vec<u8>,
}

impl Fixtures {
    pub fn load(name: &str) -> Self {
        // Where cargo runs the test; a test that was built on another machine is told.
        let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
        let path = format!("{root}/tests/fixtures/{name}");
        Self { bytes: std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}")) }
    }

    fn parsed(&self) -> safetensors::SafeTensors<'_> {
        safetensors::SafeTensors::deserialize(&self.bytes).unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        self.parsed().names().into_iter().map(|n| n.to_string()).collect()
    }

    /// The cases below `prefix`, each once: `conv/3x3` for `conv/3x3/x`.
    pub fn cases(&self, prefix: &str) -> Vec<String> {
        let mut cases: Vec<String> =
            self.names().iter().filter_map(|n| n.strip_suffix("/y").map(String::from)).collect();
        cases.retain(|c| c.starts_with(prefix));
        cases.sort();
        cases
    }

    pub fn try_get(&self, name: &str) -> Option<Tensor> {
        let file = self.parsed();
        let t = file.tensor(name).ok()?;
        let values = t.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Some(tensor(values, t.shape()).unwrap())
    }

    pub fn get(&self, name: &str) -> Tensor {
        self.try_get(name).unwrap_or_else(|| panic!("no fixture {name}"))
    }
}

/// Values in row order.
pub fn values(t: &Tensor) -> Vec<f32> {
    view(&host(t).unwrap()).unwrap().to_vec()
}

/// A copy that shares no storage.
pub fn copy(t: &Tensor) -> Tensor {
    tensor(values(t), t.dims()).unwrap()
}

/// Largest difference, relative to the largest value of the reference.
pub fn distance(got: &Tensor, expected: &Tensor) -> f64 {
    let (got, expected) = (values(got), values(expected));
    let scale = expected.iter().fold(1e-6f64, |m, v| m.max(f64::from(v.abs())));
    let worst = got.iter().zip(&expected).map(|(g, e)| f64::from((g - e).abs()));
    worst.fold(0.0, |m, d| if d.is_nan() { f64::NAN } else { m.max(d) }) / scale
}

/// Kernels are chosen for the whole process: one test at a time may choose them.
pub fn alone() -> MutexGuard<'static, ()> {
    static SIMD: Mutex<()> = Mutex::new(());
    SIMD.lock().unwrap_or_else(|e| e.into_inner())
}

/// Runs `f` on a pool of its own. From a test's own thread, which is of no pool, every operation is handed over to one: with tiny
/// networks that takes longer than the work.
pub fn on_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

/// Runs `f` at every level of the machine with 1 and 2 threads: results are the same to the bit at both counts.
pub fn every_path<R: Send>(f: impl Fn() -> R + Sync, bits: impl Fn(&R) -> Vec<u32>, mut then: impl FnMut(Level, R)) {
    let _alone = alone();
    for level in Level::available() {
        simd::force(Some(level));
        let (one, two) = (on_threads(1, &f), on_threads(2, &f));
        simd::force(None);
        assert!(bits(&one) == bits(&two), "{}: 1 and 2 threads differ", level.name());
        then(level, one);
    }
}

/// [`verify`] of a whole network; on a CPU with tiles also in bf16.
pub fn verify_network(case: &str, tolerance: f64, f: impl Fn() -> Vec<Pair> + Sync) -> f64 {
    verify_network_in(&[Precision::F32, Precision::Bf16], case, tolerance, f)
}

/// [`verify_network`] of tens of layers with random weights, on a card in f32 alone: through so many of them the roundings of bf16
/// grow until little is left to compare.
pub fn verify_deep_network(case: &str, tolerance: f64, f: impl Fn() -> Vec<Pair> + Sync) -> f64 {
    verify_network_in(&[Precision::F32], case, tolerance, f)
}

fn verify_network_in(precisions: &[Precision], case: &str, tolerance: f64, f: impl Fn() -> Vec<Pair> + Sync) -> f64 {
    match device::card() {
        Some(card) => {
            let _alone = alone();
            device::verify_network_on(&card, case, precisions, f)
        }
        None => {
            let worst = verify(case, tolerance, &f);
            if simd::has_tiles() && precisions.contains(&Precision::Bf16) {
                let _alone = alone();
                device::verify_network_on(&Compute::cpu(), case, &[Precision::Bf16], f);
            }
            worst
        }
    }
}

/// Compares what `f` returns on every path; `tolerance` is relative to the largest value of each reference.
///
/// With `SYNTH_TEST_DEVICE` it is compared on that card instead, with the tolerances of [`device`].
///
/// Returns the largest distance met.
pub fn verify(case: &str, tolerance: f64, f: impl Fn() -> Vec<Pair> + Sync) -> f64 {
    if let Some(card) = device::card() {
        let _alone = alone();
        return device::verify_on(&card, case, f);
    }
    let mut worst = 0f64;
    let bits = |pairs: &Vec<Pair>| pairs.iter().flat_map(|p| values(&p.1)).map(f32::to_bits).collect();
    every_path(f, bits, |level, pairs| {
        for (what, got, expected) in pairs {
            let place = format!("{case} {what} ({})", level.name());
            assert_eq!(got.dims(), expected.dims(), "{place}");
            let d = distance(&got, &expected);
            assert!(d <= tolerance, "{place}: off by {d:.2e} of the largest value");
            worst = worst.max(d);
        }
    });
    worst
}
