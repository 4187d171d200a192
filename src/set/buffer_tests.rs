//! What the buffer keeps when new images come.

use super::View;
use super::buffer::{Batch, BufferRule, Replacement, ReplayBuffer};
use super::priority::PriorityRule;
use crate::checkpoint::{Resumable, Saver};
use crate::loss::{Diversity, Modulation, PhiNorm};
use crate::nets::Task;

const CLASSES: usize = 4;

fn buffer(modulation: Option<Modulation>, guards: (f64, f64), replacement: Replacement) -> ReplayBuffer {
    let rule = BufferRule { capacity: 100, replacement, guards, modulation, task: Task::Classification, void: None };
    ReplayBuffer::new(rule, PriorityRule::default(), [1, 1, 1], CLASSES, Vec::new()).unwrap()
}

/// Logits that give class `c` the probability `p` and the others the rest.
fn logits(c: usize, p: f32) -> Vec<f32> {
    (0..CLASSES).map(|k| if k == c { p.ln() } else { ((1.0 - p) / (CLASSES - 1) as f32).ln() }).collect()
}

/// Puts in images of one pixel, all of value `pixel`; the slots that were written.
fn put(buffer: &mut ReplayBuffer, pixel: u8, labels: &[u32], logits: &[f32], round: u64) -> Vec<usize> {
    let pixels = vec![pixel; labels.len()];
    buffer.insert(&Batch { pixels: &pixels, labels, logits, confidence: &[], round }).unwrap()
}

/// 40 rounds of 20 images: half of all images of class 0, every second image of a class with a confidence of 0.99, the
/// others with 0.6.
fn feed(buffer: &mut ReplayBuffer) {
    for round in 0..40u64 {
        let (mut labels, mut all) = (Vec::new(), Vec::new());
        for i in 0..20usize {
            let class = if i % 2 == 0 { 0 } else { 1 + i / 2 % 3 };
            labels.push(class as u32);
            all.extend(logits(class, if (i / 2) % 2 == 0 { 0.99 } else { 0.6 }));
        }
        put(buffer, round as u8, &labels, &all, round);
        assert_eq!(buffer.len(), (20 * (round as usize + 1)).min(100));
        assert_eq!(buffer.histogram().iter().sum::<usize>(), buffer.len());
        assert_eq!(buffer.images.len(), buffer.len());
    }
}

fn state(buffer: &ReplayBuffer) -> (f64, f64) {
    let share = buffer.histogram()[0] as f64 / buffer.len() as f64;
    let confidence = buffer.entries.iter().map(|e| f64::from(e.confidence)).sum::<f64>() / buffer.len() as f64;
    (share, confidence)
}

/// Fed with one class in every second image, the buffer follows; with φ in replacement the class falls to at most 40 %,
/// and the mean confidence falls by at least 0.1, because sure images of a full class leave first.
#[test]
fn modulation_in_replacement_evens_classes_and_keeps_unsure_images() {
    let free = (0.0, 1e9);
    let mut plain = buffer(None, free, Replacement::Oldest);
    feed(&mut plain);
    let (share, confidence) = state(&plain);
    assert!((share - 0.5).abs() < 0.01 && (confidence - 0.795).abs() < 0.03, "{share} {confidence}");

    let phi = Modulation { diversity: Diversity::Relative, gamma: 2.0, norm: PhiNorm::None };
    let mut modulated = buffer(Some(phi), free, Replacement::Oldest);
    feed(&mut modulated);
    let (share, modulated_confidence) = state(&modulated);
    assert!(share <= 0.4, "class 0 holds {share}");
    assert!(modulated_confidence <= confidence - 0.1, "{modulated_confidence} against {confidence}");
}

