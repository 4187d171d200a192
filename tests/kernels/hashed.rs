//! Networks whose weights come from a hash of their names, as `fixtures/make_nets.py` fills them.
#![allow(dead_code)]

use std::sync::Arc;
use synth::nets::{Architecture, Forward, Kind, Network, Weights};
use synth::ops::mem::{host, update, view};
use synth::tape::Grads;

/// Uniform on [-1, 1) by name and index, as `values` of the Python script.
pub fn hashed(name: &str, n: usize) -> Vec<f32> {
    let seed = name.bytes().fold(0u64, |s, b| s.wrapping_mul(31).wrapping_add(u64::from(b)));
    (1..=n as u64)
        .map(|i| {
            let z = i.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(seed);
            let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}

/// `arch` with the weights of the Python script.
pub fn filled(arch: Architecture) -> Network {
    let weights = Weights::from_file(arch.slots.clone(), |slot| {
        let shape = slot.file_shape();
        let raw = hashed(&slot.name, slot.len());
        Ok(match slot.kind {
            _ if shape.len() > 1 => {
                let fan_in = shape[1..].iter().product::<usize>() as f32;
                raw.into_iter().map(|v| v * (2.0 / fan_in.sqrt())).collect()
            }
            Kind::RunningVar | Kind::NormWeight => raw.into_iter().map(|v| 1.0 + v / 2.0).collect(),
            _ => raw.into_iter().map(|v| v / 4.0).collect(),
        })
    });
    Network { arch: Arc::new(arch), weights: weights.unwrap() }
}

/// After a backward pass of a training step, in file layout: the gradient of every parameter (true), and the statistics (false).
pub fn gradients(net: &Network, f: &Forward, grads: &mut Grads) -> Vec<(String, bool, Vec<f32>)> {
    let all = f.gradients(grads);
    let one = |(i, gradient): (usize, Option<candle_core::Tensor>)| {
        let slot = &net.weights.slots[i];
        let Some(g) = gradient else { return (slot.name.clone(), false, net.weights.to_file(i).unwrap()) };
        // Gradients have the layout of the weights in memory.
        let mut g = view(&host(&g).unwrap()).unwrap().to_vec();
        assert_eq!(net.weights.iter().nth(i).unwrap().1.dims(), &slot.shape[..]);
        let as_weights = Weights::from_file(Arc::new(vec![slot.clone()]), |s| Ok(vec![0.0; s.len()])).unwrap();
        let t = as_weights.iter().next().unwrap().1.clone();
        update(&t, |to| to.swap_with_slice(&mut g)).unwrap();
        (slot.name.clone(), true, as_weights.to_file(0).unwrap())
    };
    all.into_iter().enumerate().map(one).collect()
}
