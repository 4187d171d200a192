//! What candle 0.11 gets wrong and we therefore compute ourselves: each test states the right number and why.
//!
//! The gradient of a norm at 0 (NaN in candle, 0 wanted) belongs to the batch-norm loss: `loss/bn_stats.rs`.

use crate::common::values;
use candle_core::Tensor;
use synth::ops::Activation;
use synth::ops::conv2d::Conv2dSpec;
use synth::ops::mem::tensor;
use synth::tape::{self, Pool, PoolKind, Tape, Var};

fn t(v: &[f32], dims: &[usize]) -> Tensor {
    tensor(v.to_vec(), dims).unwrap()
}

/// The gradient of `x` for the given output gradient.
fn gradient(x: Tensor, dy: &[f32], f: impl Fn(&Tape, &Var) -> Var) -> Vec<f32> {
    let tape = Tape::new();
    let x = tape.leaf(x);
    let y = f(&tape, &x);
    let dy = t(dy, y.dims());
    values(&tape.backward([(y, dy)]).unwrap().take(&x).unwrap())
}

/// Every pixel of a 2x2 window but the largest gets 0, the largest the whole output gradient: 3, not 3/4.
/// candle divides by the window's size.
#[test]
fn max_pool_passes_the_whole_gradient_to_the_maximum() {
    let x = t(&[1.0, 4.0, 2.0, 3.0], &[1, 2, 2, 1]);
    let p = Pool { kind: PoolKind::Max, kernel: 2, stride: 2, padding: 0 };
    assert_eq!(gradient(x, &[3.0], |tape, x| tape::pool(tape, x, p).unwrap()), [0.0, 3.0, 0.0, 0.0]);
}

