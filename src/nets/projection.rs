//! A linear map of features: what makes those of two networks comparable whose widths differ (Romero et al., "FitNets", 2015).

use super::layers::{Builder, Linear};
use super::{Architecture, Body, Forward};
use crate::Result;
use crate::tape::Var;

struct Net {
    linear: Linear,
}

/// The structure: features `[N, from]` → `[N, to]`.
pub fn projection(from: usize, to: usize) -> Architecture {
    Architecture::new(|b: &mut Builder| Net { linear: b.linear("projection", from, to) })
}

impl Body for Net {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        self.linear.forward(f, &x)
    }
}
