//! What makes a set good to learn a teacher from, told before any training.
//!
//! After Frank & Davis ("What makes a good dataset for knowledge distillation?", 2025): the set should reach every class of the
//! teacher about equally often, be diverse, and tell of the borders between classes. Their measure is the entropy of the
//! teacher's decisions; the others here are ours, and so is the score that they are put together to.

mod duplicates;
mod features;
mod margins;
mod score;

pub use duplicates::Duplicates;
pub use features::{Features, effective_dimensions};
pub use margins::Margins;
pub use score::{Part, Score};

use super::health::Health;
use crate::Result;
use crate::set::SyntheticSet;
use crate::teacher::Teacher;
use serde::Serialize;

/// Bins of the histogram of confidences, each a tenth.
pub const BINS: usize = 10;

/// All criteria, beside those of [`Health`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Criteria {
    /// Entropy of the histogram of the teacher's decisions, as a share of its largest value.
    pub relative_entropy: f64,
    /// The same of the mean answer.
    pub soft_entropy: f64,
    /// Images per class by the teacher's decisions, `[classes]`.
    pub decisions: Vec<usize>,
    /// Images by the highest probability of the answer, in tenths.
    pub confidence: [usize; BINS],
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
        let classes = set.class_names.len();
        let mut confidence = [0; BINS];
        let mut highest = vec![0f64; classes];
        let mut decisions = vec![0; classes];
        for row in set.logits.chunks_exact(classes.max(1)) {
            let p = super::health::probabilities(row);
            let top = crate::loss::argmax(&p);
            decisions[top] += 1;
            confidence[((p[top] * BINS as f64) as usize).min(BINS - 1)] += 1;
            highest.iter_mut().zip(&p).for_each(|(highest, p)| *highest = highest.max(*p));
        }
        let mut criteria = Self {
            relative_entropy: health.balance.entropy,
            soft_entropy: health.answers.entropy_of_mean,
            decisions,
            confidence,
            coverage: highest.iter().sum::<f64>() / classes.max(1) as f64,
            margins: Margins::of(set, teacher)?,
            features: teacher.map(|teacher| Features::of(set, teacher)).transpose()?.flatten(),
            duplicates: Duplicates::of(set),
            score: Score::default(),
        };
        criteria.score = Score::of(&criteria, health);
        Ok(criteria)
    }
}

/// `most` of `count` rows, evenly spaced; all if there are no more.
fn evenly(count: usize, most: usize) -> Vec<usize> {
    let chosen = count.min(most);
    (0..chosen).map(|i| i * count / chosen.max(1)).collect()
}
