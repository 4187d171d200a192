//! Moments of single images: of one map, and as relatedness reads them from all batch norms of a teacher.

use super::steps::{SIDE, model};
use super::{near, near_number, on, random};
use synth::collect::related::relatedness;
use synth::collect::{Generated, Leaves, Place, Pool, Source};
use synth::events::Silent;
use synth::ops::mem::{cast, host};
use synth::ops::{CPU, Compute, Precision, norm};
use synth::rng::Streams;
use synth::teacher::Teacher;

/// Channels that come in whole vectors and such that do not.
#[test]
#[ignore = "needs SYNTH_TEST_DEVICE"]
fn sums_of_each_image() {
    for dims in [[5, 1, 1, 3], [4, 7, 5, 1], [3, 32, 32, 16], [2, 9, 9, 40], [6, 3, 3, 300]] {
        for precision in [Precision::F32, Precision::Bf16] {
            let compute = on(precision);
            let there = cast(&compute.bring(&random(&dims, 1)).unwrap(), compute.dtype()).unwrap();
            let here = host(&there).unwrap();
            let (found, expected) = (norm::sums_each(&there).unwrap(), norm::sums_each(&here).unwrap());
            near(&format!("{dims:?} in {}", precision.name()), &found, &expected, 1e-5);
        }
    }
}

#[test]
#[ignore = "needs SYNTH_TEST_DEVICE"]
fn relatedness_of_a_pool() {
    let model = model("resnet8");
    let found = |compute: &Compute| {
        let teacher = Teacher::of(&model).to(compute).unwrap();
        let source: Box<dyn Source> = Box::new(Generated::new(Leaves, 0));
        let mut pool = Pool::new(vec![(source, 1.0)], 24, [SIDE, SIDE, 3], &Streams::new(0)).unwrap();
        let places: Vec<Place> = (0..24).map(|number| Place { part: 0, number }).collect();
        relatedness(&mut pool, &teacher, &places, 0, &mut Silent).unwrap()
    };
    let (here, there) = (found(&CPU), found(&on(Precision::F32)));
    assert_eq!((here.len(), there.len()), (24, 24));
    here.iter().zip(&there).for_each(|(h, t)| near_number("relatedness", *t, *h, 1e-2));
}
