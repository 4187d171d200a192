//! The frozen network whose data are gone.

use crate::data::Images;
use crate::loss::{Verdicts, verdicts};
use crate::model::Model;
use crate::nets::{Forward, Kind, Mode, Network, Passes};
use crate::ops::place::{Placement, place_bytes};
use crate::ops::{Compute, mem};
use crate::tape::{self, Tape, Var};
use crate::{Error, Result};
use candle_core::Tensor;

/// A frozen network with what its input needs; images are RGB where they are in colour.
pub struct Teacher {
    pub network: Network,
    /// Per channel of the images.
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
    /// Height and width.
    pub size: [usize; 2],
    pub channels: usize,
    pub classes: usize,
    /// The class that stands for void, if one does: nothing is made to look like it.
    pub void: Option<usize>,
    pub passes: Passes,
}

/// What a teacher tells of a batch of images.
pub struct Told {
    /// Logits `[N, K]`.
    pub answers: Tensor,
    /// What the classifier reads, `[N, features]`, if the network says so.
    pub features: Option<Tensor>,
    /// The last map of every grid, `[N, h, w, C]` each; see [`Forward::stages`].
    pub stages: Vec<Tensor>,
}

impl Told {
    /// Answers alone.
    pub fn answers(answers: Tensor) -> Self {
        Self { answers, features: None, stages: Vec::new() }
    }
}

impl Teacher {
    /// The frozen form of `model`; it shares the weights.
    pub fn of(model: &Model) -> Self {
        let images = &model.config.pretrained_cfg;
        let [channels, height, width] = images.input_size;
        let (mean, std) = images.rgb_mean_std();
        // A class that is alone is no void.
        let known = if model.config.num_classes > 1 { model.config.num_classes } else { 0 };
        let narrow = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect();
        Self {
            network: model.network.clone(),
            mean: narrow(mean),
            std: narrow(std),
            size: [height, width],
            channels,
            classes: model.config.num_classes,
            void: images.ignore_index.and_then(|v| usize::try_from(v).ok()).filter(|v| *v < known),
            passes: Passes::default(),
        }
    }

    /// All classes but the one that stands for void.
    pub fn known(&self) -> Vec<u32> {
        (0..self.classes).filter(|class| Some(*class) != self.void).map(|class| class as u32).collect()
    }

    /// The same teacher elsewhere; see [`Network::to`].
    pub fn to(mut self, compute: &Compute) -> Result<Self> {
        (self.network, self.passes) = (self.network.to(compute)?, Passes::default());
        Ok(self)
    }

    /// The same teacher for images of another height and width.
    ///
    /// # Errors
    /// A size that does not go through it; see [`crate::nets::Architecture::takes`].
    pub fn at(self, size: [usize; 2]) -> Result<Self> {
        self.network.arch.takes(size)?;
        Ok(Self { size, ..self })
    }

    /// Logits `[N, K]` for normalised images, or `[N, H, W, K]` where it answers for pixels.
    pub fn answers(&self, x: &Tensor) -> Result<Tensor> {
        self.passes.infer(&self.network, x)
    }

    /// All that it tells of normalised images, where they were computed.
    pub fn tells(&self, x: &Tensor) -> Result<Told> {
        let tape = Tape::new();
        let mut f = Forward::new(&tape, &self.network.weights, Mode::Frozen).with_stages();
        let answers = self.network.forward(&mut f, Var::constant(x.clone()))?.tensor()?;
        let stages = f.stages.take().unwrap_or_default();
        let stages = stages.iter().map(Var::tensor).collect::<Result<_>>()?;
        let features = f.features.take().map(|features| features.tensor()).transpose()?;
        Ok(Told { answers, features, stages })
    }

    /// Images `indices` of `images`, placed and normalised.
    pub fn normalised(&self, images: &Images, indices: &[usize], places: &[Placement]) -> Result<Tensor> {
        let slices: Vec<&[u8]> = indices.iter().map(|&i| images.image(i)).collect();
        let dims = [self.size[0], self.size[1], self.channels];
        Ok(place_bytes(&slices, dims, places, &self.mean, &self.std, &self.network.compute().device)?)
    }

    /// Logits of all 8-bit images as they are, `[N·K]`; where it answers for pixels, as [`Verdicts`] has them.
    pub fn answers_u8(&self, images: &Images, batch: usize) -> Result<Vec<f32>> {
        self.answers_bytes(&images.pixels, batch)
    }

