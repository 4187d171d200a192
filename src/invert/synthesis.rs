//! The inner loop of inversion: a batch of labels becomes a batch of images.

use super::contrast::{Contrast, ContrastPass};
use super::embeddings::LabelEmbeddings;
use super::lifecycle::accumulate;
use super::objective::InnerPass;
use super::order::Order;
use super::plan::Plan;
use super::recipe::{AdversaryMode, Input, Keep, Lifecycle, Recipe};
use super::setup::{architecture, batch_norm_targets};
use crate::augment::{Augmentation, Motion, Moves};
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::events::check_interrupt;
use crate::loss::{BnStatsLoss, softmax};
use crate::nets::{Architecture, Forward, Mode, Network, copy_values};
use crate::ops::Compute;
use crate::ops::mem::{host, tensor, view};
use crate::ops::place::Placement;
use crate::rng::{Stream, Streams};
use crate::tape::{Tape, Var};
use crate::teacher::Teacher;
use crate::train::{Adam, BN_MOMENTUM, Guard, trainable};
use crate::{Error, Result};
use candle_core::Tensor;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Values of the loss terms of a step, each without its weight.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// Sum of all with their weights.
    pub total: f64,
    pub bn: f64,
    pub one_hot: f64,
    pub adversarial: f64,
    pub balance: f64,
    pub activation: f64,
    /// Total variation and norm of the images.
    pub prior: f64,
    pub contrast: f64,
    /// Share of the batch (of its pixels, where maps are asked for) that the teacher takes for its label.
    pub on_label: f64,
    /// Share on which teacher and adversary decide alike.
    pub agreement: f64,
}

/// A synthesised batch.
pub struct Synthesised {
    /// `[N, H, W, C]`, 8 bits.
    pub pixels: Vec<u8>,
    /// The same as they left the generator, where the teacher computes.
    pub images: Tensor,
    /// A class per image.
    pub labels: Vec<u32>,
    /// Terms at the last inner step.
    pub last: Terms,
}

/// What is drawn for one inner step.
pub struct Draws {
    /// How images are moved before the teacher sees them.
    pub view: Moves,
    /// The same of a second view, and which images of the bank both are compared with (CMI).
    pub contrast: Option<(Moves, Vec<usize>)>,
}

impl Draws {
    /// Images as they are.
    pub fn still(n: usize) -> Self {
        Self { view: Moves::of(vec![Placement::default(); n]), contrast: None }
    }
}

/// Steps of a batch after which its time is told.
const TRIED: usize = 3;

/// The generator and everything that stays between batches.
pub struct Synthesiser<'a> {
    pub(super) teacher: &'a Teacher,
    pub(super) recipe: Recipe,
    pub(super) arch: Arc<Architecture>,
    pub(super) embeddings: Option<LabelEmbeddings>,
    pub(super) streams: Streams,
    pub generator: Network,
    /// Of the meta steps, or the generator's own where it is kept.
    pub(super) meta: Adam,
    pub(super) bn: BnStatsLoss,
    pub(super) contrast: Option<Contrast>,
    /// Area that each class took in images of which no label maps were asked, `[classes]`; zeros before there are any.
    pub(super) seen_areas: Vec<f64>,
    pub(super) guard: Guard,
}

impl<'a> Synthesiser<'a> {
    /// # Errors
    /// A teacher that only answers, or without batch norms where the recipe matches them, or an image size the generator cannot make.
    pub fn new(teacher: &'a Teacher, recipe: &Recipe, streams: Streams) -> Result<Self> {
        Self::with_embeddings(teacher, recipe, streams, None)
    }

    /// As [`Synthesiser::new`], for a generator that reads `embeddings` of the labels; without them, orthogonal ones.
    ///
    /// # Errors
    /// As [`Synthesiser::new`], or embeddings of other classes.
    pub fn with_embeddings(
        teacher: &'a Teacher,
        recipe: &Recipe,
        streams: Streams,
        embeddings: Option<&LabelEmbeddings>,
    ) -> Result<Self> {
        teacher.needs_gradients(&recipe.name)?;
        if recipe.loss.reads_batch_norms() {
            teacher.needs_batch_norm(&recipe.name, &Recipe::without_batch_norm())?;
        }
        let g = &recipe.generator;
        let embeddings = (g.input == Input::LabelEmbedding)
            .then(|| embeddings.cloned().unwrap_or_else(|| LabelEmbeddings::orthogonal(teacher.classes)));
        if let Some(e) = embeddings.as_ref().filter(|e| e.classes() != teacher.classes) {
            let found = format!("embeddings of {} classes, the teacher has {}", e.classes(), teacher.classes);
            return Err(Error::shape("label embeddings", found));
        }
        let arch = Arc::new(architecture(teacher, recipe, embeddings.as_ref())?);
        let generator = Network::init(arch.clone(), &mut streams.stream("invert/generator", 0))?;
        let generator = generator.to(teacher.network.compute())?;
        let targets = batch_norm_targets(teacher, recipe.batch)?;
        let features = targets.iter().map(|layer| layer.mean.len()).sum();
        let contrast = (recipe.loss.contrast > 0.0).then(|| {
            let rng = &mut streams.stream("invert/contrast-head", 0);
            Contrast::new(recipe.contrast, features, teacher.network.compute(), rng)
        });
        let (loss, betas) = (&recipe.loss, (g.betas.0 as f32, g.betas.1 as f32));
        let bn = BnStatsLoss::new(targets, loss.bn_form, loss.bn_momentum).with_first(loss.bn_first);
        Ok(Self {
            teacher,
            arch,
            embeddings,
            streams,
            generator,
            meta: Adam::new(betas),
            bn,
            contrast: contrast.transpose()?,
            seen_areas: vec![0.0; teacher.classes],
            guard: Guard::new(
                "generator",
                if g.input == Input::Pixels { "generator.lr_latent" } else { "generator.lr" },
            ),
            recipe: recipe.clone(),
        })
    }

