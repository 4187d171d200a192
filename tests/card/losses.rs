//! Losses and optimizers: the same call with tensors on the CPU and on the card.

use super::{near, near_number, on, random};
use candle_core::Tensor;
use std::sync::Arc;
use synth::loss::{
    BnForm, BnStatsLoss, LayerStatistics, Loss, Matching, compared, cross_entropy, labelled_pixels,
    masked_disagreement, matching_loss, soft_cross_entropy,
};
use synth::nets::{Init, Kind, Slot, Weights};
use synth::ops::{Compute, Precision};
use synth::rng::Streams;
use synth::train::{Adam, Decay, Sgd, trainable};

const TOLERANCE: f64 = 1e-5;

fn bring(t: &Tensor) -> Tensor {
    on(Precision::F32).bring(t).unwrap()
}

fn same(what: &str, of: impl Fn(&dyn Fn(&Tensor) -> Tensor) -> Loss) {
    let (here, there) = (of(&Tensor::clone), of(&bring));
    near_number(what, there.value.get().unwrap(), here.value.get().unwrap(), TOLERANCE);
    near(what, &there.grad, &here.grad, TOLERANCE);
}

#[test]
#[ignore = "needs SYNTH_TEST_DEVICE"]
fn losses_of_logits() {
    for (n, k) in [(5, 3), (7, 10), (3, 257)] {
        let (s, t) = (random(&[n, k], 1), random(&[n, k], 2).affine(4.0, 0.5).unwrap());
        let labels: Vec<u32> = (0..n).map(|i| (i * 2 % k) as u32).collect();
        let weights: Vec<f32> = (0..n).map(|i| 0.5 + i as f32 / 4.0).collect();
        let targets: Vec<f64> = (0..n * k).map(|i| if i % 3 == 0 { 0.0 } else { 1.0 / k as f64 }).collect();
        for w in [None, Some(&weights[..])] {
            same("cross-entropy", |to| cross_entropy(&to(&s), &labels, w).unwrap());
            same("soft cross-entropy", |to| soft_cross_entropy(&to(&t), &targets, w).unwrap());
            let both = Matching::KlAndDecision { temperature: 2.0, decision: 0.3 };
            for how in [Matching::Kl { temperature: 1.0 }, Matching::Kl { temperature: 20.0 }, Matching::Logits, both] {
                same("matching", |to| matching_loss(&to(&s), &to(&t), how, w).unwrap());
                let heard = |to: &dyn Fn(&Tensor) -> Tensor| how.heard(&to(&t), Some(1)).unwrap();
                same("matching without void", |to| matching_loss(&to(&s), &heard(to), how, w).unwrap());
            }
        }
        let here = compared(&s, &t, 1.0).unwrap();
        let there = compared(&bring(&s), &bring(&t), 1.0).unwrap();
        here.kl.iter().zip(&there.kl).for_each(|(h, t)| near_number("gap", f64::from(*t), f64::from(*h), TOLERANCE));
        assert_eq!(here.agreement, there.agreement);
        // Rows that decide alike and rows that do not.
        let close = (&s + random(&[n, k], 3).affine(0.1, 0.0).unwrap()).unwrap();
        let here = masked_disagreement(&s, &close).unwrap();
        let there = masked_disagreement(&bring(&s), &bring(&close)).unwrap();
        let (h, t) = (here.value_and_agreement().unwrap(), there.value_and_agreement().unwrap());
        assert!(h.1 > 0.0 && h.1 == t.1, "{h:?} {t:?}");
        near_number("disagreement", t.0, h.0, 1e-4);
        near("teacher's", &there.teacher_grad, &here.teacher_grad, 1e-4);
        near("adversary's", &there.adversary_grad, &here.adversary_grad, 1e-4);
    }
}

/// With void pixels and weights of classes, plain and focal.
#[test]
#[ignore = "needs SYNTH_TEST_DEVICE"]
fn cross_entropy_of_labelled_pixels() {
    let (dims, void) = ([2, 5, 7, 4], 255);
    let logits = random(&dims, 4);
    let labels: Vec<u8> = (0..2 * 5 * 7).map(|i| if i % 6 == 0 { void } else { (i * 3 % 4) as u8 }).collect();
    for (weights, focal) in [(None, 0.0), (Some(&[0.5f32, 2.0, 1.0, 0.25][..]), 0.0), (None, 2.0)] {
        same("pixels", |to| labelled_pixels(&to(&logits), &labels, void, weights, focal).unwrap());
    }
}

