//! Every operation of the tape against central differences, and plain convolution and batch norm against candle's own
//! differentiation in f64.
//!
//! Our forward pass is f32, so a difference quotient has an error of about `ε·|L| / h` from rounding and `h²` from
//! curvature. The objective `L = Σ dy·y` is summed in f64, `h = 2^-6` is exact in f32, and a directional derivative over
//! random ±1 directions averages the rounding over the tensor.

use crate::common::{copy, distance, values};
use candle_core::{DType, Device, Tensor};
use synth::ops::Activation;
use synth::ops::conv_transpose::ConvTransposeSpec;
use synth::ops::conv2d::{Conv2dSpec, Padding};
use synth::ops::mem::tensor;
use synth::ops::windows::Window;
use synth::tape::{self, BatchNorm, Corners, NormMode, Placement, Pool, PoolKind, Tape, UnaryOp, Var};

const H: f32 = 1.0 / 64.0;
/// Of the length of the gradient: what a random direction sees of it.
const TOLERANCE: f64 = 2e-3;
const DIRECTIONS: u64 = 8;

/// Uniform on [-1, 1), by xorshift.
fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut s = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        (s >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn random(dims: &[usize], seed: u64) -> Tensor {
    tensor(noise(dims.iter().product(), seed), dims).unwrap()
}

/// Σ dy·y in f64 over all outputs.
fn objective(outputs: &[Var], dys: &[Tensor]) -> f64 {
    let dot = |y: &Var, dy: &Tensor| -> f64 {
        let y = values(&y.tensor().unwrap());
        y.iter().zip(values(dy)).map(|(y, d)| f64::from(*y) * f64::from(d)).sum()
    };
    outputs.iter().zip(dys).map(|(y, dy)| dot(y, dy)).sum()
}

/// Checks the gradient of every input of `f` (which must not depend on anything but its inputs).
fn check(what: &str, inputs: &[Tensor], f: impl Fn(&Tape, &[Var]) -> Vec<Var>) {
    let run = |inputs: &[Tensor]| {
        let tape = Tape::new();
        let leaves: Vec<Var> = inputs.iter().map(|t| tape.leaf(copy(t))).collect();
        let outputs = f(&tape, &leaves);
        (tape, leaves, outputs)
    };
    let (tape, leaves, outputs) = run(inputs);
    let dys: Vec<Tensor> = outputs.iter().enumerate().map(|(i, y)| random(y.dims(), 90 + i as u64)).collect();
    let mut grads = tape.backward(outputs.into_iter().zip(dys.clone())).unwrap();
    for (i, leaf) in leaves.iter().enumerate() {
        let gradient = values(&grads.take(leaf).unwrap_or_else(|| panic!("{what}: no gradient for input {i}")));
        let length = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!(length > 0.0, "{what}: input {i} has no influence");
        for d in 0..DIRECTIONS {
            let signs: Vec<f32> = noise(gradient.len(), 7 + d).into_iter().map(f32::signum).collect();
            let at = |step: f32| {
                let moved = values(&inputs[i]).iter().zip(&signs).map(|(v, s)| v + step * s).collect();
                let mut all = inputs.to_vec();
                all[i] = tensor(moved, inputs[i].dims()).unwrap();
                let (_, _, outputs) = run(&all);
                objective(&outputs, &dys)
            };
            // Fourth order: the curvature of a norm or a sigmoid drops out.
            let (near, far) = (at(H) - at(-H), at(2.0 * H) - at(-2.0 * H));
            let expected = (8.0 * near - far) / (12.0 * f64::from(H));
            let ours: f64 = gradient.iter().zip(&signs).map(|(g, s)| f64::from(*g) * f64::from(*s)).sum();
            let off = (ours - expected).abs() / length;
            assert!(off < TOLERANCE, "{what}: input {i}, direction {d}: {ours} instead of {expected} ({off:.1e})");
        }
    }
}

/// Values whose distance to every kink (0 and 6) stays above what a step can cross.
fn off_kinks(dims: &[usize], seed: u64) -> Tensor {
    let v = noise(dims.iter().product(), seed).into_iter().map(|v| v.signum() * (0.2 + 3.0 * v.abs()));
    tensor(v.map(|v| if (v - 6.0).abs() < 0.1 { 5.5 } else { v }).collect(), dims).unwrap()
}

/// Distinct values, at least 0.1 apart, in random order: no maximum changes within a step.
fn distinct(dims: &[usize], seed: u64) -> Tensor {
    let key = noise(dims.iter().product(), seed);
    let mut order: Vec<usize> = (0..key.len()).collect();
    order.sort_by(|a, b| key[*a].total_cmp(&key[*b]));
    let mut v = vec![0f32; key.len()];
    order.into_iter().enumerate().for_each(|(rank, i)| v[i] = rank as f32 * 0.1 - 3.0);
    tensor(v, dims).unwrap()
}

fn conv(tape: &Tape, x: &Var, w: &Var, spec: &Conv2dSpec) -> Var {
    tape::conv2d(tape, x, w, spec, None, None, Activation::IDENTITY, false).unwrap().y
}

/// A norm over weight, bias and fixed statistics.
fn norm(weight: &Var, bias: &Var) -> BatchNorm {
    let c = weight.dims()[0];
    let running_var = tensor(noise(c, 3).into_iter().map(|v| 1.5 + v).collect(), c).unwrap();
    BatchNorm { weight: weight.clone(), bias: bias.clone(), running_mean: random(&[c], 2), running_var, eps: 1e-5 }
}

#[test]
fn convolution_is_bilinear() {
    let k3 = Conv2dSpec::new(3).padding(1);
    let uneven = Padding { top: 0, left: 2, bottom: 1, right: 0 };
    for (spec, c_in, c_out) in [
        (k3, 3, 5),
        (k3.stride(2), 4, 17),
        (k3.groups(2), 4, 6),
        (k3.groups(9), 9, 9),
        (k3.groups(9).stride(2), 9, 9),
        (Conv2dSpec::new(5).padding(2).groups(9).stride(2), 9, 9),
        (k3.upsampled(), 3, 4),
        (Conv2dSpec::new(2).dilation(2), 3, 4),
        (Conv2dSpec { padding: uneven, stride: [3, 2], ..Conv2dSpec::new(2) }, 3, 4),
    ] {
        let inputs =
            [random(&[2, 5, 6, c_in], 1), random(&[spec.kernel[0], spec.kernel[1], c_in / spec.groups, c_out], 2)];
        check(&format!("{spec:?}"), &inputs, |t, v| vec![conv(t, &v[0], &v[1], &spec)]);
    }
}

#[test]
fn transposed_and_dilated_convolutions_are_bilinear() {
    for (kernel, padding, output_padding) in [(2, 0, 0), (3, 1, 1), (3, 0, 0)] {
        let spec = ConvTransposeSpec { kernel, stride: 2, padding, output_padding };
        let inputs = [random(&[2, 4, 3, 12], 1), random(&[kernel, kernel, 5, 12], 2)];
        check(&format!("{spec:?}"), &inputs, |t, v| vec![tape::conv_transpose(t, &v[0], &v[1], &spec).unwrap()]);
    }
    let tape = Tape::new();
    let [x, w] = [random(&[1, 4, 3, 12], 1), random(&[2, 2, 5, 11], 2)].map(Var::constant);
    let error = tape::conv_transpose(&tape, &x, &w, &ConvTransposeSpec::new(2, 2)).err().unwrap().to_string();
    assert!(error.contains("[1, 4, 3, 12]") && error.contains("[2, 2, 5, 11]"), "{error}");
    for dilation in [4, 16] {
        let spec = Conv2dSpec::new(3).padding(dilation).dilation(dilation);
        let inputs = [random(&[1, 7, 9, 12], 1), random(&[3, 3, 12, 12], 2)];
        check(&format!("{spec:?}"), &inputs, |t, v| vec![conv(t, &v[0], &v[1], &spec)]);
    }
}

#[test]
fn convolution_with_bias_residual_and_activation() {
    // Outputs far from 0 and 6: small weights, a bias or residual of at least 1 in size.
    let w = tensor(noise(3 * 3 * 4 * 6, 2).into_iter().map(|v| 0.02 * v).collect(), (3, 3, 4, 6)).unwrap();
    let far = |n: usize, seed| noise(n, seed).into_iter().map(|v| v.signum() * (1.0 + v.abs()));
    let residual = tensor(far(2 * 4 * 5 * 6, 4).map(|v| 3.0 * v).collect(), (2, 4, 5, 6)).unwrap();
    let inputs = [random(&[2, 4, 5, 4], 1), w, random(&[6], 3), residual];
    let spec = Conv2dSpec::new(3).padding(1);
    for act in [Activation::IDENTITY, Activation::RELU, Activation::leaky(0.2)] {
        check(&format!("{act:?}"), &inputs, |t, v| {
            vec![tape::conv2d(t, &v[0], &v[1], &spec, Some(&v[2]), Some(&v[3]), act, false).unwrap().y]
        });
    }
}

#[test]
fn batch_norm_over_the_batch() {
    let weight = tensor(vec![0.5, 1.0, 1.5, -0.7, 1.1], 5).unwrap();
    let inputs = [off_kinks(&[3, 4, 4, 5], 1), weight, random(&[5], 2), random(&[3, 4, 4, 5], 3)];
    let train = NormMode::Train { momentum: 0.1 };
    check("train", &inputs[..3], |t, v| {
        vec![tape::batch_norm(t, &v[0], None, &norm(&v[1], &v[2]), train, Activation::IDENTITY, None).unwrap().y]
    });
    check("train with residual", &inputs, |t, v| {
        let bn = norm(&v[1], &v[2]);
        vec![tape::batch_norm(t, &v[0], None, &bn, train, Activation::IDENTITY, Some(&v[3])).unwrap().y]
    });
}

#[test]
fn batch_norm_over_the_batch_with_an_activation() {
    // The bias keeps every value on one side of 0: |x̂| < 4 for these inputs.
    let bias = tensor(vec![5.0, -5.0, 6.0, -4.5, 7.0], 5).unwrap();
    let weight = tensor(vec![0.5, 1.0, 1.5, -0.7, 1.1], 5).unwrap();
    let inputs = [random(&[3, 4, 4, 5], 1), weight, bias, random(&[3, 3, 5, 4], 4)];
    let (train, act) = (NormMode::Train { momentum: 0.1 }, Activation::leaky(0.3));
    check("train, activation", &inputs[..3], |t, v| {
        vec![tape::batch_norm(t, &v[0], None, &norm(&v[1], &v[2]), train, act, None).unwrap().y]
    });
    check("train, activation, read by a convolution", &inputs, |t, v| {
        let y = tape::batch_norm(t, &v[0], None, &norm(&v[1], &v[2]), train, act, None).unwrap().y;
        vec![conv(t, &y, &v[3], &Conv2dSpec::new(3).padding(1))]
    });
}

#[test]
fn silu_behind_a_batch_norm() {
    let weight = tensor(vec![0.5, 1.0, 1.5, -0.7, 1.1], 5).unwrap();
    let inputs = [random(&[3, 4, 4, 5], 1), weight, random(&[5], 2)];
    for mode in [NormMode::Train { momentum: 0.1 }, NormMode::Frozen, NormMode::Match] {
        check(&format!("{mode:?}, silu"), &inputs, |t, v| {
            let out = tape::batch_norm(t, &v[0], None, &norm(&v[1], &v[2]), mode, Activation::IDENTITY, None).unwrap();
            [Some(tape::silu(t, &out.y).unwrap()), out.moments].into_iter().flatten().collect()
        });
    }
    // Behind a norm that has an activation itself, SiLU reads what the norm gives.
    let far = tensor(vec![5.0, -5.0, 6.0, -4.5, 7.0], 5).unwrap();
    check("relu, silu", &[inputs[0].clone(), inputs[1].clone(), far], |t, v| {
        let train = NormMode::Train { momentum: 0.1 };
        let y = tape::batch_norm(t, &v[0], None, &norm(&v[1], &v[2]), train, Activation::leaky(0.3), None).unwrap().y;
        vec![tape::silu(t, &y).unwrap()]
    });
}

#[test]
fn frozen_batch_norm_with_moments() {
    let bias = tensor(vec![9.0, -9.0, 9.0, -9.0, 9.0], 5).unwrap();
    let inputs = [random(&[2, 3, 4, 5], 1), random(&[5], 2), bias, random(&[2, 3, 4, 5], 3)];
    let act = Activation::leaky(0.3);
    for mode in [NormMode::Frozen, NormMode::Match] {
        check(&format!("{mode:?}"), &inputs[..3], |t, v| {
            let out = tape::batch_norm(t, &v[0], None, &norm(&v[1], &v[2]), mode, act, None).unwrap();
            [Some(out.y), out.moments].into_iter().flatten().collect()
        });
        check(&format!("{mode:?} with residual"), &inputs, |t, v| {
            let out = tape::batch_norm(t, &v[0], None, &norm(&v[1], &v[2]), mode, act, Some(&v[3])).unwrap();
            [Some(out.y), out.moments].into_iter().flatten().collect()
        });
    }
    check("moments alone", &inputs[..1], |t, v| {
        let [weight, bias] = [1, 2].map(|i| Var::constant(inputs[i].clone()));
        let out = tape::batch_norm(t, &v[0], None, &norm(&weight, &bias), NormMode::Match, act, None).unwrap();
        vec![out.moments.unwrap()]
    });
}

#[test]
fn pooling_and_resizing() {
    let x = [distinct(&[2, 5, 6, 3], 1)];
    let average = |count_padding| PoolKind::Average { count_padding };
    for (kind, kernel, stride, padding) in [
        (PoolKind::Max, 2, 2, 0),
        (PoolKind::Max, 3, 2, 1),
        (average(true), 3, 2, 1),
        (average(false), 3, 2, 1),
        (average(true), 2, 3, 0),
    ] {
        let p = Pool { kind, kernel, stride, padding };
        check(&format!("{p:?}"), &x, |t, v| vec![tape::pool(t, &v[0], p).unwrap()]);
    }
    check("global mean", &x, |t, v| vec![tape::global_mean(t, &v[0]).unwrap()]);
    for (h, w) in [(9, 11), (3, 4), (2, 13)] {
        check("bilinear", &x, |t, v| vec![tape::bilinear(t, &v[0], h, w).unwrap()]);
        check("aligned", &x, |t, v| vec![tape::resize(t, &v[0], [h, w], Corners::Aligned).unwrap()]);
    }
    for windows in [[2, 4], [7, 7], [5, 9], [1, 1]] {
        check("adaptive mean", &x, |t, v| vec![tape::adaptive_mean(t, &v[0], windows).unwrap()]);
    }
    check("nearest", &x, |t, v| vec![tape::nearest2(t, &v[0]).unwrap()]);
    check("option A", &x, |t, v| vec![tape::subsample_pad(t, &v[0], 2, 6).unwrap()]);
    check("flatten", &x, |t, v| vec![tape::flatten_chw(t, &v[0]).unwrap()]);
    check("unflatten", &[random(&[2, 24], 1)], |t, v| vec![tape::unflatten_chw(t, &v[0], [2, 4, 3]).unwrap()]);
    let places = [Placement { dy: 1, dx: -2, flip: true }, Placement { dy: -1, dx: 1, flip: false }];
    let (mean, std) = ([0.5, 0.4, 0.3], [0.2, 0.3, 0.25]);
    check("place", &x, |t, v| vec![tape::place(t, &v[0], &places, &mean, &std).unwrap()]);
}

#[test]
fn channels_side_by_side() {
    let parts = [random(&[2, 3, 4, 5], 1), random(&[2, 3, 4, 1], 2), random(&[2, 3, 4, 17], 3)];
    check("concat", &parts, |t, v| vec![tape::concat(t, &[&v[0], &v[1], &v[2]]).unwrap()]);
    // A value that stands twice gathers both gradients, and a constant among the parts gets none.
    check("concat of one value twice", &parts[..1], |t, v| {
        let constant = Var::constant(parts[1].clone());
        vec![tape::concat(t, &[&v[0], &constant, &v[0]]).unwrap()]
    });
    let tape = Tape::new();
    let leaves = parts.clone().map(|part| tape.leaf(part));
    let y = tape::concat(&tape, &[&leaves[0], &leaves[1], &leaves[2]]).unwrap().tensor().unwrap();
    assert_eq!(values(&y), values(&Tensor::cat(&parts, 3).unwrap().contiguous().unwrap()));
    let other = Var::constant(random(&[2, 4, 3, 5], 4));
    let error = tape::concat(&tape, &[&leaves[0], &other]).err().unwrap().to_string();
    assert!(error.contains("[2, 3, 4, 5]") && error.contains("[2, 4, 3, 5]"), "{error}");
}

#[test]
fn element_wise_and_linear() {
    let (a, b) = (off_kinks(&[3, 7], 1), random(&[3, 7], 2));
    // The kinks of the hard functions are at 3 and -3.
    let far = values(&a).into_iter().map(|v| if (v.abs() - 3.0).abs() < 0.1 { 1.2 * v } else { v });
    let far = tensor(far.collect(), (3, 7)).unwrap();
    for op in [UnaryOp::Sigmoid, UnaryOp::QuickGelu, UnaryOp::HardSigmoid, UnaryOp::HardSwish] {
        check(&format!("{op:?}"), std::slice::from_ref(&far), |t, v| vec![tape::unary(t, &v[0], op).unwrap()]);
    }
    let rectified = [off_kinks(&[2, 3, 4, 19], 5), random(&[19], 6)];
    check("prelu", &rectified, |t, v| vec![tape::prelu(t, &v[0], &v[1]).unwrap()]);
    check("silu", &[random(&[3, 37], 5)], |t, v| vec![tape::silu(t, &v[0]).unwrap()]);
    check("gate", &[random(&[2, 3, 4, 19], 5), random(&[2, 19], 6)], |t, v| vec![tape::gate(t, &v[0], &v[1]).unwrap()]);
    for act in [Activation::RELU, Activation::RELU6, Activation::leaky(0.1)] {
        check(&format!("{act:?}"), std::slice::from_ref(&a), |t, v| vec![tape::activate(t, &v[0], act).unwrap()]);
    }
    check("add", &[a.clone(), b.clone()], |t, v| vec![tape::add(t, &v[0], &v[1], Activation::IDENTITY).unwrap()]);
    let far = tensor(values(&b).into_iter().map(|v| 8.0 * v.signum() + v).collect(), (3, 7)).unwrap();
    check("add, activation", &[a.clone(), far], |t, v| {
        vec![tape::add(t, &v[0], &v[1], Activation::leaky(0.1)).unwrap()]
    });
    let inputs = [a, random(&[7, 18], 3), random(&[18], 4)];
    check("linear", &inputs, |t, v| vec![tape::linear(t, &v[0], &v[1], Some(&v[2])).unwrap()]);
}

/// candle's view of ours: NHWC → NCHW, HWIO → OIHW, f64.
fn theirs(t: &Tensor, order: [usize; 4]) -> candle_core::Var {
    let t = t.permute(order).unwrap().contiguous().unwrap().to_dtype(DType::F64).unwrap();
    candle_core::Var::from_tensor(&t).unwrap()
}

fn compare(what: &str, ours: &Tensor, expected: &Tensor, order: [usize; 4]) {
    let expected = expected.permute(order).unwrap().contiguous().unwrap().to_dtype(DType::F32).unwrap();
    let off = distance(ours, &expected);
    assert!(off < 2e-6, "{what}: off by {off:.1e} of the largest value");
}

#[test]
fn convolution_agrees_with_candle_in_f64() {
    const TO_NCHW: [usize; 4] = [0, 3, 1, 2];
    const TO_NHWC: [usize; 4] = [0, 2, 3, 1];
    for (k, stride, padding, dilation) in [(3, 1, 1, 1), (3, 2, 1, 1), (1, 2, 0, 1), (3, 1, 2, 2)] {
        let (x, w) = (random(&[2, 7, 7, 6], 1), random(&[k, k, 6, 10], 2));
        let tape = Tape::new();
        let (xv, wv) = (tape.leaf(x.clone()), tape.leaf(w.clone()));
        let y = conv(&tape, &xv, &wv, &Conv2dSpec::new(k).stride(stride).padding(padding).dilation(dilation));
        let dy = random(y.dims(), 3);
        let (xt, wt) = (theirs(&x, TO_NCHW), theirs(&w, [3, 2, 0, 1]));
        let yt = xt.conv2d(&wt, padding, stride, dilation, 1).unwrap();
        let their_grads = (&yt * theirs(&dy, TO_NCHW).as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
        compare("y", &y.tensor().unwrap(), &yt, TO_NHWC);
        let mut grads = tape.backward([(y, dy)]).unwrap();
        compare("dx", &grads.take(&xv).unwrap(), their_grads.get(&xt).unwrap(), TO_NHWC);
        compare("dw", &grads.take(&wv).unwrap(), their_grads.get(&wt).unwrap(), [2, 3, 1, 0]);
    }
}

#[test]
fn batch_norm_agrees_with_candle_in_f64() {
    let (x, dy) = (random(&[6, 2, 2, 5], 1), random(&[6, 2, 2, 5], 4));
    let (weight, bias) = (random(&[5], 2), random(&[5], 3));
    let tape = Tape::new();
    let leaves = [&x, &weight, &bias].map(|t| tape.leaf(copy(t)));
    let bn = norm(&leaves[1], &leaves[2]);
    let train = NormMode::Train { momentum: 0.1 };
    let y = tape::batch_norm(&tape, &leaves[0], None, &bn, train, Activation::IDENTITY, None).unwrap().y;

    let wide = |t: &Tensor, dims: &[usize]| {
        let t = t.to_dtype(DType::F64).unwrap().reshape(dims).unwrap().to_device(&Device::Cpu).unwrap();
        candle_core::Var::from_tensor(&t).unwrap()
    };
    let (xt, wt, bt) = (wide(&x, &[24, 5]), wide(&weight, &[5]), wide(&bias, &[5]));
    let centred = xt.broadcast_sub(&xt.mean_keepdim(0).unwrap()).unwrap();
    let std = (centred.sqr().unwrap().mean_keepdim(0).unwrap() + 1e-5).unwrap().sqrt().unwrap();
    let normal = centred.broadcast_div(&std).unwrap();
    let yt = normal.broadcast_mul(&wt).unwrap().broadcast_add(&bt).unwrap();
    let their_grads = (&yt * wide(&dy, &[24, 5]).as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
    let mut grads = tape.backward([(y.clone(), dy)]).unwrap();
    let pairs = [
        ("y", y.tensor().unwrap(), yt),
        ("dx", grads.take(&leaves[0]).unwrap(), their_grads.get(&xt).unwrap().clone()),
        ("dweight", grads.take(&leaves[1]).unwrap(), their_grads.get(&wt).unwrap().clone()),
        ("dbias", grads.take(&leaves[2]).unwrap(), their_grads.get(&bt).unwrap().clone()),
    ];
    for (what, ours, expected) in pairs {
        let off = distance(&ours, &expected.to_dtype(DType::F32).unwrap().flatten_all().unwrap());
        assert!(off < 2e-6, "{what}: off by {off:.1e}");
    }
}

/// Rolling, enlarging parts, scaling channels, cutting and stacking rows: all are linear.
#[test]
fn what_moves_whole_images() {
    let x = [random(&[2, 5, 6, 3], 1)];
    check("roll", &x, |t, v| vec![tape::roll(t, &v[0], 2, -1).unwrap()]);
    let windows = vec![
        Window { top: 0.5, left: 1.0, height: 3.25, width: 4.5 },
        Window { top: 0.0, left: 0.0, height: 5.0, width: 6.0 },
    ];
    check("windows", &x, |t, v| vec![tape::windows(t, &v[0], windows.clone()).unwrap()]);
    check("per_channel", &x, |t, v| vec![tape::per_channel(t, &v[0], &[0.5, -2.0, 3.0], &[1.0, 0.0, -1.0]).unwrap()]);
    let rows = [random(&[5, 4], 1), random(&[3, 4], 2)];
    check("rows and stack_rows", &rows, |t, v| {
        let parts = [tape::rows(t, &v[0], 1, 3).unwrap(), v[1].clone(), tape::rows(t, &v[0], 4, 1).unwrap()];
        // Row 0 and the second use of row 1 as well.
        let again = tape::rows(t, &v[0], 0, 2).unwrap();
        vec![tape::stack_rows(t, &parts).unwrap(), again]
    });
}

/// What rolling and enlarging do to pixels, by hand.
#[test]
fn pixels_go_where_they_should() {
    let x = tensor((0..6).map(|v| v as f32).collect(), (1, 2, 3, 1)).unwrap();
    let tape = Tape::new();
    let rolled = tape::roll(&tape, &Var::constant(x.clone()), 1, 1).unwrap().tensor().unwrap();
    assert_eq!(values(&rolled), [5.0, 3.0, 4.0, 2.0, 0.0, 1.0]);
    let of = |window: Window| {
        values(&tape::windows(&tape, &Var::constant(x.clone()), vec![window]).unwrap().tensor().unwrap())
    };
    assert_eq!(of(Window { top: 0.0, left: 0.0, height: 2.0, width: 3.0 }), values(&x), "the whole is the image");
    // Half as wide from the left: columns at -0.25, 0.25 and 0.75, of which the first is the edge.
    assert_eq!(of(Window { top: 0.0, left: 0.0, height: 2.0, width: 1.5 }), [0.0, 0.25, 0.75, 3.0, 3.25, 3.75]);
    let outside = Window { top: 1.0, left: 0.0, height: 2.0, width: 3.0 };
    assert!(tape::windows(&tape, &Var::constant(x.clone()), vec![outside]).is_err());
}
