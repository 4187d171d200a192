//! How much of the area of label maps each class should take.
//!
//! A teacher tells it itself: images whose batch norms are matched and of which nothing else is asked show its classes in
//! proportions like those of the images that it has seen, because the statistics of late layers depend on them.

use crate::rng::Stream;
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// Which classes label maps have more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayoutPrior {
    /// All alike.
    Even,
    /// Those that the teacher sees more of in the images of `practice`, which are then made to match batch norms alone.
    Teacher,
}

/// Classes of label maps with the share of the area that each is expected to take.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prior {
    classes: Vec<u32>,
    /// Of each of `classes`; their sum is 1.
    shares: Vec<f64>,
}

/// What is added to the root of a share, in shares of an even prior: classes that the teacher hardly sees are asked for, too.
const LEAST: f64 = 0.25;

impl Prior {
    /// The same share for every class.
    pub fn even(classes: Vec<u32>) -> Self {
        let shares = vec![1.0 / classes.len() as f64; classes.len()];
        Self { classes, shares }
    }

    /// Shares in proportion to `mass`, which has a number for every class; an even prior where it has none for these.
    pub fn of(classes: Vec<u32>, mass: &[f64]) -> Self {
        let of = |class: &u32| mass.get(*class as usize).copied().unwrap_or(0.0);
        let total: f64 = classes.iter().map(of).sum();
        if !total.is_normal() || total < 0.0 {
            return Self::even(classes);
        }
        let shares = classes.iter().map(|class| of(class) / total).collect();
        Self { classes, shares }
    }

    /// How many classes there are.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    fn share(&self, class: u32) -> f64 {
        self.classes.iter().position(|c| *c == class).map_or(0.0, |at| self.shares[at])
    }

    /// How likely a class is to come up, over the sum of these.
    fn weight(&self, class: u32) -> f64 {
        self.share(class).sqrt() + LEAST / self.len() as f64
    }

    /// By how much the field of a class is raised in maps where the highest field wins, in its standard deviations.
    pub fn raised(&self, class: u32) -> f32 {
        (0.5 * (self.len() as f64 * self.share(class)).ln()).clamp(-1.0, 1.5) as f32
    }

    /// `label`, then `count - 1` of the other classes, drawn without repetition; a label that is no class here is replaced by
    /// chance.
    pub fn cast(&self, label: u32, count: usize, rng: &mut Stream) -> Vec<u32> {
        let mut order = self.order(&self.classes, rng);
        if let Some(at) = order.iter().position(|class| *class == label) {
            order[..=at].rotate_right(1);
        }
        order.truncate(count);
        order
    }

    /// `classes` in random order, likely ones early: draws without repetition (Efraimidis and Spirakis, "Weighted random sampling
    /// with a reservoir", 2006).
    pub fn order(&self, classes: &[u32], rng: &mut Stream) -> Vec<u32> {
        let key = |class: &u32| ((1.0 - rng.random::<f64>()).ln() / self.weight(*class), *class);
        let mut keys: Vec<(f64, u32)> = classes.iter().map(key).collect();
        keys.sort_by(|a, b| b.0.total_cmp(&a.0));
        keys.into_iter().map(|(_, class)| class).collect()
    }

    /// One of `classes`, by weight.
    pub fn one_of(&self, classes: &[u32], rng: &mut Stream) -> u32 {
        let mut at = rng.random::<f64>() * classes.iter().map(|class| self.weight(*class)).sum::<f64>();
        for class in &classes[1..] {
            at -= self.weight(*class);
            if at < 0.0 {
                return *class;
            }
        }
        classes[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    #[test]
    fn shares_are_those_of_the_known_classes() {
        let prior = Prior::of(vec![0, 2, 3], &[3.0, 50.0, 1.0, 0.0]);
        assert_eq!(prior.shares, [0.75, 0.25, 0.0]);
        // ln(3·0.75)/2, ln(3·0.25)/2, and no less than −1
        for (class, raised) in [(0, 0.405_465_1), (2, -0.143_841_04), (3, -1.0)] {
            assert!((prior.raised(class) - raised).abs() < 1e-6, "{class}: {}", prior.raised(class));
        }
        for mass in [&[0.0, 9.0, 0.0, 0.0][..], &[], &[f64::NAN; 4]] {
            assert_eq!(Prior::of(vec![0, 2, 3], mass), Prior::even(vec![0, 2, 3]), "{mass:?}");
        }
        assert_eq!(Prior::even(vec![4, 5]).raised(5), 0.0);
    }

    /// The label is first, others come with √π + 0.25/K, and none comes twice.
    #[test]
    fn casts_follow_the_prior() {
        let prior = Prior::of((0..4).collect(), &[0.64, 0.36, 0.0, 0.0]);
        let mut rng = Streams::new(1).stream("casts", 0);
        let mut second = [0usize; 4];
        for _ in 0..20_000 {
            let cast = prior.cast(3, 3, &mut rng);
            assert_eq!((cast.len(), cast[0]), (3, 3));
            assert!(cast[1] != cast[2] && !cast[1..].contains(&3), "{cast:?}");
            second[cast[1] as usize] += 1;
        }
        let weights = [0.8625, 0.6625, 0.0625];
        for (found, weight) in second.iter().zip(weights) {
            let (found, expected) = (*found as f64 / 20_000.0, weight / weights.iter().sum::<f64>());
            assert!((found - expected).abs() < 0.012, "{second:?}: {found} for {expected}");
        }
        let ones = (0..20_000).filter(|_| prior.one_of(&[2, 0], &mut rng) == 2).count() as f64 / 20_000.0;
        assert!((ones - 0.0625 / 0.925).abs() < 0.01, "{ones}");
        assert!(prior.cast(9, 2, &mut rng).iter().all(|class| *class < 4), "a label that is no class");
    }
}
