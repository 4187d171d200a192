//! Losses of networks that answer for every pixel: labelled pixels against numbers of PyTorch 2 in float64, and that pixels are
//! rows to all others.
//!
//! ```text
//! z = tensor([[1, 2, -1], [.5, -.5, 3], [2, 0, 1], [-1, .5, 2]], requires_grad=True)
//! y = tensor([1, 2, 255, 0]); w = tensor([2, .5, 1.25])
//! ```

use super::tests::{close, held};
use super::*;

const LOGITS: [f32; 12] = [1.0, 2.0, -1.0, 0.5, -0.5, 3.0, 2.0, 0.0, 1.0, -1.0, 0.5, 2.0];
const LABELS: [u8; 4] = [1, 2, 255, 0];
const WEIGHTS: [f32; 3] = [2.0, 0.5, 1.25];

fn logits(dims: &[usize]) -> Tensor {
    mem::tensor(LOGITS.to_vec(), dims).unwrap()
}

/// `F.cross_entropy(z, y, weight=w, ignore_index=255)`, and without the weights
#[test]
fn cross_entropy_of_labelled_pixels() {
    let grad = [
        0.034599528045655886,
        -0.039282064973567836,
        0.004682536927911964,
        0.02459956810394695,
        0.00904967536713884,
        -0.03364924347108581,
        0.0,
        0.0,
        0.0,
        -0.5124732942556334,
        0.0934882091413529,
        0.41898508511428045,
    ];
    for dims in [&[4, 3][..], &[1, 2, 2, 3], &[2, 1, 2, 3]] {
        let l = labelled_pixels(&logits(dims), &LABELS, 255, Some(&WEIGHTS), 0.0).unwrap();
        assert_eq!(l.grad.dims(), dims);
        close("weighted", l.value.get().unwrap(), 1.8107056885462272, &flat(&l.grad), &grad);
        let l = labelled_pixels(&logits(dims), &LABELS, 255, None, 0.0).unwrap();
        assert!((l.value.get().unwrap() - 1.232245872568433).abs() < 2e-7);
    }
    assert!(labelled_pixels(&logits(&[4, 3]), &[0, 1, 3, 0], 255, None, 0.0).is_err(), "a label outside the classes");
    assert!(labelled_pixels(&logits(&[4, 3]), &LABELS[..3], 255, None, 0.0).is_err(), "too few labels");
    let void = labelled_pixels(&logits(&[4, 3]), &[255; 4], 255, None, 0.0).unwrap();
    close("nothing but void", void.value.get().unwrap(), 0.0, &void.grad, &[0.0; 12]);
}

fn flat(t: &Tensor) -> Tensor {
    t.flatten_all().unwrap()
}

/// `k = y != 255; p = F.softmax(z[k], 1).gather(1, y[k, None])[:, 0]; (w[y[k]] * (1 - p) ** 2 * -p.log()).sum() / w[y[k]].sum()`
#[test]
fn focal_loss_of_labelled_pixels() {
    let grad = [
        0.008022238615602017,
        -0.009107930550836207,
        0.0010856919352341908,
        0.0007258386668996291,
        0.0002670211231596602,
        -0.0009928597900592904,
        0.0,
        0.0,
        0.0,
        -0.5980253937363635,
        0.10909509570185862,
        0.48893029803450494,
    ];
    let l = labelled_pixels(&logits(&[2, 2, 1, 3]), &LABELS, 255, Some(&WEIGHTS), 2.0).unwrap();
    close("focal", l.value.get().unwrap(), 1.6005167743736222, &flat(&l.grad), &grad);
    // A pixel that is as sure as f32 allows costs nothing and is finite, whatever the exponent.
    for focal in [0.5, 1.0, 2.0] {
        let sure = mem::tensor(vec![900.0, -900.0], (1, 2)).unwrap();
        let l = labelled_pixels(&sure, &[0], 255, None, focal).unwrap();
        close("sure", l.value.get().unwrap(), 0.0, &l.grad, &[0.0; 2]);
    }
}

