//! A variance is the small difference of two large sums: how well f32 accumulators hold it.

use crate::common::device::bring;
use crate::common::verify;
use synth::ops::Activation;
use synth::ops::conv2d::{After, Conv2dSpec, Sums, forward};
use synth::ops::mem::tensor;
use synth::ops::norm;
use synth::rng::{Streams, normal};

fn variance(s: &Sums, c: usize) -> f64 {
    let n = s.count as f64;
    s.sum_sq[c] / n - (s.sum[c] / n).powi(2)
}

/// For a mean of a few standard deviations the variance is good to some 1e-6; a constant channel of size m has one of
/// up to 1e-5·m² instead of 0 (1000 times more with one accumulator over all pixels of a piece).
#[test]
fn variances_hold_beside_a_mean() {
    for channels in [1, 3, 16, 40] {
        let dims = [16, 32, 32, channels];
        let unit = normal(&mut Streams::new(1).stream("pixels", 0), dims.iter().product());
        for (mean, std, tolerance) in [(0.0, 1.0, 1e-6), (3.0, 1.0, 1e-5), (10.0, 1.0, 1e-4), (5.1, 0.0, 3e-4)] {
            let x: Vec<f32> = unit.iter().map(|v| v * std + mean).collect();
            let pixels: Vec<f64> = x.iter().step_by(channels).map(|v| f64::from(*v)).collect();
            let centre = pixels.iter().sum::<f64>() / pixels.len() as f64;
            let expected = pixels.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / pixels.len() as f64;
            let x = tensor(x, &dims[..]).unwrap();
            let identity = (0..channels * channels).map(|i| f32::from(u8::from(i % (channels + 1) == 0)));
            let w = tensor(identity.collect(), (1, 1, channels, channels)).unwrap();
            let after = After { bias: None, residual: None, act: Activation::IDENTITY, sums: true };
            let (_, sums) = forward(&x, None, &w, &Conv2dSpec::new(1), &after).unwrap();
            for (what, s) in [("pass", norm::sums(&x).unwrap()), ("convolution", sums.unwrap())] {
                let off = (variance(&s, 0) - expected).abs();
                assert!(off < tolerance, "{what}, {channels} channels, mean {mean}, deviation {std}: off by {off:.1e}");
            }
        }
    }
}

/// Of every single image, against plain sums in f64.
#[test]
fn sums_of_each_image() {
    for dims in [[5, 1, 1, 3], [4, 7, 5, 1], [3, 32, 32, 16], [2, 9, 9, 40], [6, 3, 3, 300]] {
        let [images, height, width, channels] = dims;
        let len = height * width * channels;
        let unit = normal(&mut Streams::new(2).stream("pixels", 0), images * len);
        let x: Vec<f32> = unit.iter().enumerate().map(|(i, v)| v + (i / len) as f32).collect();
        let mut plain = vec![0f64; images * 2 * channels];
        for (i, v) in x.iter().enumerate() {
            let at = (i / len) * 2 * channels + i % channels;
            plain[at] += f64::from(*v);
            plain[at + channels] += f64::from(*v).powi(2);
        }
        let plain = tensor(plain.into_iter().map(|v| v as f32).collect(), (images, 2 * channels)).unwrap();
        let x = tensor(x, &dims[..]).unwrap();
        verify(&format!("{dims:?}"), 1e-5, || {
            vec![("sums".to_string(), norm::sums_each(&bring(&x)).unwrap(), plain.clone())]
        });
    }
    assert!(norm::sums_each(&tensor(vec![1.0, 2.0], 2usize).unwrap()).is_err());
}
