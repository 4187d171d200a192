//! Losses of the published methods against numbers of PyTorch 2 in float64.
//!
//! `s`, `t` and `w` are those of [`super::tests`]; `p = F.softmax(s, 1)`.

use super::tests::{close, layer, observed, student, teacher, value};
use super::*;

/// What the generator minimises against an adversary, with the gradients with respect to `t` and to `s`:
///
/// ```text
/// -F.kl_div(F.log_softmax(s, 1), F.softmax(t, 1), reduction='batchmean')
/// -(s - t).abs().mean()
/// -torch.log(1 + (s - t).abs().mean())
/// a, b = F.softmax(t / 3, 1), F.softmax(s / 3, 1); m = (a + b) / 2
/// -(.5 * (a * (a / m).log()).sum(1) + .5 * (b * (b / m).log()).sum(1)).mean()
/// ```
#[test]
fn adversarial_forms_reach_both_networks() {
    let cases: [(Adversarial, f64, [f64; 6], [f64; 6]); 4] = [
        (
            Adversarial::Kl,
            -0.5560851545674952,
            [
                -0.00843633582232634,
                0.13390412585757697,
                -0.12546779003525085,
                0.016251753276932863,
                -0.14627768513998504,
                0.13002593186305217,
            ],
            [
                0.20287224771620135,
                -0.3076769697639303,
                0.10480472204772895,
                -0.017343065520576698,
                0.07407068301931008,
                -0.05672761749873334,
            ],
        ),
        (
            Adversarial::L1,
            -1.4166666666666667,
            [
                -0.16666666666666666,
                0.16666666666666666,
                -0.16666666666666666,
                0.16666666666666666,
                -0.16666666666666666,
                0.16666666666666666,
            ],
            [
                0.16666666666666666,
                -0.16666666666666666,
                0.16666666666666666,
                -0.16666666666666666,
                0.16666666666666666,
                -0.16666666666666666,
            ],
        ),
        (
            Adversarial::LogL1,
            -0.8823891801984738,
            [
                -0.0689655172413793,
                0.0689655172413793,
                -0.0689655172413793,
                0.0689655172413793,
                -0.0689655172413793,
                0.0689655172413793,
            ],
            [
                0.0689655172413793,
                -0.0689655172413793,
                0.0689655172413793,
                -0.0689655172413793,
                0.0689655172413793,
                -0.0689655172413793,
            ],
        ),
        (
            Adversarial::Js { temperature: 3.0 },
            -0.024239809892556998,
            [
                -0.0032172429969671346,
                0.00903706702459995,
                -0.005819824027632815,
                0.002585777817961821,
                -0.00573615607174531,
                0.0031503782537834883,
            ],
            [
                0.00506511071129049,
                -0.010637719805019048,
                0.005572609093728556,
                -0.0025261750154467136,
                0.00477003133305691,
                -0.002243856317610197,
            ],
        ),
    ];
    for (form, expected, dt, ds) in cases {
        let found = form.loss(&teacher(), &student()).unwrap();
        let (value, agreement) = found.value_and_agreement().unwrap();
        close(&format!("{form:?}, teacher"), value, expected, &found.teacher_grad, &dt);
        close(&format!("{form:?}, adversary"), value, expected, &found.adversary_grad, &ds);
        assert_eq!(agreement, 0.5, "{form:?}");
        // An adversary that is the teacher disagrees nowhere and pulls nowhere.
        let none = form.loss(&teacher(), &teacher()).unwrap();
        let (value, agreement) = none.value_and_agreement().unwrap();
        close(&format!("{form:?} of equals"), value, 0.0, &none.teacher_grad, &[0.0; 6]);
        close(&format!("{form:?} of equals"), value, 0.0, &none.adversary_grad, &[0.0; 6]);
        assert_eq!(agreement, 1.0);
        assert!(form.loss(&teacher(), &mem::tensor(vec![0.0; 4], (2, 2)).unwrap()).is_err(), "{form:?}: other classes");
    }
}

