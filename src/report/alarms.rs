//! Alarms: signs in the numbers of a finished run that it has failed, found without any real data.
//!
//! Each criterion is a number of [`Health`], a bound, and one sentence. The bounds lie in the gaps between small runs that
//! went well and runs that were broken on purpose (`tests/alarms.rs`), so that they hold for budgets far below the default.

use super::health::{Balance, Health};
use super::progress::significant;
use crate::nets::Task;
use crate::signs::Signs;
use serde::Serialize;
use std::fmt;

/// Something is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alarm {
    pub name: &'static str,
    /// The number that triggered it, in words.
    pub measure: String,
    pub value: f64,
    pub threshold: f64,
    /// What it probably means and what to do.
    pub advice: &'static str,
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (value, threshold) = (significant(self.value), significant(self.threshold));
        let of = if OF_IMAGES.contains(&self.name) { " (in the set)" } else { "" };
        write!(f, "{}{of}: {} is {value} (threshold {threshold}); {}", self.name, self.measure, self.advice)
    }
}

/// A held-out tenth of 20 images leaves an uncertainty of 11 points in the agreement, and a set this small is learned by
/// heart.
const FEWEST_IMAGES: f64 = 200.0;
/// The inversion asks the teacher for these very labels. Small healthy runs reach 0.7 and more; images that ignore their
/// labels reach 1/K.
const LEAST_ON_LABEL: f64 = 0.5;
/// Half of what complete ignorance would be. Healthy sets have 0.1, as real images do.
const MOST_ENTROPY: f64 = 0.5;
/// Labels are balanced, so decisions are unless the teacher does not follow. Healthy sets have 0.99; one class missing of
/// ten leaves 0.95, half of the classes 0.7.
const LEAST_BALANCE: f64 = 0.85;
/// Where images were not made for any class, decisions are as uneven as they come: below this, a set hardly teaches some of the classes
/// (Frank & Davis warn here).
pub(super) const LEAST_SEEN: f64 = 0.6;
/// What that means, and what to do.
pub(super) const FEW_SEEN: &str = "the teacher sees few of its classes: mix other sources in, add images from its borders with \
                                   --boundary, or take a larger pool with --balance nayak";
/// Median over layers of the batch-norm distance, in standard deviations of the teacher. Small healthy runs have 0.29 to
/// 0.47; with a wrong normalisation or without matching it is 0.58 and more, with an untrained or damaged teacher 1.2 and more.
const MOST_BATCH_NORM_DISTANCE: f64 = 0.5;
/// Worst layer against the median layer. Small healthy runs have 1.1 to 1.8, a long one on a ResNet-34 2.4: all layers come
/// closer together. A layer that cannot be matched (wrong normalisation: the first; damaged statistics: one in the middle)
/// stays behind at 3 and more.
const MOST_LAYER_RATIO: f64 = 2.7;
/// Layers under which a median says nothing.
const FEWEST_LAYERS: usize = 4;
/// Standard deviation of pixels. Photographs have 0.2 to 0.3, drawings more; a normalisation whose `std` is four times too small
/// makes sets of 0.07.
const LEAST_CONTRAST: f64 = 0.1;
/// Share of pixels at 0 or 255. Healthy sets have 0.01; binary drawings (digits) may have most of them at 0, so only a
/// set of nothing else is suspicious.
const MOST_SATURATED: f64 = 0.95;
/// Share of images with a near twin. Healthy sets have none; a collapsed generator repeats itself.
const MOST_TWINS: f64 = 0.2;
/// Mean KL of the held-out answers in units of `ln K`, about what no opinion costs. Students of a few hundred images are
/// up to 1.2 (sure and sometimes wrong); one that has learned its images by heart, or has blown up, is at 2.4 and more.
const MOST_KL: f64 = 1.8;
/// Last loss of a student over its first. It falls by a tenth or more where a run is long enough to show it; the shortest
/// healthy ones end where they began (up to 1.004).
const MOST_RISE: f64 = 1.1;

/// Batches before an inversion under way is judged.
const FEWEST_BATCHES: usize = 10;
/// The batch-norm loss of healthy runs falls, to half within 50 batches.
const MOST_BN_GROWTH: f64 = 2.0;
/// Neighbouring images of healthy batches differ by 0.3 and more.
const LEAST_DIFFERENCE: f64 = 0.05;
/// Ten batches of a healthy run move the weights by some tenths of their norm.
const LEAST_MOVEMENT: f64 = 1e-3;
/// Healthy adversaries decide like the teacher on 0.5 to 0.75 of the images that are made against them.
const MOST_AGREEMENT: f64 = 0.98;

