//! What the losses of a recipe say about a batch: forward through generator, augmentation, teacher and adversary, and back.

use super::contrast::{ContrastPass, apart, side_by_side};
use super::recipe::{AdversaryMode, Input, PhiTarget, Target};
use super::synthesis::{Draws, Synthesiser, Terms};
use crate::loss::{
    Held, Loss, UNLABELLED, Value, activation, answer_entropy, class_balance, cross_entropy, decisions, image_norm,
    sureness, total_variation, without,
};
use crate::nets::{Forward, Mode, Network, Task};
use crate::ops::pointwise::{clear_columns, scale};
use crate::tape::{Grads, Tape, Var};
use crate::train::BN_MOMENTUM;
use crate::{Error, Result};
use candle_core::Tensor;
use std::borrow::Cow;
use std::cell::OnceCell;

/// What one inner step found.
pub struct InnerPass {
    /// `[N, H, W, C]` in pixel values, before the update.
    pub images: Tensor,
    /// Of the generator's slots.
    pub grads: Vec<Option<Tensor>>,
    /// Of what the generator reads, if that is optimised.
    pub latent_grad: Option<Tensor>,
    pub moments: Vec<Tensor>,
    pub contrast: Option<ContrastPass>,
    pub terms: Terms,
}

/// Gradients of the losses, and their values, which are read last: a card then works on while this waits.
#[derive(Default)]
struct Pull {
    seeds: Vec<(Var, Tensor)>,
    values: Vec<(fn(&mut Terms) -> &mut f64, f64, Value)>,
}

impl Pull {
    /// `weight` times a loss of `of`.
    fn add(&mut self, term: fn(&mut Terms) -> &mut f64, weight: f64, of: &Var, loss: Loss) -> Result<()> {
        scale(&loss.grad, weight as f32)?;
        self.seeds.push((of.clone(), loss.grad));
        self.values.push((term, weight, loss.value));
        Ok(())
    }

    fn read(self, terms: &mut Terms) -> Result<()> {
        for (term, weight, value) in self.values {
            let value = value.get()?;
            *term(terms) += value;
            terms.total += weight * value;
        }
        Ok(())
    }
}

/// The teacher's view of a batch.
struct Answer {
    /// Normalised, augmented images.
    seen: Var,
    logits: Var,
    values: Tensor,
    void: Option<usize>,
    /// The values in which void has no part, once somebody has asked.
    known: OnceCell<Tensor>,
    /// The class of the highest logit of every row, once somebody has asked.
    decided: OnceCell<Vec<u32>>,
    moments: Vec<Var>,
    features: Option<Var>,
    inputs: Vec<Var>,
}

impl Answer {
    fn known(&self) -> Result<&Tensor> {
        once(&self.known, || without(&self.values, self.void))
    }

    fn decisions(&self) -> Result<&[u32]> {
        Ok(once(&self.decided, || decisions(&self.values))?)
    }
}

/// What `make` makes at the first call.
fn once<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if let Some(made) = cell.get() {
        return Ok(made);
    }
    let made = make()?;
    Ok(cell.get_or_init(|| made))
}