/// `-(p * p.log()).sum(1).mean()`
#[test]
fn entropy_of_answers() {
    let l = answer_entropy(&student(), None).unwrap();
    close(
        "entropy",
        value(&l),
        0.5498991072015702,
        &l.grad,
        &[
            0.08240912892615923,
            -0.12868101869000328,
            0.046271889763844026,
            0.08193433428034536,
            0.04371647015851586,
            -0.12565080443886123,
        ],
    );
    // `w = tensor([2, .5]); -(w * (p * p.log()).sum(1)).mean()`
    let l = answer_entropy(&student(), Some(&[2.0, 0.5])).unwrap();
    close(
        "weighted entropy",
        value(&l),
        0.8103488720922537,
        &l.grad,
        &[0.164818257841, -0.257362037375, 0.092543779528, 0.040967167139, 0.021858235080, -0.062825402218],
    );
    // An answer that is as sure as f32 allows costs nothing and is finite.
    let sure = answer_entropy(&mem::tensor(vec![900.0, -900.0, 0.0], (1, 3)).unwrap(), None).unwrap();
    close("sure", value(&sure), 0.0, &sure.grad, &[0.0; 3]);
}

/// `b = p.mean(0); (b * b.log()).sum()`
#[test]
fn balance_of_classes() {
    let l = class_balance(&student()).unwrap();
    close(
        "balance",
        value(&l),
        -1.0220528788192926,
        &l.grad,
        &[
            -0.07676832007433776,
            0.06906039742527283,
            0.007707922649064927,
            -0.03497950772796551,
            -0.002178575410017558,
            0.03715808313798307,
        ],
    );
    let even = class_balance(&mem::tensor(vec![1.0; 6], (2, 3)).unwrap()).unwrap();
    close("even", value(&even), -3f64.ln(), &even.grad, &[0.0; 6]);
    // A class that nobody takes: 0·ln 0 = 0.
    let none = class_balance(&mem::tensor(vec![2000.0, -2000.0, 2000.0, -2000.0], (2, 2)).unwrap()).unwrap();
    close("one class", value(&none), 0.0, &none.grad, &[0.0; 4]);
}

/// `-s.abs().mean()`
#[test]
fn strength_of_features() {
    let l = activation(&student()).unwrap();
    close(
        "activation",
        value(&l),
        -1.3333333333333333,
        &l.grad,
        &[
            -0.16666666666666666,
            -0.16666666666666666,
            0.16666666666666666,
            -0.16666666666666666,
            0.16666666666666666,
            -0.16666666666666666,
        ],
    );
    let dead = activation(&mem::tensor(vec![0.0, 2.0], (1, 2)).unwrap()).unwrap();
    close("a dead feature", value(&dead), -1.0, &dead.grad, &[0.0, -0.5]);
}

/// ```text
/// ((s - t).abs().mean(1) * w).mean()
/// kl = F.kl_div(F.log_softmax(s / 4, 1), F.softmax(t / 4, 1), reduction='none').sum(1) * 16
/// ((kl + .3 * F.cross_entropy(s, t.argmax(1), reduction='none')) * w).mean()
/// ```
#[test]
fn students_match_by_distance_or_by_decision_too() {
    let weights = Some(&[2.0, 0.5][..]);
    let l = matching_loss(&student(), &teacher(), Matching::L1, weights).unwrap();
    close(
        "L1",
        value(&l),
        1.9583333333333335,
        &l.grad,
        &[
            -0.3333333333333333,
            0.3333333333333333,
            -0.3333333333333333,
            0.08333333333333333,
            -0.08333333333333333,
            0.08333333333333333,
        ],
    );
    let how = Matching::KlAndDecision { temperature: 4.0, decision: 0.3 };
    let l = matching_loss(&student(), &teacher(), how, weights).unwrap();
    close(
        "KL and decision",
        value(&l),
        1.8641327926633071,
        &l.grad,
        &[
            -0.515250089046586,
            0.9713704200942715,
            -0.45612033104768535,
            0.06100629004595817,
            -0.10266115379856963,
            0.041654863752611404,
        ],
    );
}