    /// How often the rates had to be halved because a loss was no number.
    pub fn halvings(&self) -> u32 {
        self.guard.halvings()
    }

    /// Takes the areas of classes in a batch that was made for no maps into the prior of maps: `logits` `[N·K]` are those of
    /// [`crate::loss::Verdicts`]. The generator is young: batch `index` counts
    /// `index + 1` times, so that later images weigh more.
    pub fn learn_prior(&mut self, index: usize, logits: &[f32]) {
        for row in logits.chunks_exact(self.teacher.classes) {
            let wide: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
            let shares = softmax(&wide).into_iter().map(|share| (index + 1) as f64 * share);
            self.seen_areas.iter_mut().zip(shares).for_each(|(seen, share)| *seen += share);
        }
    }

    /// One batch: a generator as the lifecycle says, inner steps on it and on the latents. A batch whose loss is no number is
    /// made again, from where it began (the running statistics of an adversary that trains with it too), with lower rates.
    ///
    /// # Errors
    /// As [`Guard::trip`], when that happens again and again; a batch beyond its time; an interruption, after which all is as it was
    /// before the batch.
    pub fn batch(&mut self, order: &Order) -> Result<Synthesised> {
        let mut saver = Saver::default();
        self.save_own(&mut saver)?;
        let sound = saver.keep();
        let statistics = self.moving_statistics(order)?;
        let back = |own: &mut Self| {
            own.restore_own(&sound)?;
            statistics.iter().try_for_each(|(now, before)| copy_values(now, before))
        };
        loop {
            let found = match self.attempt(order)? {
                Attempt::Interrupted => {
                    back(self)?;
                    return Err(Error::Interrupted);
                }
                Attempt::Made(made, kept) => match self.generator.weights.non_finite()? {
                    None => {
                        if let (Some(contrast), Some(kept)) = (&mut self.contrast, &kept) {
                            contrast.remember(kept)?;
                        }
                        return Ok(made);
                    }
                    Some((name, count)) => format!("{count} weights in {name} are no numbers"),
                },
                Attempt::NoNumber(loss) => format!("the loss is {loss}"),
            };
            back(self)?;
            self.guard.trip(&found, &format!("batch {}", order.index))?;
        }
    }

    /// Running statistics of an adversary whose batch norms train while images are made, and copies of what they are.
    fn moving_statistics(&self, order: &Order) -> Result<Vec<(Tensor, Tensor)>> {
        let moving = order.adversary.filter(|_| self.recipe.loss.adversary_mode == AdversaryMode::Train);
        let slots = moving.into_iter().flat_map(|adversary| adversary.weights.iter());
        slots.filter(|(slot, _)| !slot.kind.trainable()).map(|(_, now)| Ok((now.clone(), now.copy()?))).collect()
    }

