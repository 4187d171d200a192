//! Values and gradients against numbers of PyTorch 2 in float64, and the identities of the references.
//!
//! All share, in Python:
//! ```text
//! s = tensor([[1, 2, -1], [.5, -.5, 3]], requires_grad=True); t = tensor([[2, 0, 1], [-1, .5, 2]], requires_grad=True)
//! y = tensor([1, 2]); w = tensor([2, .5])
//! ```

use super::*;

pub(super) fn value(loss: &Loss) -> f64 {
    loss.value.get().unwrap()
}

pub(super) fn student() -> Tensor {
    mem::tensor(vec![1.0, 2.0, -1.0, 0.5, -0.5, 3.0], (2, 3)).unwrap()
}

pub(super) fn teacher() -> Tensor {
    mem::tensor(vec![2.0, 0.0, 1.0, -1.0, 0.5, 2.0], (2, 3)).unwrap()
}

pub(super) fn close(what: &str, value: f64, expected: f64, grad: &Tensor, expected_grad: &[f64]) {
    assert!((value - expected).abs() < 1e-6 * expected.abs().max(1.0), "{what}: {value} instead of {expected}");
    let grad = mem::view(grad).unwrap();
    for (g, e) in grad.iter().zip(expected_grad) {
        assert!((f64::from(*g) - e).abs() < 1e-6, "{what}: gradient {:?} instead of {expected_grad:?}", &grad[..]);
    }
}

/// `l = (F.cross_entropy(s, y, reduction='none') * w).mean(); grad(l, s)`
#[test]
fn weighted_cross_entropy() {
    let l = cross_entropy(&student(), &[1, 2], Some(&[2.0, 0.5])).unwrap();
    let grad = [
        0.25949646034241913,
        -0.2946154873017588,
        0.03511902695933973,
        0.018449676077960213,
        0.00678725652535413,
        -0.02523693260331436,
    ];
    close("cross-entropy", l.value.get().unwrap(), 0.3756157428381753, &l.grad, &grad);
    assert!(cross_entropy(&student(), &[1, 3], None).is_err(), "a label outside the classes");
    assert!(cross_entropy(&student(), &[1], None).is_err(), "too few labels");
}

/// `F.kl_div(F.log_softmax(s / T, 1), F.softmax(t / T, 1), reduction='batchmean') * T * T`
#[test]
fn divergence_at_a_temperature() {
    let expected = [
        (
            1.0,
            0.5560851545674952,
            [
                -0.20287224771620135,
                0.3076769697639303,
                -0.10480472204772895,
                0.017343065520576698,
                -0.07407068301931008,
                0.05672761749873334,
            ],
        ),
        (
            4.0,
            0.9102154349210168,
            [
                -0.14654951357465584,
                0.3798775331423996,
                -0.23332801956774363,
                0.11094277444514022,
                -0.20939466151235175,
                0.09845188706721142,
            ],
        ),
        (
            20.0,
            0.9953912017724664,
            [
                -0.11849286528351746,
                0.38814283936090094,
                -0.2696499740773848,
                0.15545686396058342,
                -0.24306848517426402,
                0.08761162121367876,
            ],
        ),
    ];
    for (temperature, value, grad) in expected {
        let l = matching_loss(&student(), &teacher(), Matching::Kl { temperature }, None).unwrap();
        close("kl", l.value.get().unwrap(), value, &l.grad, &grad);
    }
    let same = matching_loss(&teacher(), &teacher(), Matching::Kl { temperature: 4.0 }, None).unwrap();
    close("kl of equals", same.value.get().unwrap(), 0.0, &same.grad, &[0.0; 6]);
}

