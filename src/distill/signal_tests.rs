//! The richer signals through whole networks.

use super::*;
use crate::model::Model;
use crate::ops::mem::{host, update, view};
use crate::rng::normal;
use crate::train::{Goal, Stepper};

fn model(arch: &str) -> Model {
    Model::random(arch, [3, 16, 16], 4)
}

fn network(arch: &str) -> Network {
    model(arch).network
}

fn teacher(arch: &str) -> Teacher {
    Teacher::of(&model(arch))
}

fn signal(kind: SignalKind) -> Signal {
    Signal { kind, ..Signal::default() }
}

fn hints(signal: Signal, student: &str, teacher: &Teacher) -> Result<Option<Hints>> {
    Hints::new(signal, &network(student), Some(teacher), &teacher.input(), &Streams::new(1))
}

#[test]
fn stages_are_paired_by_their_grid() {
    let pairs = |student: &str, its: &str| {
        let hints = hints(signal(SignalKind::Features), student, &teacher(its)).unwrap().unwrap();
        (hints.stages, hints.projection.map(|p| p.network.weights.slots[0].shape.clone()))
    };
    assert_eq!(pairs("resnet8", "resnet20"), (vec![[0, 0], [1, 1], [2, 2]], Some(vec![64, 64])));
    assert_eq!(pairs("resnet8", "wrn-16-2"), (vec![[0, 0], [1, 1], [2, 2]], Some(vec![64, 128])));
    // Four groups of 16, 8, 4, 2 pixels; the student's are of 16, 8, 4.
    assert_eq!(pairs("resnet8", "resnet18").0, [[0, 0], [1, 1], [2, 2]]);
    let plain = hints(Signal::default(), "resnet8", &teacher("resnet20")).unwrap();
    assert!(plain.is_none(), "answers alone need nothing");
    let logits = hints(signal(SignalKind::Logits), "resnet8", &teacher("resnet20")).unwrap().unwrap();
    assert!(logits.stages.is_empty() && logits.projection.is_none() && !logits.wants_features());
}

const WEIGHTS: [f32; 6] = [1.0, 0.5, 2.0, 0.25, 1.0, 1.5];

fn images() -> Tensor {
    tensor(normal(&mut Streams::new(4).stream("x", 0), 6 * 16 * 16 * 3), (6, 16, 16, 3)).unwrap()
}

/// Loss and weights of a student after one plain step on all that it hears.
fn stepped(kind: SignalKind, student: &Network, lr: f32) -> (f64, Network) {
    let (teacher, images) = (teacher("wrn-16-2"), images());
    let mut hints = hints(signal(kind), "resnet8", &teacher).unwrap();
    let told = teacher.tells(&images).unwrap();
    let network = student.duplicate().unwrap();
    let (mut sgd, mut stepper) = (Sgd::new(0.0, false, 0.0, Decay::All), Stepper::new());
    let how = Matching::Kl { temperature: 2.0 };
    let goal = Goal::Answers { answers: &told.answers, how, weights: Some(&WEIGHTS) };
    let report = match &mut hints {
        None => stepper.step(&network, &mut sgd, images, lr, goal).unwrap(),
        Some(hints) => {
            let mut beside = hints.of_batch(&told, Some(&WEIGHTS));
            stepper.step_beside(&network, &mut sgd, images, lr, goal, &mut beside).unwrap()
        }
    };
    (report.loss, network)
}

/// As the table of `signal.rs` has them: logits by hand, the others from losses that have tests of their own.
#[test]
fn each_part_has_its_weight() {
    let (teacher, student) = (teacher("wrn-16-2"), network("resnet8"));
    let told = teacher.tells(&images()).unwrap();
    let tape = Tape::new();
    let mut f = Forward::new(&tape, &student.weights, Mode::Train { momentum: BN_MOMENTUM }).with_stages();
    let logits = student.forward(&mut f, Var::constant(images())).unwrap().tensor().unwrap();
    let (own, its) = (view(&logits).unwrap(), view(&told.answers).unwrap());
    let of_image = |i: usize| {
        let apart: Vec<f64> = (4 * i..4 * (i + 1)).map(|k| f64::from(own[k]) - f64::from(its[k])).collect();
        let mean = apart.iter().sum::<f64>() / 4.0;
        apart.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 4.0
    };
    let squares = (0..6).map(|i| f64::from(WEIGHTS[i]) * of_image(i)).sum::<f64>() / 6.0;
    let value = |loss: Loss| loss.value.get().unwrap();
    let maps = f.stages.as_ref().unwrap().iter().zip(&told.stages);
    let maps: Vec<f64> =
        maps.map(|(own, its)| value(attention(&own.tensor().unwrap(), its, Some(&WEIGHTS)).unwrap())).collect();
    assert_eq!(maps.len(), 3);
    let projection = hints(signal(SignalKind::Features), "resnet8", &teacher).unwrap().unwrap().projection.unwrap();
    let mut p = Forward::new(&tape, &projection.network.weights, Mode::Train { momentum: BN_MOMENTUM });
    let projected = projection.network.forward(&mut p, f.features.clone().unwrap()).unwrap().tensor().unwrap();
    let features = value(relative_error(&projected, &told.features.unwrap(), Some(&WEIGHTS)).unwrap());

    let [answers, with_logits, all] =
        [SignalKind::Answers, SignalKind::Logits, SignalKind::Features].map(|kind| stepped(kind, &student, 0.0).0);
    let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-4, "{found} {expected}");
    near(with_logits - answers, 0.1 * squares);
    near(all - with_logits, 250.0 * maps.iter().sum::<f64>() / 3.0 + features);
}

