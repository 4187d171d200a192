//! Update rules step by step against PyTorch 2, and schedules against their formulas.

use super::*;
use crate::checkpoint::{Resumable, Saver};
use crate::nets::{Init, Kind, Slot, Weights};
use crate::ops::mem::{tensor, view};
use std::sync::Arc;

fn two_parameters() -> Weights {
    let slot = Slot { name: "p".into(), kind: Kind::LinearWeight, shape: vec![1, 2], init: Init::Constant(0.0) };
    Weights::from_file(Arc::new(vec![slot]), |_| Ok(vec![1.0, -2.0])).unwrap()
}

/// Gradient of `(p₀² + 3·p₁²) / 2`.
fn gradient(weights: &Weights) -> candle_core::Tensor {
    let (_, p) = weights.iter().next().unwrap();
    let p = view(p).unwrap();
    tensor(vec![p[0], 3.0 * p[1]], (1, 2)).unwrap()
}

fn check(weights: &Weights, expected: [f64; 2]) {
    let (_, p) = weights.iter().next().unwrap();
    for (p, e) in view(p).unwrap().iter().zip(expected) {
        assert!((f64::from(*p) - e).abs() < 2e-6, "{p} instead of {e}");
    }
}

/// `p = tensor([1, -2]); o = torch.optim.SGD([p], .1, momentum=.9, weight_decay=.01, nesterov=...)`, three steps on
/// `(tensor([1, 3]) * p * p / 2).sum()`
#[test]
fn sgd_is_pytorchs() {
    let plain = [[0.899, -1.398], [0.717301, -0.435402], [0.4813244989999999, 0.561992202]];
    let nesterov = [[0.8081, -0.8562], [0.57121561, 0.12108078], [0.321859673440997, 0.699442803918]];
    for (look_ahead, expected) in [(false, plain), (true, nesterov)] {
        let weights = two_parameters();
        let mut sgd = Sgd::new(0.9, look_ahead, 0.01, Decay::All);
        for e in expected {
            sgd.step(&weights, &[Some(gradient(&weights))], 0.1).unwrap();
            check(&weights, e);
        }
    }
}

/// `torch.optim.Adam([p], .1, betas=(.5, .999))` on the same function.
#[test]
fn adam_is_pytorchs() {
    let expected = [
        [0.900000001, -1.9000000001666666],
        [0.8018876040862115, -1.8008860067692087],
        [0.7069713150651571, -1.7032161034414697],
    ];
    let weights = two_parameters();
    let mut adam = Adam::new((0.5, 0.999));
    for e in expected {
        let grads = [Some(gradient(&weights))];
        adam.step(trainable(&weights, &grads), 0.1).unwrap();
        check(&weights, e);
    }
}

#[test]
fn decay_may_be_kept_to_weights() {
    let slot = Slot { name: "b".into(), kind: Kind::NormBias, shape: vec![2], init: Init::Constant(1.0) };
    for (decay, expected) in [(Decay::All, 0.95), (Decay::WeightsOnly, 1.0)] {
        let weights = Weights::from_file(Arc::new(vec![slot.clone()]), |_| Ok(vec![1.0, 1.0])).unwrap();
        let zero = tensor(vec![0.0, 0.0], 2).unwrap();
        Sgd::new(0.0, false, 0.5, decay).step(&weights, &[Some(zero)], 0.1).unwrap();
        let (_, p) = weights.iter().next().unwrap();
        assert!((view(p).unwrap()[0] - expected).abs() < 1e-7);
    }
}

/// methods.md 9.3, item 4: from 0.2 with a floor of 2e-4 over 200 epochs, 0.1001 at 100 and 2e-4 at the end.
#[test]
fn schedules_follow_their_formulas() {
    let cosine = Schedule::Cosine { floor: 1e-3 };
    assert!((0.2 * cosine.factor(100, 200, 0) - 0.1001).abs() < 1e-9);
    assert!((0.2 * cosine.factor(200, 200, 0) - 2e-4).abs() < 1e-9);
    let steps = Schedule::Step { at: vec![0.5, 0.75], gamma: 0.1 };
    for (step, factor) in [(0, 1.0), (99, 1.0), (100, 0.1), (149, 0.1), (150, 0.01)] {
        assert!((steps.factor(step, 200, 0) - factor).abs() < 1e-12, "step {step}");
    }
    let cycle = Schedule::OneCycle { rise: 0.25, start: 0.1, floor: 0.0 };
    for (step, factor) in [(0, 0.1), (25, 0.55), (50, 1.0), (125, 0.5), (200, 0.0)] {
        assert!((cycle.factor(step, 200, 0) - factor).abs() < 1e-9, "step {step}");
    }
    assert!((Schedule::Constant.factor(0, 10, 4) - 0.25).abs() < 1e-12);
    assert!((Schedule::Constant.factor(4, 10, 4) - 1.0).abs() < 1e-12);
}

/// A tensor that does not learn stands between two that do, as running statistics stand between weights.
#[test]
fn velocities_behind_a_tensor_that_does_not_learn_are_kept() {
    let slot =
        |name: &str| Slot { name: name.into(), kind: Kind::LinearWeight, shape: vec![1, 2], init: Init::Constant(0.0) };
    let weights = || {
        let slots = Arc::new(vec![slot("a"), slot("still"), slot("b")]);
        Weights::from_file(slots, |_| Ok(vec![1.0, -2.0])).unwrap()
    };
    let step = |sgd: &mut Sgd, weights: &Weights| {
        let grads =
            [Some(tensor(vec![0.5, 1.0], (1, 2)).unwrap()), None, Some(tensor(vec![2.0, 3.0], (1, 2)).unwrap())];
        sgd.step(weights, &grads, 0.1).unwrap();
    };
    let (whole, resumed) = (weights(), weights());
    let mut sgd = Sgd::new(0.9, true, 0.01, Decay::All);
    (0..3).for_each(|_| step(&mut sgd, &whole));
    let mut first = Sgd::new(0.9, true, 0.01, Decay::All);
    (0..2).for_each(|_| step(&mut first, &resumed));
    let kept = Saver::of(&first).unwrap().keep();
    let mut second = Sgd::new(0.9, true, 0.01, Decay::All);
    second.restore(&kept).unwrap();
    step(&mut second, &resumed);
    for ((slot, a), (_, b)) in whole.iter().zip(resumed.iter()) {
        assert_eq!(*view(a).unwrap(), *view(b).unwrap(), "{}", slot.name);
    }
}
