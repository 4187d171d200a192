//! The inner loop of inversion: a batch of labels becomes a batch of images.

use super::recipe::{Keep, Lifecycle, PhiTarget, Recipe};
use crate::Result;
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::loss::{BnStatsLoss, LayerStatistics, argmax, cross_entropy, masked_disagreement};
use crate::nets::{Architecture, Forward, GeneratorConfig, Mode, Network, Slot, generator};
use crate::ops::Compute;
use crate::ops::mem::{host, tensor, view};
use crate::ops::norm::add_into;
use crate::ops::place::Placement;
use crate::ops::pointwise::{clear_columns, scale};
use crate::rng::{self, Streams};
use crate::set::buffer::confidence;
use crate::tape::{self, Tape, Var};
use crate::teacher::Teacher;
use crate::train::{Adam, BN_MOMENTUM, Guard, trainable};
use candle_core::Tensor;
use std::sync::Arc;

/// Mean values of the loss terms over the inner steps of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    pub total: f64,
    pub bn: f64,
    pub one_hot: f64,
    pub adversarial: f64,
    /// Share of the batch that the teacher takes for its label.
    pub on_label: f64,
    /// Share on which teacher and adversary decide alike.
    pub agreement: f64,
}

/// A synthesised batch.
pub struct Synthesised {
    /// `[N, H, W, C]`, 8 bits, rounded.
    pub pixels: Vec<u8>,
    pub labels: Vec<u32>,
    /// Terms at the last inner step.
    pub last: Terms,
}

/// The generator and everything that stays between batches.
pub struct Synthesiser<'a> {
    teacher: &'a Teacher,
    recipe: Recipe,
    arch: Arc<Architecture>,
    pub generator: Network,
    meta: Adam,
    bn: BnStatsLoss,
    streams: Streams,
    guard: Guard,
}

impl<'a> Synthesiser<'a> {
    /// # Errors
    /// A teacher that only answers, or without batch norms where the recipe matches them, or an image size the generator cannot make.
    pub fn new(teacher: &'a Teacher, recipe: &Recipe, streams: Streams) -> Result<Self> {
        teacher.needs_gradients(&recipe.name)?;
        if recipe.loss.bn > 0.0 {
            teacher.needs_batch_norm(&recipe.name, &Recipe::without_batch_norm())?;
        }
        let g = &recipe.generator;
        let arch = Arc::new(generator(&GeneratorConfig {
            latent: g.latent + if g.conditional { teacher.classes } else { 0 },
            width: g.width,
            channels: teacher.channels,
            size: teacher.size,
        })?);
        let generator = Network::init(arch.clone(), &mut streams.stream("invert/generator", 0))?;
        let generator = generator.to(teacher.network.compute())?;
        let betas = (g.betas.0 as f32, g.betas.1 as f32);
        let bn = BnStatsLoss::new(batch_norm_targets(teacher)?, recipe.loss.bn_form, recipe.loss.bn_momentum);
        let guard = Guard::new("generator", "generator.lr");
        Ok(Self { teacher, recipe: recipe.clone(), arch, generator, meta: Adam::new(betas), bn, streams, guard })
    }

    /// How often the rates had to be halved because a loss was no number.
    pub fn halvings(&self) -> u32 {
        self.guard.halvings()
    }

    /// One batch: a generator as the lifecycle says, `steps` inner steps on it and on the latents. A batch whose loss is no
    /// number is made again, from where it began, with lower rates.
    ///
    /// `histogram` counts the buffer's images per teacher class (for φ); without an adversary its term is 0.
    ///
    /// # Errors
    /// As [`Guard::trip`], when that happens again and again.
    pub fn batch(
        &mut self,
        round: usize,
        steps: usize,
        histogram: &[usize],
        adversary: Option<&Network>,
    ) -> Result<Synthesised> {
        let sound = Saver::of(self)?.keep();
        loop {
            let found = match self.attempt(round, steps, histogram, adversary)? {
                Attempt::Made(made) => match self.generator.weights.non_finite()? {
                    None => return Ok(made),
                    Some((name, count)) => format!("{count} weights in {name} are no numbers"),
                },
                Attempt::NoNumber(loss) => format!("the loss is {loss}"),
            };
            let guard = self.guard.clone();
            self.restore(&sound)?;
            self.guard = guard;
            self.guard.trip(&found, &format!("batch {round}"))?;
        }
    }

