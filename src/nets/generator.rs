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
        Self { latent, maps: 0, width, channels, size, head: ImageHead::Sigmoid, labels: None }
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
    latent: usize,
    maps: usize,
    size: [usize; 2],
}

/// The largest side of the map that the linear layer makes, where the image can be halved down to it.
const SEED_SIDE: usize = 16;
/// The largest side that it may have where the image cannot: the layer would hold nearly all parameters.
const MOST_SEED_SIDE: usize = 2 * SEED_SIDE;

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
            let default = super::Init::Uniform(1.0 / ((9 * c_in) as f32).sqrt());
            let conv = b.conv_init(&format!("conv_blocks.{}", 4 * i + 2), c_in, c_out, k3.upsampled(), default);
            (conv, b.norm(&format!("conv_blocks.{}", 4 * i + 3), c_out, 1e-5))
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
        let (z, map) = self.without_map(f, &z)?;
        let seed = self.l1.forward(f, &z)?;
        let seed = tape::unflatten_chw(f.tape, &seed, self.seed)?;
        let seed = f.map(&seed)?;
        let mut x = self.bn0.forward(f, &seed, None, None, Activation::IDENTITY)?;
        if let Some(map) = map {
            x = tape::concat(f.tape, &[&x, &map])?;
        }
        for (conv, norm) in &self.stages {
            x = conv.forward_norm(f, norm, &x, None, Activation::leaky(0.2))?;
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
    /// Latents, and the shares of the classes as a map if they come with one; these are given, not learned.
    fn without_map(&self, f: &mut Forward, z: &Var) -> Result<(Var, Option<Var>)> {
        if self.maps == 0 {
            return Ok((z.clone(), None));
        }
        let [rows, columns, _] = self.seed;
        let (t, told) = (z.tensor()?, rows * columns * self.maps);
        let map = t.narrow(1, self.latent, told)?.force_contiguous()?.reshape((t.dim(0)?, rows, columns, self.maps))?;
        let map = f.map(&Var::constant(map))?;
        Ok((tape::columns(f.tape, z, 0, self.latent)?, Some(map)))
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
        let odd = generator(&GeneratorConfig::new(4, 4, 3, [360, 480])).unwrap();
        let network = Network::init(Arc::new(odd), &mut rng).unwrap();
        let y = crate::nets::infer(&network, &tensor(vec![0.1; 4], (1, 4)).unwrap()).unwrap();
        assert_eq!(y.dims(), [1, 360, 480, 3]);
    }
}