/// `d = s - t; d = d - d.mean(1, keepdim=True); l = .5 * (d ** 2).mean(1).mean()`; and: it is the limit of KL at a high
/// temperature (methods.md 1.2: `T²·KL → 1/(2K)·‖centred difference‖²`).
#[test]
fn logit_matching_is_the_hot_limit_of_divergence() {
    let l = matching_loss(&student(), &teacher(), Matching::Logits, None).unwrap();
    let grad = [-1.0 / 9.0, 0.3888888888888889, -0.2777777777777778, 1.0 / 6.0, -0.25, 1.0 / 12.0];
    close("logits", l.value.get().unwrap(), 1.013888888888889, &l.grad, &grad);
    let hot = matching_loss(&student(), &teacher(), Matching::Kl { temperature: 2000.0 }, None).unwrap();
    assert!(
        (hot.value.get().unwrap() / l.value.get().unwrap() - 1.0).abs() < 1e-3,
        "{} against {}",
        hot.value.get().unwrap(),
        l.value.get().unwrap()
    );
}

/// `m = (s.argmax(1) == t.argmax(1)); l = -(m * F.kl_div(F.log_softmax(s, 1), F.softmax(t, 1), reduction='none').sum(1)).mean()`
#[test]
fn masked_disagreement_reaches_both_networks() {
    let d = masked_disagreement(&teacher(), &student()).unwrap();
    let dt = [0.0, 0.0, 0.0, 0.016251753276932863, -0.14627768513998504, 0.13002593186305217];
    let ds = [0.0, 0.0, 0.0, -0.017343065520576698, 0.07407068301931008, -0.05672761749873334];
    let (value, agreement) = d.value_and_agreement().unwrap();
    close("teacher side", value, -0.09806365263376413, &d.teacher_grad, &dt);
    close("adversary side", value, -0.09806365263376413, &d.adversary_grad, &ds);
    assert_eq!(agreement, 0.5);
    // An adversary that is the teacher disagrees nowhere and pulls nowhere (methods.md 7, item 1).
    let none = masked_disagreement(&teacher(), &teacher()).unwrap();
    let (value, _) = none.value_and_agreement().unwrap();
    close("equal networks", value, 0.0, &none.teacher_grad, &[0.0; 6]);
    close("equal networks", value, 0.0, &none.adversary_grad, &[0.0; 6]);
}

pub(super) fn layer() -> LayerStatistics {
    LayerStatistics { mean: vec![0.1, -0.2], var: vec![1.0, 2.0], eps: 1e-5 }
}

pub(super) fn observed() -> Tensor {
    mem::tensor(vec![0.4, 0.2, 0.5, 2.5], (2, 2)).unwrap()
}

/// `rm, rv = [.1, -.2], [1, 2]; mu, v = [.4, .2], [.5, 2.5]; l = (rm - mu).norm() + (rv - v).norm()`
#[test]
fn batch_norm_statistics_as_a_sum_of_norms() {
    let mut loss = BnStatsLoss::new(vec![layer()], BnForm::SumOfNorms, 0.9);
    let (value, grads) = loss.loss(&[observed()], 1.0).unwrap();
    let value = value.get().unwrap();
    let grad = [0.6, 0.8, -std::f64::consts::FRAC_1_SQRT_2, std::f64::consts::FRAC_1_SQRT_2];
    close("bn", value, 1.2071067811865475, &grads[0], &grad);

    // em, ev = [0, 1], [2, 1]; l = (rm - .1 * mu - .9 * em).norm() + (rv - .1 * v - .9 * ev).norm()
    loss.observe(&[mem::tensor(vec![0.0, 1.0, 2.0, 1.0], (2, 2)).unwrap()]).unwrap();
    let (value, grads) = loss.loss(&[observed()], 1.0).unwrap();
    let value = value.get().unwrap();
    let grad = [-0.00534947213716119, 0.09985681322700887, 0.07071067811865474, -0.07071067811865472];
    close("bn with past", value, 2.3236875194419273, &grads[0], &grad);

    // The average moves by a tenth towards what it is shown: now (.04, .92, 1.85, 1.15).
    loss.observe(&[observed()]).unwrap();
    let seen = mem::tensor(vec![0.04, 0.92, 1.85, 1.15], (2, 2)).unwrap();
    let expected = BnStatsLoss::new(vec![layer()], BnForm::SumOfNorms, 0.0)
        .loss(std::slice::from_ref(&seen), 1.0)
        .unwrap()
        .0
        .get()
        .unwrap();
    assert!((loss.loss(&[seen], 1.0).unwrap().0.get().unwrap() - expected).abs() < 1e-6);
}

