//! Which labels a batch of images is made for.

use crate::rng;
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// How the labels of a batch are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Labels {
    /// All classes alike ([`balanced_labels`]), in random order.
    Balanced,
    /// All classes alike, sweep after sweep in the order of the classes; the rest are different classes (NAYER).
    Sweeps,
    /// Each on its own (FastDFKD).
    Uniform,
    /// As `uniform`, sorted (CMI, DeepInversion).
    Sorted,
}

impl Labels {
    /// `n` labels below `classes`.
    pub fn draw(self, n: usize, classes: usize, rng: &mut rng::Stream) -> Vec<u32> {
        match self {
            Self::Balanced => balanced_labels(n, classes, rng),
            Self::Sweeps => {
                let rest = rng::permutation(classes, rng);
                let whole = n / classes * classes;
                (0..n).map(|i| if i < whole { i % classes } else { rest[i - whole] } as u32).collect()
            }
            Self::Uniform => (0..n).map(|_| rng.random_range(0..classes as u32)).collect(),
            Self::Sorted => {
                let mut labels = Self::Uniform.draw(n, classes, rng);
                labels.sort_unstable();
                labels
            }
        }
    }
}

/// Labels in exact balance: whole sweeps over the classes, the remainder a random choice of distinct classes, shuffled.
pub fn balanced_labels(n: usize, classes: usize, rng: &mut rng::Stream) -> Vec<u32> {
    let order = rng::permutation(n, rng);
    let rest = rng::permutation(classes, rng);
    let whole = n / classes * classes;
    order.into_iter().map(|i| if i < whole { i % classes } else { rest[i - whole] } as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    #[test]
    fn every_way_draws_what_it_says() {
        let draw = |labels: Labels, n: usize| labels.draw(n, 10, &mut Streams::new(3).stream("labels", 0));
        let counts = |labels: &[u32]| {
            let mut counts = [0usize; 10];
            labels.iter().for_each(|y| counts[*y as usize] += 1);
            counts
        };
        for even in [Labels::Balanced, Labels::Sweeps] {
            let counts = counts(&draw(even, 57));
            assert!(counts.iter().all(|n| (5..=6).contains(n)), "{even:?}: {counts:?}");
        }
        let sweeps = draw(Labels::Sweeps, 27);
        assert_eq!(sweeps[..20], (0..20).map(|i| i % 10).collect::<Vec<u32>>());
        let mut rest = sweeps[20..].to_vec();
        rest.sort_unstable();
        rest.dedup();
        assert_eq!(rest.len(), 7, "no class twice in the rest: {sweeps:?}");
        let (uniform, sorted) = (draw(Labels::Uniform, 2000), draw(Labels::Sorted, 2000));
        assert!(sorted.is_sorted() && !uniform.is_sorted());
        assert_eq!(counts(&uniform), counts(&sorted));
        assert!(counts(&uniform).iter().all(|n| (130..270).contains(n)), "{:?}", counts(&uniform));
    }

    #[test]
    fn balanced_labels_are_in_random_order() {
        let labels = Labels::Balanced.draw(200, 10, &mut Streams::new(3).stream("labels", 0));
        let every_tenth: std::collections::BTreeSet<u32> = labels.iter().step_by(10).copied().collect();
        assert!(every_tenth.len() > 4, "{every_tenth:?}");
    }
}