/// `c = [6, 2, 0]; w = [1 / log(1.02 + v / 8) for v in c]; [v / (sum(w) / 3) for v in w]`
#[test]
fn rare_classes_weigh_more() {
    let found = class_weights(&[0, 0, 0, 255, 0, 0, 0, 1, 1, 255], 255, 3);
    for (w, e) in found.iter().zip([0.09310295857868173, 0.22241057000740222, 2.684486471413916]) {
        assert!((f64::from(*w) - e).abs() < 1e-6, "{found:?}");
    }
}

/// Four pixels are to every loss what four images are, in value and in gradient, also where threads share the rows.
#[test]
fn pixels_are_rows() {
    let (n, k) = (2 * 40 * 35, 5);
    let draw = |seed: u32| -> Vec<f32> {
        (0..n * k)
            .map(|i| ((i as u32).wrapping_mul(2654435761).wrapping_add(seed) >> 8) as f32 / (1 << 22) as f32 - 2.0)
            .collect()
    };
    let of = |seed: u32, dims: &[usize]| mem::tensor(draw(seed), dims).unwrap();
    let (pixels, rows) = (&[2, 40, 35, 5][..], &[2800, 5][..]);
    let both = |loss: &dyn Fn(&Tensor, &Tensor) -> Loss| {
        let [a, b] = [pixels, rows].map(|dims| loss(&of(1, dims), &of(77, dims)));
        assert_eq!((a.grad.dims(), b.grad.dims()), (pixels, rows));
        assert_eq!(a.value.get().unwrap().to_bits(), b.value.get().unwrap().to_bits());
        assert!(mem::view(&a.grad).unwrap()[..] == mem::view(&b.grad).unwrap()[..]);
        a.value.get().unwrap()
    };
    let labels: Vec<u32> = (0..n as u32).map(|i| i * 7 % 5).collect();
    let values = [
        both(&|s, t| matching_loss(s, t, Matching::Kl { temperature: 4.0 }, None).unwrap()),
        both(&|s, t| matching_loss(s, t, Matching::KlAndDecision { temperature: 2.0, decision: 0.3 }, None).unwrap()),
        both(&|s, _| cross_entropy(s, &labels, None).unwrap()),
        both(&|s, _| answer_entropy(s, None).unwrap()),
        both(&|s, _| class_balance(s).unwrap()),
        both(&|s, t| {
            let found = masked_disagreement(t, s).unwrap();
            Loss { value: Value::Known(found.value_and_agreement().unwrap().0), grad: found.adversary_grad }
        }),
        both(&|s, t| {
            let found = Adversarial::Js { temperature: 3.0 }.loss(t, s).unwrap();
            Loss { value: Value::Known(found.value_and_agreement().unwrap().0), grad: found.teacher_grad }
        }),
    ];
    // The reference for the sums over chunks: one row after the other.
    let one = |i: usize| mem::tensor(draw(1)[i * k..(i + 1) * k].to_vec(), (1, k)).unwrap();
    let entropy = (0..n).map(|i| answer_entropy(&one(i), None).unwrap().value.get().unwrap()).sum::<f64>() / n as f64;
    assert!((values[3] - entropy).abs() < 1e-12, "{} {entropy}", values[3]);
    let threads = |count: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
        pool.install(|| both(&|s, t| matching_loss(s, t, Matching::Kl { temperature: 4.0 }, None).unwrap())).to_bits()
    };
    assert_eq!((threads(1), threads(3)), (values[0].to_bits(), values[0].to_bits()));
}