/// A line 1 3 2 5 4 under windows of 3 with stride 2 (rows alike): the windows {1 3 2} and {2 5 4} have their maxima at
/// 3 and 5. Averages: the middle value lies in both windows. candle refuses kernel ≠ stride.
#[test]
fn pooling_with_overlapping_windows_has_a_gradient() {
    let line = [1.0, 3.0, 2.0, 5.0, 4.0];
    let x = t(&[line, line.map(|v| v - 10.0), line.map(|v| v - 20.0)].concat(), &[1, 3, 5, 1]);
    let max = Pool { kind: PoolKind::Max, kernel: 3, stride: 2, padding: 0 };
    let dx = gradient(x.clone(), &[9.0, 18.0], |tape, x| tape::pool(tape, x, max).unwrap());
    assert_eq!(dx[..5], [0.0, 9.0, 0.0, 18.0, 0.0]);
    assert!(dx[5..].iter().all(|v| *v == 0.0));
    let average = Pool { kind: PoolKind::Average { count_padding: true }, ..max };
    let dx = gradient(x, &[9.0, 18.0], |tape, x| tape::pool(tape, x, average).unwrap());
    let row = [1.0, 1.0, 3.0, 2.0, 2.0];
    let expected = [row, row, row].concat();
    assert!(dx.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{dx:?}");
}

/// `y = up(x) + up(x)` with ones as output gradient: each pixel is shown 4 times by each, 4 + 4 = 8. And 4 + 1 = 5 where
/// `x` is read beside the enlargement. candle's enlargement overwrites what has gathered before.
#[test]
fn nearest_enlargement_adds_to_gathered_gradients() {
    let twice = |tape: &Tape, x: &Var| {
        let (a, b) = (tape::nearest2(tape, x).unwrap(), tape::nearest2(tape, x).unwrap());
        tape::add(tape, &a, &b, Activation::IDENTITY).unwrap()
    };
    assert_eq!(gradient(t(&[1.0, 2.0], &[1, 1, 2, 1]), &[1.0; 8], twice), [8.0, 8.0]);
    for enlarged_first in [true, false] {
        let tape = Tape::new();
        let x = tape.leaf(t(&[1.0, 2.0], &[1, 1, 2, 1]));
        let read = |enlarge: bool| match enlarge {
            true => tape::nearest2(&tape, &x).unwrap(),
            false => tape::activate(&tape, &x, Activation::RELU).unwrap(),
        };
        let outputs = [read(enlarged_first), read(!enlarged_first)];
        let seeds = outputs.map(|y| {
            let dims = y.dims().to_vec();
            (y, t(&vec![1.0; dims.iter().product()], &dims))
        });
        assert_eq!(values(&tape.backward(seeds).unwrap().take(&x).unwrap()), [5.0, 5.0]);
    }
}

/// Two pixels become four: at half-pixel centres the outputs are a, ¾a + ¼b, ¼a + ¾b, b. So with output gradients
/// 1, 2, 3, 4, a gets 1 + 1.5 + 0.75 = 3.25 and b 0.5 + 2.25 + 4 = 6.75. candle has no bilinear gradient.
#[test]
fn bilinear_resizing_has_a_gradient() {
    let dx = gradient(t(&[5.0, 9.0], &[1, 1, 2, 1]), &[1.0, 2.0, 3.0, 4.0], |tape, x| {
        tape::bilinear(tape, x, 1, 4).unwrap()
    });
    assert_eq!(dx, [3.25, 6.75]);
}

/// The subgradient at 0 that PyTorch takes is 0 for ReLU and the slope for LeakyReLU; candle takes 1. It matters: a
/// channel that a batch norm has set to 0 would train as if it were alive. Also inside a convolution's epilogue.
#[test]
fn activations_at_zero_take_the_lower_slope() {
    let x = || t(&[0.0, -0.0, 1.0, -1.0], &[1, 1, 4, 1]);
    let dy = [1.0; 4];
    let relu = gradient(x(), &dy, |tape, x| tape::activate(tape, x, Activation::RELU).unwrap());
    assert_eq!(relu, [0.0, 0.0, 1.0, 0.0]);
    let leaky = gradient(x(), &dy, |tape, x| tape::activate(tape, x, Activation::leaky(0.25)).unwrap());
    assert_eq!(leaky, [0.25, 0.25, 1.0, 0.25]);
    let inside = gradient(x(), &dy, |tape, x| {
        let w = Var::constant(t(&[1.0], &[1, 1, 1, 1]));
        tape::conv2d(tape, x, &w, &Conv2dSpec::new(1), None, None, Activation::RELU, false).unwrap().y
    });
    assert_eq!(inside, [0.0, 0.0, 1.0, 0.0]);
}

/// Two groups are two convolutions side by side, and their gradients too: candle loops over groups (slow, not wrong).
#[test]
fn groups_are_convolutions_side_by_side() {
    let tape = Tape::new();
    let line = |n: usize, k: usize| -> Vec<f32> { (0..n).map(|i| ((i * k) % 13) as f32 - 6.0).collect() };
    let (x, w) = (line(2 * 3 * 3 * 4, 5), line(3 * 3 * 2 * 6, 7));
    let spec = Conv2dSpec::new(3).padding(1);
    let conv = |x: &Var, w: &Var, spec: Conv2dSpec| {
        tape::conv2d(&tape, x, w, &spec, None, None, Activation::IDENTITY, false).unwrap().y
    };
    // Channels `range` of the last dimension of `c`.
    let part = |v: &[f32], c: usize, range: std::ops::Range<usize>| -> Vec<f32> {
        v.chunks_exact(c).flat_map(|p| p[range.clone()].to_vec()).collect()
    };
    let (xv, wv) = (tape.leaf(t(&x, &[2, 3, 3, 4])), tape.leaf(t(&w, &[3, 3, 2, 6])));
    let y = conv(&xv, &wv, spec.groups(2));
    let dy = line(2 * 3 * 3 * 6, 11);
    let mut seeds = vec![(y.clone(), t(&dy, &[2, 3, 3, 6]))];
    let mut halves = Vec::new();
    for g in 0..2 {
        let xg = tape.leaf(t(&part(&x, 4, 2 * g..2 * g + 2), &[2, 3, 3, 2]));
        let wg = tape.leaf(t(&part(&w, 6, 3 * g..3 * g + 3), &[3, 3, 2, 3]));
        let yg = conv(&xg, &wg, spec);
        assert_eq!(values(&yg.tensor().unwrap()), part(&values(&y.tensor().unwrap()), 6, 3 * g..3 * g + 3));
        seeds.push((yg, t(&part(&dy, 6, 3 * g..3 * g + 3), &[2, 3, 3, 3])));
        halves.push((xg, wg));
    }
    let mut grads = tape.backward(seeds).unwrap();
    let (dx, dw) = (values(&grads.take(&xv).unwrap()), values(&grads.take(&wv).unwrap()));
    for (g, (xg, wg)) in halves.iter().enumerate() {
        assert_eq!(values(&grads.take(xg).unwrap()), part(&dx, 4, 2 * g..2 * g + 2));
        assert_eq!(values(&grads.take(wg).unwrap()), part(&dw, 6, 3 * g..3 * g + 3));
    }
}
