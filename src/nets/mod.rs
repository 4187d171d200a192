//! Networks: an architecture (structure, shared) and weights (tensors, one set per copy).
//!
//! A file per family reads like the figure of its paper. The layers hide which path computes them.

mod answering;
mod aspp;
mod candle_models;
mod contrast_head;
mod convnext;
mod deeplab;
mod densenet;
mod efficientnet;
mod espnet;
mod forward;
mod generator;
mod image_head;
mod inverted_residual;
pub mod layers;
mod lenet;
mod lraspp;
mod mlperf_resnet8;
mod mobile_trunk;
mod mobilenet_v2;
mod noisy_layer;
mod passes;
mod pixel_layers;
mod pixels;
mod projection;
pub mod registry;
mod regnet;
mod resnet;
mod resnet_cifar;
mod segformer;
mod small_cnn;
mod squeeze_excite;
mod task;
mod vgg;
mod vgg_cifar;
mod weights;
mod wide_resnet;
mod widths;

pub use contrast_head::contrast_head;
pub use convnext::ConvNeXt;
pub use densenet::DenseNet;
pub use forward::{Forward, Mode, Observed, ObservedEach, infer, reestimate, trace, trace_from};
pub use generator::{GeneratorConfig, generator, grain_values, seed_grid};
pub use image_head::ImageHead;
pub use inverted_residual::{InvertedResidualNet, Pad, Stage};
pub use layers::{Builder, Nonlinearity};
pub use lenet::{LeNet5, LeNetCifar};
pub use mlperf_resnet8::MlperfResNet8;
pub use noisy_layer::LabelInput;
pub use passes::Passes;
pub use pixels::pixels;
pub use projection::projection;
pub use regnet::RegNet;
pub use resnet::ResNet;
pub use resnet_cifar::{ResNetCifar, Shortcut};
pub use small_cnn::SmallCnn;
pub use task::Task;
pub use vgg::Vgg;
pub use vgg_cifar::VggCifar;
pub(crate) use weights::copy_values;
pub use weights::{Init, Kind, Slot, SlotId, Weights};
pub use wide_resnet::WideResNet;

use crate::ops::Compute;
use crate::rng::Stream;
use crate::tape::{self, Var};
use crate::{Error, Result};
use candle_core::DType;
use std::sync::Arc;

/// What a network computes from `[N, H, W, C]` (or latents `[N, Z]` for a generator).
pub trait Body: Send + Sync {
    /// Logits `[N, K]`, or `[N, H, W, K]` for a [`Task::Segmentation`], or images `[N, H, W, C]` in `[0, 1]` for a generator.
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
    /// Whether it answers for images or for pixels.
    pub task: Task,
    /// Sides of images are multiples of this.
    pub size_divisor: usize,
    /// Whether the first channel that its layers read is blue. Images that come in are RGB all the same.
    bgr: bool,
    body: Box<dyn Body>,
}

impl Architecture {
    /// Builds the structure: `make` registers the layers and returns the body that runs them. Students learn at a rate of 0.5.
    pub fn new<B: Body + 'static>(make: impl FnOnce(&mut Builder) -> B) -> Self {
        let mut builder = Builder::default();
        let body = make(&mut builder);
        Self {
            slots: Arc::new(builder.into_slots()),
            student_rate: 0.5,
            task: Task::Classification,
            size_divisor: 1,
            bgr: false,
            body: Box::new(body),
        }
    }

    /// The same, answering for the pixels of images whose sides are multiples of `size_divisor`.
    pub fn for_pixels(self, size_divisor: usize) -> Self {
        Self { task: Task::Segmentation, size_divisor, ..self }
    }

    /// The same, for layers that expect blue first.
    pub fn blue_first(self, bgr: bool) -> Self {
        Self { bgr, ..self }
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

    /// # Errors
    /// If images of this height and width do not go through its maps and back.
    pub fn takes(&self, [height, width]: [usize; 2]) -> Result<()> {
        let divisor = self.size_divisor;
        if height.is_multiple_of(divisor) && width.is_multiple_of(divisor) {
            return Ok(());
        }
        let found =
            format!("{height}x{width} pixels (height x width), and its output stride asks for multiples of {divisor}");
        let near = [height, width].map(|side| (side / divisor).max(1) * divisor);
        Err(Error::invalid("image size", found, format!("take images of {}x{}, say", near[0], near[1])))
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

    /// Runs the network as `f` says (tape, mode). Images are RGB where they are in colour, whatever the order of the network's
    /// own channels; they are brought to its precision, logits are f32.
    pub fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let x = f.map(&x)?;
        let x = if self.arch.bgr { f.blue_first(&x)? } else { x };
        let y = self.arch.body.forward(f, x)?;
        match self.arch.task {
            Task::Classification => Ok(y),
            // Logits of pixels come out of layers for maps, which on a card have its precision.
            Task::Segmentation => tape::cast(f.tape, &y, DType::F32),
        }
    }
}
