//! The choices in which the published methods differ, each a recipe key.

use crate::collect::{Draw, Leaves, Shaders};
use serde::{Deserialize, Serialize};

/// What happens to the generator between batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    /// Each batch starts from a clone of a meta-learned generator (first-order MAML, FastDFKD).
    Fomaml,
    /// As `fomaml`, but the meta step goes towards the adapted clone (Reptile).
    Reptile,
    /// The same generator goes on from batch to batch.
    CarryOver,
    /// Fresh weights for every batch (CMI).
    Reset,
}

/// What the buffer starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FillWith {
    /// Images of the generator, made without an adversary.
    Generator,
    /// Procedural images ([`crate::collect::Shaders`]), which cost a small part of that.
    Shaders,
    /// Dead leaves ([`crate::collect::Leaves`]).
    Leaves,
}

impl FillWith {
    /// How the images are drawn, where they are not the generator's.
    pub fn drawing(self) -> Option<Box<dyn Draw>> {
        match self {
            Self::Generator => None,
            Self::Shaders => Some(Box::new(Shaders)),
            Self::Leaves => Some(Box::new(Leaves)),
        }
    }
}

/// What the generator reads, and what of it is optimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// Normal draws, optimised along with the generator.
    Latents,
    /// Normal draws that stay as they are.
    Noise,
    /// Embeddings of the labels' names behind a noisy layer; generator and noisy layer are optimised (NAYER).
    LabelEmbedding,
    /// There is no generator: the pixels themselves are optimised (DeepInversion).
    Pixels,
}

/// What the generator ends with; see [`crate::nets::ImageHead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// A sigmoid: pixel values.
    Sigmoid,
    /// tanh and a batch norm without weights: values in the teacher's normalised space.
    Tanh,
    /// A batch norm with weights: the same without a bound.
    Norm,
}

/// How weights of a generator are drawn where it starts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FreshWeights {
    /// As PyTorch does: uniform on ±1/√fan-in, batch norms 1 and 0.
    Uniform,
    /// N(0, 0.02), biases 0, batch norms N(1, 0.02) and 0 (CMI).
    Normal,
    /// As `normal`, but batch norms N(0, 0.02) (the first layer in FastDFKD).
    Centred,
}

/// Which of a batch's iterates is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// The one with the lowest loss, before its update (the references).
    LowestLoss,
    /// The one of the last step, before its update.
    Last,
    /// What the generator makes after its last update: one more generator pass.
    AfterLast,
}

/// How pixels become 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantise {
    Round,
    /// Cut off, which darkens images by half a level (the references).
    Truncate,
}

impl Quantise {
    /// 0 to 255 for a value of which 0 to 1 counts.
    pub fn byte(self, value: f32) -> u8 {
        let levels = value.clamp(0.0, 1.0) * 255.0;
        match self {
            Self::Round => levels.round() as u8,
            Self::Truncate => levels as u8,
        }
    }
}

/// What the teacher should see in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The label it was made for, or in every pixel that of a label map: cross-entropy.
    Label,
    /// Whatever class it sees most of: cross-entropy against its own decision (DAFL).
    Decision,
    /// Any class, surely: the entropy of its answer (DFQ).
    Sureness,
}

/// What the batch norms of the adversary do while images are made against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdversaryMode {
    /// They use running statistics.
    Eval,
    /// They use the batch, and move their running statistics (DFAD, ZSKT).
    Train,
}

/// What the adversary learns from in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feed {
    /// The buffer, drawn by priority.
    Buffer,
    /// The images of the round's batch as they left the generator, in every update (ZSKT, DAFL).
    Batch,
    /// New images for every update, straight from the generator (DFAD, DFQ).
    Fresh,
}

/// Where φ acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhiTarget {
    Off,
    /// Weights the one-hot cross-entropy of each sample.
    CrossEntropy,
    /// Weights the priority to stay in the buffer.
    Replacement,
    Both,
}
