//! Where tests compute: on the CPU, or with `SYNTH_TEST_DEVICE=cuda` (or `cuda:N`) on a card, in both precisions.

use super::{Pair, distance, values};
use candle_core::{DType, Tensor};
use std::cell::{Cell, RefCell};
use std::sync::OnceLock;
use synth::ops::{Compute, DeviceChoice, Precision, mem};

/// What a result on a card may be off by, relative to the largest value.
pub const F32: f64 = 1e-3;
pub const BF16: f64 = 2e-2;

thread_local! {
    static HERE: RefCell<Compute> = RefCell::new(Compute::cpu());
    /// Whether [`bring`] rounds maps to bfloat16 on the CPU.
    static ROUNDED: Cell<bool> = const { Cell::new(false) };
}

/// Where the code under test computes now.
pub fn here() -> Compute {
    HERE.with(|here| here.borrow().clone())
}

/// The card of `SYNTH_TEST_DEVICE`, opened anew: nothing ran there before.
pub fn fresh_card() -> Option<Compute> {
    let choice: DeviceChoice = std::env::var("SYNTH_TEST_DEVICE").ok()?.parse().expect("SYNTH_TEST_DEVICE");
    match choice {
        DeviceChoice::Auto | DeviceChoice::Cpu => None,
        asked => Some(Compute::choose(asked, Some(Precision::F32)).unwrap_or_else(|error| panic!("{error}")).0),
    }
}

/// The same, opened once for all tests of a program.
pub fn card() -> Option<Compute> {
    static CARD: OnceLock<Option<Compute>> = OnceLock::new();
    CARD.get_or_init(fresh_card).clone()
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
    match there.dims().len() {
        4 if ROUNDED.get() => there.to_dtype(DType::BF16).and_then(|t| t.to_dtype(DType::F32)).unwrap(),
        4 => mem::cast(&there, here.dtype()).unwrap(),
        _ => there,
    }
}

/// `t` [`here`] in f32.
pub fn bring_f32(t: &Tensor) -> Tensor {
    here().bring(t).unwrap()
}

/// A gradient of the kind and at the place of its value.
pub fn like(t: &Tensor, dtype: DType) -> Tensor {
    let rounded = ROUNDED.get() && t.dims().len() == 4;
    let t = if rounded { bring(t) } else { here().bring(t).unwrap() };
    mem::cast(&t, dtype).unwrap()
}

/// Cosine of the angle between two lists of values.
pub fn cosine(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (values(a), values(b));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt().max(1e-30)
}

/// Compares what `f` returns on the card with the references in f32; in bf16 with what the CPU makes of the same rounded inputs.
pub fn verify_on(card: &Compute, case: &str, f: impl Fn() -> Vec<Pair>) -> f64 {
    let strict = Compute { precision: Precision::F32, ..card.clone() };
    let rough = Compute { precision: Precision::Bf16, ..card.clone() };
    let mut worst = 0f64;
    for (what, got, expected) in at(strict, &f) {
        assert_eq!(got.dims(), expected.dims(), "{case} {what}");
        let d = distance(&got, &expected);
        assert!(d <= F32, "{case} {what} (f32): off by {d:.2e} of the largest value");
        worst = worst.max(d);
    }
    ROUNDED.set(true);
    let references = at(Compute::cpu(), &f);
    ROUNDED.set(false);
    for ((what, got, _), (_, expected, _)) in at(rough, &f).iter().zip(&references) {
        assert_eq!(got.dims(), expected.dims(), "{case} {what}");
        let d = distance(got, expected);
        assert!(d <= BF16, "{case} {what} (bf16): off by {d:.2e} of the largest value");
        worst = worst.max(d);
    }
    worst
}

/// As [`verify_on`] for whole networks. In bf16, rounding between layers moves values across the kinks of activations, so that
/// single gradients are others; together they point the same way, in a network of few layers.
pub fn verify_network_on(card: &Compute, case: &str, precisions: &[Precision], f: impl Fn() -> Vec<Pair>) -> f64 {
    let mut worst = 0f64;
    for &precision in precisions {
        for (what, got, expected) in at(Compute { precision, ..card.clone() }, &f) {
            assert_eq!(got.dims(), expected.dims(), "{case} {what}");
            let (d, cosine) = (distance(&got, &expected), cosine(&got, &expected));
            let fine = match precision {
                Precision::F32 => d <= F32,
                Precision::Bf16 => d <= BF16 || got.elem_count() > 2 && cosine > 0.95,
            };
            assert!(fine, "{case} {what} ({}): off by {d:.2e}, cosine {cosine:.3}", precision.name());
            worst = worst.max(d);
        }
    }
    worst
}
