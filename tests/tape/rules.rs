//! The rules of the tape: gradients are overwritten in place, so each has one owner, and a value that is read several
//! times gathers the sum of what its readers send back.

use crate::common::{copy, values};
use candle_core::{DType, Tensor};
use synth::ops::Activation;
use synth::ops::conv2d::Conv2dSpec;
use synth::ops::mem::tensor;
use synth::tape::{self, BatchNorm, NormMode, Tape, UnaryOp, Var};

fn line(dims: &[usize], step: usize) -> Tensor {
    let n = dims.iter().product::<usize>();
    tensor((0..n).map(|i| ((i * step) % 17) as f32 * 0.25 - 2.0).collect(), dims).unwrap()
}

fn conv(tape: &Tape, x: &Var, w: &Var) -> Var {
    let k3 = Conv2dSpec::new(3).padding(1);
    tape::conv2d(tape, x, w, &k3, None, None, Activation::IDENTITY, false).unwrap().y
}

/// A layer with weights on the tape and statistics of its own.
fn norm(tape: &Tape, c: usize) -> BatchNorm {
    BatchNorm {
        weight: tape.leaf(line(&[c], 3)),
        bias: tape.leaf(line(&[c], 5)),
        running_mean: line(&[c], 7),
        running_var: tensor(vec![0.7; c], c).unwrap(),
        eps: 1e-5,
    }
}

/// Gradients of the leaves that `f` returns, for the sum of the outputs that `f` returns, each weighted by `line`.
fn gradients(f: impl Fn(&Tape) -> (Vec<Var>, Vec<Var>)) -> Vec<Vec<f32>> {
    let tape = Tape::new();
    let (leaves, outputs) = f(&tape);
    let seeds = outputs.into_iter().map(|y| {
        let dy = line(y.dims(), 11);
        (y, dy)
    });
    let mut grads = tape.backward(seeds.collect::<Vec<_>>()).unwrap();
    leaves.iter().map(|l| values(&grads.take(l).unwrap())).collect()
}

/// `together` is the sum of the runs, input by input.
fn adds_up(together: &[Vec<f32>], runs: &[Vec<Vec<f32>>]) {
    for (i, sum) in together.iter().enumerate() {
        for (k, v) in sum.iter().enumerate() {
            let expected: f32 = runs.iter().map(|r| r[i][k]).sum();
            assert!((v - expected).abs() <= 1e-5 * (1.0 + expected.abs()), "{v} instead of {expected}");
        }
    }
}

/// Compares one pass with two readers to the sum of two passes with one reader each.
fn two_readers(f: impl Fn(&Tape, [bool; 2]) -> (Vec<Var>, Vec<Var>)) {
    let run = |which| gradients(|tape| f(tape, which));
    adds_up(&run([true, true]), &[run([true, false]), run([false, true])]);
}

#[test]
fn two_convolutions_read_one_value() {
    two_readers(|tape, [first, second]| {
        let x = tape.leaf(line(&[2, 4, 4, 3], 1));
        let w = [2, 3].map(|s| Var::constant(line(&[3, 3, 3, 5], s)));
        let outputs = [(first, &w[0]), (second, &w[1])].into_iter().filter(|c| c.0).map(|c| conv(tape, &x, c.1));
        (vec![x.clone()], outputs.collect())
    });
}

#[test]
fn two_convolutions_read_one_lazy_norm() {
    for mode in [NormMode::Train { momentum: 0.1 }, NormMode::Frozen, NormMode::Match] {
        two_readers(|tape, [first, second]| {
            let x = tape.leaf(line(&[2, 4, 4, 3], 1));
            let bn = norm(tape, 3);
            let w = [2, 3].map(|s| Var::constant(line(&[3, 3, 3, 5], s)));
            let y = tape::batch_norm(tape, &x, None, &bn, mode, Activation::RELU, None).unwrap().y;
            let outputs = [(first, &w[0]), (second, &w[1])].into_iter().filter(|c| c.0).map(|c| conv(tape, &y, c.1));
            (vec![x, bn.weight, bn.bias], outputs.collect())
        });
    }
}

