//! What makes a set good to learn a teacher from, told before any training.
//!
//! After Frank & Davis ("What makes a good dataset for knowledge distillation?", 2025): the set should reach every class of the
//! teacher about equally often, be diverse, and tell of the borders between classes. Their measure is the entropy of the
//! teacher's decisions; the others here are ours, and so is the score that they are put together to. Where a set asks for weights
//! ([`SyntheticSet::sampling_weights`]), an image counts as much as it is drawn.

mod duplicates;
mod features;
mod margins;
mod score;

pub use duplicates::Duplicates;
pub use features::{Features, effective_dimensions};
pub use margins::Margins;
pub use score::{Part, Score};

use super::health::{Health, probabilities, share_of_entropy, without};
use crate::Result;
use crate::nets::Task;
use crate::set::SyntheticSet;
use crate::teacher::Teacher;
use serde::Serialize;

/// Bins of the histogram of confidences, each a tenth.
pub const BINS: usize = 10;

/// All criteria, beside those of [`Health`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Criteria {
    /// Whether images count by the set's weights; if not, all count the same.
    pub weighted: bool,
    /// Whether the teacher answers for every pixel, so that an image has no one class.
    pub of_pixels: bool,
    /// Entropy of the histogram of the teacher's decisions, as a share of its largest value; of pixels that of `mean`.
    pub relative_entropy: f64,
    /// The mean answer, `[classes]`; of pixels the share of every class in all of them.
    pub mean: Vec<f64>,
    /// Entropy of that, void left out.
    pub soft_entropy: f64,
    /// Images per class by the teacher's decisions, each counted once, `[classes]`.
    pub decisions: Vec<usize>,
    /// Shares of images by the highest probability of the answer, in tenths.
    pub confidence: [f64; BINS],
    /// Mean over the classes of the highest probability that any image reaches: 1 if each is seen for certain somewhere.
    pub coverage: f64,
    pub margins: Margins,
    /// With a teacher whose last layer reads features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
    pub duplicates: Duplicates,
    pub score: Score,
}

impl Criteria {
    /// # Errors
    /// A teacher that does not take the set's images.
    pub fn of(set: &SyntheticSet, health: &Health, teacher: Option<&Teacher>) -> Result<Self> {
        let (classes, shares) = (set.class_names.len(), shares(set));
        let mut confidence = [0.0; BINS];
        let mut highest = vec![0f64; classes];
        let mut decisions = vec![0; classes];
        let (mut decided, mut mean) = (vec![0f64; classes], vec![0f64; classes]);
        for (row, share) in set.logits.chunks_exact(classes.max(1)).zip(&shares) {
            let p = probabilities(row);
            let top = crate::loss::argmax(&p);
            decisions[top] += 1;
            decided[top] += share;
            confidence[((p[top] * BINS as f64) as usize).min(BINS - 1)] += share;
            highest.iter_mut().zip(&p).for_each(|(highest, p)| *highest = highest.max(*p));
            mean.iter_mut().zip(&p).for_each(|(mean, p)| *mean += share * p);
        }
        let of_pixels = set.task() == Task::Segmentation;
        let soft_entropy = share_of_entropy(&without(&mean, set.void()));
        let mut criteria = Self {
            weighted: set.sampling_weights().is_some(),
            of_pixels,
            relative_entropy: if of_pixels { soft_entropy } else { share_of_entropy(&decided) },
            soft_entropy,
            mean,
            decisions,
            confidence,
            coverage: highest.iter().sum::<f64>() / classes.max(1) as f64,
            margins: Margins::of(set, &shares, teacher)?,
            features: teacher.map(|teacher| Features::of(set, &shares, teacher)).transpose()?.flatten(),
            duplicates: Duplicates::of(set),
            score: Score::default(),
        };
        criteria.score = Score::of(&criteria, health);
        Ok(criteria)
    }
}

/// The share of every image in what a student draws from the set at first, `[n]`.
fn shares(set: &SyntheticSet) -> Vec<f64> {
    let same = vec![1.0; set.len()];
    let Some(weights) = set.sampling_weights() else { return in_all(&same) };
    let (share, even) = (set.even_share(0.0), in_all(&set.even_weights().unwrap_or(same)));
    in_all(weights).into_iter().zip(even).map(|(wanted, even)| (1.0 - share) * wanted + share * even).collect()
}

/// Weights in units of their sum; all the same where that is 0.
fn in_all(weights: &[f32]) -> Vec<f64> {
    let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
    let one = |w: &f32| if sum > 0.0 { f64::from(*w) / sum } else { 1.0 / weights.len() as f64 };
    weights.iter().map(one).collect()
}

/// `most` of `count` rows, evenly spaced; all if there are no more.
fn evenly(count: usize, most: usize) -> Vec<usize> {
    let chosen = count.min(most);
    (0..chosen).map(|i| i * count / chosen.max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::set_of;
    use serde_json::json;

    /// Three images of one class, and one of the other that is drawn as often as these together.
    #[test]
    fn images_count_as_much_as_they_are_drawn() {
        let logits = [[9.0, 0.0], [9.0, 0.0], [9.0, 0.0], [0.0, 0.1]];
        let mut set = set_of(&[0, 0, 0, 1], &logits, |i, j| (i * 60 + j) as u8);
        set.priority = vec![1.0, 1.0, 1.0, 3.0];
        let of = |set: &SyntheticSet| Criteria::of(set, &Health::of(set, None).unwrap(), None).unwrap();
        let (plain, near) = (of(&set), |a: f64, b: f64| (a - b).abs() < 1e-6);
        // 1/4 and 3/4: 0.811 bits.
        assert!(!plain.weighted && near(plain.relative_entropy, 0.811_278), "{plain:?}");
        assert!(near(plain.confidence[9], 0.75) && near(plain.margins.near, 0.25), "{plain:?}");
        set.provenance = json!({ "sampling": { "weights": "priority" } });
        let drawn = of(&set);
        assert!(drawn.weighted && near(drawn.relative_entropy, 1.0), "{drawn:?}");
        assert!(near(drawn.confidence[9], 0.5) && near(drawn.margins.near, 0.5), "{drawn:?}");
        assert!(drawn.soft_entropy > plain.soft_entropy && drawn.score.value > plain.score.value, "{drawn:?}");
        assert_eq!(drawn.decisions, [3, 1]);
    }

    #[test]
    fn coverage_is_a_mean_over_classes_and_near_copies_count() {
        let logits = [[0.9f32, 0.1], [0.6, 0.4]].map(|p| p.map(f32::ln));
        let set = set_of(&[0, 0], &logits, |i, j| (i * 60 + j) as u8);
        let criteria = Criteria::of(&set, &Health::of(&set, None).unwrap(), None).unwrap();
        assert!((criteria.coverage - 0.65).abs() < 1e-6, "{}", criteria.coverage);
        let set = set_of(&[0, 0], &logits, |i, j| (j * j % 13 * 10 + 2 * i) as u8);
        let found = Criteria::of(&set, &Health::of(&set, None).unwrap(), None).unwrap().duplicates;
        assert_eq!((found.exact, found.near), (0.0, 0.5));
    }
}
