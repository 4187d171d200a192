//! The generator and its optimisation.

use super::choices::{FreshWeights, Input, Keep, Lifecycle, Output};
use crate::train::Schedule;
use serde::{Deserialize, Serialize};

/// The generator and its optimisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GeneratorRecipe {
    pub input: Input,
    /// Values of a latent; with embeddings of labels, the width of the noisy layer.
    pub latent: usize,
    pub width: usize,
    pub output: Output,
    /// Whether latents carry a one-hot label, scaled by `label_scale`, or the shares of the classes in the parts of a label map.
    pub conditional: bool,
    pub label_scale: f64,
    /// Whether noise is added to every enlarged map, one value per pixel, as much in each channel as is learned: what a camera's
    /// images have of fine structure that nobody has to place.
    pub grain: bool,
    /// Text encoder, a name on the Hugging Face Hub or a folder, whose embeddings of the class names the generator reads
    /// (`input = "label-embedding"`); where it is empty or cannot be had, fixed orthogonal embeddings serve.
    pub text_encoder: String,
    pub lifecycle: Lifecycle,
    pub inner_steps: usize,
    /// Before batches n, 2n, 3n, ... (counted from 1) the generator's first layer (a noisy layer, if it has one) is drawn anew: 1 is every batch,
    /// 0 never.
    pub reset_first: usize,
    /// Only before the first of these.
    pub reset_once: bool,
    /// Every so many batches of the rounds the whole generator is drawn anew; 0 never.
    pub rebuild: usize,
    /// The same for the batches before the rounds.
    pub warmup_rebuild: usize,
    /// What weights are when they are drawn anew. The first ones are always `uniform`.
    pub fresh: FreshWeights,
    /// Inner steps during warm-up, when the generator is young.
    pub warmup_steps: usize,
    pub lr: f64,
    pub lr_latent: f64,
    /// Both rates over the steps of a batch.
    pub within_batch: Schedule,
    /// Both rates over all batches.
    pub over_run: Schedule,
    /// Meta learning rate as a multiple of `lr`; 0 takes `inner_steps` (the reference).
    pub meta_factor: f64,
    pub betas: (f64, f64),
    /// Whether the generator's optimizer goes on from batch to batch (with `carry-over`); else it starts anew.
    pub keep_optimizer: bool,
    pub keep: Keep,
}

impl Default for GeneratorRecipe {
    fn default() -> Self {
        Self {
            input: Input::Latents,
            latent: 256,
            width: 64,
            output: Output::Sigmoid,
            conditional: true,
            label_scale: 1.5,
            grain: false,
            text_encoder: String::new(),
            lifecycle: Lifecycle::Fomaml,
            inner_steps: 5,
            reset_first: 0,
            reset_once: false,
            rebuild: 0,
            warmup_rebuild: 0,
            fresh: FreshWeights::Uniform,
            warmup_steps: 5,
            lr: 3e-3,
            lr_latent: 1e-2,
            within_batch: Schedule::Constant,
            over_run: Schedule::Constant,
            meta_factor: 0.0,
            betas: (0.5, 0.999),
            keep_optimizer: false,
            keep: Keep::AfterLast,
        }
    }
}
