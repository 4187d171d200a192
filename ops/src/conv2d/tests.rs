//! Convolution against a direct f64 loop, on every instruction set and over many shapes.

use super::*;
use crate::mem::{tensor, view};
use crate::simd;
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut s = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..n)
        .map(|_| {
            s ^= s << 13;
            s ^= s >> 7;
            s ^= s << 17;
            (s >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// y = conv(x), and for a given dy the gradients dx and dw, by definition, in f64.
fn direct(x: &[f32], w: &[f32], dy: &[f32], s: &Conv2dSpec, z: &Sizes) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let mut y = vec![0f64; dy.len()];
    let mut dx = vec![0f64; x.len()];
    let mut dw = vec![0f64; w.len()];
    let (cg, og, up) = (z.c_in / s.groups, z.c_out / s.groups, s.upsample);
    for n in 0..z.n {
        for oy in 0..z.out_h {
            for ox in 0..z.out_w {
                for ky in 0..s.kernel[0] {
                    for kx in 0..s.kernel[1] {
                        let iy = (oy * s.stride[0] + ky * s.dilation[0]) as isize - s.padding.top as isize;
                        let ix = (ox * s.stride[1] + kx * s.dilation[1]) as isize - s.padding.left as isize;
                        if iy < 0 || ix < 0 || iy >= (z.h * up) as isize || ix >= (z.w * up) as isize {
                            continue;
                        }
                        let (iy, ix) = (iy as usize / up, ix as usize / up);
                        for co in 0..z.c_out {
                            let o = ((n * z.out_h + oy) * z.out_w + ox) * z.c_out + co;
                            for ci in 0..cg {
                                let i = ((n * z.h + iy) * z.w + ix) * z.c_in + co / og * cg + ci;
                                let k = ((ky * s.kernel[1] + kx) * cg + ci) * z.c_out + co;
                                y[o] += f64::from(x[i]) * f64::from(w[k]);
                                dx[i] += f64::from(dy[o]) * f64::from(w[k]);
                                dw[k] += f64::from(dy[o]) * f64::from(x[i]);
                            }
                        }
                    }
                }
            }
        }
    }
    (y, dx, dw)
}

fn close(what: &str, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((f64::from(*g) - e).abs() <= 3e-6 * scale * 4.0, "{what}[{i}]: {g} instead of {e}");
    }
}

fn check(n: usize, h: usize, w: usize, c_in: usize, c_out: usize, spec: Conv2dSpec) {
    let _alone = simd::CHOICE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    compare(n, h, w, c_in, c_out, spec);
}

fn compare(n: usize, h: usize, w: usize, c_in: usize, c_out: usize, spec: Conv2dSpec) {
    let weights = [spec.kernel[0], spec.kernel[1], c_in / spec.groups, c_out];
    let z = spec.sizes(&[n, h, w, c_in], &weights).unwrap();
    let x = noise(n * h * w * c_in, 1);
    let wv = noise(weights.iter().product(), 2);
    let dy = noise(n * z.out_h * z.out_w * c_out, 3);
    let (y, dx, dw) = direct(&x, &wv, &dy, &spec, &z);
    let summed: Vec<f64> = dx.iter().zip(&x).map(|(dx, other)| dx + f64::from(*other)).collect();
    let (xt, wt) = (tensor(x.clone(), (n, h, w, c_in)).unwrap(), tensor(wv, &weights[..]).unwrap());
    let dyt = tensor(dy, (n, z.out_h, z.out_w, c_out)).unwrap();
    for level in simd::Level::available() {
        simd::force(Some(level));
        let tag = |what: &str| format!("{what} {spec:?} {n}x{h}x{w} {c_in}->{c_out} {}", level.name());
        let (out, _) = forward(&xt, None, &wt, &spec, &After::NOTHING).unwrap();
        close(&tag("y"), &view(&out).unwrap(), &y);
        let to_input = |others| backward_input(&dyt, &wt, &spec, xt.dims(), others).unwrap();
        close(&tag("dx"), &view(&to_input(None)).unwrap(), &dx);
        close(&tag("dx and others"), &view(&to_input(Some(&xt))).unwrap(), &summed);
        let got = backward_weights(&xt, None, &dyt, &spec, &weights).unwrap();
        close(&tag("dw"), &view(&got).unwrap(), &dw);
    }
    simd::force(None);
}

#[test]
fn every_shape_agrees_with_the_definition() {
    let k3 = Conv2dSpec::new(3).padding(1);
    check(3, 8, 8, 16, 16, k3);
    check(2, 8, 8, 3, 16, k3);
    check(2, 8, 8, 16, 3, k3);
    check(2, 7, 9, 16, 32, k3.stride(2));
    check(2, 8, 8, 32, 64, k3.stride(2));
    check(2, 8, 8, 16, 40, Conv2dSpec::new(1).stride(2));
    check(5, 4, 4, 64, 48, Conv2dSpec::new(1));
    check(2, 10, 10, 5, 7, Conv2dSpec::new(5));
    check(2, 11, 10, 6, 8, Conv2dSpec::new(3).padding(2).dilation(2));
    check(2, 9, 8, 8, 12, k3.groups(4));
    check(2, 9, 8, 24, 24, k3.groups(24));
    check(2, 9, 8, 37, 37, k3.groups(37).stride(2));
    check(2, 6, 5, 12, 20, k3.upsampled());
    check(2, 4, 4, 33, 64, k3.upsampled());
    check(1, 6, 6, 4, 4, Conv2dSpec::new(5).padding(2).upsampled());
    check(1, 5, 6, 3, 9, Conv2dSpec { kernel: [3, 2], stride: [2, 1], dilation: [1, 2], ..Conv2dSpec::new(1) });
    let bottom_right = Padding { top: 0, left: 0, bottom: 1, right: 1 };
    check(2, 8, 8, 16, 32, Conv2dSpec { padding: bottom_right, ..Conv2dSpec::new(3).stride(2) });
    check(70, 2, 2, 130, 70, k3);
    check(9, 1, 3, 8, 10, Conv2dSpec::new(1));
}

/// Every way through the kernels that only some channel counts and sizes take.
fn special_shapes() -> Vec<([usize; 5], Conv2dSpec)> {
    let k3 = Conv2dSpec::new(3).padding(1);
    vec![
        // Winograd: one tile, groups of tiles that are not full, several blocks of columns, no padding, weights as well.
        ([1, 2, 2, 32, 32], k3),
        ([3, 8, 6, 16, 32], k3),
        ([5, 10, 8, 32, 64], k3),
        ([2, 6, 8, 64, 96], Conv2dSpec::new(3)),
        ([3, 6, 6, 64, 64], k3),
        ([2, 4, 4, 128, 64], Conv2dSpec::new(3).padding(2)),
        ([1, 4, 4, 256, 64], k3),
        // One channel fewer, one row fewer, a dilation: not Winograd.
        ([2, 6, 6, 31, 64], k3),
        ([2, 7, 6, 32, 64], k3),
        ([2, 8, 8, 32, 64], k3.dilation(2)),
        // Large weights: small maps, several rows of a large one, 1x1, stride.
        ([9, 4, 4, 256, 256], Conv2dSpec::new(3).padding(1).stride(2)),
        ([1, 20, 16, 176, 192], k3),
        ([3, 3, 3, 512, 512], Conv2dSpec::new(1)),
        // Few output channels: forward, and backward to a stem's image.
        ([3, 9, 7, 32, 3], k3),
        ([3, 8, 8, 16, 1], Conv2dSpec::new(5).stride(2)),
        ([2, 6, 6, 96, 4], k3.upsampled()),
        ([3, 9, 7, 3, 48], k3),
        ([2, 12, 12, 2, 64], Conv2dSpec::new(7).padding(3).stride(2)),
        // Kernels larger than the map, whose outer taps see nothing: by Winograd (also the weights), large weights, few channels on
        // either side, one channel per group; no tap at all.
        ([2, 2, 2, 32, 32], Conv2dSpec::new(5).padding(2)),
        ([2, 2, 2, 64, 64], Conv2dSpec::new(5).padding(2)),
        ([3, 3, 3, 512, 512], Conv2dSpec::new(3).padding(4).dilation(4)),
        ([2, 3, 3, 32, 3], Conv2dSpec::new(3).padding(8).dilation(8)),
        ([2, 3, 3, 3, 32], Conv2dSpec::new(3).padding(8).dilation(8)),
        ([2, 3, 3, 24, 24], Conv2dSpec::new(3).padding(8).dilation(8).groups(24)),
        ([2, 3, 3, 20, 12], Conv2dSpec::new(2).padding(8).dilation(16)),
        // Dilated kernels whose outer taps see something from some pixels: both axes in parts, one, read where the images are, few
        // channels on either side.
        ([2, 17, 17, 25, 28], Conv2dSpec::new(3).padding(8).dilation(8)),
        ([3, 15, 20, 25, 25], Conv2dSpec::new(3).padding(16).dilation(16)),
        ([2, 20, 20, 12, 16], Conv2dSpec::new(3).padding(8).dilation(8)),
        ([2, 10, 9, 32, 3], Conv2dSpec::new(3).padding(4).dilation(4)),
        ([2, 10, 9, 3, 32], Conv2dSpec::new(3).padding(6).dilation(4)),
    ]
}

#[test]
fn special_ways_agree_with_the_definition() {
    for ([n, h, w, c_in, c_out], spec) in special_shapes() {
        check(n, h, w, c_in, c_out, spec);
        check_fused([n, h, w, c_in, c_out], spec, Activation::leaky(0.1));
    }
}

#[test]
fn taps_that_see_only_padding_are_left_out() {
    let taps = |rate: usize, [h, w]: [usize; 2]| {
        let spec = Conv2dSpec::new(3).padding(rate).dilation(rate);
        let z = spec.sizes(&[1, h, w, 8], &[3, 3, 8, 8]).unwrap();
        let of = |plan: Plan| plan.phases.iter().map(|phase| phase.taps.len()).collect::<Vec<_>>();
        let [forward, backward] = [Plan::forward(&spec, &z), Plan::backward(&spec, &z)].map(of);
        assert_eq!(forward, backward);
        forward
    };
    // Everywhere, or from some pixels: these are then cut into phases that see the same.
    assert_eq!(taps(8, [3, 3]), [1]);
    assert_eq!(taps(16, [15, 20]), [2, 1, 2]);
    assert_eq!(taps(8, [17, 17]), [4, 6, 4, 6, 9, 6, 4, 6, 4]);
    // Nothing is gained where single pixels see less.
    assert_eq!(taps(1, [1, 2]), [3]);
    assert_eq!(taps(2, [20, 20]), [9]);
}

/// Sizes whose products no machine counts are an error, not an image without pixels.
#[test]
fn sizes_beyond_all_counting_are_refused() {
    let half = 1usize << 31;
    let far = Padding { top: half, bottom: half - 1, left: half, right: half - 1 };
    for (padding, stride) in [(far, 1), (far, half), (Padding { top: usize::MAX, ..far }, 1)] {
        let spec = Conv2dSpec { padding, ..Conv2dSpec::new(1).stride(stride) };
        let found = spec.sizes(&[1; 4], &[1; 4]).unwrap_err().to_string();
        assert!(found.contains("more values than can be counted"), "{spec:?}: {found}");
    }
    for images in [1, 3] {
        let x = tensor(vec![1.0; images], (images, 1, 1, 1)).unwrap();
        let found = crate::spatial::subsample_pad(&x, 1, usize::MAX / 2).unwrap_err().to_string();
        assert!(found.contains("no memory"), "{found}");
    }
}

/// The error of F(2x2, 3x3), which docs/PERFORMANCE.md states: below 2e-6 of the largest result.
#[test]
fn winograd_stays_near_the_plain_sum() {
    let spec = Conv2dSpec::new(3).padding(1);
    // The last two have more sums than a task takes, cut evenly and not, and more channels than stay in cache.
    for (n, c, k) in [(1, 32, 32), (1, 64, 64), (1, 128, 128), (3, 160, 256), (1, 512, 64)] {
        let z = spec.sizes(&[n, 8, 8, c], &[3, 3, c, k]).unwrap();
        assert!(winograd::applies(&Plan::forward(&spec, &z)) && winograd::applies(&Plan::backward(&spec, &z)));
        let (x, w, dy) = (noise(n * 64 * c, 1), noise(9 * c * k, 2), noise(n * 64 * k, 3));
        let (y, dx, dw) = direct(&x, &w, &dy, &spec, &z);
        let t = |v: Vec<f32>, dims: &[usize]| tensor(v, dims).unwrap();
        let (x, w, dy) = (t(x, &[n, 8, 8, c]), t(w, &[3, 3, c, k]), t(dy, &[n, 8, 8, k]));
        let (out, _) = forward(&x, None, &w, &spec, &After::NOTHING).unwrap();
        let all = [
            (out, y),
            (backward_input(&dy, &w, &spec, x.dims(), None).unwrap(), dx),
            (backward_weights(&x, None, &dy, &spec, w.dims()).unwrap(), dw),
        ];
        for (got, expected) in all {
            let largest = expected.iter().fold(0f64, |m, v| m.max(v.abs()));
            let error =
                view(&got).unwrap().iter().zip(&expected).fold(0f64, |m, (g, e)| m.max((f64::from(*g) - e).abs()));
            assert!(error <= 2e-6 * largest, "{c} channels to {k}: {error:e} of {largest}");
        }
    }
}

/// Any convolution that fits: sides from 1, odd and uneven everything, strides beyond the kernel, padding beyond the
/// kernel, kernels beyond the image, groups, blocks of output channels that are not full.
fn shapes() -> impl Strategy<Value = ([usize; 5], Conv2dSpec)> {
    let pair = |max: usize| [1..=max, 1..=max];
    let padding =
        [0..6usize, 0..6, 0..6, 0..6].prop_map(|[top, left, bottom, right]| Padding { top, left, bottom, right });
    let plain = (pair(5), pair(4), padding.clone(), pair(3))
        .prop_map(|(kernel, stride, padding, dilation)| (kernel, stride, padding, dilation, 1));
    let upsampled = (pair(5), padding).prop_map(|(kernel, padding)| (kernel, [1, 1], padding, [1, 1], 2));
    let channels = prop_oneof![
        4 => (Just(1usize), 1..20usize, prop_oneof![1..20usize, 30..50usize]),
        1 => (2..5usize, 1..6usize, prop_oneof![1..20usize, 30..35usize]),
        1 => (2..40usize, Just(1), Just(1)),
    ];
    (1..4usize, 1..11usize, 1..11usize, channels, prop_oneof![3 => plain, 1 => upsampled])
        .prop_map(|(n, h, w, (groups, c_in, c_out), (kernel, stride, padding, dilation, upsample))| {
            let spec = Conv2dSpec { kernel, stride, padding, dilation, groups, upsample, ..Conv2dSpec::new(1) };
            ([n, h, w, c_in * groups, c_out * groups], spec)
        })
        .prop_filter("the kernel is larger than the padded image", |([n, h, w, c_in, c_out], s)| {
            s.sizes(&[*n, *h, *w, *c_in], &[s.kernel[0], s.kernel[1], c_in / s.groups, *c_out]).is_ok()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_shape_agrees_with_the_definition(([n, h, w, c_in, c_out], spec) in shapes()) {
        check(n, h, w, c_in, c_out, spec);
    }

    #[test]
    fn what_is_applied_on_the_way_equals_passes_of_their_own(
        ([n, h, w, c_in, c_out], spec) in shapes(), slope in 0f32..1.0, cap in prop_oneof![Just(f32::INFINITY), 0.1f32..2.0]
    ) {
        check_fused([n, h, w, c_in, c_out], spec, Activation { slope, cap });
    }
}

/// Prologue, bias, residual, activation and sums against the same in passes of their own over a plain convolution.
fn check_fused([n, h, w, c_in, c_out]: [usize; 5], spec: Conv2dSpec, act: Activation) {
    let _alone = simd::CHOICE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let weights = [spec.kernel[0], spec.kernel[1], c_in / spec.groups, c_out];
    let z = spec.sizes(&[n, h, w, c_in], &weights).unwrap();
    let out = [n, z.out_h, z.out_w, c_out];
    let make = |dims: &[usize], seed| tensor(noise(dims.iter().product(), seed), dims).unwrap();
    let (x, wt, bias, residual) = (make(&[n, h, w, c_in], 1), make(&weights, 2), make(&[c_out], 3), make(&out, 4));
    let before = Affine { scale: make(&[c_in], 5), shift: make(&[c_in], 6), act };
    for level in simd::Level::available() {
        simd::force(Some(level));
        let read = crate::norm::apply(&x, &before, None).unwrap();
        let (plain, _) = forward(&read, None, &wt, &spec, &After::NOTHING).unwrap();
        let (p, b, r) = (view(&plain).unwrap(), view(&bias).unwrap(), view(&residual).unwrap());
        let expected: Vec<f64> = (0..p.len()).map(|i| f64::from(act.apply(p[i] + b[i % c_out] + r[i]))).collect();
        let after = After { bias: Some(&bias), residual: Some(&residual), act, sums: true };
        let (y, sums) = forward(&x, Some(&before), &wt, &spec, &after).unwrap();
        close("fused", &view(&y).unwrap(), &expected);
        let sums = sums.unwrap();
        for c in 0..c_out {
            let channel = || expected.iter().skip(c).step_by(c_out);
            let (s, q) = (channel().sum::<f64>(), channel().map(|v| v * v).sum::<f64>());
            let size = channel().map(|v| v.abs()).sum::<f64>();
            assert!((sums.sum[c] - s).abs() < 1e-5 * (1.0 + size), "{} instead of {s}", sums.sum[c]);
            assert!((sums.sum_sq[c] - q).abs() < 1e-5 * (1.0 + q), "{} instead of {q}", sums.sum_sq[c]);
        }
        let dw = |x: &Tensor, before| backward_weights(x, before, &residual, &spec, &weights).unwrap();
        let expected: Vec<f64> = view(&dw(&read, None)).unwrap().iter().map(|v| f64::from(*v)).collect();
        close("fused dw", &view(&dw(&x, Some(&before))).unwrap(), &expected);
    }
    simd::force(None);
}

/// Tells another thread to stop when it is dropped.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Kernels and packed weights agree on the instruction set even if it changes while they run.
#[test]
fn the_level_may_change_at_any_time() {
    let _alone = simd::CHOICE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                simd::Level::available().into_iter().for_each(|l| simd::force(Some(l)));
            }
        });
        // Also where a comparison fails, or the scope would wait for ever.
        let _stops = Stops(&stop);
        for _ in 0..30 {
            compare(5, 9, 9, 17, 40, Conv2dSpec::new(3).padding(1));
            compare(1, 4, 4, 256, 160, Conv2dSpec::new(3).padding(1));
        }
    });
    simd::force(None);
}
