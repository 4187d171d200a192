//! How many batches and rounds an inversion has, and what each is for.

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
}

impl Plan {
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

    pub(super) fn total(&self) -> usize {
        self.practice + self.fill + self.rounds
    }

    pub(super) fn rounds_done(&self, batch: usize) -> usize {
        batch.saturating_sub(self.practice + self.fill)
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
    use super::Plan;

    #[test]
    fn practice_and_fill_are_cut_in_proportion_and_never_below_what_is_done() {
        let cut = |most: usize, done: usize| {
            let mut plan = Plan { practice: 10, fill: 20, rounds: 5 };
            plan.shorten(most, done);
            (plan.practice, plan.fill, plan.rounds)
        };
        assert_eq!(cut(30, 1), (10, 20, 5), "they fit");
        assert_eq!(cut(15, 1), (5, 10, 5));
        assert_eq!(cut(3, 1), (1, 2, 5));
        assert_eq!(cut(0, 1), (1, 1, 5), "one batch of each");
        assert_eq!(cut(3, 6), (6, 1, 5), "six are over");
        let mut unpractised = Plan { practice: 0, fill: 20, rounds: 5 };
        unpractised.shorten(4, 7);
        assert_eq!(unpractised.fill, 7);
    }
}
