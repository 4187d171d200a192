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
    /// Classes of label maps: latents are followed by the shares of each in the cells of the first map, `[rows, columns, classes]`
    /// ([`seed_grid`]), which are further channels of it; 0 where there are none.
    pub maps: usize,
    /// Whether latents end with noise for every enlarged map, one value per pixel ([`grain_values`]), of which each channel takes
    /// as much as it learns to (Karras et al., "A Style-Based Generator Architecture for GANs", 2019).
    pub grain: bool,
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
        Self { latent, maps: 0, grain: false, width, channels, size, head: ImageHead::Sigmoid, labels: None }
    }
}

/// An enlargement by 2 with its convolution.
struct Stage {
    conv: Conv,
    norm: Norm,
    /// What every channel takes of the noise.
    grain: Option<Conv>,
}

struct Net {
    noisy: Option<NoisyLayer>,
    l1: Linear,
    bn0: Norm,
    stages: Vec<Stage>,
    last: Conv,
    head: Head,
    seed: [usize; 3],
    latent: usize,
    maps: usize,
    size: [usize; 2],
}

/// The largest side of the map that the linear layer makes, where the image can be halved down to it.
const SEED_SIDE: usize = 16;
/// The largest side that it may have where the image cannot: the layer would hold nearly all parameters.
const MOST_SEED_SIDE: usize = 2 * SEED_SIDE;

/// What channels take of noise at first; they have a standard deviation of 1 where it is added.
const GRAIN: super::Init = super::Init::Uniform(0.3);

/// How often both sides are doubled: twice as in the reference, more often for images above 64 pixels.
fn doublings([h, w]: [usize; 2]) -> usize {
    let large = |k: usize| (h >> k).max(w >> k) > SEED_SIDE;
    let halves = |k: usize| h.is_multiple_of(1 << k) && w.is_multiple_of(1 << k);
    let exact = (2..).find(|&k| !large(k) || !halves(k + 1)).unwrap_or(2);
    let small = |k: usize| h.max(w).div_ceil(1 << k) <= MOST_SEED_SIDE;
    // Else the last map is a little too large, and images are resized.
    if small(exact) { exact } else { (exact..).find(|&k| small(k)).unwrap_or(exact) }
}

/// Rows and columns of the first map of a generator of images of `size` (height, width).
pub fn seed_grid(size: [usize; 2]) -> [usize; 2] {
    let k = doublings(size);
    size.map(|side| side.div_ceil(1 << k))
}

/// Rows and columns of its maps after every enlargement.
fn enlarged(size: [usize; 2]) -> impl Iterator<Item = [usize; 2]> {
    (1..=doublings(size)).map(move |k| seed_grid(size).map(|side| side << k))
}

/// Values of noise that a generator with grain reads for an image of `size` (height, width).
pub fn grain_values(size: [usize; 2]) -> usize {
    enlarged(size).map(|[rows, columns]| rows * columns).sum()
}

/// The structure: latents `[N, latent]`, or embeddings `[N, embedding]` of labels, → images `[N, H, W, channels]` in `[0, 1]`
/// (other heads: not bounded).
///
/// # Errors
/// A side that is not divisible by 4, or a width that is odd or 0.
pub fn generator(config: &GeneratorConfig) -> Result<Architecture> {
    let [h, w] = config.size;
    if h == 0 || w == 0 || h % 4 != 0 || w % 4 != 0 {
        return Err(Error::invalid(
            "generator",
            format!("image size {h}x{w}"),
            "both sides must be divisible by 4; the recipes deepinversion and adi change pixels, of any size",
        ));
    }
    if config.width < 2 || !config.width.is_multiple_of(2) || config.latent == 0 || config.channels == 0 {
        return Err(Error::invalid("generator", format!("{config:?}"), "width must be even, nothing may be 0"));
    }
    if config.grain && config.labels.is_some() {
        return Err(Error::invalid("generator", "embeddings of labels come without noise", "leave the grain out"));
    }
    let doublings = doublings(config.size);
    let [rows, columns] = seed_grid(config.size);
    let seed = [rows, columns, config.width];
    Ok(Architecture::new(|b: &mut Builder| {
        let k3 = Conv2dSpec::new(3).padding(1);
        let (wide, narrow) = (config.width, config.width / 2);
        let noisy = config.labels.map(|labels| NoisyLayer::build(b, &labels, config.latent));
        let l1 = b.linear("l1.0", config.latent, seed.iter().product());
        let bn0 = b.norm("conv_blocks.0", wide, 1e-5);
        // Places in the reference's sequence: enlargement, convolution, batch norm, activation.
        let stages = (0..doublings).map(|i| {
            let c_out = if i + 1 == doublings { narrow } else { wide };
            let c_in = if i == 0 { wide + config.maps } else { wide };
            let conv = b.conv_default(&format!("conv_blocks.{}", 4 * i + 2), c_in, c_out, k3.upsampled());
            let norm = b.norm(&format!("conv_blocks.{}", 4 * i + 3), c_out, 1e-5);
            let grain = config.grain.then(|| b.conv_init(&format!("grain.{i}"), 1, c_out, Conv2dSpec::new(1), GRAIN));
            Stage { conv, norm, grain }
        });
        let stages = stages.collect();
        let last = b.conv_bias(&format!("conv_blocks.{}", 4 * doublings + 1), narrow, config.channels, k3);
        let head = Head::build(b, &format!("conv_blocks.{}", 4 * doublings + 2), config.channels, &config.head);
        let (latent, maps, size) = (config.latent, config.maps, config.size);
        Net { noisy, l1, bn0, stages, last, head, seed, latent, maps, size }
    }))
}

