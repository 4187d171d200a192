//! What a student minimises: divergence from the teacher's answers.

use super::rows::{CHUNK, Divergence, Rows, Weights, decisions, in_chunks, like, without};
use super::{Loss, Value, cross_entropy};
use crate::Result;
use crate::ops::Activation;
use crate::ops::logits::Pair;
use crate::ops::pointwise::{add, scale};
#[cfg(feature = "cuda")]
use crate::ops::{cuda::loss as card, mem};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// How answers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Matching {
    /// `T²·KL(softmax(t/T) ‖ softmax(s/T))`, mean over samples (Hinton et al., 2015).
    Kl { temperature: f64 },
    /// `½·mean_k (s̃ − t̃)²` of centred logits: the limit of `K/2·T²·KL` for large T, without its rounding.
    Logits,
    /// Mean absolute difference of the logits over samples and classes (DFAD, 2019).
    L1,
    /// `T²·KL` as above, plus `decision` times the cross-entropy against the teacher's own decision on the same view.
    KlAndDecision { temperature: f64, decision: f64 },
}

impl Matching {
    /// What a student hears of a teacher's answers: a class that stands for `void` has no part in their probabilities, for an answer
    /// of void is wrong wherever there is anything; logits are compared as they are.
    ///
    /// # Errors
    /// A `void` that is none of the classes.
    pub fn heard(self, answers: &Tensor, void: Option<usize>) -> Result<Tensor> {
        match self {
            Self::Kl { .. } | Self::KlAndDecision { .. } => without(answers, void),
            Self::Logits | Self::L1 => Ok(answers.clone()),
        }
    }
}

#[cfg(feature = "cuda")]
impl Matching {
    /// The temperature as the kernel takes it, 0 for logits; `None` of what is not one kernel, and is not recorded in a graph.
    pub(crate) fn on_card(self) -> Option<f32> {
        match self {
            Self::Kl { temperature } => Some(temperature as f32),
            Self::Logits => Some(0.0),
            Self::L1 | Self::KlAndDecision { .. } => None,
        }
    }
}

/// The weighted mean over the N rows (`(1/N) Σ wᵢ·…`, a weight per image or per row) and its gradient with respect to the
/// student's logits.
pub fn matching_loss(student: &Tensor, teacher: &Tensor, how: Matching, weights: Option<&[f32]>) -> Result<Loss> {
    Ok(matched(student, teacher, how, weights)?.0)
}

/// As [`matching_loss`]; beside it, where the loss is a divergence found on the CPU, what [`compared`] says of the same logits at
/// its temperature.
pub(crate) fn matched(
    student: &Tensor,
    teacher: &Tensor,
    how: Matching,
    weights: Option<&[f32]>,
) -> Result<(Loss, Option<Compared>)> {
    if let Matching::KlAndDecision { temperature, decision } = how {
        let kl = matching_loss(student, teacher, Matching::Kl { temperature }, weights)?;
        let own = cross_entropy(student, &decisions(teacher)?, weights)?;
        scale(&own.grad, decision as f32)?;
        let value = kl.value.get()? + decision * own.value.get()?;
        let grad = add(&kl.grad, &own.grad, Activation::IDENTITY)?;
        return Ok((Loss { value: Value::Known(value), grad }, None));
    }
    let weights = Weights::of(weights, student)?;
    #[cfg(feature = "cuda")]
    if let Some(temperature) = how.on_card().filter(|_| student.device().is_cuda()) {
        let weights = card::brought(weights.per_row().as_deref(), student)?;
        let (s, t) = (super::rows::flat(student)?, super::rows::flat(teacher)?);
        return Ok((Loss::on_card(card::matching(&s, &t, temperature, weights.as_ref())?, student)?, None));
    }
    let (s, t) = (Rows::of(student)?, Rows::of(teacher)?);
    s.same_shape(&t)?;
    let (value, grad, compared) = match how {
        // The second never comes here: it was taken apart above.
        Matching::Kl { temperature } | Matching::KlAndDecision { temperature, .. } => {
            let (value, grad, compared) = divergence([&s, &t], temperature, &weights)?;
            (value, grad, Some(compared))
        }
        Matching::Logits => {
            let (value, grad) = row_by_row([&s, &t], centred, &weights)?;
            (value, grad, None)
        }
        Matching::L1 => {
            let (value, grad) = row_by_row([&s, &t], distance, &weights)?;
            (value, grad, None)
        }
    };
    Ok((Loss { value: Value::Known(value), grad: like(grad, student)? }, compared))
}