#[test]
fn a_value_added_to_itself_counts_twice() {
    for act in [Activation::IDENTITY, Activation::leaky(0.5)] {
        let got = gradients(|tape| {
            let x = tape.leaf(line(&[3, 5], 1));
            let y = tape::add(tape, &x, &x, act).unwrap();
            (vec![x], vec![y])
        });
        let expected: Vec<f32> = values(&line(&[3, 5], 11))
            .iter()
            .zip(values(&line(&[3, 5], 1)))
            .map(|(dy, x)| 2.0 * dy * act.derivative(act.apply(2.0 * x)))
            .collect();
        assert_eq!(got[0], expected);
    }
}

/// A block whose input is read by the convolution and by the shortcut: the shortcut's gradient must not be the buffer
/// that the norm overwrites.
#[test]
fn residual_and_convolution_read_one_value() {
    for mode in [NormMode::Train { momentum: 0.1 }, NormMode::Frozen] {
        let block = |tape: &Tape, x: &Var, r: &Var| {
            let w = tape.leaf(line(&[3, 3, 3, 3], 2));
            let u = conv(tape, x, &w);
            tape::batch_norm(tape, &u, None, &norm(tape, 3), mode, Activation::RELU, Some(r)).unwrap().y
        };
        let shared = gradients(|tape| {
            let x = tape.leaf(line(&[2, 4, 4, 3], 1));
            let y = block(tape, &x, &x);
            (vec![x], vec![y])
        });
        let apart = gradients(|tape| {
            let [x, r] = [(); 2].map(|_| tape.leaf(line(&[2, 4, 4, 3], 1)));
            let y = block(tape, &x, &r);
            (vec![x, r], vec![y])
        });
        adds_up(&shared, &[vec![apart[0].clone()], vec![apart[1].clone()]]);
    }
}

/// The residual of a convolution takes over the output gradient; the norm behind it overwrites its own in place.
#[test]
fn a_residual_stream_keeps_its_gradients_apart() {
    let act = Activation::RELU;
    let stream = |tape: &Tape, x: &Var, r: &Var| {
        let w = Var::constant(line(&[3, 3, 3, 3], 2));
        let a = tape::batch_norm(tape, x, None, &norm(tape, 3), NormMode::Frozen, act, None).unwrap().y;
        let k3 = Conv2dSpec::new(3).padding(1);
        tape::conv2d(tape, &a, &w, &k3, None, Some(r), Activation::IDENTITY, true).unwrap().y
    };
    let shared = gradients(|tape| {
        let x = tape.leaf(line(&[2, 4, 4, 3], 1));
        let y = stream(tape, &x, &x);
        (vec![x], vec![y])
    });
    let apart = gradients(|tape| {
        let [x, r] = [(); 2].map(|_| tape.leaf(line(&[2, 4, 4, 3], 1)));
        let y = stream(tape, &x, &r);
        (vec![x, r], vec![y])
    });
    adds_up(&shared, &[vec![apart[0].clone()], vec![apart[1].clone()]]);
}

/// Reshapes share storage with what they reshape: values are never overwritten, gradients change hands.
#[test]
fn reshapes_share_values_but_not_gradients() {
    two_readers(|tape, [first, second]| {
        let x = tape.leaf(line(&[6, 4], 1));
        let w = [2, 3].map(|s| tape.leaf(line(&[4, 5], s)));
        let b = tape.leaf(line(&[5], 2));
        let outputs = [(first, &w[0]), (second, &w[1])].into_iter().filter(|c| c.0);
        let outputs = outputs.map(|c| {
            let y = tape::linear(tape, &x, c.1, Some(&b)).unwrap();
            tape::unary(tape, &y, UnaryOp::Sigmoid).unwrap()
        });
        let outputs = outputs.collect();
        (vec![x, b], outputs)
    });
}

/// ½‖y‖² has y as its gradient; the caller may pass the value itself, twice if the objective counts it twice, and finds
/// it unchanged.
#[test]
fn seeds_are_copied() {
    let tape = Tape::new();
    let x = tape.leaf(line(&[2, 3, 3, 4], 1));
    let y = tape::activate(&tape, &x, Activation::leaky(0.5)).unwrap();
    let before = values(&y.tensor().unwrap());
    let dy = y.tensor().unwrap();
    let mut grads = tape.backward([(y.clone(), dy.clone()), (y.clone(), dy)]).unwrap();
    let expected: Vec<f32> = before.iter().map(|v| 2.0 * v * if *v > 0.0 { 1.0 } else { 0.5 }).collect();
    assert_eq!(values(&grads.take(&x).unwrap()), expected);
    assert_eq!(values(&y.tensor().unwrap()), before);
}

