//! The head behind which Contrastive Model Inversion compares images: a linear layer, ReLU, a linear layer (Fang et al.,
//! 2021). Its results are divided by their lengths in the loss.

use super::layers::{Builder, Linear};
use super::{Architecture, Body, Forward};
use crate::Result;
use crate::ops::Activation;
use crate::tape::Var;

struct Net {
    hidden: Linear,
    last: Linear,
}

/// The structure: features `[N, features]` → `[N, width]`.
pub fn contrast_head(features: usize, width: usize) -> Architecture {
    Architecture::new(|b: &mut Builder| Net {
        hidden: b.linear("0", features, features),
        last: b.linear("2", features, width),
    })
}

impl Body for Net {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let x = self.hidden.forward_act(f, &x, Activation::RELU)?;
        self.last.forward(f, &x)
    }
}