/// `T²·KL` of student and teacher, its gradient, and what was compared for it.
fn divergence([s, t]: [&Rows; 2], temperature: f64, weights: &Weights) -> Result<(f64, Vec<f32>, Compared)> {
    let k = s.k;
    let (parts, [grad, kl]) = in_chunks([s, t], [k, 1], |range, [s, t], [grad, kl]| {
        let pair = Pair { teacher: t, student: s, k, temperature, masked: false };
        let found = Divergence::of(pair, &weights.shares(&range, temperature), grad, &mut []);
        kl.copy_from_slice(&found.kl[..range.len()]);
        let sum: f64 = range.clone().zip(found.kl).map(|(i, kl)| weights.share(i) * f64::from(kl)).sum();
        (temperature * temperature * sum, found.alike(range.len()))
    })?;
    let (values, alike): (Vec<f64>, Vec<usize>) = parts.into_iter().unzip();
    Ok((values.iter().sum(), grad, Compared::of(s, &kl, &alike)))
}

/// The sum of what `of` says of every row, which writes its gradient.
fn row_by_row(
    inputs: [&Rows; 2],
    of: impl Fn(&[f32], &[f32], f64, &mut [f32]) -> f64 + Sync,
    weights: &Weights,
) -> Result<(f64, Vec<f32>)> {
    let k = inputs[0].k.max(1);
    let (parts, [grad]) = in_chunks(inputs, [inputs[0].k], |range, [s, t], [grad]| -> f64 {
        let rows = s.chunks_exact(k).zip(t.chunks_exact(k)).zip(grad.chunks_exact_mut(k));
        range.zip(rows).map(|(i, ((s, t), grad))| weights.share(i) * of(s, t, weights.share(i), grad)).sum()
    })?;
    Ok((parts.iter().sum(), grad))
}

// Each returns the loss of one row and writes `w` times its gradient.

fn centred(s: &[f32], t: &[f32], w: f64, grad: &mut [f32]) -> f64 {
    let k = s.len() as f64;
    let apart = || s.iter().zip(t).map(|(s, t)| f64::from(*s) - f64::from(*t));
    let mean = apart().sum::<f64>() / k;
    grad.iter_mut().zip(apart()).for_each(|(g, d)| *g = (w * (d - mean) / k) as f32);
    apart().map(|d| (d - mean) * (d - mean)).sum::<f64>() / (2.0 * k)
}

fn distance(s: &[f32], t: &[f32], w: f64, grad: &mut [f32]) -> f64 {
    let k = s.len() as f64;
    let step = (w / k) as f32;
    for (g, (s, t)) in grad.iter_mut().zip(s.iter().zip(t)) {
        *g = if s == t { 0.0 } else { step * (s - t).signum() };
    }
    s.iter().zip(t).map(|(s, t)| (f64::from(*s) - f64::from(*t)).abs()).sum::<f64>() / k
}

/// What two networks' answers have to do with each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// `KL(softmax(t/T) ‖ softmax(s/T))` of every image, the mean over its rows: the information gap that priorities follow.
    pub kl: Vec<f32>,
    /// Share of all rows whose first largest entries are at the same place.
    pub agreement: f64,
}

impl Compared {
    /// Of `rows`, of each of which the divergence is known, and how many of each chunk are alike.
    fn of(rows: &Rows, kl: &[f32], alike: &[usize]) -> Self {
        Self { kl: rows.per_image(kl), agreement: alike.iter().sum::<usize>() as f64 / rows.n.max(1) as f64 }
    }
}

/// Compares a student's answers with its teacher's.
///
/// # Errors
/// Logits of different shapes.
pub fn compared(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Compared> {
    #[cfg(feature = "cuda")]
    if student.device().is_cuda() && teacher.device().is_cuda() {
        let (s, t) = (super::rows::flat(student)?, super::rows::flat(teacher)?);
        let found = mem::host(&card::gaps(&s, &t, temperature as f32)?)?;
        let found = mem::view(&found)?;
        let (kl, alike) = found.split_at(found.len() / 2);
        let agreement = alike.iter().map(|v| f64::from(*v)).sum::<f64>() / alike.len().max(1) as f64;
        return Ok(Compared { kl: super::rows::per_image(kl, student.dims()[0]), agreement });
    }
    let (s, t) = (Rows::of(student)?, Rows::of(teacher)?);
    s.same_shape(&t)?;
    let k = s.k;
    let (alike, [kl]) = in_chunks([&s, &t], [1], |range, [s, t], [kl]| {
        let pair = Pair { teacher: t, student: s, k, temperature, masked: false };
        let found = Divergence::of(pair, &[0.0; CHUNK], &mut [], &mut []);
        kl.copy_from_slice(&found.kl[..range.len()]);
        found.alike(range.len())
    })?;
    Ok(Compared::of(&s, &kl, &alike))
}
