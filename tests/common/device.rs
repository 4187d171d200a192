//! Where tests compute: on the CPU, or with `SYNTH_TEST_DEVICE=cuda` (or `cuda:N`) on a card, in both precisions.

use super::{Pair, distance};
use candle_core::{DType, Tensor};
use std::cell::RefCell;
use std::sync::OnceLock;
use synth::ops::{Compute, DeviceChoice, Precision, mem};

/// What a result on a card may be off by, relative to the largest value.
pub const F32: f64 = 1e-3;
pub const BF16: f64 = 2e-2;

thread_local! {
    static HERE: RefCell<Compute> = RefCell::new(Compute::cpu());
}

/// Where the code under test computes now.
pub fn here() -> Compute {
    HERE.with(|here| here.borrow().clone())
}

/// The card of `SYNTH_TEST_DEVICE`, opened once for all tests of a program.
pub fn card() -> Option<Compute> {
    static CARD: OnceLock<Option<Compute>> = OnceLock::new();
    let opened = CARD.get_or_init(|| {
        let choice: DeviceChoice = std::env::var("SYNTH_TEST_DEVICE").ok()?.parse().expect("SYNTH_TEST_DEVICE");
        match choice {
            DeviceChoice::Auto | DeviceChoice::Cpu => None,
            asked => Some(Compute::choose(asked, Some(Precision::F32)).unwrap_or_else(|error| panic!("{error}")).0),
        }
    });
    opened.clone()
}

/// Runs `f` with `compute` as [`here`].
pub fn at<R>(compute: Compute, f: impl FnOnce() -> R) -> R {
    let before = HERE.with(|here| here.replace(compute));
    let out = f();
    HERE.with(|here| here.replace(before));
    out
}

/// `t` [`here`]; maps `[N, H, W, C]` in its precision.
pub fn bring(t: &Tensor) -> Tensor {
    let here = here();
    let there = here.bring(t).unwrap();
    if there.dims().len() == 4 { mem::cast(&there, here.dtype()).unwrap() } else { there }
}

/// `t` [`here`] in f32.
pub fn bring_f32(t: &Tensor) -> Tensor {
    here().bring(t).unwrap()
}

/// A gradient of the kind and at the place of its value.
pub fn like(t: &Tensor, dtype: DType) -> Tensor {
    mem::cast(&here().bring(t).unwrap(), dtype).unwrap()
}

/// Compares what `f` returns on the card in both precisions; `bf16` is what the second may be off by.
pub fn verify_on(card: &Compute, case: &str, bf16: f64, f: impl Fn() -> Vec<Pair>) -> f64 {
    let mut worst = 0f64;
    for (precision, tolerance) in [(Precision::F32, F32), (Precision::Bf16, bf16)] {
        let compute = Compute { precision, ..card.clone() };
        for (what, got, expected) in at(compute, &f) {
            let place = format!("{case} {what} ({})", precision.name());
            assert_eq!(got.dims(), expected.dims(), "{place}");
            let d = distance(&got, &expected);
            assert!(d <= tolerance, "{place}: off by {d:.2e} of the largest value");
            worst = worst.max(d);
        }
    }
    worst
}