    fn attempt(&mut self, order: &Order) -> Result<Attempt> {
        let Order { index, steps, .. } = *order;
        let recipe = self.recipe.clone();
        let g = &recipe.generator;
        let mut rng = self.streams.stream("invert/batch", index as u64);
        let wish = self.wish(recipe.batch, &mut rng);
        let latents = self.latents(&wish, &mut rng)?;
        let nth = index + 1;
        if g.reset_first > 0 && nth.is_multiple_of(g.reset_first) && !(g.reset_once && nth > g.reset_first) {
            self.reset_first_layer(index)?;
        }
        let fast = self.working_copy(index)?;
        let betas = (g.betas.0 as f32, g.betas.1 as f32);
        let (mut adam, mut adam_z) = (Adam::new(betas), Adam::new(betas));
        let batches = order.batches.unwrap_or_else(|| Plan::of(&recipe, self.teacher.classes).total());
        let over_run = g.over_run.factor(index, batches, 0) * self.guard.factor();
        let mut meta_grads = Vec::new();
        let mut kept: Option<Kept> = None;
        let mut last = Terms::default();
        let mut moments = Vec::new();
        let mut begin = Instant::now();
        for step in 0..steps {
            if check_interrupt().is_err() {
                return Ok(Attempt::Interrupted);
            }
            match step {
                0 => {}
                // The first one may have had to wait for what is made once.
                1 => begin = Instant::now(),
                TRIED => check_time(order, begin.elapsed() / (TRIED as u32 - 1))?,
                _ => {}
            }
            let draws = self.draws(wish.labels.len(), &mut rng);
            let rows = if order.maps { &wish.rows[..] } else { &[] };
            let pass = self.inner_step(&fast, &latents, rows, &draws, order.histogram, order.adversary)?;
            if !pass.terms.total.is_finite() {
                return Ok(Attempt::NoNumber(pass.terms.total));
            }
            if let (Some(contrast), Some(found)) = (&mut self.contrast, &pass.contrast) {
                contrast.learn(found)?;
            }
            let InnerPass { images, grads, latent_grad, contrast, terms, .. } = pass;
            if kept.as_ref().is_none_or(|kept| g.keep != Keep::LowestLoss || terms.total < kept.loss) {
                kept = Some(Kept { loss: terms.total, images, contrast });
            }
            let rate = over_run * g.within_batch.factor(step, steps, 0);
            let own = if g.keep_optimizer { &mut self.meta } else { &mut adam };
            own.step(trainable(&fast.weights, &grads), (g.lr * rate) as f32)?;
            if let Some(grad) = &latent_grad {
                adam_z.step([(&latents, Some(grad))], (g.lr_latent * rate) as f32)?;
            }
            if g.input == Input::Pixels {
                self.clamp_pixels(&latents)?;
            }
            if g.lifecycle == Lifecycle::Fomaml {
                accumulate(&mut meta_grads, grads)?;
            }
            (last, moments) = (terms, pass.moments);
        }
        if recipe.loss.bn > 0.0 {
            self.bn.observe(&moments)?;
        }
        self.meta_step(&fast, &meta_grads, steps, g.lr * over_run)?;
        let (kept, contrast) = kept.map_or((None, None), |kept| (Some(kept.images), kept.contrast));
        let images = match kept.filter(|_| g.keep != Keep::AfterLast) {
            Some(images) => images,
            None => self.images(&fast, &latents)?,
        };
        let pixels = view(&host(&images)?)?.iter().map(|v| recipe.quantise.byte(*v)).collect();
        Ok(Attempt::Made(Synthesised { pixels, images, labels: wish.labels, last }, contrast))
    }

    /// Images `[N, H, W, C]` that the generator makes of new noise, the `index`-th of all such batches.
    pub fn fresh(&self, index: usize) -> Result<Tensor> {
        let mut rng = self.streams.stream("invert/fresh", index as u64);
        let wish = self.wish(self.recipe.student.batch, &mut rng);
        self.images(&self.generator, &self.latents(&wish, &mut rng)?)
    }

    fn draws(&self, n: usize, rng: &mut Stream) -> Draws {
        let (recipe, size) = (&self.recipe, self.teacher.size);
        let view = recipe.augment.draw(n, size, rng);
        let local = Augmentation { motion: Motion::ResizedCrop, crop: 0, flip: true, scale: recipe.contrast.scale };
        let contrast = self.contrast.as_ref().map(|contrast| (local.draw(n, size, rng), contrast.draw(rng)));
        Draws { view, contrast }
    }

    /// Normalised images are kept where pixels are within 0 and 1.
    fn clamp_pixels(&self, images: &Tensor) -> Result<()> {
        let Teacher { mean, std, .. } = self.teacher;
        let bound = |at: f32| -> Result<Tensor> {
            let values: Vec<f32> = mean.iter().zip(std).map(|(m, s)| (at - m) / s).collect();
            Ok::<_, Error>(self.compute().bring(&tensor(values, mean.len())?)?)
        };
        let within = images.broadcast_maximum(&bound(0.0)?)?.broadcast_minimum(&bound(1.0)?)?;
        Ok(crate::ops::step::blend(&[(images, &within)], 0.0, 1.0)?)
    }

    /// Where teacher and generator compute.
    pub(super) fn compute(&self) -> &Compute {
        self.teacher.network.compute()
    }

    fn images(&self, generator: &Network, latents: &Tensor) -> Result<Tensor> {
        let tape = Tape::new();
        let mut f = Forward::new(&tape, &generator.weights, Mode::Reestimate { momentum: BN_MOMENTUM });
        generator.forward(&mut f, Var::constant(latents.clone()))?.tensor()
    }
}