    fn attempt(
        &mut self,
        round: usize,
        steps: usize,
        histogram: &[usize],
        adversary: Option<&Network>,
    ) -> Result<Attempt> {
        let recipe = self.recipe.clone();
        let g = &recipe.generator;
        let mut rng = self.streams.stream("invert/batch", round as u64);
        let labels = balanced_labels(recipe.batch, self.teacher.classes, &mut rng);
        let latents = self.latents(&labels, &mut rng)?;
        if g.reset_first > 0 && round > 0 && round.is_multiple_of(g.reset_first) {
            self.reset_first_layer(round)?;
        }
        let fast = match g.lifecycle {
            Lifecycle::CarryOver => self.generator.clone(),
            Lifecycle::Reset => {
                let stream = &mut self.streams.stream("invert/generator", round as u64 + 1);
                Network::init(self.arch.clone(), stream)?.to(self.compute())?
            }
            Lifecycle::Fomaml | Lifecycle::Reptile => self.generator.duplicate()?,
        };
        let betas = (g.betas.0 as f32, g.betas.1 as f32);
        let (mut adam, mut adam_z) = (Adam::new(betas), Adam::new(betas));
        let mut meta_grads: Vec<Option<Tensor>> = Vec::new();
        let mut best: Option<(f64, Tensor)> = None;
        let mut last = Terms::default();
        let mut moments = Vec::new();
        let factor = self.guard.factor();
        for _ in 0..steps {
            let places = recipe.augment.draw(labels.len(), &mut rng);
            let pass = self.inner_step(&fast, &latents, &labels, &places, histogram, adversary)?;
            if !pass.terms.total.is_finite() {
                return Ok(Attempt::NoNumber(pass.terms.total));
            }
            if best.as_ref().is_none_or(|(loss, _)| pass.terms.total < *loss) {
                best = Some((pass.terms.total, pass.images));
            }
            adam.step(trainable(&fast.weights, &pass.grads), (g.lr * factor) as f32)?;
            adam_z.step([(&latents, Some(&pass.latent_grad))], (g.lr_latent * factor) as f32)?;
            if g.lifecycle == Lifecycle::Fomaml {
                accumulate(&mut meta_grads, pass.grads)?;
            }
            (last, moments) = (pass.terms, pass.moments);
        }
        if recipe.loss.bn > 0.0 {
            self.bn.observe(&moments)?;
        }
        self.meta_step(&fast, meta_grads, steps)?;
        let images = match (g.keep, best) {
            (Keep::LowestLoss, Some((_, images))) => images,
            _ => self.images(&fast, &latents)?,
        };
        let images = host(&images)?;
        let pixels = view(&images)?.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect();
        Ok(Attempt::Made(Synthesised { pixels, labels, last }))
    }

    /// Draws the linear layer and the batch norm behind it anew.
    fn reset_first_layer(&mut self, round: usize) -> Result<()> {
        let fresh = Network::init(self.arch.clone(), &mut self.streams.stream("invert/first-layer", round as u64))?;
        let first = |slot: &Slot| slot.name.starts_with("l1.") || slot.name.starts_with("conv_blocks.0.");
        self.generator.weights.copy_where(&fresh.weights, first)
    }

    /// Latents `[N, latent (+ K)]`: normal draws, then the scaled one-hot label if the generator is conditional.
    fn latents(&self, labels: &[u32], rng: &mut rng::Stream) -> Result<Tensor> {
        let g = &self.recipe.generator;
        let classes = if g.conditional { self.teacher.classes } else { 0 };
        let noise = rng::normal(rng, labels.len() * g.latent);
        let mut values = Vec::with_capacity(labels.len() * (g.latent + classes));
        for (z, &y) in noise.chunks_exact(g.latent).zip(labels) {
            values.extend_from_slice(z);
            values.extend((0..classes).map(|c| if c == y as usize { g.label_scale as f32 } else { 0.0 }));
        }
        self.compute().bring(&tensor(values, (labels.len(), g.latent + classes))?)
    }

    /// Where teacher and generator compute.
    fn compute(&self) -> &Compute {
        self.teacher.network.compute()
    }