/// `l = ((mu - rm) / (rv + e).sqrt()).pow(2).mean().sqrt() + ((v - rv) / (rv + e)).pow(2).mean().sqrt()`, `e = 1e-5`
#[test]
fn batch_norm_statistics_in_units_of_the_teacher() {
    let loss = BnStatsLoss::new(vec![layer()], BnForm::TeacherUnits, 0.0);
    let (value, grads) = loss.loss(&[observed()], 1.0).unwrap();
    let value = value.get().unwrap();
    let grad = [0.5144925776860397, 0.3429967667573772, -0.6324485750949226, 0.1581137248912156];
    close("units", value, 0.6868276300018321, &grads[0], &grad);
    // Twice the same layer: the mean over layers is the same value.
    let twice = BnStatsLoss::new(vec![layer(), layer()], BnForm::TeacherUnits, 0.0);
    assert!((twice.loss(&[observed(), observed()], 1.0).unwrap().0.get().unwrap() - value).abs() < 1e-9);
}

/// The gradient of a norm at exactly 0 is 0 (candle gives NaN there).
#[test]
fn matched_statistics_pull_nowhere() {
    let exact = mem::tensor(vec![0.1, -0.2, 1.0, 2.0], (2, 2)).unwrap();
    for form in [BnForm::SumOfNorms, BnForm::TeacherUnits] {
        let (value, grads) =
            BnStatsLoss::new(vec![layer()], form, 0.0).loss(std::slice::from_ref(&exact), 1.0).unwrap();
        close("at the target", value.get().unwrap(), 0.0, &grads[0], &[0.0; 4]);
    }
}

/// A buffer with these numbers of images.
pub(super) fn held(counts: &[usize]) -> Held<'_> {
    Held { counts, void: None }
}

/// φ by hand: 100 images, 10 of class 0 and 90 of class 1; γ = 2.
#[test]
fn modulation_prefers_rare_classes_and_unsure_answers() {
    let plain = Modulation { diversity: Diversity::Share, gamma: 2.0, norm: PhiNorm::None };
    let phi = plain.weights(&[0, 1, 1], &[0.5, 0.5, 0.9], held(&[10, 90]), 3);
    for (p, e) in phi.iter().zip([0.9 * 0.25, 0.1 * 0.25, 0.1 * 0.01]) {
        assert!((p - e).abs() < 1e-6, "{phi:?}");
    }
    // (100 / 2) / (1 + 10) = 4.545; (100 / 2) / (1 + 90) = 0.549
    let relative = Modulation { diversity: Diversity::Relative, gamma: 0.0, norm: PhiNorm::None };
    let phi = relative.weights(&[0, 1], &[0.5, 0.9], held(&[10, 90]), 2);
    assert!((phi[0] - 4.5454545).abs() < 1e-5 && (phi[1] - 0.5494505).abs() < 1e-5, "{phi:?}");
    let normed = Modulation { norm: PhiNorm::BatchMean, ..relative };
    let phi = normed.weights(&[0, 1], &[0.5, 0.9], held(&[10, 90]), 2);
    assert!((phi.iter().sum::<f32>() - 2.0).abs() < 1e-5 && phi[0] > phi[1], "{phi:?}");
}

#[test]
fn phi_in_means_is_bounded() {
    let rule = Modulation { diversity: Diversity::Off, gamma: 2.0, norm: PhiNorm::BatchMean };
    let sure: Vec<f32> = (0..20).map(|i| if i == 0 { 0.0 } else { 0.999 }).collect();
    let phi = rule.weights(&[0; 20], &sure, held(&[1, 1]), 20);
    assert!(phi[0] == 10.0 && phi[1..].iter().all(|w| *w == 0.1), "{phi:?}");
}
