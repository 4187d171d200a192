//! Convolution kernels on the shapes of the CIFAR networks: `cargo bench --bench conv`. Throughput is in multiply-adds, so
//! twice the number is FLOP/s.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use synth::ops::conv2d::{After, Conv2dSpec, backward_input, backward_weights, forward};
use synth::ops::mem::tensor;
use synth::rng::{Streams, normal};

const BATCH: usize = 64;

/// (side, channels in, channels out, kernel, stride)
const SHAPES: &[(usize, usize, usize, usize, usize)] = &[
    (32, 3, 16, 3, 1),
    (32, 16, 16, 3, 1),
    (16, 32, 32, 3, 1),
    (16, 32, 64, 3, 2),
    (8, 64, 64, 3, 1),
    (16, 64, 64, 1, 1),
    (4, 512, 512, 3, 1),
    (32, 64, 3, 3, 1),
];

fn convolutions(c: &mut Criterion) {
    for &(side, c_in, c_out, k, stride) in SHAPES {
        let spec = Conv2dSpec::new(k).padding(k / 2).stride(stride);
        let mut rng = Streams::new(0).stream("bench", 0);
        let mut random = |dims: [usize; 4]| tensor(normal(&mut rng, dims.iter().product()), dims.to_vec()).unwrap();
        let x = random([BATCH, side, side, c_in]);
        let w = random([k, k, c_in, c_out]);
        let (y, _) = forward(&x, None, &w, &spec, &After::NOTHING).unwrap();
        let mut group = c.benchmark_group(format!("conv {k}x{k}/{stride} {c_in}->{c_out} on {side}x{side}"));
        group.throughput(Throughput::Elements((y.elem_count() * k * k * c_in) as u64)).sample_size(20);
        group.bench_function("forward", |b| b.iter(|| forward(&x, None, &w, &spec, &After::NOTHING).unwrap()));
        group.bench_function("input gradient", |b| b.iter(|| backward_input(&y, &w, &spec, x.dims(), None).unwrap()));
        group
            .bench_function("weight gradient", |b| b.iter(|| backward_weights(&x, None, &y, &spec, w.dims()).unwrap()));
        group.finish();
    }
}

criterion_group!(benches, convolutions);
criterion_main!(benches);