    fn images(&self, generator: &Network, latents: &Tensor) -> Result<Tensor> {
        let tape = Tape::new();
        let mut f = Forward::new(&tape, &generator.weights, Mode::Reestimate { momentum: BN_MOMENTUM });
        generator.forward(&mut f, Var::constant(latents.clone()))?.tensor()
    }

    /// Forward through generator, augmentation, teacher and adversary; all losses; backward to generator and latents.
    pub fn inner_step(
        &self,
        generator: &Network,
        latents: &Tensor,
        labels: &[u32],
        places: &[Placement],
        histogram: &[usize],
        adversary: Option<&Network>,
    ) -> Result<InnerPass> {
        let (teacher, loss) = (self.teacher, &self.recipe.loss);
        let tape = Tape::new();
        let mut g = Forward::new(&tape, &generator.weights, Mode::Train { momentum: BN_MOMENTUM });
        let z = tape.leaf(latents.clone());
        let images = generator.forward(&mut g, z.clone())?;
        let seen = tape::place(&tape, &images, places, &teacher.mean, &teacher.std)?;
        let mode = if loss.bn > 0.0 { Mode::Match } else { Mode::Frozen };
        let mut t = Forward::new(&tape, &teacher.network.weights, mode);
        let answers = teacher.network.forward(&mut t, seen.clone())?;
        let logits = answers.tensor()?;

        let mut seeds = Vec::new();
        let moments = t.moments.iter().map(|norm| norm.moments.tensor()).collect::<Result<Vec<_>>>()?;
        let mut bn = None;
        if loss.bn > 0.0 {
            let (value, grads) = self.bn.loss(&moments, loss.bn)?;
            bn = Some(value);
            seeds.extend(t.moments.iter().map(|norm| norm.moments.clone()).zip(grads));
        }
        let phi = self.phi(&logits, histogram)?;
        let ce = cross_entropy(&logits, labels, phi.as_deref())?;
        scale(&ce.grad, loss.one_hot as f32)?;
        seeds.push((answers.clone(), ce.grad));
        let mut disagreement = None;
        if let Some(adversary) = adversary.filter(|_| loss.adversarial > 0.0) {
            let mut s = Forward::new(&tape, &adversary.weights, Mode::Frozen);
            let theirs = adversary.forward(&mut s, seen)?;
            let d = masked_disagreement(&logits, &theirs.tensor()?)?;
            scale(&d.teacher_grad, loss.adversarial as f32)?;
            scale(&d.adversary_grad, loss.adversarial as f32)?;
            seeds.push((answers, d.teacher_grad.clone()));
            seeds.push((theirs, d.adversary_grad.clone()));
            disagreement = Some(d);
        }

        let mut grads = tape.backward(seeds)?;
        let latent_grad = match grads.take(&z) {
            Some(grad) => self.latent_part(grad)?,
            None => latents.zeros_like()?,
        };
        // Read last: a card then works on while this waits.
        let mut terms = Terms {
            bn: bn.map_or(Ok(0.0), |value| value.get())?,
            one_hot: ce.value.get()?,
            on_label: on_label(&logits, labels)?,
            ..Terms::default()
        };
        if let Some(d) = disagreement {
            (terms.adversarial, terms.agreement) = d.value_and_agreement()?;
        }
        terms.total = loss.bn * terms.bn + loss.one_hot * terms.one_hot + loss.adversarial * terms.adversarial;
        Ok(InnerPass { images: images.tensor()?, grads: g.gradients(&mut grads), latent_grad, moments, terms })
    }

    /// Labels are given, not learned: their columns get no gradient.
    fn latent_part(&self, grad: Tensor) -> Result<Tensor> {
        clear_columns(&grad, self.recipe.generator.latent)?;
        Ok(grad)
    }

    fn phi(&self, logits: &Tensor, histogram: &[usize]) -> Result<Option<Vec<f32>>> {
        let phi = &self.recipe.phi;
        if !matches!(phi.target, PhiTarget::CrossEntropy | PhiTarget::Both) {
            return Ok(None);
        }
        let logits = host(logits)?;
        let values = view(&logits)?;
        let rows = values.chunks_exact(self.teacher.classes);
        let (class, conf): (Vec<u32>, Vec<f32>) = rows.map(|r| (argmax(r) as u32, confidence(r))).unzip();
        Ok(Some(phi.modulation().weights(&class, &conf, histogram)))
    }