    /// Logits of 8-bit images `[N, H, W, C]` of the teacher's size, `[N·K]`; where it answers for pixels, as [`Verdicts`] has them.
    pub fn answers_bytes(&self, pixels: &[u8], batch: usize) -> Result<Vec<f32>> {
        Ok(self.verdicts(pixels, batch)?.logits)
    }

    /// What it says of each of some 8-bit images `[N, H, W, C]` of its size.
    pub fn verdicts(&self, pixels: &[u8], batch: usize) -> Result<Verdicts> {
        let dims = [self.size[0], self.size[1], self.channels];
        let images: Vec<&[u8]> = pixels.chunks(dims.iter().product()).collect();
        let mut out = Verdicts::default();
        for chunk in images.chunks(batch.max(1)) {
            let places = vec![Placement::default(); chunk.len()];
            let x = place_bytes(chunk, dims, &places, &self.mean, &self.std, &self.network.compute().device)?;
            let found = verdicts(&self.answers(&x)?)?;
            out.logits.extend(found.logits);
            out.confidence.extend(found.confidence);
        }
        Ok(out)
    }

    /// Logits `[N, K]` for normalised images, and what the classifier reads, `[N, features]`, if the network says so.
    pub fn answers_and_features(&self, x: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        let tape = Tape::new();
        let mut f = Forward::new(&tape, &self.network.weights, Mode::Frozen);
        let logits = self.network.forward(&mut f, Var::constant(x.clone()))?.tensor()?;
        let features = f.features.take().map(|features| features.tensor()).transpose()?;
        Ok((mem::host(&logits)?, features.map(|features| mem::host(&features)).transpose()?))
    }

    /// Logits `[N, K]` for images `[N, H, W, C]` in 0..1, and the gradient with respect to the images of what `seed` has the
    /// gradient of with respect to the logits.
    ///
    /// # Errors
    /// A teacher that only answers, images that it does not take.
    pub fn answers_and_gradient(
        &self,
        images: &Tensor,
        seed: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<(Tensor, Tensor)> {
        let tape = Tape::new();
        let x = tape.leaf(self.network.compute().bring(images)?);
        let places = vec![Placement::default(); images.dim(0)?];
        let seen = tape::place(&tape, &x, &places, &self.mean, &self.std)?;
        let mut f = Forward::new(&tape, &self.network.weights, Mode::Frozen);
        let answers = self.network.forward(&mut f, seen)?;
        let logits = answers.tensor()?;
        let mut grads = tape.backward([(answers, seed(&logits)?)])?;
        let missing = || Error::shape("teacher", "no gradient reaches the images");
        let gradient = grads.take(&x).ok_or_else(missing)?;
        Ok((mem::host(&logits)?, mem::host(&gradient)?))
    }

    /// The weights of the last linear layer, `[features, K]`, if the network ends with one.
    pub fn classifier(&self) -> Result<Option<Vec<f32>>> {
        let last = self.network.weights.iter().filter(|(slot, _)| slot.kind == Kind::LinearWeight).last();
        match last.filter(|(slot, _)| slot.shape.last() == Some(&self.classes)) {
            Some((_, weight)) => Ok(Some(mem::view(&mem::host(weight)?)?.to_vec())),
            None => Ok(None),
        }
    }

    /// # Errors
    /// If the teacher has no 2-d batch norm, which `recipe` matches; `others` are the recipes that match none.
    pub fn needs_batch_norm(&self, recipe: &str, others: &[&str]) -> Result<()> {
        if self.network.arch.norm_layers() > 0 {
            return Ok(());
        }
        let other = match others {
            [] => String::new(),
            names => format!("take a recipe that matches none ({}), ", names.join(", ")),
        };
        Err(Error::invalid(
            format!("recipe {recipe}"),
            "it matches batch-norm statistics, and the teacher has no 2-d batch norm",
            format!("{other}set loss.bn = 0 and loss.contrast = 0 in the recipe, or bring a teacher with batch norms"),
        ))
    }

    /// # Errors
    /// If the teacher only answers: `recipe` follows its gradients to images.
    pub fn needs_gradients(&self, recipe: &str) -> Result<()> {
        if self.network.arch.trains() {
            return Ok(());
        }
        Err(Error::invalid(
            format!("recipe {recipe}"),
            "it follows the teacher's gradients and batch norms to images, and this teacher has no batch norms and only answers",
            "no recipe of `invert` and `run` can do without; it can teach with `synth distill SET --teacher MODEL` on a set \
             that is there already, and `synth eval` and `synth inspect` take it",
        ))
    }
}