/// Which criteria a run fails; none of a healthy one. Parts of `health` that are missing raise nothing.
pub fn alarms(health: &Health) -> Vec<Alarm> {
    let mut raised = Raised(Vec::new());
    answers(health, &mut raised);
    pixels(health, &mut raised);
    batch_norms(health, &mut raised);
    student(health, &mut raised);
    health.signs.iter().for_each(|signs| inversion(signs, &mut raised));
    raised.0
}

/// Those of an inversion under way.
pub fn alarms_under_way(signs: &Signs) -> Vec<Alarm> {
    let mut raised = Raised(Vec::new());
    inversion(signs, &mut raised);
    raised.0
}

/// Criteria that hold for images that were not made from the teacher, too.
const OF_ANY_SET: [&str; 6] =
    ["few images", "twin images", "non-finite values", "rising loss", "student lost", "student astray"];

/// Criteria of a set's images, which a student of them can do nothing about.
const OF_IMAGES: [&str; 10] = [
    "few images",
    "off label",
    "unsure teacher",
    "classes missing",
    "few classes",
    "flat images",
    "saturated images",
    "twin images",
    "batch norms apart",
    "one batch norm apart",
];

/// Criteria of images that each stand for one class.
const OF_CLASSIFIERS: [&str; 4] = ["off label", "unsure teacher", "classes missing", "student lost"];

/// Criteria of images that are all made to look like the teacher's training data.
const OF_MATCHED: [&str; 2] = ["batch norms apart", "one batch norm apart"];

/// The [`alarms`] that concern a set with this provenance (or a student of one): that collected images do not look like the
/// teacher's training data is no failure, nor that procedural images among inverted ones do not.
pub fn alarms_of(provenance: &serde_json::Value, health: &Health) -> Vec<Alarm> {
    let mut raised = alarms(health);
    if of_pixels(provenance) {
        raised.retain(|alarm| !OF_CLASSIFIERS.contains(&alarm.name));
    }
    if provenance["recipe"]["fill_with"].as_str().is_some_and(|with| with != "generator") {
        let generated = health.fit.as_ref().is_some_and(|fit| fit.generated);
        raised.retain(|alarm| alarm.name != "classes missing" && (generated || !OF_MATCHED.contains(&alarm.name)));
    }
    if provenance["kind"] == "collected" {
        raised.retain(|alarm| OF_ANY_SET.contains(&alarm.name));
    }
    raised.extend(few_classes(provenance, &health.balance));
    raised
}

/// The alarm of a collected set that shows few of the teacher's classes, which is known before anything learns from it.
pub fn few_classes(provenance: &serde_json::Value, balance: &Balance) -> Option<Alarm> {
    // The only class of a teacher has all images, and no entropy.
    let even = balance.rarest >= 1.0;
    if provenance["kind"] != "collected" || of_pixels(provenance) || even {
        return None;
    }
    let mut raised = Raised(Vec::new());
    raised.below("few classes", "entropy of the decisions", balance.entropy, LEAST_SEEN, FEW_SEEN);
    raised.0.pop()
}

/// Whether an image has no one class.
fn of_pixels(provenance: &serde_json::Value) -> bool {
    provenance["task"] == Task::Segmentation.name()
}

/// Alarms so far.
struct Raised(Vec<Alarm>);

impl Raised {
    /// Raises an alarm if `value` is below `threshold`, or no number.
    fn below(&mut self, name: &'static str, measure: &str, value: f64, threshold: f64, advice: &'static str) {
        if value < threshold || value.is_nan() {
            self.0.push(Alarm { name, measure: measure.into(), value, threshold, advice });
        }
    }

    /// Raises an alarm if `value` is above `threshold`, or no number.
    fn above(&mut self, name: &'static str, measure: &str, value: f64, threshold: f64, advice: &'static str) {
        if value > threshold || value.is_nan() {
            self.0.push(Alarm { name, measure: measure.into(), value, threshold, advice });
        }
    }
}

fn answers(health: &Health, raised: &mut Raised) {
    let (answers, balance) = (&health.answers, &health.balance);
    let advice = "a student learns so few by heart: make a larger set";
    raised.below("few images", "number of images", health.images as f64, FEWEST_IMAGES, advice);
    let advice = "the images are not of their classes: check mean, std and weights of the teacher, that loss.one_hot is above \
                  0, and give the generator more steps";
    raised.below("off label", "share of images in their class", answers.on_label, LEAST_ON_LABEL, advice);
    let advice = "the teacher has no opinion about the images: check its weights and normalisation, and that loss.one_hot \
                  is above 0";
    raised.above("unsure teacher", "mean entropy of the answers", answers.entropy, MOST_ENTROPY, advice);
    let advice = "the teacher sees few of its classes: it is damaged, or the generator has collapsed; check its weights, \
                  lower generator.lr";
    raised.below("classes missing", "entropy of the decisions", balance.entropy, LEAST_BALANCE, advice);
}