/// Of an image that takes the place of another nothing is recorded but the answer to itself, and what is comes back from a state.
#[test]
fn recorded_answers_leave_with_their_image() {
    let list: Vec<View> = (0..2).map(|dx| View { dy: 0, dx, flip: false }).collect();
    let rule = BufferRule { capacity: 2, ..buffer(None, (0.0, 1e9), Replacement::Oldest).rule };
    let new = || ReplayBuffer::new(rule, PriorityRule::default(), [1, 1, 1], CLASSES, list.clone()).unwrap();
    let known = |buffer: &ReplayBuffer| {
        let views = buffer.views.as_ref().unwrap();
        [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(image, view)| views.has(image, view, CLASSES))
    };
    let mut first = new();
    put(&mut first, 0, &[0, 1], &[logits(0, 0.9), logits(1, 0.9)].concat(), 0);
    assert_eq!(known(&first), [true, false, true, false]);
    let views = first.views.as_mut().unwrap();
    assert_eq!(views.logits[views.at(1, 0, CLASSES)], logits(1, 0.9)[..]);
    for image in [0, 1] {
        let at = views.at(image, 1, CLASSES);
        views.logits[at].fill(0.0);
    }
    assert_eq!(known(&first), [true; 4]);
    let state = Saver::of(&first).unwrap().keep();
    let mut second = new();
    second.restore(&state).unwrap();
    assert_eq!(known(&second), known(&first));
    let slots = put(&mut first, 0, &[2], &logits(2, 0.9), 1);
    let mut expected = [true; 4];
    expected[2 * slots[0] + 1] = false;
    assert_eq!((slots.len(), known(&first)), (1, expected));
}

/// With guards of 0.5 and 1.5 no class leaves 12 to 38 of 100 images, whatever comes.
#[test]
fn guards_bound_every_class() {
    let mut guarded = buffer(None, (0.5, 1.5), Replacement::Priority);
    // An even start.
    for round in 0..5u64 {
        let labels: Vec<u32> = (0..20).map(|i| i % 4).collect();
        let all: Vec<f32> = labels.iter().flat_map(|c| logits(*c as usize, 0.9)).collect();
        put(&mut guarded, 0, &labels, &all, round);
    }
    for round in 5..60u64 {
        let all: Vec<f32> = (0..20).flat_map(|_| logits(0, 0.9)).collect();
        put(&mut guarded, 1, &[0; 20], &all, round);
        assert!(guarded.histogram().iter().all(|n| (12..=38).contains(n)), "{:?}", guarded.histogram());
    }
}

/// A buffer of 100 images of streets, of which the first ten show 30 % of class 3, and most of class 0 as all do; then many that show
/// none of it.
fn streets(modulation: Option<Modulation>, guards: (f64, f64)) -> ReplayBuffer {
    let rule = BufferRule {
        capacity: 100,
        replacement: Replacement::Oldest,
        guards,
        modulation,
        task: Task::Segmentation,
        void: None,
    };
    let mut buffer = ReplayBuffer::new(rule, PriorityRule::default(), [1, 1, 1], CLASSES, Vec::new()).unwrap();
    let logits = |shares: [f32; CLASSES], n: usize| shares.map(f32::ln).repeat(n);
    let (rare, usual) = ([0.6, 0.05, 0.05, 0.3], [0.6, 0.2, 0.19, 0.01]);
    put(&mut buffer, 1, &[0; 10], &logits(rare, 10), 0);
    put(&mut buffer, 0, &[0; 90], &logits(usual, 90), 1);
    assert_eq!(buffer.class_counts(), [60_000, 18_500, 17_600, 3_900]);
    for round in 2..30 {
        assert_eq!(put(&mut buffer, 0, &[0; 20], &logits(usual, 20), round).len(), 20, "newcomers have a place");
    }
    buffer
}

/// Images of pixels are judged by the area of their classes: those that hold a rare one stay, though all are mostly of class 0.
#[test]
fn areas_of_rare_classes_stay() {
    let old = |buffer: &ReplayBuffer| buffer.entries.iter().filter(|entry| entry.round == 0).count();
    let free = (0.0, 1e9);
    assert_eq!(old(&streets(None, free)), 0, "the oldest leave");
    assert_eq!(old(&streets(None, (0.5, 1.5))), 10, "a guard keeps them");
    let phi = Modulation { diversity: Diversity::Relative, gamma: 0.0, norm: PhiNorm::None };
    assert_eq!(old(&streets(Some(phi), free)), 10, "φ keeps them");
}

/// Counts are kept as images come and go, and are the same after a state is read.
#[test]
fn areas_are_those_of_the_images() {
    let buffer = streets(None, (0.0, 1e9));
    assert_eq!(buffer.class_counts(), [60_000, 20_000, 19_000, 1_000]);
    let mut saver = Saver::default();
    buffer.save(&mut saver).unwrap();
    let rule = BufferRule { capacity: 100, ..buffer.rule };
    let mut again = ReplayBuffer::new(rule, PriorityRule::default(), [1, 1, 1], CLASSES, Vec::new()).unwrap();
    again.restore(&saver.keep()).unwrap();
    assert_eq!(again.class_counts(), buffer.class_counts());
}

