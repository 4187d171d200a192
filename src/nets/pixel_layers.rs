//! Layers of networks that answer for every pixel.

use super::layers::{Builder, Norm};
use super::{Forward, Init, Kind, SlotId};
use crate::Result;
use crate::ops::Activation;
use crate::ops::conv_transpose::ConvTransposeSpec;
use crate::tape::{self, Var};

/// What a PReLU's slopes start with, as in its paper and in PyTorch.
const SLOPE: f32 = 0.25;

impl Builder {
    /// PReLU with one slope per channel.
    pub fn prelu(&mut self, name: &str, channels: usize) -> Prelu {
        Prelu { slope: self.slot(format!("{name}.weight"), Kind::Plain, &[channels], Init::Constant(SLOPE)) }
    }

    /// A transposed convolution without bias; PyTorch's default initialisation.
    pub fn conv_transpose(&mut self, name: &str, c_in: usize, c_out: usize, spec: ConvTransposeSpec) -> ConvTranspose {
        let bound = 1.0 / ((c_out * spec.kernel * spec.kernel) as f32).sqrt();
        let shape = [spec.kernel, spec.kernel, c_out, c_in];
        ConvTranspose {
            weight: self.slot(format!("{name}.weight"), Kind::ConvWeight, &shape, Init::Uniform(bound)),
            spec,
        }
    }

    /// A 2-d batch norm and a PReLU, called `bn` and `act` below `name`.
    pub fn rectified(&mut self, name: &str, channels: usize, eps: f64) -> Rectified {
        let norm = self.norm(&format!("{name}.bn"), channels, eps);
        Rectified { norm, act: self.prelu(&format!("{name}.act"), channels) }
    }
}

/// PReLU with one slope per channel.
#[derive(Clone, Copy)]
pub struct Prelu {
    slope: SlotId,
}

impl Prelu {
    /// `prelu(x)`.
    pub fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let slope = f.param(self.slope);
        tape::prelu(f.tape, x, &slope)
    }
}

/// A transposed convolution.
#[derive(Clone, Copy)]
pub struct ConvTranspose {
    weight: SlotId,
    spec: ConvTransposeSpec,
}

impl ConvTranspose {
    /// The enlarged map.
    pub fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let w = f.param(self.weight);
        tape::conv_transpose(f.tape, x, &w, &self.spec)
    }
}

/// A batch norm and a PReLU.
pub struct Rectified {
    pub norm: Norm,
    pub act: Prelu,
}

impl Rectified {
    /// `prelu(norm(x))`, in one pass over `x`.
    pub fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let z = self.norm.forward(f, x, None, None, Activation::IDENTITY)?;
        self.act.forward(f, &z)
    }
}