/// The gradient of all weights of the student, told from a step, against central differences.
#[test]
fn gradients_reach_all_weights() {
    let start = network("resnet8");
    let mut losses = Vec::new();
    for kind in [SignalKind::Answers, SignalKind::Logits, SignalKind::Features] {
        let (loss, after) = stepped(kind, &start, 1.0);
        losses.push(loss);
        for seed in 0..3 {
            let mut rng = Streams::new(seed).stream("direction", 0);
            let (up, down) = (start.duplicate().unwrap(), start.duplicate().unwrap());
            // Larger steps cross more bends of the ReLUs: the difference falls with the step.
            let (h, mut along, mut length) = (1.0 / 131_072.0, 0.0, 0.0);
            for (((slot, from), (_, to)), ((_, up), (_, down))) in
                (start.weights.iter()).zip(after.weights.iter()).zip(up.weights.iter().zip(down.weights.iter()))
            {
                if !slot.kind.trainable() {
                    continue;
                }
                let signs: Vec<f32> = normal(&mut rng, slot.len()).into_iter().map(f32::signum).collect();
                let (from, to) = (host(from).unwrap(), host(to).unwrap());
                for ((from, to), sign) in view(&from).unwrap().iter().zip(view(&to).unwrap().iter()).zip(&signs) {
                    along += f64::from((from - to) * sign);
                    length += f64::from(from - to).powi(2);
                }
                let moved = |tensor: &Tensor, by: f32| {
                    update(tensor, |values| values.iter_mut().zip(&signs).for_each(|(v, sign)| *v += by * sign))
                        .unwrap();
                };
                moved(up, h);
                moved(down, -h);
            }
            let difference = (stepped(kind, &up, 0.0).0 - stepped(kind, &down, 0.0).0) / f64::from(2.0 * h);
            let tolerance = 0.015 * length.sqrt();
            assert!((difference - along).abs() < tolerance, "{kind:?}: {difference} against {along} of {tolerance}");
        }
    }
    assert!(losses.is_sorted() && losses[0] < losses[2], "each says more than the one before: {losses:?}");
}

/// The projection learns to say what the teacher's features are, and is kept in states.
#[test]
fn the_projection_learns_along_and_is_kept() {
    let rng = &mut Streams::new(5).stream("features", 0);
    let own = tensor(normal(rng, 64 * 6), (64, 6)).unwrap();
    let goal = own.matmul(&tensor(normal(rng, 6 * 3), (6, 3)).unwrap()).unwrap();
    let fresh = || Projection::new(6, 3, &network("resnet8"), &Streams::new(0)).unwrap();
    let hints = |projection| Hints { signal: Signal::default(), stages: Vec::new(), projection: Some(projection) };
    let mut losses = Vec::new();
    let mut kept = None;
    let (mut first, weights) = (hints(fresh()), vec![1.0; 64]);
    for step in 0..60 {
        if step == 20 {
            kept = Some(Saver::of(&first).unwrap().keep());
        }
        losses.push(first.projection.as_mut().unwrap().step(&own, &goal, &weights, 0.1).unwrap().0);
    }
    assert!(losses[0] > 0.5 && losses[59] < 0.01, "{losses:?}");
    let mut second = hints(fresh());
    second.restore(&kept.unwrap()).unwrap();
    let again: Vec<f64> =
        (20..60).map(|_| second.projection.as_mut().unwrap().step(&own, &goal, &weights, 0.1).unwrap().0).collect();
    assert_eq!(again, losses[20..]);
}
