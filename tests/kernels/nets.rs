//! Whole networks against PyTorch in float64 (`fixtures/make_nets.py`): a training step, evaluation with the gradient of
//! the image, and the distance of batch-norm moments, on every instruction set and with 1 and 2 threads.

use crate::common::device::{bring_f32, here};
use crate::common::{Fixtures, Pair, values, verify_network};
use crate::hashed::{filled, gradients, hashed};
use candle_core::Tensor;
use synth::nets::{Architecture, Forward, GeneratorConfig, Mode, Network, ResNetCifar, Shortcut, WideResNet};
use synth::nets::{Observed, generator};
use synth::ops::mem::tensor;
use synth::tape::Tape;

/// Relative to the largest value of the tensor, through up to 9 layers in f32.
const TOLERANCE: f64 = 1e-5;

const LABELS: [usize; 4] = [3, 0, 9, 3];

/// Every 7th value of a large tensor, as `sample` of the Python script.
fn sample(values: Vec<f32>) -> Tensor {
    let step = if values.len() > 1024 { 7 } else { 1 };
    let kept: Vec<f32> = values.into_iter().step_by(step).collect();
    let n = kept.len();
    tensor(kept, n).unwrap()
}

fn network(case: &str) -> Network {
    let resnet = |shortcut| {
        Architecture::new(|b| {
            ResNetCifar {
                blocks: vec![1, 1, 1],
                widths: vec![16, 32, 64],
                shortcut,
                in_channels: 3,
                num_classes: 10,
                bn_eps: 1e-5,
                head: "linear",
            }
            .build(b)
        })
    };
    let arch = match case {
        "resnet8_a" => resnet(Shortcut::A),
        "resnet8_b" => resnet(Shortcut::B),
        "wrn10" => Architecture::new(|b| {
            WideResNet { depth: 10, widen_factor: 1, in_channels: 3, num_classes: 10, bn_eps: 1e-5 }.build(b)
        }),
        _ => generator(&GeneratorConfig::new(16, 8, 3, [16, 16])).unwrap(),
    };
    filled(arch).to(&here()).unwrap()
}

fn input(case: &str) -> Tensor {
    match case {
        "generator" => bring_f32(&tensor(hashed("latents", 64), (4, 16)).unwrap()),
        _ => bring_f32(&tensor(hashed("images", 4 * 16 * 16 * 3), (4, 16, 16, 3)).unwrap()),
    }
}

/// The gradient of the objective at the output: mean cross-entropy of logits, weighted sum of pixels.
fn output_gradient(y: &Tensor) -> Tensor {
    let v = values(y);
    let &[n, k] = y.dims() else {
        return bring_f32(&tensor(hashed("weights of the pixels", v.len()), y.dims()).unwrap());
    };
    let mut out = Vec::new();
    for (row, label) in v.chunks_exact(k).zip(LABELS) {
        let top = row.iter().fold(f64::NEG_INFINITY, |m, v| m.max(f64::from(*v)));
        let e: Vec<f64> = row.iter().map(|v| (f64::from(*v) - top).exp()).collect();
        let total: f64 = e.iter().sum();
        out.extend(e.iter().enumerate().map(|(i, e)| ((e / total - f64::from(i == label)) / n as f64) as f32));
    }
    bring_f32(&tensor(out, (n, k)).unwrap())
}

fn train_step(file: &Fixtures, case: &str) -> Vec<Pair> {
    let net = network(case);
    let tape = Tape::new();
    let mut f = Forward::new(&tape, &net.weights, Mode::Train { momentum: 0.1 });
    let x = tape.leaf(input(case));
    let y = net.forward(&mut f, x.clone()).unwrap();
    let out = y.tensor().unwrap();
    let mut grads = tape.backward([(y, output_gradient(&out))]).unwrap();
    let dx = sample(values(&grads.take(&x).unwrap()));
    let mut pairs = vec![
        ("y".into(), out, file.get(&format!("{case}/train/y"))),
        ("dx".into(), dx, file.get(&format!("{case}/train/dx"))),
    ];
    for (name, gradient, values) in gradients(&net, &f, &mut grads) {
        let kind = if gradient { "grad" } else { "stat" };
        pairs.push((name.clone(), sample(values), file.get(&format!("{case}/train/{kind}/{name}"))));
    }
    let stored = file.names().iter().filter(|n| n.starts_with(&format!("{case}/train/"))).count();
    assert_eq!(pairs.len(), stored, "{case}: every stored tensor is compared");
    pairs
}