fn pixels(health: &Health, raised: &mut Raised) {
    let pixels = &health.pixels;
    let advice = "the images are almost flat: the std of the normalisation is probably too small, or the generator has \
                  collapsed";
    raised.below("flat images", "standard deviation of pixels", pixels.std, LEAST_CONTRAST, advice);
    let advice = "nearly all pixels are black or white: the generator has blown up, lower generator.lr, or the std of the \
                  normalisation is too large";
    raised.above("saturated images", "share of extreme pixels", pixels.saturated, MOST_SATURATED, advice);
    let advice = "the images repeat themselves: an inversion needs a lower generator.lr or another lifecycle, a collection --distinct";
    raised.above("twin images", "share of images with a near twin", pixels.near_twins, MOST_TWINS, advice);
}

fn batch_norms(health: &Health, raised: &mut Raised) {
    let Some((fit, median)) = health.fit.as_ref().and_then(|fit| Some((fit, fit.median()?))) else { return };
    let advice = "the images do not look to the teacher like its training data: check that loss.bn is above 0, the \
                  normalisation, and whether the teacher is trained at all";
    let limit = MOST_BATCH_NORM_DISTANCE;
    raised.above("batch norms apart", "median batch-norm distance", median, limit, advice);
    let Some(worst) = fit.worst().filter(|_| fit.layers.len() >= FEWEST_LAYERS) else { return };
    let measure = format!("distance of {} over the median", worst.layer);
    let advice = "one batch norm cannot be matched: if it is one of the first, mean or std of the normalisation are \
                  probably wrong, otherwise its running statistics may be damaged";
    raised.above("one batch norm apart", &measure, worst.distance / median, MOST_LAYER_RATIO, advice);
}

fn inversion(signs: &Signs, raised: &mut Raised) {
    if signs.batches < FEWEST_BATCHES {
        return;
    }
    if let Some(bn) = signs.bn {
        let advice = "the images move away from what the teacher was trained on: lower generator.lr or loss.adversarial, or raise \
                      loss.bn";
        let ratio = bn.last / bn.first.max(f64::MIN_POSITIVE);
        raised.above("batch-norm loss explodes", "its last value over its first", ratio, MOST_BN_GROWTH, advice);
    }
    let advice = "the generator makes the same image again and again: lower generator.lr, or take another lifecycle";
    raised.below(
        "generator collapsed",
        "difference of neighbouring images",
        signs.difference,
        LEAST_DIFFERENCE,
        advice,
    );
    let advice = "its weights are those of its start: raise generator.lr, and check that a loss has a weight above 0";
    raised.below("generator stands still", "movement of its weights", signs.movement, LEAST_MOVEMENT, advice);
    if let Some(agreement) = signs.agreement.filter(|_| signs.rounds >= FEWEST_BATCHES) {
        let advice = "the images ask the student nothing that it does not know: raise loss.adversarial, or start it from fresh \
                      weights";
        let share = agreement.last;
        raised.above("adversary never disagrees", "share of images decided alike", share, MOST_AGREEMENT, advice);
    }
}