/// ```text
/// x = tensor([[[[1, 2], [4, -1], [0, 3]], [[2, 2], [5, 1], [-2, 0]]]])    # N, H, W, C
/// d = [x[:, :, :-1] - x[:, :, 1:], x[:, :-1] - x[:, 1:], x[:, :-1, 1:] - x[:, 1:, :-1], x[:, :-1, :-1] - x[:, 1:, 1:]]
/// sum(v.abs().mean() for v in d); sum(v.norm() for v in d)
/// ```
#[test]
fn variation_of_images() {
    let x = mem::tensor(vec![1.0, 2.0, 4.0, -1.0, 0.0, 3.0, 2.0, 2.0, 5.0, 1.0, -2.0, 0.0], (1, 2, 3, 2)).unwrap();
    let l = total_variation(&x, Variation::L1).unwrap();
    close(
        "L1",
        value(&l),
        10.75,
        &l.grad,
        &[
            -0.5416666666666666,
            0.375,
            0.5833333333333334,
            -0.9166666666666666,
            -0.20833333333333334,
            0.5416666666666666,
            -0.20833333333333334,
            0.375,
            0.9166666666666666,
            -0.33333333333333337,
            -0.5416666666666666,
            -0.04166666666666666,
        ],
    );
    let twice = total_variation(&candle_core::Tensor::cat(&[&x, &x], 0).unwrap(), Variation::L1).unwrap();
    let half: Vec<f64> = mem::view(&l.grad).unwrap().iter().map(|g| f64::from(*g) / 2.0).collect();
    close("the mean over two images", value(&twice), 10.75, &twice.grad, &[&half[..], &half[..]].concat());
    let l = total_variation(&x, Variation::L2).unwrap();
    close(
        "L2",
        value(&l),
        28.676197351999583,
        &l.grad,
        &[
            -1.0597855645960568,
            0.422121540261632,
            1.5631113594532626,
            -1.725248093587268,
            -0.6940703177675729,
            1.378238937234106,
            -0.36522974282729975,
            0.558256308810835,
            2.498726126878431,
            0.014142004328985325,
            -1.942751861140764,
            -0.6475106970482901,
        ],
    );
    for how in [Variation::L1, Variation::L2] {
        let flat = total_variation(&mem::tensor(vec![0.5; 12], (1, 2, 3, 2)).unwrap(), how).unwrap();
        close("flat", value(&flat), 0.0, &flat.grad, &[0.0; 12]);
        let pixel = total_variation(&mem::tensor(vec![0.5], (1, 1, 1, 1)).unwrap(), how).unwrap();
        close("a single pixel", value(&pixel), 0.0, &pixel.grad, &[0.0]);
    }
}

/// `y = tensor([[3, 4], [0, 0], [1, -2]]); y.norm(dim=1).mean()`, whose gradient at 0 is 0
#[test]
fn norm_of_images() {
    let y = mem::tensor(vec![3.0, 4.0, 0.0, 0.0, 1.0, -2.0], (3, 1, 1, 2)).unwrap();
    let l = image_norm(&y).unwrap();
    close(
        "norm",
        value(&l),
        2.4120226591665967,
        &l.grad,
        &[0.19999999999999998, 0.26666666666666666, 0.0, 0.0, 0.14907119849998596, -0.2981423969999719],
    );
}