    /// What the finished batch leaves in the meta generator.
    fn meta_step(&mut self, fast: &Network, grads: Vec<Option<Tensor>>, steps: usize) -> Result<()> {
        let g = &self.recipe.generator;
        let factor = if g.meta_factor > 0.0 { g.meta_factor } else { steps as f64 };
        let lr = (g.lr * factor * self.guard.factor()) as f32;
        match g.lifecycle {
            Lifecycle::Fomaml => self.meta.step(trainable(&self.generator.weights, &grads), lr),
            Lifecycle::Reptile => {
                let way = self.generator.weights.duplicate()?;
                way.blend(&fast.weights, 1.0, -1.0)?;
                let grads: Vec<Option<Tensor>> = way.iter().map(|(_, t)| Some(t.clone())).collect();
                self.meta.step(trainable(&self.generator.weights, &grads), lr)
            }
            // The clone shares the generator's tensors: it is trained already.
            Lifecycle::CarryOver => Ok(()),
            Lifecycle::Reset => self.generator.weights.copy_from(&fast.weights),
        }
    }
}

/// How making a batch ended.
enum Attempt {
    Made(Synthesised),
    /// The loss of a step was this.
    NoNumber(f64),
}

impl Resumable for Synthesiser<'_> {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.part("generator", &self.generator.weights)?;
        to.part("meta", &self.meta)?;
        to.part("bn", &self.bn)?;
        to.part("guard", &self.guard)
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        from.restore("generator", &mut self.generator.weights)?;
        from.restore("meta", &mut self.meta)?;
        from.restore("bn", &mut self.bn)?;
        self.bn.bring(self.teacher.network.compute())?;
        from.restore("guard", &mut self.guard)
    }
}

/// What one inner step found.
pub struct InnerPass {
    /// `[N, H, W, C]` in `[0, 1]`, before the update.
    pub images: Tensor,
    pub grads: Vec<Option<Tensor>>,
    pub latent_grad: Tensor,
    pub moments: Vec<Tensor>,
    pub terms: Terms,
}

fn accumulate(sum: &mut Vec<Option<Tensor>>, grads: Vec<Option<Tensor>>) -> Result<()> {
    if sum.is_empty() {
        *sum = grads;
        return Ok(());
    }
    for (s, g) in sum.iter_mut().zip(grads) {
        match (s.as_ref(), g) {
            (Some(s), Some(g)) => add_into(s, &g)?,
            (None, g) => *s = g,
            _ => {}
        }
    }
    Ok(())
}

fn on_label(logits: &Tensor, labels: &[u32]) -> Result<f64> {
    let k = logits.dims()[1];
    let logits = host(logits)?;
    let values = view(&logits)?;
    let hits = values.chunks_exact(k).zip(labels).filter(|(r, y)| argmax(r) == **y as usize).count();
    Ok(hits as f64 / labels.len().max(1) as f64)
}

/// Labels in exact balance: whole sweeps over the classes, the remainder a random choice of distinct classes, shuffled.
pub fn balanced_labels(n: usize, classes: usize, rng: &mut rng::Stream) -> Vec<u32> {
    let order = rng::permutation(n, rng);
    let rest = rng::permutation(classes, rng);
    let whole = n / classes * classes;
    order.into_iter().map(|i| if i < whole { i % classes } else { rest[i - whole] } as u32).collect()
}

/// Running statistics of every 2-d batch norm of the teacher, in the order in which a forward pass meets them.
fn batch_norm_targets(teacher: &Teacher) -> Result<Vec<LayerStatistics>> {
    if teacher.network.arch.norm_layers() == 0 {
        return Ok(Vec::new());
    }
    let tape = Tape::new();
    let mut f = Forward::new(&tape, &teacher.network.weights, Mode::Match);
    let [h, w] = teacher.size;
    let blank = tensor(vec![0.0; h * w * teacher.channels], (1, h, w, teacher.channels))?;
    let blank = teacher.network.compute().bring(&blank)?;
    teacher.network.forward(&mut f, Var::constant(blank))?;
    f.moments
        .iter()
        .map(|seen| {
            let (mean, var) = teacher.network.weights.running_statistics(seen.norm)?;
            Ok(LayerStatistics { mean, var, eps: seen.eps as f32 })
        })
        .collect()
}