fn student(health: &Health, raised: &mut Raised) {
    if let Some(course) = &health.course {
        let advice = "a loss was no number on the way, and the rate was halved: lower the learning rates";
        raised.above("non-finite values", "number of values", course.non_finite as f64, 0.0, advice);
        if let Some(loss) = course.student_loss {
            let advice = "the student's loss has risen: lower student.lr";
            raised.above("rising loss", "last loss of the student", loss.last, MOST_RISE * loss.first, advice);
        }
    }
    let Some(pupil) = &health.pupil else { return };
    let chance = health.balance.majority(health.classes);
    let advice = "the student does no better than always giving the commonest answer: lower student.lr, or give it more \
                  steps";
    raised.below("student lost", "agreement on held-out images", pupil.agreement, chance, advice);
    let advice = "the student is sure of wrong answers: it has blown up (lower student.lr) or knows its few images by \
                  heart (make a larger set)";
    let no_opinion = (health.classes.max(2) as f64).ln();
    let kl = pupil.kl.map_or(f64::NAN, |kl| kl / no_opinion);
    raised.above("student astray", "held-out KL in units of ln K", kl, MOST_KL, advice);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::health::{Answers, Balance, Course, Fit, LayerDistance, Pixels, Pupil};
    use crate::report::summary::Trend;

    fn layers(distances: &[f64]) -> Fit {
        let one = |(i, d): (usize, &f64)| LayerDistance { layer: format!("bn{i}"), distance: *d };
        Fit { layers: distances.iter().enumerate().map(one).collect(), classifier_sum: Some(0.0), generated: false }
    }

    fn signs() -> Signs {
        Signs {
            batches: 50,
            bn: Some(Trend { first: 0.3, last: 0.16 }),
            agreement: Some(Trend { first: 0.5, last: 0.7 }),
            rounds: 20,
            difference: 0.35,
            movement: 0.4,
        }
    }

    fn with(change: fn(&mut Signs)) -> Option<Signs> {
        let mut signs = signs();
        change(&mut signs);
        Some(signs)
    }

    /// About what a small healthy run leaves.
    fn healthy() -> Health {
        Health {
            images: 512,
            classes: 10,
            answers: Answers { on_label: 0.8, confidence: 0.93, entropy: 0.08, entropy_of_mean: 0.99 },
            balance: Balance { rarest: 0.8, most_frequent: 1.4, entropy: 0.99, fewest_labels: 41 },
            pixels: Pixels {
                mean: 0.46,
                std: 0.27,
                std_across_images: 0.25,
                saturated: 0.004,
                within_class: 0.354,
                between_classes: 0.36,
                near_twins: 0.0,
            },
            fit: Some(layers(&[0.39, 0.47, 0.26, 0.34, 0.19])),
            pupil: Some(Pupil { agreement: 0.31, kl: Some(2.4) }),
            signs: Some(signs()),
            course: Some(Course { non_finite: 0, student_loss: Some(Trend { first: 12.8, last: 10.8 }) }),
        }
    }

    #[test]
    fn collected_images_may_be_unlike_the_training_data() {
        let health = Health { images: 100, fit: Some(layers(&[3.0; 5])), ..healthy() };
        let names = |kind: &str| -> Vec<&str> {
            alarms_of(&serde_json::json!({ "kind": kind }), &health).iter().map(|alarm| alarm.name).collect()
        };
        assert_eq!((names("set"), names("collected")), (vec!["few images", "batch norms apart"], vec!["few images"]));
    }

    /// Among procedural images only what the generator made is to match, and no class is promised.
    #[test]
    fn procedural_images_need_not_match_and_inverted_ones_beside_them_do() {
        let names = |with: &str, generated: bool| -> Vec<&str> {
            let balance = Balance { entropy: 0.3, ..healthy().balance };
            let fit = Some(Fit { generated, ..layers(&[3.0; 5]) });
            let about = serde_json::json!({ "recipe": { "fill_with": with } });
            alarms_of(&about, &Health { fit, balance, ..healthy() }).iter().map(|alarm| alarm.name).collect()
        };
        assert_eq!(names("generator", true), ["classes missing", "batch norms apart"]);
        assert_eq!(names("shaders", true), ["batch norms apart"]);
        assert_eq!(names("shaders", false), [""; 0]);
    }

    /// They may be uneven, up to a point; images that were made for their classes are held to more.
    #[test]
    fn collected_images_are_to_show_most_classes() {
        let named = |about: serde_json::Value, entropy: f64| -> Vec<&str> {
            let health = Health { balance: Balance { entropy, ..healthy().balance }, ..healthy() };
            alarms_of(&about, &health).iter().map(|alarm| alarm.name).collect()
        };
        let collected = || serde_json::json!({ "kind": "collected" });
        assert_eq!((named(collected(), 0.61), named(collected(), 0.3)), (vec![], vec!["few classes"]));
        assert_eq!(named(serde_json::json!({ "kind": "set" }), 0.3), ["classes missing"]);
        assert_eq!(named(serde_json::json!({ "kind": "collected", "task": Task::Segmentation.name() }), 0.3), [""; 0]);
        let alarm = few_classes(&collected(), &Balance { entropy: 0.3, ..healthy().balance }).unwrap().to_string();
        assert!(alarm.contains("entropy of the decisions is 0.300 (threshold 0.600)"), "{alarm}");
        assert!(["--boundary", "--balance nayak"].iter().all(|way| alarm.contains(way)), "{alarm}");
    }

    /// Of an image with many things in it no class is the one.
    #[test]
    fn images_of_a_segmentation_set_stand_for_no_class() {
        let answers = Answers { on_label: 0.1, entropy: 0.7, ..healthy().answers };
        let health = Health { images: 100, answers, ..healthy() };
        let names = |task: Task| -> Vec<&str> {
            alarms_of(&serde_json::json!({ "task": task.name() }), &health).iter().map(|alarm| alarm.name).collect()
        };
        assert_eq!(names(Task::Classification), ["few images", "off label", "unsure teacher"]);
        assert_eq!(names(Task::Segmentation), ["few images"]);
    }

    #[test]
    fn a_healthy_run_raises_nothing() {
        assert_eq!(alarms(&healthy()), []);
        assert_eq!(alarms(&Health { fit: None, signs: None, pupil: None, course: None, ..healthy() }), []);
    }

    #[test]
    fn every_criterion_raises_its_alarm_alone() {
        type Change = fn(&mut Health);
        let cases: [(&str, Change); 17] = [
            ("few images", |h| h.images = 199),
            ("off label", |h| h.answers.on_label = 0.1),
            ("unsure teacher", |h| h.answers.entropy = 0.7),
            ("classes missing", |h| h.balance.entropy = 0.7),
            ("flat images", |h| h.pixels.std = 0.065),
            ("saturated images", |h| h.pixels.saturated = 0.99),
            ("twin images", |h| h.pixels.near_twins = 1.0),
            ("batch norms apart", |h| h.fit = Some(layers(&[1.1, 0.9, 0.6, 0.7, 0.6]))),
            ("one batch norm apart", |h| h.fit = Some(layers(&[1.14, 0.47, 0.26, 0.34, 0.19]))),
            ("non-finite values", |h| h.course = Some(Course { non_finite: 1, student_loss: None })),
            ("rising loss", |h| {
                h.course = Some(Course { non_finite: 0, student_loss: Some(Trend { first: 5.0, last: 9.0 }) });
            }),
            ("batch-norm loss explodes", |h| h.signs = with(|s| s.bn = Some(Trend { first: 0.3, last: 0.7 }))),
            ("generator collapsed", |h| h.signs = with(|s| s.difference = 0.01)),
            ("generator stands still", |h| h.signs = with(|s| s.movement = 1e-4)),
            ("adversary never disagrees", |h| h.signs = with(|s| s.agreement = Some(Trend { first: 0.9, last: 0.99 }))),
            ("student lost", |h| h.pupil = Some(Pupil { agreement: 0.1, kl: Some(2.2) })),
            ("student astray", |h| h.pupil = Some(Pupil { agreement: 0.31, kl: Some(5.7) })),
        ];
        for (name, change) in cases {
            let mut health = healthy();
            change(&mut health);
            let raised = alarms(&health);
            assert_eq!(raised.iter().map(|a| a.name).collect::<Vec<_>>(), [name]);
            assert!(raised[0].to_string().starts_with(name) && !raised[0].to_string().contains('\n'));
        }
    }

    /// Where there is no adversary yet, or nothing is matched, there is nothing to judge; nor after a few batches.
    #[test]
    fn an_inversion_is_judged_by_what_it_has() {
        assert_eq!(alarms_under_way(&signs()), []);
        let few = Signs { batches: 9, difference: 0.0, movement: 0.0, ..signs() };
        assert_eq!(alarms_under_way(&few), []);
        let none = Signs { bn: None, agreement: Some(Trend { first: 1.0, last: 1.0 }), rounds: 9, ..signs() };
        assert_eq!(alarms_under_way(&none), []);
        let lost = Signs { difference: f64::NAN, ..signs() };
        assert_eq!(alarms_under_way(&lost)[0].name, "generator collapsed");
    }

    #[test]
    fn what_is_no_number_is_no_reassurance() {
        let mut health = healthy();
        health.pupil = Some(Pupil { agreement: f64::NAN, kl: None });
        health.answers.entropy = f64::NAN;
        let names: Vec<&str> = alarms(&health).iter().map(|a| a.name).collect();
        assert_eq!(names, ["unsure teacher", "student lost", "student astray"]);
    }

    /// The layer is named, with the number and the bound.
    #[test]
    fn the_message_says_which_layer() {
        let alarm = &alarms(&Health { fit: Some(layers(&[0.2, 0.3, 0.4, 0.3, 1.5])), ..healthy() })[0];
        assert!(alarm.to_string().contains("distance of bn4 over the median is 5.00 (threshold 2.70)"), "{alarm}");
    }
}