impl Body for Net {
    fn forward(&self, f: &mut Forward, z: Var) -> Result<Var> {
        let z = match &self.noisy {
            Some(noisy) => noisy.forward(f, &z)?,
            None => z,
        };
        let (z, map, noise) = self.parts(f, &z)?;
        let seed = self.l1.forward(f, &z)?;
        let seed = tape::unflatten_chw(f.tape, &seed, self.seed)?;
        let seed = f.map(&seed)?;
        let mut x = self.bn0.forward(f, &seed, None, None, Activation::IDENTITY)?;
        if let Some(map) = map {
            x = tape::concat(f.tape, &[&x, &map])?;
        }
        for (Stage { conv, norm, grain }, noise) in self.stages.iter().zip(&noise) {
            let grain = match (grain, noise) {
                (Some(grain), Some(noise)) => Some(grain.forward(f, noise, None, Activation::IDENTITY)?),
                _ => None,
            };
            x = conv.forward_norm(f, norm, &x, grain.as_ref(), Activation::leaky(0.2))?;
        }
        let mut x = self.last.forward(f, &x, None, Activation::IDENTITY)?;
        let [h, w] = self.size;
        if x.dims()[1..3] != self.size {
            x = tape::bilinear(f.tape, &x, h, w)?;
        }
        self.head.forward(f, &x)
    }
}

