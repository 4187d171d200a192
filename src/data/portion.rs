//! How much of a split is wanted, and which of its shards hold that.

/// What is read of a split that lies in numbered shards; whatever has no numbers is read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Portion {
    Whole,
    /// The first rows.
    First(usize),
    /// So many rows at least of shards from all over the split, which may be sorted. More rows take the same shards and others.
    Spread(usize),
}

impl Portion {
    /// The first `limit` rows, if there is a limit.
    pub fn first(limit: Option<usize>) -> Self {
        limit.map_or(Self::Whole, Self::First)
    }

    /// How many rows are enough, if not all are wanted.
    pub(crate) fn rows(self) -> Option<usize> {
        match self {
            Self::Whole => None,
            Self::First(rows) | Self::Spread(rows) => Some(rows),
        }
    }

    /// The order in which the numbers below `count` are taken until there are rows enough. Spread ones halve the largest gap: of
    /// eight 0, 4, 2, 6, 1, 5, 3, 7.
    pub(crate) fn order(self, count: usize) -> impl Iterator<Item = usize> {
        let bits = count.checked_next_power_of_two().unwrap_or(0).trailing_zeros().min(usize::BITS - 1);
        let number = move |i: usize| match self {
            Self::Spread(_) if bits > 0 => i.reverse_bits() >> (usize::BITS - bits),
            _ => i,
        };
        (0..1 << bits).map(number).filter(move |number| *number < count)
    }
}

#[cfg(test)]
mod tests {
    use super::Portion;

    #[test]
    fn spread_shards_halve_the_gaps_and_leave_none_out() {
        let order = |portion: Portion, count| portion.order(count).collect::<Vec<_>>();
        assert_eq!(order(Portion::Spread(1), 8), [0, 4, 2, 6, 1, 5, 3, 7]);
        assert_eq!(order(Portion::Spread(1), 5), [0, 4, 2, 1, 3]);
        assert_eq!(order(Portion::First(1), 5), [0, 1, 2, 3, 4]);
        for count in [1, 2, 3, 17, 100] {
            let mut all = order(Portion::Spread(9), count);
            all.sort_unstable();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
        assert_eq!(order(Portion::Spread(1), 0), [0; 0]);
        assert_eq!(Portion::Spread(1).order(usize::MAX).next(), Some(0));
    }
}