/// A weight per image weighs all of its pixels; a pixel without a label costs nothing.
#[test]
fn weights_of_images_weigh_their_pixels() {
    let teacher = mem::tensor(LOGITS.iter().rev().copied().collect(), (2, 1, 2, 3)).unwrap();
    let loss = |weights: &[f32]| {
        let how = Matching::Kl { temperature: 2.0 };
        let l = matching_loss(&logits(&[2, 1, 2, 3]), &teacher, how, Some(weights)).unwrap();
        (l.value.get().unwrap(), mem::view(&l.grad).unwrap().to_vec())
    };
    assert_eq!(loss(&[2.0, 0.5]), loss(&[2.0, 2.0, 0.5, 0.5]));
    assert!(matching_loss(&teacher, &teacher, Matching::Logits, Some(&[1.0; 3])).is_err());
    let labels = [1, UNLABELLED, 0, UNLABELLED];
    let l = cross_entropy(&logits(&[2, 1, 2, 3]), &labels, Some(&[2.0, 0.5])).unwrap();
    let all = cross_entropy(&logits(&[4, 3]), &[1, 0, 0, 0], Some(&[2.0, 0.0, 0.5, 0.0])).unwrap();
    assert_eq!(l.value.get().unwrap(), all.value.get().unwrap());
    assert!(mem::view(&l.grad).unwrap()[..] == mem::view(&all.grad).unwrap()[..]);
    let gaps = compared(&logits(&[2, 1, 2, 3]), &teacher, 1.0).unwrap().kl;
    let rows = compared(&logits(&[4, 3]), &teacher.reshape((4, 3)).unwrap(), 1.0).unwrap().kl;
    assert_eq!((gaps.len(), gaps[1]), (2, ((f64::from(rows[2]) + f64::from(rows[3])) / 2.0) as f32));
}

/// A divergence tells of the answers what a comparison of its own at its temperature says, whatever the weights; other losses do not.
#[test]
fn a_divergence_has_compared_the_answers() {
    let (n, dims) = (2 * 30 * 41u32, [2, 30, 41, 3]);
    let of = |seed: u32| -> Vec<f32> {
        (0..3 * n).map(|i| ((i * seed).wrapping_mul(2654435761) >> 8) as f32 / 4e6).collect()
    };
    let [student, teacher] = [1, 7919].map(|seed| mem::tensor(of(seed), &dims[..]).unwrap());
    let told = |how, weights| matched(&student, &teacher, how, weights).unwrap().1;
    for temperature in [1.0, 4.0] {
        let own = compared(&student, &teacher, temperature).unwrap();
        assert!((0.1..0.9).contains(&own.agreement) && own.kl[0] != own.kl[1], "{own:?}");
        for weights in [None, Some(&[0.0, 3.0][..])] {
            assert_eq!(told(Matching::Kl { temperature }, weights).as_ref(), Some(&own));
        }
    }
    let others = [Matching::Logits, Matching::L1, Matching::KlAndDecision { temperature: 1.0, decision: 0.3 }];
    assert!(others.into_iter().all(|how| told(how, None).is_none()));
}

/// `p = F.softmax(z[:2], 1); p.mean(0).log(); p.max(1).values.mean()`
#[test]
fn an_image_is_what_its_pixels_say_on_average() {
    let found = verdicts(&mem::tensor(LOGITS[..6].to_vec(), (1, 2, 1, 3)).unwrap()).unwrap();
    for (v, e) in found.logits.iter().zip([-1.7918739818215916, -1.0043933329418295, -0.7612426371162134]) {
        assert!((f64::from(*v) - e).abs() < 1e-6, "{found:?}");
    }
    assert!((found.confidence[0] - 0.802_218_4).abs() < 1e-6);
    let images = verdicts(&logits(&[4, 3])).unwrap();
    assert_eq!((&images.logits[..], images.confidence[0]), (&LOGITS[..], confidence(&LOGITS[..3])));
    // A class that no pixel sees has a logarithm all the same; what is no number stays none.
    let never = verdicts(&mem::tensor(vec![0.0, -1e9, 0.0, -1e9], (1, 1, 2, 2)).unwrap()).unwrap();
    assert!(never.logits.iter().all(|v| v.is_finite()) && never.logits[1] < -20.0);
    assert!(verdicts(&mem::tensor(vec![f32::NAN; 4], (1, 1, 2, 2)).unwrap()).unwrap().logits[0].is_nan());
}

