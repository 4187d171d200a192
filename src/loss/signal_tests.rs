//! What a richer signal compares, against numbers of PyTorch 2 in float64 and against central differences.

use super::tests::{close, student, teacher};
use super::*;
use crate::ops::mem::{host, tensor, view};

/// `(torch.arange(48.) * 7 % 11 / 4 - 1).reshape(2, 2, 3, 4)`
fn map() -> Tensor {
    tensor((0..48).map(|i| (i * 7 % 11) as f32 / 4.0 - 1.0).collect(), (2, 2, 3, 4)).unwrap()
}

/// `(torch.arange(36.) * 5 % 13 / 3 - 2).reshape(2, 2, 3, 3)`
fn goal() -> Tensor {
    tensor((0..36).map(|i| (i * 5 % 13) as f32 / 3.0 - 2.0).collect(), (2, 2, 3, 3)).unwrap()
}

/// `at = lambda x: F.normalize(x.pow(2).mean(-1).view(len(x), -1)); (((at(s) - at(t)).pow(2).mean(1)) * w).mean()`, which
/// without weights is `at_loss` of the authors' code.
#[test]
fn attention_maps() {
    let loss = attention(&map(), &goal(), Some(&[2.0, 0.5])).unwrap();
    #[rustfmt::skip]
    let grad = [
        -0.003262321881087247, 0.002446741410815435, -0.0008155804702718117, 0.00489348282163087,
        -0.010049305740655445, 0.010049305740655445, -0.025123264351638613, -0.005024652870327722,
        0.0004063040720225983, -0.0005417387626967977, 0.0, 0.0005417387626967977,
        0.007968677382015591, -0.002656225794005197, 0.015937354764031183, 0.005312451588010394,
        0.0024768523678069267, -0.006192130919517317, -0.0012384261839034634, 0.00371527855171039,
        0.004030474363308056, 0.0, -0.004030474363308056, 0.0030228557724810423,
        0.0007072615151724323, -0.004243569091034594, -0.0014145230303448646, 0.0014145230303448646,
        -0.0025663939415362996, -0.0005132787883072599, 0.0015398363649217796, -0.0020531151532290396,
        0.0, 0.005946088430163652, -0.004459566322622739, 0.001486522107540913,
        0.006663964209135488, 0.002221321403045163, -0.002221321403045163, 0.005553303507612907,
        -0.001069725583847183, 0.003209176751541549, -0.004278902335388732, 0.0,
        -0.00308586051338465, 0.0023143953850384875, -0.0007714651283461625, 0.004628790770076975,
    ];
    close("attention", loss.value.get().unwrap(), 0.019048390869085906, &loss.grad, &grad);
    let plain = attention(&map(), &goal(), None).unwrap().value.get().unwrap();
    assert!((plain - 0.02237988077819872).abs() < 1e-7, "{plain}");
    // A map of zeros has no direction, and none to go.
    let dark = attention(&map().zeros_like().unwrap(), &goal(), None).unwrap();
    assert!(view(&host(&dark.grad).unwrap()).unwrap().iter().all(|g| *g == 0.0));
    // How strong a map is does not count.
    let strong = attention(&map().affine(4.0, 0.0).unwrap(), &goal(), None).unwrap().value.get().unwrap();
    assert!((strong - plain).abs() < 1e-7, "{strong}");
    let refused = attention(&map(), &goal().reshape((2, 3, 2, 3)).unwrap(), None);
    assert!(refused.is_err_and(|e| e.to_string().contains("[2, 2, 3, 4] against [2, 3, 2, 3]")));
}

/// `(((s - t) ** 2).mean(1) * w).mean() / t.pow(2).mean()`
#[test]
fn features_in_units_of_their_size() {
    let loss = relative_error(&student(), &teacher(), Some(&[2.0, 0.5])).unwrap();
    let grad = [
        -0.39024390243902446,
        0.7804878048780489,
        -0.7804878048780489,
        0.14634146341463417,
        -0.09756097560975611,
        0.09756097560975611,
    ];
    close("features", loss.value.get().unwrap(), 1.9634146341463414, &loss.grad, &grad);
    let silent = relative_error(&student().zeros_like().unwrap(), &teacher(), None).unwrap();
    assert!((silent.value.get().unwrap() - 1.0).abs() < 1e-12);
    let ten_times = [student(), teacher()].map(|t| t.affine(10.0, 0.0).unwrap());
    let scaled = relative_error(&ten_times[0], &ten_times[1], Some(&[2.0, 0.5])).unwrap();
    assert!((scaled.value.get().unwrap() - 1.9634146341463414).abs() < 1e-6);
}

/// `c = lambda x: x - x.mean(1, keepdim=True); ((c(s) - c(t)).pow(2).mean(1) * w).mean()`: twice what [`Matching::Logits`] is.
#[test]
fn centred_logits() {
    let loss = matching_loss(&student(), &teacher(), Matching::Logits, Some(&[4.0, 1.0])).unwrap();
    let grad =
        [-0.4444444444444445, 1.5555555555555556, -1.111111111111111, 0.16666666666666666, -0.25, 0.08333333333333333];
    close("centred logits", loss.value.get().unwrap(), 3.180555555555556, &loss.grad, &grad);
}

/// The gradient along directions of ±1 against `(L(x + h·d) − L(x − h·d)) / 2h`, of larger maps and features.
#[test]
fn gradients_are_those_of_central_differences() {
    let random = |dims: &[usize], seed: u64| {
        let rng = &mut crate::rng::Streams::new(seed).stream("loss", 0);
        tensor(crate::rng::normal(rng, dims.iter().product()), dims).unwrap()
    };
    let check = |what: &str, x: Tensor, f: &dyn Fn(&Tensor) -> Loss| {
        let grad = f(&x).grad;
        for seed in 0..4 {
            let direction = random(x.dims(), 100 + seed).sign().unwrap();
            let moved = |h: f64| f(&(&x + direction.affine(h, 0.0).unwrap()).unwrap()).value.get().unwrap();
            let h = 1.0 / 256.0;
            let difference = (moved(h) - moved(-h)) / (2.0 * h);
            let dot: f64 = (view(&grad).unwrap().iter().zip(view(&direction).unwrap().iter()))
                .map(|(g, d)| f64::from(*g) * f64::from(*d))
                .sum();
            let length = view(&grad).unwrap().iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!((difference - dot).abs() < 2e-3 * length, "{what}: {difference} against {dot} of {length}");
        }
    };
    let weights = [1.5, 0.25, 1.0];
    let goal = random(&[3, 5, 4, 7], 1);
    check("attention", random(&[3, 5, 4, 6], 0), &|x| attention(x, &goal, Some(&weights)).unwrap());
    let goal = random(&[3, 20], 2);
    check("features", random(&[3, 20], 3), &|x| relative_error(x, &goal, Some(&weights)).unwrap());
    check("logits", random(&[3, 20], 4), &|x| matching_loss(x, &goal, Matching::Logits, Some(&weights)).unwrap());
}
