//! Update rules step by step against PyTorch 2, and schedules against their formulas.

use super::*;
use crate::checkpoint::{Resumable, Saver};
use crate::nets::{Init, Kind, Slot, Weights};
use crate::ops::mem::{tensor, update, view};
use crate::rng::Streams;
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

/// In float64 with NumPy: five iterations on the matrix over its norm, then a step of a tenth of the weights' norm, which is kept;
/// gradient `s·p`, the third of three steps.
#[test]
fn turning_keeps_the_length() {
    let cases = [
        ([1, 1, 2, 3], false, [1.221580248, -1.887867159, 0.754972444, -0.006151878, -1.264962584, 1.756715034]),
        ([1, 1, 2, 3], true, [1.215619217, -1.902664312, 0.761314212, 0.045533019, -1.261203655, 1.744227964]),
        ([1, 1, 3, 2], false, [1.121381218, -1.676036771, 0.304982716, 0.191725986, -0.434821305, 2.434555817]),
        ([1, 1, 3, 2], true, [1.119989725, -1.673310935, 0.301060308, 0.190319757, -0.443163136, 2.436165234]),
    ];
    let start = [1.0, -2.0, 0.5, 0.25, -1.0, 2.0];
    let scales = [1.0, 3.0, 0.5, 2.0, 1.0, 0.25];
    for (shape, nesterov, expected) in cases {
        let weights = in_front_of_a_norm(shape, start.to_vec());
        let mut sgd = Sgd::new(0.9, nesterov, 0.01, Decay::All).turning(0.2);
        for _ in 0..3 {
            let p = view(weights.iter().next().unwrap().1).unwrap();
            let grad: Vec<f32> = p.iter().zip(scales).map(|(p, s)| p * s).collect();
            drop(p);
            sgd.step(&weights, &[Some(tensor(grad, &shape).unwrap()), None], 0.5).unwrap();
        }
        let p = view(weights.iter().next().unwrap().1).unwrap();
        for (found, expected) in p.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 2e-6, "{shape:?}: {found} instead of {expected}");
        }
    }
}

/// Beside the same in f64 by iterations on the whole matrix: on random matrices, tall and wide, and on one whose singular values fall
/// over six powers of ten, of which most are below the rounding of their squares, or until they are no normal numbers.
#[test]
fn turning_is_the_iteration_in_f64() {
    let mut rng = Streams::new(0).stream("turning", 0);
    let random = [[3, 3, 4, 96], [3, 3, 16, 20], [3, 3, 40, 80]].map(|shape| (shape, 1.0));
    for (shape, decay) in random.into_iter().chain([([3, 3, 16, 64], 0.8), ([3, 3, 16, 64], 0.2)]) {
        let (columns, n) = (shape[3], shape.iter().product::<usize>());
        let start = crate::rng::normal(&mut rng, n);
        let mut grad = crate::rng::normal(&mut rng, n);
        if decay < 1.0 {
            // Columns that shrink: singular values do so with them.
            grad.iter_mut().enumerate().for_each(|(i, g)| *g *= f64::powi(decay, (i % columns) as i32) as f32);
        }
        let weights = in_front_of_a_norm(shape, start.clone());
        let mut sgd = Sgd::new(0.0, false, 0.0, Decay::All).turning(0.5);
        sgd.step(&weights, &[Some(tensor(grad.clone(), &shape).unwrap()), None], 1.0).unwrap();
        let expected = turned(&start, &grad, columns, 0.5);
        let found = view(weights.iter().next().unwrap().1).unwrap();
        let length = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let apart = length(&mut found.iter().zip(&expected).map(|(f, e)| f64::from(*f) - e));
        let share = apart / length(&mut expected.iter().copied());
        assert!(share < if decay < 1.0 { 1e-3 } else { 5e-6 }, "{shape:?}, {decay}: {share:.1e}");
    }
}