#[test]
fn a_seed_of_another_shape_is_refused() {
    let tape = Tape::new();
    let x = tape.leaf(line(&[2, 3], 1));
    let y = tape::activate(&tape, &x, Activation::RELU).unwrap();
    let e = tape.backward([(y, line(&[3, 2], 1))]).map(|_| ()).unwrap_err().to_string();
    assert!(e.contains("[3, 2]") && e.contains("[2, 3]"), "{e}");
}

#[test]
fn a_seed_of_another_kind_becomes_that_of_its_value() {
    let gradient = |kind: DType| {
        let tape = Tape::new();
        let x = tape.leaf(line(&[2, 3], 1));
        let y = tape::activate(&tape, &x, Activation::leaky(0.5)).unwrap();
        values(&tape.backward([(y, line(&[2, 3], 2).to_dtype(kind).unwrap())]).unwrap().take(&x).unwrap())
    };
    assert_eq!(gradient(DType::F64), gradient(DType::F32));
}

#[test]
fn factors_for_other_channels_are_refused() {
    let tape = Tape::new();
    let x = tape.leaf(line(&[1, 2, 2, 1], 1));
    for (scale, shift) in [(3, 3), (1, 3), (3, 1)] {
        let found = tape::per_channel(&tape, &x, &vec![2.0; scale], &vec![1.0; shift]);
        assert!(found.err().unwrap().to_string().contains("[1, 2, 2, 1]"), "{scale} and {shift}");
    }
}

/// Inputs, weights and statistics of a frozen pass are what they were, and constants get no gradient.
#[test]
fn values_are_never_overwritten() {
    let tape = Tape::new();
    let (x, w) = (line(&[2, 4, 4, 3], 1), line(&[3, 3, 3, 3], 2));
    let (x0, w0) = (copy(&x), copy(&w));
    let bn = norm(&tape, 3);
    let (mean, var) = (values(&bn.running_mean), values(&bn.running_var));
    let (xv, wv) = (tape.leaf(x.clone()), tape.leaf(w.clone()));
    let u = conv(&tape, &xv, &wv);
    let y = tape::batch_norm(&tape, &u, None, &bn, NormMode::Frozen, Activation::RELU, Some(&xv)).unwrap().y;
    let dy = y.tensor().unwrap();
    let mut grads = tape.backward([(y, dy)]).unwrap();
    assert!(grads.take(&xv).is_some() && grads.take(&wv).is_some());
    assert!(grads.take(&Var::constant(x.clone())).is_none());
    assert_eq!((values(&x), values(&w)), (values(&x0), values(&w0)));
    assert_eq!((values(&bn.running_mean), values(&bn.running_var)), (mean, var));
}

/// A NaN is seen in the result, whichever path it takes: hidden, it would turn a failed run into a quiet one.
#[test]
fn nan_survives_every_activation_and_pool() {
    for act in [Activation::IDENTITY, Activation::RELU, Activation::RELU6, Activation::leaky(0.2)] {
        for c in [3, 16, 19] {
            let x = tensor(vec![f32::NAN; 2 * 4 * 4 * c], (2, 4, 4, c)).unwrap();
            let all_nan = |what: &str, y: &Tensor| assert!(values(y).iter().all(|v| v.is_nan()), "{what} {act:?} {c}");
            let tape = Tape::new();
            let x = Var::constant(x);
            let w = Var::constant(line(&[1, 1, c, c], 3));
            let k1 = Conv2dSpec::new(1);
            let y = tape::conv2d(&tape, &x, &w, &k1, None, None, act, false).unwrap().y;
            all_nan("convolution", &y.tensor().unwrap());
            let y = tape::batch_norm(&tape, &x, None, &norm(&tape, c), NormMode::Frozen, act, None).unwrap().y;
            all_nan("norm", &y.tensor().unwrap());
            all_nan("activation", &tape::activate(&tape, &x, act).unwrap().tensor().unwrap());
            let p = tape::Pool { kind: tape::PoolKind::Max, kernel: 2, stride: 2, padding: 0 };
            all_nan("pool", &tape::pool(&tape, &x, p).unwrap().tensor().unwrap());
        }
    }
}
