//! Which images of a pool become the set, and how often each is to be drawn: the balance of the classes that the teacher sees.
//!
//! - `soft` (the default): nothing is thrown away; an image is drawn with a weight `n_c^-rho`, where `n_c` images are of its
//!   class.
//! - `nayak`: a quota per class, what is over it is dropped (Nayak et al., "Effectiveness of arbitrary transfer sets for
//!   data-free knowledge distillation", 2021). In independent measurements this costs accuracy where the pool is small, since
//!   images are thrown away.

use super::survey::Survey;
use crate::rng::{Streams, permutation};
use crate::set::{balancing_weights, class_weights};
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// A way to balance classes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "method")]
pub enum Balance {
    /// As the pool has them.
    None,
    /// Weights `n_c^-rho`: 0 leaves things as they are, 1 makes all classes equally frequent.
    Soft { rho: f64 },
    /// A quota per class, filled in the pool's random order with images of at least this confidence.
    Nayak { min_confidence: f64 },
}

/// What is taken from a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Rows of the survey, ascending.
    pub rows: Vec<usize>,
    /// How many images of a class are missing, `[classes]`; only with quotas.
    pub missing: Vec<usize>,
}

impl Balance {
    /// Chooses at most `samples` rows; `preference` multiplies the chance of a row to be taken, where not all can be.
    pub fn choose(self, survey: &Survey, samples: usize, preference: Option<&[f64]>, streams: &Streams) -> Selection {
        let decisions = survey.decisions();
        let all = survey.len();
        let mut missing = vec![0; survey.classes];
        let rho = match self {
            Self::Soft { rho } => rho,
            _ => 0.0,
        };
        let mut rows = match self {
            Self::Nayak { min_confidence } => {
                let order = in_order(all, preference, streams);
                let sure = order.into_iter().filter(|&row| f64::from(survey.confidence(row)) >= min_confidence);
                let (rows, short) = up_to_quota(sure, &decisions, self.quotas(samples, survey.classes));
                missing = short;
                rows
            }
            _ if all <= samples => (0..all).collect(),
            _ => {
                let mut weights = class_weights(&decisions, survey.classes, rho);
                for (weight, preferred) in weights.iter_mut().zip(preference.into_iter().flatten()) {
                    *weight *= preferred;
                }
                let mut order = in_order(all, Some(&weights), streams);
                order.truncate(samples);
                order
            }
        };
        rows.sort_unstable();
        Selection { rows, missing }
    }

    /// How many of `samples` images each class is to have, `[classes]`: an even share; 0 where there are no quotas.
    pub fn quotas(self, samples: usize, classes: usize) -> Vec<usize> {
        let Self::Nayak { .. } = self else { return vec![0; classes] };
        (0..classes).map(|class| samples / classes + usize::from(class < samples % classes)).collect()
    }

    /// The least probability of the teacher's decision for an image to be taken.
    pub fn least_confidence(self) -> f64 {
        match self {
            Self::Nayak { min_confidence } => min_confidence,
            _ => 0.0,
        }
    }

    /// How often each image of a set should be drawn, in units of the mean, none above 10; `None` where all are equal.
    /// `decisions` are the classes that the teacher sees.
    pub fn weights(self, decisions: &[u32], classes: usize) -> Option<Vec<f32>> {
        let Self::Soft { rho } = self else { return None };
        Some(balancing_weights(decisions, classes, rho))
    }
}

/// All rows in random order; with weights, each next one is drawn among those left with its share of their weight (Efraimidis
/// & Spirakis, "Weighted random sampling with a reservoir", 2006).
fn in_order(count: usize, weights: Option<&[f64]>, streams: &Streams) -> Vec<usize> {
    let mut rng = streams.stream("collect/order", 0);
    let Some(weights) = weights else { return permutation(count, &mut rng) };
    let mut keys: Vec<(f64, usize)> = (weights.iter().enumerate())
        .map(|(row, weight)| ((1.0 - rng.random::<f64>()).ln() / weight.max(1e-300), row))
        .collect();
    keys.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    keys.into_iter().map(|(_, row)| row).collect()
}

