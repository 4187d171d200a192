//! Every network that trains: a training step, a frozen pass and a matching pass on the card and on the CPU.

use super::common::device::cosine;
use super::common::values;
use super::{on, random};
use candle_core::Tensor;
use std::sync::Arc;
use synth::nets::registry::{Shape, from_name, usual_input};
use synth::nets::{Forward, Mode, Network, Observed};
use synth::ops::mem::cast;
use synth::ops::{Compute, Precision};
use synth::rng::Streams;
use synth::tape::Tape;

/// One of each kind of block, at sizes that a test can bear.
const NAMES: [&str; 14] = [
    "resnet8",
    "wrn-16-1",
    "vgg8_bn-avg",
    "cifar-vgg11_bn",
    "lenet5",
    "lenet-cifar",
    "mnist-convnet",
    "mlperf-resnet8",
    "resnet10",
    "mobilenetv2_035",
    "tf_efficientnet_b0",
    "regnetx_002",
    "regnety_002",
    "densenet-bc-40-12",
];

fn network(name: &str) -> (Network, [usize; 3]) {
    let [channels, height, width] = usual_input(name).unwrap();
    let [height, width] = [height, width].map(|side| side.min(32));
    let shape = Shape { channels, height, width, num_classes: 10 };
    let (architecture, _) = from_name(name, &shape).unwrap_or_else(|error| panic!("{name}: {error}"));
    let network = Network::init(Arc::new(architecture), &mut Streams::new(5).stream("network", 0)).unwrap();
    (network, [height, width, channels])
}

/// Logits, gradient of the image, gradients of weights.
fn pass(network: &Network, x: &Tensor, mode: Mode, compute: &Compute) -> Vec<(String, Tensor)> {
    let network = network.duplicate().unwrap().to(compute).unwrap();
    let tape = Tape::new();
    let mut f = Forward::new(&tape, &network.weights, mode);
    let x = tape.leaf(compute.bring(x).unwrap());
    let y = network.forward(&mut f, x.clone()).unwrap();
    let logits = y.tensor().unwrap();
    let dy = cast(&compute.bring(&random(logits.dims(), 6)).unwrap(), logits.dtype()).unwrap();
    let mut seeds = vec![(y, dy)];
    for (i, Observed { moments: m, .. }) in f.moments.iter().enumerate() {
        seeds.push((m.clone(), compute.bring(&random(m.dims(), 30 + i as u64)).unwrap()));
    }
    let mut out = vec![("logits".to_string(), logits)];
    let moments: Vec<Tensor> = f.moments.iter().map(|seen| seen.moments.tensor().unwrap()).collect();
    let mut grads = tape.backward(seeds).unwrap();
    out.push(("image".into(), grads.take(&x).unwrap()));
    let gradients = f.gradients(&mut grads);
    out.extend(moments.into_iter().enumerate().map(|(i, m)| (format!("moments {i}"), m)));
    for ((slot, tensor), gradient) in network.weights.iter().zip(gradients) {
        match gradient {
            Some(gradient) => out.push((slot.name.clone(), gradient)),
            None if matches!(mode, Mode::Train { .. }) => out.push((slot.name.clone(), tensor.clone())),
            None => {}
        }
    }
    out
}

fn largest(t: &Tensor) -> f64 {
    values(t).iter().fold(0.0, |m, v| m.max(f64::from(v.abs())))
}

/// Length of all values as one vector.
fn norm(t: &Tensor) -> f64 {
    values(t).iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

/// Strict f32 against the CPU: the same network to rounding.
#[test]
#[ignore = "needs SYNTH_TEST_DEVICE"]
fn every_family_in_f32() {
    for name in NAMES {
        let (network, [h, w, c]) = network(name);
        let x = random(&[6, h, w, c], 7);
        for mode in [Mode::Train { momentum: 0.1 }, Mode::Frozen, Mode::Match] {
            let here = pass(&network, &x, mode, &Compute::cpu());
            let there = pass(&network, &x, mode, &on(Precision::F32));
            assert_eq!(here.len(), there.len());
            // A bias in front of a norm has a gradient of 0 but for rounding: it is measured by the others.
            let most = here[2..].iter().map(|(_, h)| largest(h)).fold(0.0, f64::max);
            for ((what, h), (_, t)) in here.iter().zip(&there) {
                let place = format!("{name} {mode:?} {what}");
                if what == "logits" || what.starts_with("moments") {
                    super::near(&place, t, h, 1e-3);
                }
                // Of a hundred thousand values before a kink one may lie so near that rounding moves it across, which changes
                // all gradients behind it a little.
                let (cosine, ratio) = (cosine(h, t), norm(t) / norm(h).max(1e-30));
                let silent = largest(h) < 1e-3 * most && largest(t) < 2e-3 * most;
                assert!(
                    silent || cosine > 0.999 && (ratio - 1.0).abs() < 0.01,
                    "{place}: cosine {cosine}, ratio {ratio}"
                );
            }
        }
    }
}

/// In bf16 every value is rounded to 8 bits, layer after layer: what comes out points the same way.
#[test]
#[ignore = "needs SYNTH_TEST_DEVICE"]
fn networks_in_bf16() {
    for name in ["resnet8", "wrn-16-1", "tf_efficientnet_b0", "mobilenetv2_035", "densenet-bc-40-12"] {
        let (network, [h, w, c]) = network(name);
        let x = random(&[8, h, w, c], 7);
        let here = pass(&network, &x, Mode::Train { momentum: 0.1 }, &Compute::cpu());
        let there = pass(&network, &x, Mode::Train { momentum: 0.1 }, &on(Precision::Bf16));
        for ((what, h), (_, t)) in here.iter().zip(&there) {
            // Through fifty layers at random weights little but the answer is left of a direction.
            if !["resnet8", "wrn-16-1"].contains(&name) && what != "logits" {
                continue;
            }
            let cosine = cosine(h, t);
            let least = if what == "image" { 0.85 } else { 0.9 };
            assert!(largest(h) < 1e-6 || cosine > least, "{name} {what}: cosine {cosine}");
        }
    }
}
