//! The head of DeepLabV3: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation" (2017), figure 5, with
//! the names, rates and widths of torchvision. Its dropout of 0.5 in front of the last two layers is not there: training
//! here has none, and a frozen network has none anyway.

use super::Forward;
use super::layers::{Builder, Conv, Norm};
use crate::ops::Activation;
use crate::ops::conv2d::Conv2dSpec;
use crate::tape::{self, Var};
use crate::{Error, Result};

/// Channels of the branches and of the layers behind them.
const WIDTH: usize = 256;
const RATES: [usize; 3] = [12, 24, 36];
/// Of the norms, whatever the backbone has.
const EPS: f64 = 1e-5;

/// A convolution with its batch norm, followed by a ReLU.
struct Layer {
    conv: Conv,
    norm: Norm,
}

impl Layer {
    /// Called `names` below `classifier`; PyTorch's default initialisation.
    fn build(b: &mut Builder, names: [&str; 2], c_in: usize, spec: Conv2dSpec) -> Self {
        let [conv, norm] = names.map(|name| format!("classifier.{name}"));
        Self { conv: b.conv_default(&conv, c_in, WIDTH, spec), norm: b.norm(&norm, WIDTH, EPS) }
    }

    fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        self.conv.forward_norm(f, &self.norm, x, None, Activation::RELU)
    }
}

/// Atrous spatial pyramid pooling and the classifier.
pub(super) struct Aspp {
    /// A 1x1 convolution, and one of 3x3 per rate.
    branches: Vec<Layer>,
    /// Of the mean over all pixels.
    pooled: Layer,
    project: Layer,
    last: Layer,
    classifier: Conv,
}

impl Aspp {
    /// Registers the layers, of maps with `c_in` channels.
    pub fn build(b: &mut Builder, c_in: usize, classes: usize) -> Self {
        let k1 = Conv2dSpec::new(1);
        let mut branches = vec![Layer::build(b, ["0.convs.0.0", "0.convs.0.1"], c_in, k1)];
        for (i, rate) in RATES.into_iter().enumerate() {
            let [conv, norm] = [0, 1].map(|part| format!("0.convs.{}.{part}", i + 1));
            let spec = Conv2dSpec::new(3).padding(rate).dilation(rate);
            branches.push(Layer::build(b, [&conv, &norm], c_in, spec));
        }
        Self {
            branches,
            pooled: Layer::build(b, ["0.convs.4.1", "0.convs.4.2"], c_in, k1),
            project: Layer::build(b, ["0.project.0", "0.project.1"], (RATES.len() + 2) * WIDTH, k1),
            last: Layer::build(b, ["1", "2"], WIDTH, Conv2dSpec::new(3).padding(1)),
            classifier: b.conv_bias("classifier.4", WIDTH, classes, k1),
        }
    }

    /// Logits for every pixel of `maps [N, H, W, C]`.
    pub fn forward(&self, f: &mut Forward, maps: &Var) -> Result<Var> {
        let [h, w] = sides(maps)?;
        let maps = maps.dense()?;
        let mut parts = Vec::with_capacity(self.branches.len() + 1);
        for branch in &self.branches {
            parts.push(branch.forward(f, &maps)?);
        }
        let mean = tape::adaptive_mean(f.tape, &maps, [1, 1])?;
        let mean = self.pooled.forward(f, &mean)?;
        parts.push(tape::bilinear(f.tape, &mean, h, w)?);
        let y = tape::concat(f.tape, &parts.iter().collect::<Vec<_>>())?;
        let y = self.project.forward(f, &y)?;
        let y = self.last.forward(f, &y)?;
        self.classifier.forward(f, &y, None, Activation::IDENTITY)
    }
}

/// Height and width of images or maps.
///
/// # Errors
/// What is no `[N, H, W, C]`.
pub(super) fn sides(x: &Var) -> Result<[usize; 2]> {
    match x.dims() {
        &[_, h, w, _] => Ok([h, w]),
        found => Err(Error::shape("segmentation", format!("expected [N,H,W,C], found {found:?}"))),
    }
}