/// The first rows of every class up to its quota; and how many are missing of each.
fn up_to_quota(
    order: impl Iterator<Item = usize>,
    decisions: &[u32],
    mut open: Vec<usize>,
) -> (Vec<usize>, Vec<usize>) {
    let mut rows = Vec::with_capacity(open.iter().sum());
    for row in order {
        let open = &mut open[decisions[row] as usize];
        if *open > 0 {
            *open -= 1;
            rows.push(row);
        }
    }
    (rows, open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::pool::Place;

    /// Images of classes 0, 1, 2, sure or not: `(class, logit)`.
    fn survey(images: &[(usize, f32)]) -> Survey {
        let row = |&(class, logit): &(usize, f32)| [0, 1, 2].map(|c| if c == class { logit } else { 0.0 });
        let places = (0..images.len()).map(|number| Place { part: 0, number }).collect();
        Survey::of_answers(places, images.iter().flat_map(row).collect(), 3)
    }

    #[test]
    fn soft_weights_are_powers_of_the_counts() {
        let decisions = [vec![0u32; 16], vec![1; 4]].concat();
        let weights = Balance::Soft { rho: 0.5 }.weights(&decisions, 3).unwrap();
        // 16^-½ = 1/4 and 4^-½ = 1/2, whose mean over 16 and 4 images is 3/10.
        assert!(weights[..16].iter().all(|w| (w - 0.25 / 0.3).abs() < 1e-6), "{weights:?}");
        assert!(weights[16..].iter().all(|w| (w - 0.5 / 0.3).abs() < 1e-6), "{weights:?}");
        assert_eq!(Balance::None.weights(&decisions, 3), None);
        let rare = [vec![0u32; 10_000], vec![1]].concat();
        assert_eq!(Balance::Soft { rho: 1.0 }.weights(&rare, 2).unwrap()[10_000], 10.0);
    }

    #[test]
    fn quotas_share_the_samples_out() {
        assert_eq!(Balance::Nayak { min_confidence: 0.5 }.quotas(29, 3), [10, 10, 9]);
        assert_eq!(Balance::Soft { rho: 0.5 }.quotas(29, 3), [0; 3]);
    }

    #[test]
    fn quotas_are_filled_and_what_is_missing_is_said() {
        let images = [vec![(0, 3.0); 50], vec![(1, 3.0); 5], vec![(1, 0.1); 5]].concat();
        let survey = survey(&images);
        let chosen = Balance::Nayak { min_confidence: 0.0 }.choose(&survey, 29, None, &Streams::new(1));
        let decisions = survey.decisions();
        let count = |class| chosen.rows.iter().filter(|&&row| decisions[row] == class).count();
        assert_eq!(([count(0), count(1), count(2)], &chosen.missing[..]), ([10, 10, 0], &[0, 0, 9][..]));
        assert!(chosen.rows.is_sorted());
        // softmax(3, 0, 0) = 0.909, softmax(0.1, 0, 0) = 0.356
        let sure = Balance::Nayak { min_confidence: 0.9 }.choose(&survey, 29, None, &Streams::new(1));
        assert_eq!((sure.rows.len(), &sure.missing[..]), (15, &[0, 5, 9][..]));
    }

    #[test]
    fn soft_balance_draws_rare_classes_more_often_and_keeps_all_that_fit() {
        let images = [vec![(0, 3.0); 900], vec![(1, 3.0); 100]].concat();
        let survey = survey(&images);
        let all = Balance::Soft { rho: 1.0 }.choose(&survey, 1000, None, &Streams::new(1));
        assert_eq!(all.rows.len(), 1000);
        let some = Balance::Soft { rho: 1.0 }.choose(&survey, 100, None, &Streams::new(1));
        let rare = some.rows.iter().filter(|&&row| row >= 900).count();
        // Half of the weight is on the rare class; as it is used up, a little less than half of what is drawn.
        assert!(some.rows.len() == 100 && (32..=55).contains(&rare), "{rare}");
        let plain = Balance::None.choose(&survey, 100, None, &Streams::new(1));
        let rare = plain.rows.iter().filter(|&&row| row >= 900).count();
        assert!((2..=20).contains(&rare), "{rare}");
        let preference: Vec<f64> = (0..1000).map(|row| if row % 10 == 0 { 1.0 } else { 1e-9 }).collect();
        let preferred = Balance::None.choose(&survey, 100, Some(&preference), &Streams::new(1));
        assert!(preferred.rows.iter().all(|row| row % 10 == 0));
    }
}