/// Five iterations on the matrix over its length, and a step of a share of the weights' length against it, at that length.
fn turned(start: &[f32], grad: &[f32], columns: usize, share: f64) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let product = |a: &[f64], b: &[f64], inner: usize| -> Vec<f64> {
        let across = b.len() / inner;
        let sum = |i: usize, j: usize| (0..inner).map(|k| a[i * inner + k] * b[k * across + j]).sum();
        (0..a.len() / inner).flat_map(|i| (0..across).map(move |j| (i, j))).map(|(i, j)| sum(i, j)).collect()
    };
    let (start, mut x) = (wide(start), wide(grad));
    let length = dot(&x, &x).sqrt();
    x.iter_mut().for_each(|x| *x /= length);
    let rows = x.len() / columns;
    for _ in 0..5 {
        let across: Vec<f64> = (0..x.len()).map(|i| x[i % rows * columns + i / rows]).collect();
        let gram = product(&across, &x, rows);
        let square = product(&gram, &gram, columns);
        let factor: Vec<f64> = gram.iter().zip(square).map(|(g, s)| -4.775 * g + 2.0315 * s).collect();
        let next = product(&x, &factor, columns);
        x.iter_mut().zip(next).for_each(|(x, next)| *x = 3.4445 * *x + next);
    }
    let own = dot(&start, &start);
    let step = share * (own / dot(&x, &x)).sqrt();
    let moved: Vec<f64> = start.iter().zip(&x).map(|(p, o)| p - step * o).collect();
    let scale = (own / dot(&moved, &moved)).sqrt();
    moved.iter().map(|p| p * scale).collect()
}

/// Weights of a convolution `[KH, KW, C, C_out]`, whose values stand in memory as they are given, with the scale of a norm behind them.
fn in_front_of_a_norm(shape: [usize; 4], values: Vec<f32>) -> Weights {
    let slot =
        |kind, shape: &[usize]| Slot { name: "w".into(), kind, shape: shape.to_vec(), init: Init::Constant(1.0) };
    let slots = vec![slot(Kind::ConvWeight, &shape), slot(Kind::NormWeight, &shape[3..])];
    let weights = Weights::init(Arc::new(slots), &mut Streams::new(0).stream("w", 0)).unwrap();
    update(weights.iter().next().unwrap().1, |w| w.copy_from_slice(&values)).unwrap();
    weights
}

/// What has no length to keep, or none that means nothing, learns by SGD to the bit: without a norm behind it, with a bias, one channel
/// per group; and all of it where nothing turns. A gradient of zeros leaves what turns as it is.
#[test]
fn what_does_not_turn_learns_by_sgd() {
    let slot = |kind, shape: &[usize]| Slot { name: "w".into(), kind, shape: shape.to_vec(), init: Init::Uniform(1.0) };
    let (conv, norm) = (slot(Kind::ConvWeight, &[3, 3, 4, 5]), slot(Kind::NormWeight, &[5]));
    let (bias, depthwise) = (slot(Kind::Bias, &[5]), slot(Kind::ConvWeight, &[3, 3, 1, 5]));
    let step = |slots: &[Slot], turn: f32, scale: f32| {
        let weights = Weights::init(Arc::new(slots.to_vec()), &mut Streams::new(0).stream("w", 0)).unwrap();
        let before = weights.duplicate().unwrap();
        let mut sgd = Sgd::new(0.9, true, 0.01, Decay::All).turning(turn);
        let grads: Vec<_> = weights.iter().map(|(_, w)| Some((w * f64::from(scale)).unwrap())).collect();
        sgd.step(&weights, &grads, 0.1).unwrap();
        let values = |weights: &Weights| view(weights.iter().next().unwrap().1).unwrap().to_vec();
        (values(&weights), values(&before))
    };
    let cases = [
        (vec![conv.clone(), norm.clone()], true),
        (vec![conv.clone(), bias.clone(), norm.clone()], true),
        (vec![conv.clone(), conv.clone(), norm.clone()], true),
        (vec![conv.clone(), bias.clone(), conv.clone(), norm.clone()], false),
        (vec![depthwise, norm.clone()], false),
        (vec![conv.clone(), bias], false),
        (vec![conv.clone()], false),
        (vec![norm.clone(), conv.clone()], false),
    ];
    for (slots, turns) in &cases {
        let kinds: Vec<_> = slots.iter().map(|slot| slot.kind).collect();
        assert_eq!(step(slots, 0.5, 1.0) != step(slots, 0.0, 1.0), *turns, "{kinds:?}");
    }
    let (after, before) = step(&cases[0].0, 0.5, 0.0);
    assert_eq!(after, before);
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

#[test]
fn schedules_end_at_their_floor_after_a_warm_up() {
    let cosine = Schedule::Cosine { floor: 1e-3 };
    assert!((cosine.factor(200, 200, 100) - 1e-3).abs() < 1e-9, "{}", cosine.factor(200, 200, 100));
    assert!((cosine.factor(150, 200, 100) - 0.5005).abs() < 1e-9);
}