/// A network that answers NaN must not pass for one that answers.
#[test]
#[ignore = "needs SYNTH_TEST_DEVICE"]
fn nan_reaches_the_losses() {
    let nan = bring(&synth::ops::mem::tensor(vec![f32::NAN; 6], (2, 3)).unwrap());
    let fine = bring(&random(&[2, 3], 1));
    assert!(cross_entropy(&nan, &[0, 1], None).unwrap().value.get().unwrap().is_nan());
    for how in [Matching::Kl { temperature: 4.0 }, Matching::Logits] {
        assert!(matching_loss(&nan, &fine, how, None).unwrap().value.get().unwrap().is_nan());
    }
}

#[test]
#[ignore = "needs SYNTH_TEST_DEVICE"]
fn batch_norm_matching() {
    let layer = |c: usize, seed: u64| {
        let values = super::common::values(&random(&[2, c], seed));
        let var = values[c..].iter().map(|v| 0.5 + v.abs()).collect();
        LayerStatistics { mean: values[..c].to_vec(), var, eps: 1e-5 }
    };
    let sizes = [16, 5, 300];
    for form in [BnForm::SumOfNorms, BnForm::TeacherUnits] {
        let new = || BnStatsLoss::new(sizes.iter().map(|c| layer(*c, 3)).collect(), form, 0.9);
        let (mut here, mut there) = (new(), new());
        for batch in 0..3 {
            let moments: Vec<Tensor> = sizes.iter().map(|c| random(&[2, *c], 10 + batch)).collect();
            let brought: Vec<Tensor> = moments.iter().map(bring).collect();
            let (h, t) = (here.loss(&moments, 3.0).unwrap(), there.loss(&brought, 3.0).unwrap());
            near_number("bn", t.0.get().unwrap(), h.0.get().unwrap(), TOLERANCE);
            t.1.iter().zip(&h.1).for_each(|(t, h)| near("bn", t, h, TOLERANCE));
            here.observe(&moments).unwrap();
            there.observe(&brought).unwrap();
        }
    }
}

/// Tensors of one value, of a block of the kernel and a bit, and of several blocks.
fn weights() -> Weights {
    let slot = |(i, (kind, n)): (usize, (Kind, usize))| Slot {
        name: format!("p{i}"),
        kind,
        shape: vec![1, n],
        init: Init::Normal(1.0),
    };
    let kinds = [(Kind::LinearWeight, 1), (Kind::LinearWeight, 1025), (Kind::Plain, 7), (Kind::LinearWeight, 4096)];
    let slots = kinds.into_iter().enumerate().map(slot).collect();
    Weights::init(Arc::new(slots), &mut Streams::new(4).stream("weights", 0)).unwrap()
}

fn gradients(weights: &Weights, step: u64, compute: &Compute) -> Vec<Option<Tensor>> {
    let of = |(i, (slot, _)): (usize, (&Slot, _))| {
        // One tensor gets its first gradient late, one never.
        let given = !(i == 2 && step < 2);
        given.then(|| compute.bring(&random(&slot.shape, 20 + step * 8 + i as u64)).unwrap())
    };
    weights.iter().enumerate().map(of).collect()
}

fn compare(what: &str, there: &Weights, here: &Weights) {
    for ((slot, t), (_, h)) in there.iter().zip(here.iter()) {
        near(&format!("{what} {}", slot.name), t, h, 1e-6);
    }
}

#[test]
#[ignore = "needs SYNTH_TEST_DEVICE"]
fn optimizers_and_averages() {
    let card = on(Precision::F32);
    for (nesterov, decay) in [(false, Decay::All), (true, Decay::WeightsOnly)] {
        let here = weights();
        let there = here.duplicate().unwrap().to(&card).unwrap();
        let new = || Sgd::new(0.9, nesterov, 1e-2, decay);
        let (mut a, mut b) = (new(), new());
        for step in 0..4 {
            a.step(&here, &gradients(&here, step, &Compute::cpu()), 0.1).unwrap();
            b.step(&there, &gradients(&there, step, &card), 0.1).unwrap();
            compare("sgd", &there, &here);
        }
    }
    let here = weights();
    let there = here.duplicate().unwrap().to(&card).unwrap();
    let (mut a, mut b) = (Adam::new((0.5, 0.999)), Adam::new((0.5, 0.999)));
    for step in 0..4 {
        let (g, h) = (gradients(&here, step, &Compute::cpu()), gradients(&there, step, &card));
        a.step(trainable(&here, &g), 0.01).unwrap();
        b.step(trainable(&there, &h), 0.01).unwrap();
        compare("adam", &there, &here);
    }
    let (other_here, other_there) = (weights(), weights().to(&card).unwrap());
    other_here.blend(&here, 0.75, 0.25).unwrap();
    other_there.blend(&there, 0.75, 0.25).unwrap();
    compare("blend", &other_there, &other_here);
    other_there.copy_from(&there).unwrap();
    compare("copy", &other_there, &here);
}
