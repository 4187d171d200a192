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
    first: f64,
    last: VecDeque<f64>,
}

impl Ends {
    /// Each end is a mean over up to `window` records.
    pub fn of(window: usize) -> Self {
        Self { window, count: 0, first: 0.0, last: VecDeque::new() }
    }

    pub fn take(&mut self, value: f64) {
        if self.count < self.window {
            self.first += (value - self.first) / (self.count + 1) as f64;
        }
        self.count += 1;
        if self.last.len() == self.window {
            self.last.pop_front();
        }
        self.last.push_back(value);
    }

    /// Values taken.
    pub fn count(&self) -> usize {
        self.count
    }

    /// `None` before the first value.
    pub fn trend(&self) -> Option<Trend> {
        let last = self.last.iter().sum::<f64>() / self.last.len() as f64;
        (self.count > 0).then_some(Trend { first: self.first, last })
    }
}

impl Resumable for Ends {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("count", self.count)?;
        to.owned("first", &[self.first]);
        to.owned("last", &self.last.iter().copied().collect::<Vec<_>>());
        Ok(())
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        self.count = from.value("count")?;
        self.first = from.array("first")?.first().copied().unwrap_or_default();
        self.last = from.array::<f64>("last")?.into();
        Ok(())
    }
}
