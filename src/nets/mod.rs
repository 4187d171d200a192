//! Networks: an architecture (structure, shared) and weights (tensors, one set per copy).
//!
//! A file per family reads like the figure of its paper. The layers hide which path computes them.

mod answering;
mod candle_models;
mod convnext;
mod densenet;
mod efficientnet;
mod forward;
mod generator;
mod inverted_residual;
pub mod layers;
mod lenet;
mod mlperf_resnet8;
mod mobilenet_v2;
pub mod registry;
mod regnet;
mod resnet;
mod resnet_cifar;
mod small_cnn;
mod squeeze_excite;
mod vgg;
mod vgg_cifar;
mod weights;
mod wide_resnet;
mod widths;

pub use convnext::ConvNeXt;
pub use densenet::DenseNet;
pub use forward::{Forward, Mode, Observed, infer, trace, trace_from};
pub use generator::{GeneratorConfig, generator};
pub use inverted_residual::{InvertedResidualNet, Pad, Stage};
pub use layers::{Builder, Nonlinearity};
pub use lenet::{LeNet5, LeNetCifar};
pub use mlperf_resnet8::MlperfResNet8;
pub use regnet::RegNet;
pub use resnet::ResNet;
pub use resnet_cifar::{ResNetCifar, Shortcut};
pub use small_cnn::SmallCnn;
pub use vgg::Vgg;
pub use vgg_cifar::VggCifar;
pub(crate) use weights::copy_values;
pub use weights::{Init, Kind, Slot, SlotId, Weights};
pub use wide_resnet::WideResNet;

use crate::ops::Compute;
use crate::rng::Stream;
use crate::tape::Var;
use crate::{Error, Result};
use std::sync::Arc;

/// What a network computes from `[N, H, W, C]` (or latents `[N, Z]` for a generator).
pub trait Body: Send + Sync {
    /// Logits `[N, K]`, or images `[N, H, W, C]` in `[0, 1]` for a generator.
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var>;

    /// Whether there is a way back, to weights and images; else the network only answers.
    fn trains(&self) -> bool {
        true
    }
}

/// Structure of a network without its weights.
pub struct Architecture {
    /// Parameters and running statistics, in registration order.
    pub slots: Arc<Vec<Slot>>,
    /// The learning rate of a student where its recipe leaves that open.
    pub student_rate: f64,
    body: Box<dyn Body>,
}

impl Architecture {
    /// Builds the structure: `make` registers the layers and returns the body that runs them. Students learn at a rate of 0.5.
    pub fn new<B: Body + 'static>(make: impl FnOnce(&mut Builder) -> B) -> Self {
        let mut builder = Builder::default();
        let body = make(&mut builder);
        Self { slots: Arc::new(builder.into_slots()), student_rate: 0.5, body: Box::new(body) }
    }

    /// The same with another rate for students.
    pub fn with_student_rate(self, student_rate: f64) -> Self {
        Self { student_rate, ..self }
    }

    /// Number of trainable values.
    pub fn parameters(&self) -> usize {
        self.slots.iter().filter(|s| s.kind.trainable()).map(Slot::len).sum()
    }

    /// Whether it can train, and give gradients to its images; else it only answers.
    pub fn trains(&self) -> bool {
        self.body.trains()
    }

    /// # Errors
    /// If it only answers: as `what` (a student, say), the network called `name` has to train.
    pub fn must_train(&self, what: &str, name: &str) -> Result<()> {
        if self.trains() {
            return Ok(());
        }
        Err(answering::only_answers(format!("{what} {name:?}"), "this network only answers"))
    }

    /// Number of 2-d batch-norm layers, whose input statistics can be matched.
    pub fn norm_layers(&self) -> usize {
        self.slots.iter().filter(|s| s.kind == Kind::RunningMean { spatial: true }).count()
    }
}

/// An architecture with weights.
#[derive(Clone)]
pub struct Network {
    pub arch: Arc<Architecture>,
    pub weights: Weights,
}

impl Network {
    /// Fresh weights from `rng`.
    pub fn init(arch: Arc<Architecture>, rng: &mut Stream) -> Result<Self> {
        let weights = Weights::init(arch.slots.clone(), rng)?;
        Ok(Self { arch, weights })
    }

    /// A copy that shares nothing but the structure.
    pub fn duplicate(&self) -> Result<Self> {
        Ok(Self { arch: self.arch.clone(), weights: self.weights.duplicate()? })
    }

    /// The same network on another device or in another precision; it shares its weights if they lie there already.
    ///
    /// # Errors
    /// A network that only answers, on a card: its operations are not ours.
    pub fn to(&self, compute: &Compute) -> Result<Self> {
        if !compute.is_cpu() && !self.arch.trains() {
            let found = "this network only answers, and does so on the CPU";
            return Err(Error::invalid("device", found, "take --device cpu"));
        }
        Ok(Self { arch: self.arch.clone(), weights: self.weights.to(compute)? })
    }

    /// Where it lies, and how it computes.
    pub fn compute(&self) -> &Compute {
        self.weights.compute()
    }

    /// Runs the network as `f` says (tape, mode). Images are brought to the precision of the network, logits are f32.
    pub fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let x = f.map(&x)?;
        self.arch.body.forward(f, x)
    }
}