/// ```text
/// v, r = v + 1e-5, rv + 1e-5; l = (((mu - rm) ** 2 + v) / (2 * r) - .5 * torch.log(v / r) - .5).sum()
/// ```
/// and the same of `.1 * (mu, v) + .9 * (past)`
#[test]
fn batch_norm_statistics_as_normal_distributions() {
    let mut loss = BnStatsLoss::new(vec![layer()], BnForm::GaussianKl, 0.9);
    let (found, grads) = loss.loss(&[observed()], 1.0).unwrap();
    close(
        "gaussian",
        found.get().unwrap(),
        0.19499853967924174,
        &grads[0],
        &[0.29999700002999974, 0.19999900000499998, -0.49998500034999255, 0.04999955000304998],
    );
    loss.observe(&[mem::tensor(vec![0.0, 1.0, 2.0, 1.0], (2, 2)).unwrap()]).unwrap();
    let (found, grads) = loss.loss(&[observed()], 1.0).unwrap();
    close(
        "gaussian with past",
        found.get().unwrap(),
        0.4969954755586524,
        &grads[0],
        &[-0.005999940000599994, 0.0559997200014, 0.022972619069221226, -0.018478007800394127],
    );
    let exact = mem::tensor(vec![0.1, -0.2, 1.0, 2.0], (2, 2)).unwrap();
    let plain = BnStatsLoss::new(vec![layer()], BnForm::GaussianKl, 0.0);
    let (found, grads) = plain.loss(&[exact], 1.0).unwrap();
    close("at the target", found.get().unwrap(), 0.0, &grads[0], &[0.0; 4]);
}

/// Ten times the first layer, once the second, in every form.
#[test]
fn the_first_batch_norm_may_count_more() {
    let values = |t: &Tensor| mem::view(t).unwrap().to_vec();
    for form in [BnForm::SumOfNorms, BnForm::TeacherUnits, BnForm::GaussianKl] {
        let of = |first: f64| {
            let loss = BnStatsLoss::new(vec![layer(), layer()], form, 0.0).with_first(first);
            let (value, grads) = loss.loss(&[observed(), observed()], 1.0).unwrap();
            (value.get().unwrap(), grads)
        };
        let ((plain, even), (more, grads)) = (of(1.0), of(10.0));
        assert!((more - 5.5 * plain).abs() < 1e-6 * more, "{form:?}: {more} against {plain}");
        for (a, b) in values(&grads[0]).iter().zip(values(&even[0])) {
            assert!((a - 10.0 * b).abs() < 1e-5 * a.abs(), "{form:?}: {a} against {b}");
        }
        assert_eq!(values(&grads[1]), values(&even[1]), "{form:?}");
    }
}

/// ```text
/// p = tensor([[1, .5], [-.3, 2], [.7, -1], [.2, .1]]); q = tensor([[.9, .6], [-1, 1], [.5, .5], [-.4, -.2]])
/// c = F.cross_entropy(F.normalize(p) @ F.normalize(q).t() / .2, torch.arange(4), reduction='none')
/// c[:2].mean() + c[2:].mean()
/// ```
#[test]
fn contrast_with_other_images() {
    let p = mem::tensor(vec![1.0, 0.5, -0.3, 2.0, 0.7, -1.0, 0.2, 0.1], (4, 2)).unwrap();
    let q = mem::tensor(vec![0.9, 0.6, -1.0, 1.0, 0.5, 0.5, -0.4, -0.2], (4, 2)).unwrap();
    let l = contrast(&p, &q, 2, 0.2).unwrap();
    let grad = [
        -0.08624877523456219,
        0.1724975504691244,
        0.5801483204627963,
        0.08702224806941943,
        -0.7781493375607624,
        -0.5447045362925337,
        -1.0514175491188489,
        2.1028350982377066,
    ];
    assert!((value(&l) - 6.5636930667076125).abs() < 1e-5, "{}", value(&l));
    // The products are taken in f32.
    for (found, expected) in mem::view(&l.grad).unwrap().iter().zip(grad) {
        assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} instead of {expected}");
    }
    let alone = contrast(&p, &q, 4, 0.2).unwrap();
    assert!((value(&alone) - value(&l) / 2.0).abs() < 1e-5, "without a bank: the mean over the batch");
    let one = contrast(&p, &q, 1, 0.2).unwrap();
    assert!((value(&one) - 4.769737030181453).abs() < 1e-5, "one new row, and the mean over three: {}", value(&one));
    assert!(contrast(&p, &q, 5, 0.2).is_err());
}
