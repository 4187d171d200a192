//! How many batches, rounds and updates of the adversary an inversion has, and what each is for.

use super::Recipe;
use crate::train::fitting;
use std::time::Duration;

/// What a batch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Only the generator learns.
    Practice,
    /// The buffer is filled, without an adversary.
    Fill,
    /// Part of the buffer is replaced, and the adversary learns.
    Rounds,
}

/// Share of a limited inversion that practice and fill may take.
pub(super) const WARMUP_SHARE: f64 = 1.0 / 3.0;

/// How many batches of each phase there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub practice: usize,
    pub fill: usize,
    pub rounds: usize,
    /// Batches of a round.
    pub batches: usize,
    /// Updates of the adversary in a round.
    pub updates: usize,
    /// Its updates after those of the last round, in time that no further round fits into.
    pub more_updates: usize,
}

impl Plan {
    /// What a recipe with a batch plans for `classes` classes.
    pub(crate) fn of(recipe: &Recipe, classes: usize) -> Self {
        let Recipe { practice, rounds, batches, adversary_steps: updates, .. } = *recipe;
        Self { practice, fill: recipe.fill(classes), rounds, batches, updates, more_updates: 0 }
    }

    /// As many more rounds as fit into `left`, when `done` rounds took `took`; where an update takes `update`, what is left then
    /// goes to further ones.
    pub(super) fn fit(&mut self, done: usize, took: Duration, left: Duration, update: Option<Duration>) {
        let more = fitting(left, took, done);
        let over = left.saturating_sub(took.mul_f64(more as f64 / done.max(1) as f64));
        self.rounds = done + more;
        self.more_updates = update.map_or(0, |update| fitting(over, update, 1));
    }

    /// Cuts practice and fill in proportion to `most` batches in all, where they are more; `done` of them are over, and
    /// one of fill, if there is any, is left at least.
    pub(super) fn shorten(&mut self, most: usize, done: usize) {
        let planned = self.practice + self.fill;
        if most >= planned {
            return;
        }
        let (practiced, filled) = (done.min(self.practice), done.saturating_sub(self.practice));
        let practice = (most * self.practice / planned).max(practiced);
        self.fill = most.saturating_sub(practice).max(filled).max(1).min(self.fill);
        self.practice = practice;
    }

    /// Batches in all.
    pub(crate) fn total(&self) -> usize {
        self.practice + self.fill + self.rounds * self.batches
    }

    /// Updates of the adversary in all.
    pub fn all_updates(&self) -> usize {
        self.rounds * self.updates + self.more_updates
    }

    /// Updates that the adversary should have had when `batch` batches are made.
    pub(super) fn updates_due(&self, batch: usize) -> usize {
        let done = self.rounds_done(batch);
        if done == self.rounds { self.all_updates() } else { done * self.updates }
    }

    /// Rounds whose batches are all made.
    pub(super) fn rounds_done(&self, batch: usize) -> usize {
        batch.saturating_sub(self.practice + self.fill) / self.batches
    }

    pub(super) fn phase(&self, batch: usize) -> Phase {
        if batch < self.practice {
            Phase::Practice
        } else if batch < self.practice + self.fill {
            Phase::Fill
        } else {
            Phase::Rounds
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Phase, Plan};
    use std::time::Duration;

    const ONE: Plan = Plan { practice: 0, fill: 0, rounds: 1, batches: 1, updates: 1, more_updates: 0 };

    #[test]
    fn practice_and_fill_are_cut_in_proportion_and_never_below_what_is_done() {
        let cut = |most: usize, done: usize| {
            let mut plan = Plan { practice: 10, fill: 20, rounds: 5, ..ONE };
            plan.shorten(most, done);
            (plan.practice, plan.fill, plan.rounds)
        };
        assert_eq!(cut(30, 1), (10, 20, 5), "they fit");
        assert_eq!(cut(15, 1), (5, 10, 5));
        assert_eq!(cut(3, 1), (1, 2, 5));
        assert_eq!(cut(0, 1), (1, 1, 5), "one batch of each");
        assert_eq!(cut(3, 6), (6, 1, 5), "six are over");
        let mut unpractised = Plan { practice: 0, fill: 20, rounds: 5, ..ONE };
        unpractised.shorten(4, 7);
        assert_eq!(unpractised.fill, 7);
        let mut unfilled = Plan { practice: 10, fill: 0, rounds: 5, ..ONE };
        unfilled.shorten(4, 1);
        assert_eq!((unfilled.practice, unfilled.fill), (4, 0), "nothing to fill");
    }

    #[test]
    fn a_round_is_over_with_its_last_batch() {
        let plan = Plan { practice: 1, fill: 2, rounds: 3, batches: 2, ..ONE };
        assert_eq!(plan.total(), 9);
        assert_eq!([2, 3, 4, 5, 6, 7, 9].map(|batch| plan.rounds_done(batch)), [0, 0, 0, 1, 1, 2, 3]);
        assert_eq!(
            [0, 1, 2, 3].map(|batch| plan.phase(batch)),
            [Phase::Practice, Phase::Fill, Phase::Fill, Phase::Rounds]
        );
    }

    /// Two rounds of two batches and ten updates took a minute.
    #[test]
    fn time_that_no_round_fits_into_goes_to_updates_where_there_may_be_such() {
        let fitted = |left: u64, update: Option<u64>| {
            let mut plan = Plan { fill: 1, batches: 2, updates: 10, ..ONE };
            plan.fit(2, Duration::from_secs(60), Duration::from_secs(left), update.map(Duration::from_secs));
            (plan.rounds, plan.more_updates, plan.all_updates())
        };
        assert_eq!(fitted(100, None), (5, 0, 50));
        assert_eq!(fitted(100, Some(2)), (5, 5, 55));
        assert_eq!(fitted(29, Some(2)), (2, 14, 34));
        assert_eq!(fitted(0, Some(2)), (2, 0, 20));
        let plan = Plan { fill: 1, rounds: 2, batches: 2, updates: 10, more_updates: 7, ..ONE };
        assert_eq!([1, 2, 3, 4, 5].map(|batch| plan.updates_due(batch)), [0, 0, 10, 10, 27]);
        let none = Plan { fill: 3, rounds: 0, ..ONE };
        assert_eq!(none.updates_due(3), 0);
    }
}