impl Net {
    /// Latents and, if they come with these, the shares of the classes as a map and noise for the map of every stage; both are
    /// given, not learned.
    fn parts(&self, f: &mut Forward, z: &Var) -> Result<(Var, Option<Var>, Vec<Option<Var>>)> {
        let (t, mut start) = (z.tensor()?, self.latent);
        let n = t.dim(0)?;
        let mut given = |[rows, columns]: [usize; 2], channels: usize| -> Result<Var> {
            let part = t.narrow(1, start, rows * columns * channels)?.force_contiguous()?;
            start += rows * columns * channels;
            f.map(&Var::constant(part.reshape((n, rows, columns, channels))?))
        };
        let map = (self.maps > 0).then(|| given([self.seed[0], self.seed[1]], self.maps)).transpose()?;
        let grids = self.stages.iter().zip(enlarged(self.size));
        let noise = grids.map(|(stage, grid)| stage.grain.as_ref().map(|_| given(grid, 1)).transpose());
        let noise = noise.collect::<Result<Vec<_>>>()?;
        let z = if start == self.latent { z.clone() } else { tape::columns(f.tape, z, 0, self.latent)? };
        Ok((z, map, noise))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::{Mode, Network};
    use crate::ops::mem::{tensor, view};
    use crate::rng::Streams;
    use crate::tape::Tape;
    use std::sync::Arc;

    #[test]
    fn large_images_take_more_doublings_and_not_a_larger_map() {
        let of = |side: usize| doublings([side, side]);
        assert_eq!([28, 32, 64, 100, 112, 128, 224, 256].map(of), [2, 2, 2, 2, 3, 3, 4, 4]);
        assert_eq!(doublings([224, 100]), 3, "both sides are halved equally often, and 25x56 would be too large");
        let grids = [[120, 160], [240, 320], [128, 128], [360, 480], [224, 100]].map(seed_grid);
        assert_eq!(grids, [[15, 20], [15, 20], [16, 16], [23, 30], [28, 13]]);
        let names = |side: usize| -> Vec<String> {
            let config = GeneratorConfig::new(8, 4, 3, [side, side]);
            generator(&config).unwrap().slots.iter().map(|slot| slot.name.clone()).collect()
        };
        assert!(names(32).contains(&"conv_blocks.9.bias".to_string()));
        assert!(names(224).contains(&"conv_blocks.17.bias".to_string()));
    }

    /// With a map of the classes and without, of sides that cannot be halved as often as they are doubled too.
    #[test]
    fn images_have_their_size_and_their_map_counts() {
        let mut rng = Streams::new(0).stream("generator", 0);
        for (size, most) in [([120, 160], 6e6), ([240, 320], 6e6), ([360, 480], 12e6), ([72, 136], 6e6)] {
            let arch = generator(&GeneratorConfig { maps: 12, ..GeneratorConfig::new(256, 64, 3, size) }).unwrap();
            assert!((arch.parameters() as f64) < most, "{size:?}: {} parameters", arch.parameters());
        }
        let config = GeneratorConfig { maps: 3, ..GeneratorConfig::new(5, 4, 3, [72, 136]) };
        let grid = seed_grid(config.size);
        assert_eq!(grid, [9, 17]);
        let network = Network::init(Arc::new(generator(&config).unwrap()), &mut rng).unwrap();
        let width = 5 + grid[0] * grid[1] * 3;
        let images = |map: f32| {
            let mut z = vec![0.5f32; 2 * width];
            z[width + 5..].iter_mut().step_by(3).for_each(|v| *v = map);
            let tape = Tape::new();
            let mut f = Forward::new(&tape, &network.weights, Mode::Frozen);
            let z = tape.leaf(tensor(z, (2, width)).unwrap());
            let y = network.forward(&mut f, z.clone()).unwrap();
            let (dims, values) = (y.dims().to_vec(), view(&y.tensor().unwrap()).unwrap().to_vec());
            let seed = y.tensor().unwrap();
            let grad = tape.backward([(y, seed)]).unwrap().take(&z).unwrap();
            let grad = view(&grad).unwrap().to_vec();
            assert!(grad[..5].iter().any(|g| *g != 0.0) && grad[5..width].iter().all(|g| *g == 0.0));
            (dims, values)
        };
        let ((dims, plain), (_, other)) = (images(0.5), images(4.0));
        assert_eq!(dims, [2, 72, 136, 3]);
        let half = plain.len() / 2;
        assert!(plain[..half] == other[..half] && plain[half..] != other[half..]);
        // Noise for maps of 18x34, 36x68 and 72x136 pixels; it changes what every image has of fine structure, and is not learned.
        let values = grain_values(config.size);
        assert_eq!(values, 18 * 34 + 36 * 68 + 72 * 136);
        let config = GeneratorConfig { grain: true, ..config };
        let network = Network::init(Arc::new(generator(&config).unwrap()), &mut rng).unwrap();
        let images = |noise: &[f32], mode: Mode| {
            let tape = Tape::new();
            let mut f = Forward::new(&tape, &network.weights, mode);
            let z = [&vec![0.5; width][..], noise].concat();
            let z = tape.leaf(tensor(z, (1, width + values)).unwrap());
            let y = network.forward(&mut f, z.clone()).unwrap();
            let seed = y.tensor().unwrap();
            let image = view(&seed).unwrap().to_vec();
            let mut grads = tape.backward([(y, seed)]).unwrap();
            let grad = view(&grads.take(&z).unwrap()).unwrap().to_vec();
            assert!(grad[width..].iter().all(|g| *g == 0.0));
            let named = network.arch.slots.iter().zip(f.gradients(&mut grads));
            let learned = named.filter(|(slot, grad)| slot.name.starts_with("grain.") && grad.is_some()).count();
            (image, learned)
        };
        let noise = crate::rng::normal(&mut rng, values);
        assert_eq!(images(&noise, Mode::Train { momentum: 0.1 }).1, 3, "every stage learns how much it takes");
        let images = |noise: &[f32]| images(noise, Mode::Frozen).0;
        let (flat, noisy) = (images(&vec![0.0; values]), images(&noise));
        let mut last = vec![0.0; values];
        last[values - 1] = 1.0;
        let changed = flat.iter().zip(images(&last)).filter(|(a, b)| *a != b).count();
        assert!((1..=4 * 3).contains(&changed), "the last value is that of the last pixel: {changed} values change");
        assert!(flat.iter().zip(&noisy).filter(|(a, b)| a != b).count() > flat.len() / 2);
        let odd = generator(&GeneratorConfig::new(4, 4, 3, [360, 480])).unwrap();
        let network = Network::init(Arc::new(odd), &mut rng).unwrap();
        let y = crate::nets::infer(&network, &tensor(vec![0.1; 4], (1, 4)).unwrap()).unwrap();
        assert_eq!(y.dims(), [1, 360, 480, 3]);
    }
}