/// Refuses a batch that takes longer than it may, as the time of one step shows.
fn check_time(order: &Order, of_step: Duration) -> Result<()> {
    let whole = of_step * order.steps as u32;
    let Some(limit) = order.limit.filter(|limit| whole > *limit) else { return Ok(()) };
    let (steps, whole, limit) = (order.steps, whole.as_secs(), limit.as_secs_f64());
    let found = format!("a batch of {steps} steps takes about {whole} s, and {limit:.0} s are all there is");
    let hint = "take fewer generator.inner_steps and generator.warmup_steps, a smaller batch, or more time";
    Err(Error::invalid("--minutes", found, hint))
}

/// The iterate of a batch that is kept so far.
struct Kept {
    loss: f64,
    images: Tensor,
    contrast: Option<ContrastPass>,
}

/// How making a batch ended.
enum Attempt {
    /// With the features of the images that were kept, for the bank.
    Made(Synthesised, Option<ContrastPass>),
    /// The loss of a step was this.
    NoNumber(f64),
    /// Somebody has asked to stop.
    Interrupted,
}

impl Synthesiser<'_> {
    /// What a batch that is made again begins with: the bank only changes once a batch is done.
    fn save_own<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.part("generator", &self.generator.weights)?;
        to.part("meta", &self.meta)?;
        to.part("bn", &self.bn)?;
        self.contrast.as_ref().map_or(Ok(()), |contrast| to.part("head", contrast.head()))
    }

    fn restore_own(&mut self, from: &Saved) -> Result<()> {
        from.restore("generator", &mut self.generator.weights)?;
        from.restore("meta", &mut self.meta)?;
        from.restore("bn", &mut self.bn)?;
        self.bn.bring(self.teacher.network.compute())?;
        self.contrast.as_mut().map_or(Ok(()), |contrast| from.restore("head", contrast.head_mut()))
    }
}

impl Resumable for Synthesiser<'_> {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        self.save_own(to)?;
        self.contrast.as_ref().map_or(Ok(()), |contrast| to.part("bank", contrast.bank()))?;
        to.array("seen_areas", &self.seen_areas);
        to.part("guard", &self.guard)
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        self.restore_own(from)?;
        self.contrast.as_mut().map_or(Ok(()), |contrast| from.restore("bank", contrast.bank_mut()))?;
        self.seen_areas = from.array("seen_areas")?;
        if self.seen_areas.len() != self.teacher.classes {
            return Err(from.fault("seen_areas", "it has another number of classes"));
        }
        from.restore("guard", &mut self.guard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;

    /// `loss.bn_momentum`: what should match is the batch together with the batches before it, each with the moments of its last step.
    #[test]
    fn batch_norms_match_batches_so_far() {
        const MOMENTUM: f64 = 0.9;
        let model = Model::random("resnet8", [3, 16, 16], 4);
        let teacher = Teacher::of(&model);
        let mut recipe = Recipe { batch: 8, ..Recipe::named("fast").unwrap() };
        recipe.loss.bn_momentum = MOMENTUM;
        // Nothing learns: what the steps of a batch show are crops of the same images.
        (recipe.generator.width, recipe.generator.lr, recipe.generator.lr_latent) = (8, 0.0, 0.0);
        let mut synthesiser = Synthesiser::new(&teacher, &recipe, Streams::new(3)).unwrap();
        let targets = batch_norm_targets(&teacher, recipe.batch).unwrap();
        let mut bn = BnStatsLoss::new(targets, recipe.loss.bn_form, MOMENTUM);
        for index in 0..3 {
            let mut rng = synthesiser.streams.stream("invert/batch", index as u64);
            let wish = synthesiser.wish(recipe.batch, &mut rng);
            let latents = synthesiser.latents(&wish, &mut rng).unwrap();
            let mut step = || {
                let draws = synthesiser.draws(recipe.batch, &mut rng);
                let pass = synthesiser
                    .inner_step(&synthesiser.generator, &latents, &wish.rows, &draws, &[0; 4], None)
                    .unwrap();
                (pass.moments, pass.terms.bn)
            };
            let ((first, bn_of_first), (moments, _)) = (step(), step());
            let expected = |moments: &[Tensor]| bn.loss(moments, 1.0).unwrap().0.get().unwrap();
            assert!((bn_of_first - expected(&first)).abs() < 1e-5 * bn_of_first, "batch {index}");
            let (expected, of_first) = (expected(&moments), expected(&first));
            let found = synthesiser.batch(&Order::new(index, 2, &[0; 4])).unwrap().last.bn;
            assert!((found - expected).abs() < 1e-5 * expected, "batch {index}: {found}, expected {expected}");
            assert!((of_first - expected).abs() > 1e-4 * expected, "batch {index}: both steps are alike, {of_first}");
            bn.observe(&moments).unwrap();
        }
    }
}
