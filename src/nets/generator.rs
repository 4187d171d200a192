//! The image generator of the FastDFKD family: a linear layer to a quarter-size map, two nearest ×2 enlargements with
//! 3x3 convolutions, a sigmoid (reference: Fang et al., "Up to 100× Faster Data-free Knowledge Distillation", 2022). Large
//! images take more enlargements instead of a larger map, whose linear layer would hold most of the parameters.
//!
//! The enlargements are part of the convolutions (sub-pixel form): 54 instead of 117 million multiply-adds at 32x32.
//!
//! DAFL, DFAD and ZSKT end it otherwise ([`ImageHead`]), NAYER begins it otherwise ([`super::LabelInput`]).

use super::image_head::{Head, ImageHead};
use super::layers::{Builder, Conv, Linear, Norm};
use super::noisy_layer::{LabelInput, NoisyLayer};
use super::{Architecture, Body, Forward};
use crate::ops::Activation;
use crate::ops::conv2d::Conv2dSpec;
use crate::tape::{self, Var};
use crate::{Error, Result};

/// Hyper-parameters of a generator.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratorConfig {
    /// Latent size, plus the number of classes if latents carry a one-hot label; behind a noisy layer, its width.
    pub latent: usize,
    /// Channels of the small maps (128 in the reference), halved after the second enlargement.
    pub width: usize,
    /// 1 or 3.
    pub channels: usize,
    /// Image height and width; both divisible by 4.
    pub size: [usize; 2],
    /// What becomes of the last convolution.
    pub head: ImageHead,
    /// Embeddings of labels in place of latents.
    pub labels: Option<LabelInput>,
}

impl GeneratorConfig {
    /// The generator of FastDFKD.
    pub fn new(latent: usize, width: usize, channels: usize, size: [usize; 2]) -> Self {
        Self { latent, width, channels, size, head: ImageHead::Sigmoid, labels: None }
    }
}

struct Net {
    noisy: Option<NoisyLayer>,
    l1: Linear,
    bn0: Norm,
    /// Each enlarges its input by 2.
    stages: Vec<(Conv, Norm)>,
    last: Conv,
    head: Head,
    seed: [usize; 3],
}

/// The largest side of the map that the linear layer makes, where the image can be halved down to it.
const SEED_SIDE: usize = 16;

/// How often both sides are doubled: twice as in the reference, more often for images above 64 pixels.
fn doublings([h, w]: [usize; 2]) -> usize {
    let large = |k: usize| (h >> k).max(w >> k) > SEED_SIDE;
    let halves = |k: usize| h.is_multiple_of(1 << k) && w.is_multiple_of(1 << k);
    (2..).find(|&k| !large(k) || !halves(k + 1)).unwrap_or(2)
}

/// The structure: latents `[N, latent]`, or embeddings `[N, embedding]` of labels, → images `[N, H, W, channels]` in `[0, 1]`
/// (other heads: not bounded).
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
    let doublings = doublings(config.size);
    let seed = [h >> doublings, w >> doublings, config.width];
    Ok(Architecture::new(|b: &mut Builder| {
        let k3 = Conv2dSpec::new(3).padding(1);
        let (wide, narrow) = (config.width, config.width / 2);
        let noisy = config.labels.map(|labels| NoisyLayer::build(b, &labels, config.latent));
        let l1 = b.linear("l1.0", config.latent, seed.iter().product());
        let bn0 = b.norm("conv_blocks.0", wide, 1e-5);
        // Places in the reference's sequence: enlargement, convolution, batch norm, activation.
        let stages = (0..doublings).map(|i| {
            let c_out = if i + 1 == doublings { narrow } else { wide };
            let default = super::Init::Uniform(1.0 / ((9 * wide) as f32).sqrt());
            let conv = b.conv_init(&format!("conv_blocks.{}", 4 * i + 2), wide, c_out, k3.upsampled(), default);
            (conv, b.norm(&format!("conv_blocks.{}", 4 * i + 3), c_out, 1e-5))
        });
        let stages = stages.collect();
        let last = b.conv_bias(&format!("conv_blocks.{}", 4 * doublings + 1), narrow, config.channels, k3);
        let head = Head::build(b, &format!("conv_blocks.{}", 4 * doublings + 2), config.channels, &config.head);
        Net { noisy, l1, bn0, stages, last, head, seed }
    }))
}

impl Body for Net {
    fn forward(&self, f: &mut Forward, z: Var) -> Result<Var> {
        let z = match &self.noisy {
            Some(noisy) => noisy.forward(f, &z)?,
            None => z,
        };
        let seed = self.l1.forward(f, &z)?;
        let seed = tape::unflatten_chw(f.tape, &seed, self.seed)?;
        let seed = f.map(&seed)?;
        let mut x = self.bn0.forward(f, &seed, None, None, Activation::IDENTITY)?;
        for (conv, norm) in &self.stages {
            x = conv.forward_norm(f, norm, &x, None, Activation::leaky(0.2))?;
        }
        let x = self.last.forward(f, &x, None, Activation::IDENTITY)?;
        self.head.forward(f, &x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_images_take_more_doublings_and_not_a_larger_map() {
        let of = |side: usize| doublings([side, side]);
        assert_eq!([28, 32, 64, 100, 112, 128, 224, 256].map(of), [2, 2, 2, 2, 3, 3, 4, 4]);
        assert_eq!(doublings([224, 100]), 2, "both sides are halved equally often");
        let names = |side: usize| -> Vec<String> {
            let config = GeneratorConfig::new(8, 4, 3, [side, side]);
            generator(&config).unwrap().slots.iter().map(|slot| slot.name.clone()).collect()
        };
        assert!(names(32).contains(&"conv_blocks.9.bias".to_string()));
        assert!(names(224).contains(&"conv_blocks.17.bias".to_string()));
    }
}