/// What is seen as void is worth least, though there is none of it; its column is no class, of which the others have a share.
#[test]
fn void_is_no_rare_class() {
    let held = |void| Held { counts: &[10, 90, 0], void };
    let rule = |diversity| Modulation { diversity, gamma: 0.0, norm: PhiNorm::None };
    let phi = |diversity, void| rule(diversity).weights(&[0, 1, 2], &[0.5; 3], held(void), 3);
    assert_eq!(phi(Diversity::Relative, None)[2], 5.0);
    let relative = phi(Diversity::Relative, Some(2));
    assert!((relative[0] - 50.0 / 11.0).abs() < 1e-6 && relative[2] == 0.2, "{relative:?}");
    assert!((phi(Diversity::Share, Some(2))[0] - 0.9).abs() < 1e-6);
    assert_eq!((phi(Diversity::Share, Some(2))[2], phi(Diversity::Off, Some(2))), (0.0, vec![1.0; 3]));
}

/// Rows of an image count on average: two pixels of which one is sure are as one image between.
#[test]
fn phi_of_an_image_is_the_mean_over_its_pixels() {
    let rule = Modulation { diversity: Diversity::Share, gamma: 1.0, norm: PhiNorm::None };
    let phi = rule.weights(&[0, 1, 1, 1], &[0.5, 1.0, 0.5, 0.5], held(&[10, 90]), 2);
    let shares = [0.5, 0.5, 0.0, 1.0];
    let areas = rule.weights_by_area(&shares, &[0.75, 0.5], held(&[10, 90]));
    // (0.5·0.9 + 0.5·0.1)·0.25, 0.1·0.5
    assert!((areas[0] - 0.125).abs() < 1e-6 && (areas[1] - 0.05).abs() < 1e-6, "{areas:?}");
    assert!((phi[0] - 0.225).abs() < 1e-6 && (phi[1] - 0.05).abs() < 1e-6, "{phi:?}");
}

/// `cargo test --release --lib losses_of_pixels -- --ignored --nocapture`: milliseconds of what an update and an inner step ask
/// for, on a batch of 16 images of 160x120 with 11 classes.
#[test]
#[ignore = "a measurement"]
fn losses_of_pixels_take() {
    let dims = [16, 120, 160, 11];
    let draw = |seed: u32| {
        let value = |i: u32| ((i.wrapping_mul(2_654_435_761) ^ seed) >> 8) as f32 / (1 << 21) as f32 - 4.0;
        mem::tensor((0..dims.iter().product::<usize>() as u32).map(value).collect(), &dims[..]).unwrap()
    };
    let (s, t) = (draw(1), draw(0x5bd1_e995));
    let labels: Vec<u32> = (0..(16 * 120 * 160)).map(|i| i * 7 % 11).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let time = |what: &str, of: &(dyn Fn() + Sync)| {
        let mut times: Vec<f64> = (0..9)
            .map(|_| {
                let begin = std::time::Instant::now();
                pool.install(of);
                begin.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{what:>22}: {:6.2} ms (least {:.2})", times[4], times[0]);
    };
    time("kl at 20", &|| drop(matching_loss(&s, &t, Matching::Kl { temperature: 20.0 }, None).unwrap()));
    time("logits", &|| drop(matching_loss(&s, &t, Matching::Logits, None).unwrap()));
    time("l1", &|| drop(matching_loss(&s, &t, Matching::L1, None).unwrap()));
    time("kl per image", &|| drop(compared(&s, &t, 1.0).unwrap()));
    time("agreement", &|| assert!(agreement(&s, &t).unwrap() < 1.0));
    time("masked disagreement", &|| drop(masked_disagreement(&t, &s).unwrap()));
    time("log l1", &|| drop(Adversarial::LogL1.loss(&t, &s).unwrap()));
    time("jensen-shannon", &|| drop(jensen_shannon(&t, &s, 1.0).unwrap()));
    time("cross-entropy", &|| drop(cross_entropy(&s, &labels, None).unwrap()));
    time("entropy", &|| drop(answer_entropy(&s, None).unwrap()));
    time("balance", &|| drop(class_balance(&s).unwrap()));
    time("decisions", &|| drop(decisions(&s).unwrap()));
    time("sureness", &|| drop(sureness(&s).unwrap()));
    time("verdicts", &|| drop(verdicts(&s).unwrap()));
}
