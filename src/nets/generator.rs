//! The image generator of the FastDFKD family: a linear layer to a quarter-size map, two nearest ×2 enlargements with
//! 3x3 convolutions, a sigmoid (reference: Fang et al., "Up to 100× Faster Data-free Knowledge Distillation", 2022).
//!
//! The enlargements are part of the convolutions (sub-pixel form): 54 instead of 117 million multiply-adds at 32x32.

use super::layers::{Builder, Conv, Linear, Norm};
use super::{Architecture, Body, Forward};
use crate::ops::Activation;
use crate::ops::conv2d::Conv2dSpec;
use crate::tape::{self, UnaryOp, Var};
use crate::{Error, Result};

/// Hyper-parameters of a generator.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratorConfig {
    /// Latent size, plus the number of classes if latents carry a one-hot label.
    pub latent: usize,
    /// Channels of the small maps (128 in the reference), halved after the second enlargement.
    pub width: usize,
    /// 1 or 3.
    pub channels: usize,
    /// Image height and width; both divisible by 4.
    pub size: [usize; 2],
}

struct Net {
    l1: Linear,
    bn0: Norm,
    conv1: Conv,
    bn1: Norm,
    conv2: Conv,
    bn2: Norm,
    conv3: Conv,
    seed: [usize; 3],
}

/// The structure: latents `[N, latent]` → images `[N, H, W, channels]` in `[0, 1]`.
///
/// # Errors
/// A side that is not divisible by 4, or a width that is odd or 0.
pub fn generator(config: &GeneratorConfig) -> Result<Architecture> {
    let [h, w] = config.size;
    if h == 0 || w == 0 || h % 4 != 0 || w % 4 != 0 {
        return Err(Error::invalid("generator", format!("image size {h}x{w}"), "both sides must be divisible by 4"));
    }
    if config.width < 2 || !config.width.is_multiple_of(2) || config.latent == 0 || config.channels == 0 {
        return Err(Error::invalid("generator", format!("{config:?}"), "width must be even, nothing may be 0"));
    }
    let default = |c_in: usize| super::Init::Uniform(1.0 / ((9 * c_in) as f32).sqrt());
    Ok(Architecture::new(|b: &mut Builder| {
        let k3 = Conv2dSpec::new(3).padding(1);
        let (wide, narrow) = (config.width, config.width / 2);
        Net {
            l1: b.linear("l1.0", config.latent, wide * h * w / 16),
            bn0: b.norm("conv_blocks.0", wide, 1e-5),
            conv1: b.conv_init("conv_blocks.2", wide, wide, k3.upsampled(), default(wide)),
            bn1: b.norm("conv_blocks.3", wide, 1e-5),
            conv2: b.conv_init("conv_blocks.6", wide, narrow, k3.upsampled(), default(wide)),
            bn2: b.norm("conv_blocks.7", narrow, 1e-5),
            conv3: b.conv_bias("conv_blocks.9", narrow, config.channels, k3),
            seed: [h / 4, w / 4, wide],
        }
    }))
}

impl Body for Net {
    fn forward(&self, f: &mut Forward, z: Var) -> Result<Var> {
        let seed = self.l1.forward(f, &z)?;
        let seed = tape::unflatten_chw(f.tape, &seed, self.seed)?;
        let x = self.bn0.forward(f, &seed, None, None, Activation::IDENTITY)?;
        let leaky = Activation::leaky(0.2);
        let x = self.conv1.forward_norm(f, &self.bn1, &x, None, leaky)?;
        let x = self.conv2.forward_norm(f, &self.bn2, &x, None, leaky)?;
        let x = self.conv3.forward(f, &x, None, Activation::IDENTITY)?;
        tape::unary(f.tape, &x, UnaryOp::Sigmoid)
    }
}