fn frozen(file: &Fixtures, case: &str) -> Vec<Pair> {
    let net = network(case);
    let tape = Tape::new();
    let mut f = Forward::new(&tape, &net.weights, Mode::Frozen);
    let x = tape.leaf(input(case));
    let y = net.forward(&mut f, x.clone()).unwrap();
    let out = y.tensor().unwrap();
    let again = synth::nets::infer(&net, &input(case)).unwrap();
    let mut grads = tape.backward([(y, output_gradient(&out))]).unwrap();
    let dx = sample(values(&grads.take(&x).unwrap()));
    vec![
        ("y".into(), out, file.get(&format!("{case}/frozen/y"))),
        ("inferred y".into(), again, file.get(&format!("{case}/frozen/y"))),
        ("dx".into(), dx, file.get(&format!("{case}/frozen/dx"))),
    ]
}

/// ‖v‖ and its gradient v / ‖v‖.
fn norm(v: &[f64]) -> (f64, Vec<f64>) {
    let n = v.iter().map(|v| v * v).sum::<f64>().sqrt();
    (n, v.iter().map(|v| v / n).collect())
}

fn matching(file: &Fixtures, case: &str) -> Vec<Pair> {
    let net = network(case);
    let tape = Tape::new();
    let mut f = Forward::new(&tape, &net.weights, Mode::Match);
    let x = tape.leaf(input(case));
    let y = net.forward(&mut f, x.clone()).unwrap();
    assert_eq!(f.moments.len(), net.arch.norm_layers());
    let mut total = 0.0;
    let mut seeds = vec![(y.clone(), output_gradient(&y.tensor().unwrap()))];
    for Observed { norm: id, moments, .. } in &f.moments {
        let m = values(&moments.tensor().unwrap());
        let c = m.len() / 2;
        let (mean, var) = net.weights.running_statistics(*id).unwrap();
        let mut gradient = Vec::new();
        for (batch, running) in m.chunks_exact(c).zip([&mean, &var]) {
            let difference: Vec<f64> = batch.iter().zip(running).map(|(b, r)| f64::from(*b) - f64::from(*r)).collect();
            let (n, g) = norm(&difference);
            total += n;
            gradient.extend(g.into_iter().map(|v| v as f32));
        }
        seeds.push((moments.clone(), bring_f32(&tensor(gradient, (2, c)).unwrap())));
    }
    let mut grads = tape.backward(seeds).unwrap();
    let dx = sample(values(&grads.take(&x).unwrap()));
    vec![
        ("total".into(), tensor(vec![total as f32], 1).unwrap(), file.get(&format!("{case}/match/total"))),
        ("dx".into(), dx, file.get(&format!("{case}/match/dx"))),
    ]
}

type Run = fn(&Fixtures, &str) -> Vec<Pair>;

fn check(case: &str, runs: &[(&str, Run)]) {
    let file = Fixtures::load("nets.safetensors");
    for (what, run) in runs {
        let worst = verify_network(&format!("{case} {what}"), TOLERANCE, || run(&file, case));
        println!("{case} {what}: {worst:.1e}");
    }
}

#[test]
fn resnet8_with_padded_shortcuts() {
    check("resnet8_a", &[("train", train_step), ("frozen", frozen), ("match", matching)]);
}

#[test]
fn resnet8_with_projections() {
    check("resnet8_b", &[("train", train_step), ("frozen", frozen), ("match", matching)]);
}

#[test]
fn wide_resnet_10_1() {
    check("wrn10", &[("train", train_step), ("frozen", frozen), ("match", matching)]);
}

#[test]
fn image_generator() {
    check("generator", &[("train", train_step), ("frozen", frozen)]);
}
