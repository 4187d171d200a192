//! A value at the two ends of a stage.

use crate::Result;
use crate::checkpoint::{Resumable, Saved, Saver};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Means over the first and over the last records of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    pub first: f64,
    pub last: f64,
}

/// Collects a [`Trend`].
#[derive(Clone, Debug, PartialEq)]
pub struct Ends {
    /// Records behind each end at most.
    window: usize,
    count: usize,
    first: Vec<f64>,
    last: VecDeque<f64>,
}

impl Ends {
    /// Each end is a mean over up to `window` records.
    pub fn of(window: usize) -> Self {
        Self { window, count: 0, first: Vec::new(), last: VecDeque::new() }
    }

    pub fn take(&mut self, value: f64) {
        if self.count < self.window {
            self.first.push(value);
        }
        self.count += 1;
        if self.last.len() == self.window {
            self.last.pop_front();
        }
        self.last.push_back(value);
    }

    /// Only the first `count` values were taken. The last end is then behind fewer values, until there are new ones.
    pub fn go_back_to(&mut self, count: usize) {
        let undone = self.count.saturating_sub(count);
        self.count -= undone;
        self.first.truncate(self.count);
        self.last.truncate(self.last.len().saturating_sub(undone));
    }

    /// Values taken.
    pub fn count(&self) -> usize {
        self.count
    }

    /// `None` before the first value.
    pub fn trend(&self) -> Option<Trend> {
        let mean = |sum: f64, count: usize| sum / count as f64;
        let first = mean(self.first.iter().sum(), self.first.len());
        let last = if self.last.is_empty() { first } else { mean(self.last.iter().sum(), self.last.len()) };
        (self.count > 0).then_some(Trend { first, last })
    }
}

impl Resumable for Ends {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("count", self.count)?;
        to.owned("first", &self.first);
        to.owned("last", &self.last.iter().copied().collect::<Vec<_>>());
        Ok(())
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        self.count = from.value("count")?;
        self.first = from.array("first")?;
        self.last = from.array::<f64>("last")?.into();
        Ok(())
    }
}