impl Synthesiser<'_> {
    /// Forward through generator, augmentation, teacher and adversary; all losses; backward to generator and latents. `labels` are
    /// those of the rows of the teacher's answers ([`super::Wish`]).
    pub fn inner_step(
        &self,
        generator: &Network,
        latents: &Tensor,
        labels: &[u32],
        draws: &Draws,
        histogram: &[usize],
        adversary: Option<&Network>,
    ) -> Result<InnerPass> {
        let (teacher, loss) = (self.teacher, &self.recipe.loss);
        let tape = Tape::new();
        let mut g = Forward::new(&tape, &generator.weights, Mode::Train { momentum: BN_MOMENTUM });
        let z = match self.recipe.generator.input {
            Input::Latents | Input::Pixels => tape.leaf(latents.clone()),
            Input::Noise | Input::LabelEmbedding => Var::constant(latents.clone()),
        };
        let images = generator.forward(&mut g, z.clone())?;
        let answer = self.ask(&tape, draws.view.apply(&tape, &images, &teacher.mean, &teacher.std)?)?;

        let mut pull = Pull::default();
        let moments = answer.moments.iter().map(Var::tensor).collect::<Result<Vec<_>>>()?;
        if loss.bn > 0.0 {
            let (value, grads) = self.bn.loss(&moments, loss.bn)?;
            pull.seeds.extend(answer.moments.iter().cloned().zip(grads));
            pull.values.push((|t| &mut t.bn, loss.bn, value));
        }
        let labels = &self.moved(labels, draws)[..];
        self.answers_losses(&answer, labels, histogram, &mut pull)?;
        let agreement = adversary.filter(|_| loss.adversarial > 0.0);
        let agreement = agreement.map(|adversary| self.against(&tape, &answer, adversary, &mut pull)).transpose()?;
        self.image_losses(&answer.seen, &mut pull)?;
        let contrast = self.contrast_with_past(&tape, &images, &answer, draws, &mut pull)?;

        let mut grads = tape.backward(std::mem::take(&mut pull.seeds))?;
        let latent_grad = self.latent_grad(&mut grads, &z)?;
        // Where nothing was asked for, nothing has to be compared.
        let on_label = if labels.is_empty() { 0.0 } else { on_label(answer.decisions()?, labels) };
        let mut terms = Terms { on_label, ..Terms::default() };
        if let Some(disagreement) = agreement {
            (terms.adversarial, terms.agreement) = disagreement.value_and_agreement()?;
            terms.total = loss.adversarial * terms.adversarial;
        }
        pull.read(&mut terms)?;
        let grads = g.gradients(&mut grads);
        Ok(InnerPass { images: images.tensor()?, grads, latent_grad, moments, contrast, terms })
    }

    /// Label maps are moved with their images.
    fn moved<'a>(&self, labels: &'a [u32], draws: &Draws) -> Cow<'a, [u32]> {
        match self.teacher.network.arch.task {
            Task::Classification => labels.into(),
            Task::Segmentation => draws.view.labels(labels, self.teacher.size, UNLABELLED).into(),
        }
    }

    /// The teacher on normalised images, with what the losses read of it.
    fn ask(&self, tape: &Tape, seen: Var) -> Result<Answer> {
        let loss = &self.recipe.loss;
        let mode = if loss.reads_batch_norms() { Mode::Match } else { Mode::Frozen };
        let mut t = Forward::new(tape, &self.teacher.network.weights, mode);
        if loss.contrast > 0.0 {
            t = t.with_inputs();
        }
        let logits = self.teacher.network.forward(&mut t, seen.clone())?;
        let values = logits.tensor()?;
        let moments = t.moments.iter().map(|norm| norm.moments.clone()).collect();
        let (features, inputs) = (t.features.clone(), t.inputs.take().unwrap_or_default());
        let void = self.teacher.void;
        Ok(Answer {
            seen,
            logits,
            values,
            void,
            known: OnceCell::new(),
            decided: OnceCell::new(),
            moments,
            features,
            inputs,
        })
    }

    /// Losses of the teacher's answers and last features.
    fn answers_losses(&self, answer: &Answer, labels: &[u32], histogram: &[usize], pull: &mut Pull) -> Result<()> {
        let (loss, logits) = (&self.recipe.loss, &answer.values);
        let unasked = loss.target == Target::Label && labels.is_empty();
        if loss.one_hot > 0.0 && !unasked {
            let phi = self.phi(answer, histogram)?;
            let found = match loss.target {
                Target::Label => cross_entropy(logits, labels, phi.as_deref())?,
                Target::Decision if answer.void.is_some() => {
                    cross_entropy(logits, &decisions(answer.known()?)?, phi.as_deref())?
                }
                Target::Decision => cross_entropy(logits, answer.decisions()?, phi.as_deref())?,
                Target::Sureness => answer_entropy(answer.known()?, phi.as_deref())?,
            };
            pull.add(|t| &mut t.one_hot, loss.one_hot, &answer.logits, found)?;
        }
        if loss.balance > 0.0 {
            pull.add(|t| &mut t.balance, loss.balance, &answer.logits, class_balance(answer.known()?)?)?;
        }
        if loss.activation > 0.0 {
            let missing = || Error::invalid("loss.activation", "the teacher does not tell its features", "set it to 0");
            let features = answer.features.as_ref().ok_or_else(missing)?;
            pull.add(|t| &mut t.activation, loss.activation, features, activation(&features.tensor()?)?)?;
        }
        Ok(())
    }

    /// What the images are worth against the adversary.
    fn against(
        &self,
        tape: &Tape,
        answer: &Answer,
        adversary: &Network,
        pull: &mut Pull,
    ) -> Result<crate::loss::Disagreement> {
        let loss = &self.recipe.loss;
        let mode = match loss.adversary_mode {
            AdversaryMode::Eval => Mode::Frozen,
            AdversaryMode::Train => Mode::Reestimate { momentum: BN_MOMENTUM },
        };
        let mut s = Forward::new(tape, &adversary.weights, mode);
        let theirs = adversary.forward(&mut s, answer.seen.clone())?;
        let form = loss.adversarial_form;
        let found = form.loss(if form.of_logits() { &answer.values } else { answer.known()? }, &theirs.tensor()?)?;
        scale(&found.teacher_grad, loss.adversarial as f32)?;
        scale(&found.adversary_grad, loss.adversarial as f32)?;
        pull.seeds.push((answer.logits.clone(), found.teacher_grad.clone()));
        pull.seeds.push((theirs, found.adversary_grad.clone()));
        Ok(found)
    }

    /// Priors of the images themselves.
    fn image_losses(&self, seen: &Var, pull: &mut Pull) -> Result<()> {
        let loss = &self.recipe.loss;
        if loss.variation > 0.0 {
            let found = total_variation(&seen.tensor()?, loss.variation_form)?;
            pull.add(|t| &mut t.prior, loss.variation, seen, found)?;
        }
        if loss.image_norm > 0.0 {
            pull.add(|t| &mut t.prior, loss.image_norm, seen, image_norm(&seen.tensor()?)?)?;
        }
        Ok(())
    }

    /// A second view of the images, through the teacher too, compared with the first and with images before.
    fn contrast_with_past(
        &self,
        tape: &Tape,
        images: &Var,
        answer: &Answer,
        draws: &Draws,
        pull: &mut Pull,
    ) -> Result<Option<ContrastPass>> {
        let (Some(contrast), Some((view, negatives))) = (&self.contrast, &draws.contrast) else { return Ok(None) };
        let second = self.ask(tape, view.apply(tape, images, &self.teacher.mean, &self.teacher.std)?)?;
        let found = contrast.pass(&side_by_side(&second.inputs)?, &side_by_side(&answer.inputs)?, negatives)?;
        let weight = self.recipe.loss.contrast;
        scale(&found.loss.grad, weight as f32)?;
        pull.seeds.extend(apart(&second.inputs, &found.loss.grad)?);
        pull.values.push((|t| &mut t.contrast, weight, Value::Known(found.loss.value.get()?)));
        Ok(Some(found))
    }

    /// Labels beside latents are given, not learned: their columns get no gradient.
    fn latent_grad(&self, grads: &mut Grads, z: &Var) -> Result<Option<Tensor>> {
        let grad = grads.take(z);
        if let Some(grad) = grad.as_ref().filter(|_| self.recipe.generator.input == Input::Latents) {
            clear_columns(grad, self.recipe.generator.latent)?;
        }
        Ok(grad)
    }

    fn phi(&self, answer: &Answer, histogram: &[usize]) -> Result<Option<Vec<f32>>> {
        let phi = &self.recipe.phi;
        if !matches!(phi.target, PhiTarget::CrossEntropy | PhiTarget::Both) {
            return Ok(None);
        }
        let (rule, logits) = (phi.modulation(), &answer.values);
        let sure = if rule.needs_confidence() { sureness(logits)? } else { Vec::new() };
        let held = Held { counts: histogram, void: self.teacher.void };
        Ok(Some(rule.weights(answer.decisions()?, &sure, held, logits.dims()[0])))
    }
}

/// The share of labelled rows that the teacher takes for their label.
fn on_label(decisions: &[u32], labels: &[u32]) -> f64 {
    let labelled = decisions.iter().zip(labels).filter(|(_, label)| **label != UNLABELLED);
    let hits = labelled.clone().filter(|(decision, label)| decision == label).count();
    hits as f64 / labelled.count().max(1) as f64
}
