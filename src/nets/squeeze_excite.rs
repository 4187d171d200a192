//! Squeeze-and-excitation: Hu, Shen and Sun, "Squeeze-and-Excitation Networks" (2018), figure 2.

use super::layers::{Builder, Conv, Nonlinearity};
use super::{Forward, Init};
use crate::Result;
use crate::ops::conv2d::Conv2dSpec;
use crate::tape::{self, UnaryOp, Var};

/// Gates every channel by what the means of all channels say.
pub(super) struct SqueezeExcite {
    reduce: Conv,
    expand: Conv,
    act: Nonlinearity,
    gate: UnaryOp,
}

impl SqueezeExcite {
    /// Registers the two layers, 1x1 convolutions called `names`, with `inner` channels between them.
    pub fn new(b: &mut Builder, names: [&str; 2], channels: usize, inner: usize, act: Nonlinearity) -> Self {
        let mut layer = |name: &str, from: usize, to: usize| {
            let start = [Init::Normal((2.0 / to as f32).sqrt()), Init::Constant(0.0)];
            b.conv_bias_init(name, from, to, Conv2dSpec::new(1), start)
        };
        let (reduce, expand) = (layer(names[0], channels, inner), layer(names[1], inner, channels));
        Self { reduce, expand, act, gate: UnaryOp::Sigmoid }
    }

    /// The same with a hard sigmoid in place of the sigmoid (MobileNetV3).
    pub fn hard(self) -> Self {
        Self { gate: UnaryOp::HardSigmoid, ..self }
    }

    /// `x·σ(expand(act(reduce(mean(x)))))`
    pub fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let x = x.dense()?;
        let mean = tape::global_mean(f.tape, &x)?;
        let inner = self.reduce.forward_rows(f, &mean)?;
        let inner = self.act.forward(f, &inner)?;
        let gates = self.expand.forward_rows(f, &inner)?;
        let gates = tape::unary(f.tape, &gates, self.gate)?;
        tape::gate(f.tape, &x, &gates)
    }
}
