//! Learning-rate schedules over a known number of steps.

use crate::Result;
use crate::overlay::range;
use serde::{Deserialize, Serialize};

/// The rate as a share of the base rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    Constant,
    /// Half a cosine from 1 to `floor`.
    Cosine {
        floor: f64,
    },
    /// Multiplied by `gamma` at each of these shares of the run (in [0, 1]).
    Step {
        at: Vec<f64>,
        gamma: f64,
    },
    /// Linear from `start` to 1 over the first `rise` of the run, then half a cosine to `floor` (Smith and Topin, 2018,
    /// with cosine annealing).
    OneCycle {
        rise: f64,
        start: f64,
        floor: f64,
    },
}

impl Schedule {
    /// The factor at `step` of `total`, with a linear warm-up over the first `warmup` steps.
    pub fn factor(&self, step: usize, total: usize, warmup: usize) -> f64 {
        if step < warmup {
            return (step + 1) as f64 / warmup as f64 * self.at(0.0);
        }
        self.at((step - warmup) as f64 / (total.saturating_sub(warmup)).max(1) as f64)
    }

    fn at(&self, t: f64) -> f64 {
        let cosine =
            |t: f64, floor: f64| floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * t.min(1.0)).cos());
        match self {
            Self::Constant => 1.0,
            Self::Cosine { floor } => cosine(t, *floor),
            Self::Step { at, gamma } => gamma.powi(at.iter().filter(|a| t >= **a).count() as i32),
            Self::OneCycle { rise, start, .. } if t < *rise => start + (1.0 - start) * t / rise,
            Self::OneCycle { rise, floor, .. } => cosine((t - rise) / (1.0 - rise).max(1e-9), *floor),
        }
    }

    /// `key` is where a recipe has it.
    ///
    /// # Errors
    /// The first of its numbers that is out of its range, with the range.
    pub(crate) fn check(&self, key: &str) -> Result<()> {
        let numbers = match self {
            Self::Constant => Vec::new(),
            Self::Cosine { floor } => vec![("floor", *floor)],
            Self::Step { at, gamma } => at.iter().map(|at| ("at", *at)).chain([("gamma", *gamma)]).collect(),
            Self::OneCycle { rise, start, floor } => vec![("rise", *rise), ("start", *start), ("floor", *floor)],
        };
        numbers.into_iter().try_for_each(|(name, value)| range(&format!("{key}.{name}"), value, 0.0, 1.0))
    }
}
