//! The criteria put together to one number, and what that means in plain words.

use super::Criteria;
use crate::report::alarms::{Alarm, FEW_SEEN, LEAST_SEEN};
use crate::report::health::Health;
use serde::Serialize;

/// Parts below this are named as weaknesses.
const WEAK: f64 = 0.5;
/// Scores from which on a set is called good, and usable.
const GOOD: f64 = 0.75;
const USABLE: f64 = 0.5;
/// A share of images near a border that is as good as more: a teacher's own training images have 0.007.
const ENOUGH_NEAR: f64 = 0.005;
const FEWEST_IMAGES: usize = 200;

/// How good a set is, 0 to 1: the weighted geometric mean of its parts, so that one bad part cannot be hidden by the others.
///
/// The weights are ours and provisional: they order sets from the same teacher, and say little across teachers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    pub value: f64,
    pub parts: Vec<Part>,
    /// `good`, `usable` or `poor`, with the reasons, one sentence each.
    pub verdict: String,
    pub reasons: Vec<String>,
}

/// One part of the score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    pub name: &'static str,
    /// 0 to 1.
    pub value: f64,
    pub weight: f64,
    /// What it measures.
    pub means: &'static str,
}

impl Score {
    pub(super) fn of(criteria: &Criteria, health: &Health) -> Self {
        let parts = parts(criteria, health);
        let total: f64 = parts.iter().map(|part| part.weight).sum();
        let logarithm: f64 = parts.iter().map(|part| part.weight * part.value.clamp(1e-3, 1.0).ln()).sum();
        let value = (logarithm / total).exp();
        let mut reasons = reasons(&parts, criteria);
        let mut verdict = if value >= GOOD {
            "good"
        } else if value >= USABLE {
            "usable"
        } else {
            "poor"
        };
        if health.images < FEWEST_IMAGES {
            reasons
                .push(format!("{} images are learnt by heart: take {FEWEST_IMAGES} at the very least", health.images));
            verdict = "poor";
        }
        if criteria.relative_entropy < LEAST_SEEN && verdict == "good" {
            verdict = "usable";
        }
        Self { value, parts, verdict: verdict.into(), reasons }
    }

    /// What raises alarms is not called good, whatever its number.
    pub(in crate::report) fn beside(&mut self, alarms: &[Alarm]) {
        if self.verdict != "good" || alarms.is_empty() {
            return;
        }
        let names: Vec<&str> = alarms.iter().map(|alarm| alarm.name).collect();
        self.verdict = "usable".into();
        self.reasons.push(format!("there are alarms: {}", names.join(", ")));
    }
}

fn parts(criteria: &Criteria, health: &Health) -> Vec<Part> {
    let part = |name, value: f64, weight, means| Part { name, value, weight, means };
    let mut parts = vec![
        part(
            "balance",
            criteria.relative_entropy,
            0.35,
            "how evenly the teacher's decisions are spread over its classes",
        ),
        part("uniqueness", 1.0 - criteria.duplicates.near, 0.05, "share of images that are not there twice"),
    ];
    // An image of many classes shows none of them alone.
    if !criteria.of_pixels {
        parts.push(part("coverage", criteria.coverage, 0.15, "how surely every class is seen in some image"));
        let near = (criteria.margins.near / ENOUGH_NEAR).min(1.0);
        parts.push(part("border", near, 0.05, "whether images tell of the borders between classes"));
    }
    if let Some(features) = &criteria.features {
        // The features of a trained classifier lie near the corners of a simplex: K - 1 dimensions (Papyan et al., 2020).
        let directions = health.classes.saturating_sub(1).min(features.count).max(1) as f64;
        let value = (features.effective_dimensions / directions).min(1.0);
        parts.push(part(
            "diversity",
            value,
            0.25,
            "in how many directions the teacher's features differ, of those that its classes take",
        ));
    }
    if let Some(median) = health.fit.as_ref().and_then(|fit| fit.median()) {
        parts.push(part(
            "statistics",
            1.0 / (1.0 + median),
            0.15,
            "how near batch-norm statistics are to those of the teacher's own data",
        ));
    }
    parts
}

