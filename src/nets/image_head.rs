//! How a generator turns its last map into images.
//!
//! DAFL, DFAD and ZSKT make images in the teacher's normalised space, whose mean and variance a batch norm sees to. They are
//! taken back into pixel values here, so that everybody else reads pixels; nothing bounds them to `[0, 1]`.

use super::Forward;
use super::layers::{Builder, Norm};
use super::weights::{Init, Kind, SlotId};
use crate::Result;
use crate::ops::Activation;
use crate::ops::mem::tensor;
use crate::tape::{self, BatchNorm, UnaryOp, Var};

/// What becomes of the last convolution.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageHead {
    /// A sigmoid: pixels in `[0, 1]`.
    Sigmoid,
    /// tanh and a batch norm without weights, then `std·x + mean` (DAFL, DFAD).
    Tanh { mean: Vec<f32>, std: Vec<f32> },
    /// A batch norm with weights, then `std·x + mean` (ZSKT).
    Norm { mean: Vec<f32>, std: Vec<f32> },
}

/// The layers of an [`ImageHead`].
pub(super) enum Head {
    Sigmoid,
    Tanh { running: [SlotId; 2], channels: usize, mean: Vec<f32>, std: Vec<f32> },
    Norm { norm: Norm, mean: Vec<f32>, std: Vec<f32> },
}

const EPS: f64 = 1e-5;

impl Head {
    /// Registers them under `name`.
    pub fn build(b: &mut Builder, name: &str, channels: usize, head: &ImageHead) -> Self {
        match head {
            ImageHead::Sigmoid => Self::Sigmoid,
            ImageHead::Tanh { mean, std } => {
                let mut slot =
                    |what: &str, kind, v| b.slot(format!("{name}.{what}"), kind, &[channels], Init::Constant(v));
                let running = [
                    slot("running_mean", Kind::RunningMean { spatial: true }, 0.0),
                    slot("running_var", Kind::RunningVar, 1.0),
                ];
                Self::Tanh { running, channels, mean: mean.clone(), std: std.clone() }
            }
            ImageHead::Norm { mean, std } => {
                Self::Norm { norm: b.norm(name, channels, EPS), mean: mean.clone(), std: std.clone() }
            }
        }
    }

    /// Images in f32.
    pub fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        match self {
            Self::Sigmoid => tape::unary(f.tape, x, UnaryOp::Sigmoid),
            Self::Norm { norm, mean, std } => {
                let x = norm.forward(f, x, None, None, Activation::IDENTITY)?;
                tape::per_channel(f.tape, &x, std, mean)
            }
            Self::Tanh { running, channels, mean, std } => {
                // tanh(x) = 2·sigmoid(2x) − 1, and the batch norm takes scale and shift back.
                let twice = tape::per_channel(f.tape, x, &vec![2.0; *channels], &vec![0.0; *channels])?;
                let x = tape::unary(f.tape, &twice, UnaryOp::Sigmoid)?;
                let plain = |value: f32| {
                    Ok::<_, crate::Error>(Var::constant(
                        tensor(vec![value; *channels], *channels)?.to_device(f.buffer(running[0]).device())?,
                    ))
                };
                let bn = BatchNorm {
                    weight: plain(1.0)?,
                    bias: plain(0.0)?,
                    running_mean: f.buffer(running[0]),
                    running_var: f.buffer(running[1]),
                    eps: EPS / 4.0,
                };
                let x = tape::batch_norm(f.tape, &x, None, &bn, f.norm_mode(), Activation::IDENTITY, None)?.y;
                tape::per_channel(f.tape, &x, std, mean)
            }
        }
    }
}