/// By age: after a full turn nothing old is left; images of the running round never leave for each other.
#[test]
fn the_oldest_leave_first() {
    let mut b = buffer(None, (0.0, 1e9), Replacement::Oldest);
    for round in 0..10u64 {
        let all: Vec<f32> = (0..20).flat_map(|i| logits(i % CLASSES, 0.9)).collect();
        let labels: Vec<u32> = (0..20).map(|i| (i % CLASSES) as u32).collect();
        let written = put(&mut b, 0, &labels, &all, round);
        assert_eq!(written.len(), 20);
    }
    assert!(b.entries.iter().all(|e| e.round >= 5), "rounds {:?}", b.entries.iter().map(|e| e.round).min());
}

#[test]
fn a_buffer_that_replaces_nothing_keeps_its_first_images() {
    let mut b = buffer(None, (0.0, 1e9), Replacement::Never);
    let capacity = (0..50u64)
        .map(|round| {
            let all: Vec<f32> = (0..20).flat_map(|i| logits(i % CLASSES, 0.9)).collect();
            let labels: Vec<u32> = (0..20).map(|i| (i % CLASSES) as u32).collect();
            put(&mut b, 0, &labels, &all, round).len()
        })
        .sum::<usize>();
    assert_eq!(b.len(), capacity, "what was written stayed");
    assert!(b.is_full() && b.entries.iter().all(|e| e.round < 40));
}

/// P_i ∝ δ_i^α, w_i = (N·P_i)^−β over the largest; images that nobody saw carry the largest gap.
#[test]
fn priorities_follow_the_gap() {
    use crate::rng::Streams;
    let rule = PriorityRule { alpha: 0.5, beta: 1.0, temperature: 1.0 };
    let mut p = super::priority::Priorities::new(rule, 3);
    p.update(&[0, 1, 2], &[1.0, 4.0, 9.0]);
    for (got, expected) in p.probabilities().iter().zip([1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0]) {
        assert!((got - expected).abs() < 1e-5, "{:?}", p.probabilities());
    }
    p.extend(1);
    assert!((p.probabilities()[3] - p.probabilities()[2]).abs() < 1e-9);
    let mut rng = Streams::new(0).stream("test", 0);
    let draw = p.draw(20_000, &mut rng);
    let share = draw.indices.iter().filter(|i| **i == 0).count() as f64 / 20_000.0;
    assert!((share - 1.0 / 9.0).abs() < 0.01, "{share}");
    // Weights take the bias back: share × weight is the same for every image.
    let weight = |i: usize| {
        let at = draw.indices.iter().position(|d| *d == i).unwrap();
        f64::from(draw.weights[at])
    };
    let products: Vec<f64> = (0..4).map(|i| p.probabilities()[i] * weight(i)).collect();
    assert!(products.iter().all(|v| (v / products[0] - 1.0).abs() < 1e-3), "{products:?}");
}