fn reasons(parts: &[Part], criteria: &Criteria) -> Vec<String> {
    let mut reasons = Vec::new();
    let entropy = criteria.relative_entropy;
    for part in parts.iter().filter(|part| part.value < if part.name == "balance" { LEAST_SEEN } else { WEAK }) {
        reasons.push(match part.name {
            "balance" => format!("{FEW_SEEN} (the entropy of its decisions is {entropy:.2})"),
            "coverage" => "some classes are never seen with any certainty: mix in sources with more structure".into(),
            "border" => "the teacher is sure of nearly every image, so that nothing is said of its borders: train with mixing of images".into(),
            "uniqueness" => "many images are there more than once: remove them with `synth collect --from SET --distinct`".into(),
            "diversity" => "the images look alike to the teacher: mix other sources in".into(),
            _ => "the images are unlike the teacher's training data: prefer sources that are nearer to it".to_string(),
        });
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::criteria::{Duplicates, Features, Margins};
    use crate::report::tests::set_of;

    fn health() -> Health {
        let labels: Vec<u32> = (0..400).map(|i| i % 2).collect();
        let logits: Vec<[f32; 2]> = labels.iter().map(|l| if *l == 0 { [3.0, 0.0] } else { [0.0, 3.0] }).collect();
        Health::of(&set_of(&labels, &logits, |i, j| (i * j) as u8), None).unwrap()
    }

    fn criteria() -> Criteria {
        Criteria {
            weighted: false,
            of_pixels: false,
            relative_entropy: 0.81,
            mean: vec![0.6, 0.4],
            soft_entropy: 0.9,
            decisions: vec![300, 100],
            confidence: [0.0; 10],
            coverage: 0.9,
            margins: Margins { histogram: [0.0; 10], near: 0.002, distance: None },
            features: Some(Features { count: 64, effective_dimensions: 0.5, alive: 1.0 }),
            duplicates: Duplicates { exact: 0.0, near: 0.1 },
            score: Score::default(),
        }
    }

    /// (0.35 ln 0.81 + 0.15 ln 0.9 + 0.05 ln 0.4 + 0.05 ln 0.9 + 0.25 ln 0.5) / 0.85 = -0.369 32
    #[test]
    fn the_score_is_the_weighted_geometric_mean() {
        let score = Score::of(&criteria(), &health());
        assert!((score.value - (-0.369_325f64).exp()).abs() < 1e-4, "{score:?}");
        assert_eq!((score.verdict.as_str(), score.reasons.len()), ("usable", 1), "{score:?}");
        let uneven = Score::of(&Criteria { relative_entropy: 0.3, ..criteria() }, &health());
        assert!(uneven.value < score.value && uneven.reasons.iter().any(|r| r.contains("few of its classes")));
    }

    /// (0.35 ln 0.81 + 0.05 ln 0.9 + 0.25 ln 0.5) / 0.65 = -0.388 16
    #[test]
    fn images_of_many_classes_need_not_show_one_alone() {
        let none = Criteria { of_pixels: true, coverage: 0.0, ..criteria() };
        let score = Score::of(&none, &health());
        assert!((score.value - (-0.388_160f64).exp()).abs() < 1e-4 && score.reasons.is_empty(), "{score:?}");
    }

    #[test]
    fn a_perfect_set_has_a_score_of_one_and_a_small_one_is_poor() {
        let perfect = Criteria {
            relative_entropy: 1.0,
            coverage: 1.0,
            margins: Margins { near: 0.2, ..criteria().margins },
            features: None,
            duplicates: Duplicates { exact: 0.0, near: 0.0 },
            ..criteria()
        };
        let score = Score::of(&perfect, &health());
        assert!((score.value - 1.0).abs() < 1e-12 && score.verdict == "good" && score.reasons.is_empty());
        let mut doubtful = score.clone();
        doubtful.beside(&[]);
        assert_eq!(doubtful, score);
        let (name, measure, advice) = ("off label", String::new(), "");
        doubtful.beside(&[Alarm { name, measure, value: 0.2, threshold: 0.5, advice }]);
        assert_eq!(
            (doubtful.verdict.as_str(), doubtful.reasons),
            ("usable", vec!["there are alarms: off label".into()])
        );
        let few = Score::of(&perfect, &Health { images: 20, ..health() });
        assert_eq!((few.verdict.as_str(), few.reasons.len()), ("poor", 1));
    }
}
