//! Batches that are cut into many pieces give the same bits with any number of threads.

use crate::common::{alone, on_threads, values};
use candle_core::Tensor;
use std::sync::Arc;
use synth::nets::registry::{Shape, from_name};
use synth::nets::{Architecture, Forward, GeneratorConfig, Mode, Network, ResNetCifar, Shortcut, generator, infer};
use synth::ops::mem::tensor;
use synth::ops::simd::{self, Level};
use synth::rng::{Streams, normal};
use synth::tape::Tape;

fn resnet8() -> Architecture {
    let net = ResNetCifar {
        blocks: vec![1, 1, 1],
        widths: vec![16, 32, 64],
        shortcut: Shortcut::B,
        in_channels: 3,
        num_classes: 10,
        bn_eps: 1e-5,
        head: "linear",
    };
    Architecture::new(|b| net.build(b))
}

/// Output, gradients and statistics of one training step, as bits.
fn step(arch: Architecture, input: &[usize]) -> Vec<u32> {
    let streams = Streams::new(5);
    let net = Network::init(Arc::new(arch), &mut streams.stream("weights", 0)).unwrap();
    let x = tensor(normal(&mut streams.stream("input", 0), input.iter().product()), input).unwrap();
    let tape = Tape::new();
    let mut f = Forward::new(&tape, &net.weights, Mode::Train { momentum: 0.1 });
    let x = tape.leaf(x);
    let y = net.forward(&mut f, x.clone()).unwrap();
    let out = y.tensor().unwrap();
    let mut grads = tape.backward([(y, out.clone())]).unwrap();
    let mut all: Vec<Tensor> = vec![out, grads.take(&x).unwrap()];
    all.extend(f.gradients(&mut grads).into_iter().flatten());
    all.extend(net.weights.iter().map(|(_, t)| t.clone()));
    all.iter().flat_map(values).map(f32::to_bits).collect()
}

/// A frozen network, whose images the threads share out in parts, answers with the bits of every image alone.
#[test]
fn frozen_networks_answer_the_same_with_1_2_and_5_threads() {
    let _alone = alone();
    let shape = |height, width| Shape { channels: 3, height, width, num_classes: 10 };
    for (name, shape, n) in [("resnet8", shape(32, 32), 61), ("espnet-p1-q1", shape(48, 64), 23)] {
        let streams = Streams::new(5);
        let (architecture, _) = from_name(name, &shape).unwrap();
        let net = Network::init(Arc::new(architecture), &mut streams.stream("weights", 0)).unwrap();
        let dims = (n, shape.height, shape.width, shape.channels);
        let input = normal(&mut streams.stream("input", 0), n * shape.height * shape.width * shape.channels);
        let x = tensor(input, dims).unwrap();
        let bits = |x: &Tensor| values(&infer(&net, x).unwrap()).into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let alone: Vec<u32> = (0..n).flat_map(|i| bits(&x.narrow(0, i, 1).unwrap())).collect();
        for threads in [1, 2, 5] {
            assert!(on_threads(threads, || bits(&x)) == alone, "{name} with {threads} threads");
        }
    }
}

#[test]
fn a_training_step_is_the_same_with_1_2_and_5_threads() {
    let _alone = alone();
    for level in Level::available() {
        simd::force(Some(level));
        let images = [72, 32, 32, 3];
        let expected = on_threads(1, || step(resnet8(), &images));
        for threads in [2, 5] {
            assert!(on_threads(threads, || step(resnet8(), &images)) == expected, "{} {threads}", level.name());
        }
        let config = GeneratorConfig::new(32, 16, 3, [32, 32]);
        let make = || generator(&config).unwrap();
        let expected = on_threads(1, || step(make(), &[72, 32]));
        for threads in [2, 5] {
            assert!(on_threads(threads, || step(make(), &[72, 32])) == expected, "{} {threads}", level.name());
        }
    }
    simd::force(None);
}