/// Without gaps images are drawn as the set asks for; with them P_i ∝ v_i·δ_i^α, and weights lead back to v.
#[test]
fn wanted_probabilities_are_honoured() {
    use crate::rng::Streams;
    let rule = PriorityRule { alpha: 0.5, beta: 1.0, temperature: 1.0 };
    let mut p = super::priority::Priorities::new(rule, 3).with_wanted(&[1.0, 3.0, 0.0], None);
    assert!(p.probabilities().iter().zip([0.25, 0.75, 0.0]).all(|(a, b)| (a - b).abs() < 1e-9));
    p.update(&[0, 1], &[9.0, 1.0]);
    // 1·3 against 3·1
    assert!((p.probabilities()[0] - 0.5).abs() < 1e-5, "{:?}", p.probabilities());
    let draw = p.draw(20_000, &mut Streams::new(0).stream("test", 0));
    assert!(draw.indices.iter().all(|i| *i < 2), "an image of no weight is never drawn");
    let total = |image: usize| -> f64 {
        draw.indices.iter().zip(&draw.weights).filter(|(i, _)| **i == image).map(|(_, w)| f64::from(*w)).sum()
    };
    assert!((total(1) / total(0) - 3.0).abs() < 0.1, "{} {}", total(0), total(1));
    p.extend(1);
    assert_eq!(p.probabilities().len(), 4);
    let mut p = super::priority::Priorities::new(rule, 4).with_wanted(&[1.0, 3.0, 0.0, 0.0], None);
    p.set_even_share(0.2);
    // 0.8·v + 0.2/4
    assert!(p.probabilities().iter().zip([0.25, 0.65, 0.05, 0.05]).all(|(a, b)| (a - b).abs() < 1e-9));
    // What is even may weigh images too: 0.8·v + 0.2·(1, 1, 1, 5)/8, and in the end that alone.
    let even = [1.0, 1.0, 1.0, 5.0];
    let mut p = super::priority::Priorities::new(rule, 4).with_wanted(&[1.0, 3.0, 0.0, 0.0], Some(&even));
    for (share, expected) in [(0.2, [0.225, 0.625, 0.025, 0.125]), (1.0, [0.125, 0.125, 0.125, 0.625])] {
        p.set_even_share(share);
        assert!(p.probabilities().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{:?}", p.probabilities());
    }
    p.extend(1);
    assert_eq!(p.probabilities().len(), 5);
    // Nothing to go by: an even draw.
    let even = super::priority::Priorities::new(rule, 2).with_wanted(&[0.0, 0.0], None);
    assert_eq!(even.probabilities(), [0.5, 0.5]);
}

/// Of a full class the image with the least priority leaves, for one of another class only if its own can spare one, and never one that
/// came in the same round.
#[test]
fn who_leaves_is_the_least_wanted_who_may() {
    let filled = |counts: [usize; CLASSES], guards| {
        let mut buffer = buffer(None, guards, Replacement::Priority);
        let labels: Vec<u32> = (0..CLASSES).flat_map(|class| vec![class as u32; counts[class]]).collect();
        let all: Vec<f32> = labels.iter().flat_map(|label| logits(*label as usize, 0.9)).collect();
        put(&mut buffer, 0, &labels, &all, 0);
        let all: Vec<usize> = (0..100).collect();
        let gaps: Vec<f32> = (0..100).map(|i| 1.0 + ((i * 37) % 100) as f32).collect();
        buffer.priorities.update(&all, &gaps);
        buffer
    };
    // The gap of image i is 1 + 37·i mod 100: that of image 0 is the least, then of 73, 46, 19, 92.
    let free = (0.0, 1e9);
    let mut even = filled([25; CLASSES], free);
    assert_eq!(put(&mut even, 1, &[3, 3], &[logits(3, 0.9), logits(3, 0.9)].concat(), 1), [0, 73]);
    // Class 0 has 10 of 100, less than half of an even share: none of its images leaves for another class.
    let mut few = filled([10, 30, 30, 30], (0.5, 1e9));
    assert_eq!(put(&mut few, 1, &[3], &logits(3, 0.9), 1), [73]);
    // Those of its own class may take its places.
    assert_eq!(put(&mut few, 1, &[0], &logits(0, 0.9), 1), [0]);
    // What has come in this round stays, though nobody has a lower gap after it was looked at.
    even.priorities.update(&[0, 73], &[1e-3, 1e-3]);
    assert_eq!(put(&mut even, 2, &[3], &logits(3, 0.9), 1), [46]);
    assert_eq!(put(&mut even, 2, &[3], &logits(3, 0.9), 2), [0]);
}

/// A class at its upper bound only exchanges images of its own: where all of these came in the same round, nobody leaves, and the
/// newcomer has no place.
#[test]
fn a_full_class_of_new_images_takes_no_more() {
    let mut buffer = buffer(None, (0.0, 1.0), Replacement::Priority);
    let labels: Vec<u32> = (0..100).map(|i| i / 25).collect();
    let all: Vec<f32> = labels.iter().flat_map(|label| logits(*label as usize, 0.9)).collect();
    put(&mut buffer, 0, &labels, &all, 0);
    let written = put(&mut buffer, 1, &[2; 30], &logits(2, 0.9).repeat(30), 1);
    assert_eq!((written.len(), buffer.histogram()), (25, &[25; CLASSES][..]));
    assert!(written.iter().all(|slot| (50..75).contains(slot)), "{written:?}");
    assert_eq!(put(&mut buffer, 2, &[2], &logits(2, 0.9), 2).len(), 1, "in the next round they may leave");
}
