//! How many batches and rounds an inversion has, and what each is for.

use super::Recipe;

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
}

impl Plan {
    /// What a recipe with a batch plans for `classes` classes.
    pub(super) fn of(recipe: &Recipe, classes: usize) -> Self {
        let Recipe { practice, rounds, batches, .. } = *recipe;
        Self { practice, fill: recipe.fill(classes), rounds, batches }
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
    pub(super) fn total(&self) -> usize {
        self.practice + self.fill + self.rounds * self.batches
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

    #[test]
    fn practice_and_fill_are_cut_in_proportion_and_never_below_what_is_done() {
        let cut = |most: usize, done: usize| {
            let mut plan = Plan { practice: 10, fill: 20, rounds: 5, batches: 1 };
            plan.shorten(most, done);
            (plan.practice, plan.fill, plan.rounds)
        };
        assert_eq!(cut(30, 1), (10, 20, 5), "they fit");
        assert_eq!(cut(15, 1), (5, 10, 5));
        assert_eq!(cut(3, 1), (1, 2, 5));
        assert_eq!(cut(0, 1), (1, 1, 5), "one batch of each");
        assert_eq!(cut(3, 6), (6, 1, 5), "six are over");
        let mut unpractised = Plan { practice: 0, fill: 20, rounds: 5, batches: 1 };
        unpractised.shorten(4, 7);
        assert_eq!(unpractised.fill, 7);
        let mut unfilled = Plan { practice: 10, fill: 0, rounds: 5, batches: 1 };
        unfilled.shorten(4, 1);
        assert_eq!((unfilled.practice, unfilled.fill), (4, 0), "nothing to fill");
    }

    #[test]
    fn a_round_is_over_with_its_last_batch() {
        let plan = Plan { practice: 1, fill: 2, rounds: 3, batches: 2 };
        assert_eq!(plan.total(), 9);
        assert_eq!([2, 3, 4, 5, 6, 7, 9].map(|batch| plan.rounds_done(batch)), [0, 0, 0, 1, 1, 2, 3]);
        assert_eq!(
            [0, 1, 2, 3].map(|batch| plan.phase(batch)),
            [Phase::Practice, Phase::Fill, Phase::Fill, Phase::Rounds]
        );
    }
}
