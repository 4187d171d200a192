use crate::conv2d::{Affine, After, Conv2dSpec, Padding, backward_input, backward_weights, forward, precisions};
use crate::mem::{tensor, view};
use crate::simd::{CHOICE, Level, amx, force};
use crate::{Activation, Precision};
use candle_core::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn random(dims: &[usize], name: &str) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(name.bytes().map(u64::from).sum());
    tensor((0..dims.iter().product()).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect(), dims).unwrap()
}

/// The nearest value of bf16, of two the even one.
fn rounded_bits(v: f32) -> u16 {
    let bits = v.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// The values as bf16 has them.
fn rounded(t: &Tensor) -> Tensor {
    let values = view(t).unwrap().iter().map(|v| f32::from_bits(u32::from(rounded_bits(*v)) << 16)).collect();
    tensor(values, t.dims()).unwrap()
}

#[track_caller]
fn near(found: &Tensor, expected: &Tensor, what: &str) {
    assert_eq!(found.dims(), expected.dims());
    let (found, expected) = (view(found).unwrap(), view(expected).unwrap());
    let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    let worst = found.iter().zip(expected.iter()).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(worst <= 4e-6 * largest.max(1.0), "{what}: {worst} of {largest}");
}

/// Products of values that bf16 has are exact, so that tiles differ from the other kernels by the order of sums alone.
#[test]
fn tiles_multiply_what_was_rounded() {
    let _alone = CHOICE.lock().unwrap();
    force(Some(Level::Avx512));
    if !amx::available() {
        eprintln!("skipped: this machine has no tiles");
        return;
    }
    let spec = Conv2dSpec::new;
    let three = spec(3).padding(1);
    let cases = [
        ([2, 32, 32, 16], 16, three),
        ([3, 16, 16, 32], 32, three),
        ([5, 8, 8, 64], 64, three),
        ([3, 4, 4, 128], 96, three),
        ([70, 6, 6, 208], 300, three),
        ([2, 4, 4, 160], 240, three.upsampled()),
        ([2, 32, 32, 8], 16, three),
        ([2, 32, 32, 16], 32, three.stride(2)),
        ([3, 9, 7, 9], 41, three.stride(2)),
        ([2, 16, 16, 64], 256, spec(1).stride(2)),
        ([2, 7, 7, 80], 72, spec(1)),
        ([37, 12, 5, 24], 48, three.stride(2)),
        ([40, 3, 3, 320], 200, spec(1)),
        ([9, 40, 36, 24], 16, three),
        ([1, 1, 64, 65], 70, spec(1)),
        ([2, 8, 8, 16], 8, three.upsampled()),
        ([1, 17, 13, 12], 20, spec(3).padding(4).dilation(4)),
        ([1, 40, 40, 3], 24, spec(7).stride(2).padding(3)),
        ([2, 6, 5, 20], 18, Conv2dSpec { padding: Padding { top: 0, left: 1, bottom: 1, right: 0 }, ..spec(2) }),
    ];
    for (dims, c_out, plain) in cases {
        let what = format!("{dims:?} to {c_out}, {plain:?}");
        let tiled = Conv2dSpec { products: Precision::Bf16, ..plain };
        // Behind enlargement, sums of weights are rounded: of eighths they stay as they are.
        let w = (random(&[plain.kernel[0], plain.kernel[1], dims[3], c_out], "w") * 8.0).unwrap();
        let w = (w.round().unwrap() / 8.0).unwrap();
        let x = random(&dims, "x");
        let bare = forward(&rounded(&x), None, &w, &plain, &After::NOTHING).unwrap().0;
        let found = forward(&x, None, &w, &tiled, &After::NOTHING).unwrap().0;
        near(&found, &bare, &what);
        let exact = forward(&x, None, &w, &plain, &After::NOTHING).unwrap().0;
        let differ = view(&found).unwrap().iter().zip(view(&exact).unwrap().iter()).filter(|(a, b)| a != b).count();
        assert!(10 * differ > 9 * bare.elem_count(), "{what}: products were not those of tiles");

        let act = Activation::RELU;
        let before = Affine { scale: random(&[dims[3]], "scale"), shift: random(&[dims[3]], "shift"), act };
        // What the prologue makes of the image, as an image.
        let identity: Vec<f32> = (0..dims[3] * dims[3]).map(|i| f32::from(i % (dims[3] + 1) == 0)).collect();
        let identity = tensor(identity, (1, 1, dims[3], dims[3])).unwrap();
        let seen = forward(&x, Some(&before), &identity, &spec(1), &After::NOTHING).unwrap().0;
        let (bias, residual) = (random(&[c_out], "bias"), random(bare.dims(), "residual"));
        let after = After { bias: Some(&bias), residual: Some(&residual), act, sums: true };
        let (expected, sums) = forward(&rounded(&seen), None, &w, &plain, &after).unwrap();
        let (found, found_sums) = forward(&x, Some(&before), &w, &tiled, &after).unwrap();
        near(&found, &expected, &what);
        let (sums, found_sums) = (sums.unwrap(), found_sums.unwrap());
        assert_eq!(sums.count, found_sums.count);
        for (a, b) in [(&found_sums.sum, &sums.sum), (&found_sums.sum_sq, &sums.sum_sq)] {
            let largest = b.iter().fold(0f64, |m, v| m.max(v.abs()));
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * largest), "{what}: {a:?} {b:?}");
        }

        let dy = random(bare.dims(), "dy");
        let expected = backward_input(&rounded(&dy), &w, &plain, &dims, None).unwrap();
        let alone = backward_input(&dy, &w, &tiled, &dims, None).unwrap();
        near(&alone, &expected, &what);
        let summed = backward_input(&dy, &w, &tiled, &dims, Some(&expected)).unwrap();
        near(&summed, &(alone + &expected).unwrap(), &what);

        let of_weights =
            |x: &Tensor, before, dy: &Tensor, spec| backward_weights(x, before, dy, spec, w.dims()).unwrap();
        let few = dims[3].min(c_out) < 8;
        let [to_result, _, to_weights] = precisions(&tiled, &dims, w.dims()).unwrap();
        assert_eq!(to_result, Precision::Bf16, "{what}");
        assert_eq!(to_weights, if few { Precision::F32 } else { Precision::Bf16 }, "{what}");
        let rounded = |t: &Tensor| if few { t.clone() } else { rounded(t) };
        let expected = of_weights(&rounded(&seen), None, &rounded(&dy), &plain);
        near(&of_weights(&x, Some(&before), &dy, &tiled), &expected, &what);
    }
    force(None);
}
