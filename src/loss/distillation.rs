//! What a student minimises: divergence from the teacher's answers.

use super::rows::{Rows, Weights, argmax, each_row, like, log_softmax, with_grads};
use super::{Loss, Value};
use crate::Result;
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

#[cfg(feature = "cuda")]
impl Matching {
    /// The temperature as the kernel takes it, 0 for logits; `None` where the host computes.
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
    let weights = Weights::of(weights, student)?;
    #[cfg(feature = "cuda")]
    if let Some(temperature) = how.on_card().filter(|_| student.device().is_cuda()) {
        let weights = card::brought(weights.per_row().as_deref(), student)?;
        let (s, t) = (super::rows::flat(student)?, super::rows::flat(teacher)?);
        return Loss::on_card(card::matching(&s, &t, temperature, weights.as_ref())?, student);
    }
    let (s, t) = (Rows::of(student)?, Rows::of(teacher)?);
    s.same_shape(&t)?;
    let (value, [grad]) = with_grads([&s, &t], |i, [row, goal], [grad]| {
        let w = weights.share(i);
        w * match how {
            Matching::Kl { temperature } => divergence(row, goal, temperature, w, grad),
            Matching::Logits => centred(row, goal, w, grad),
            Matching::L1 => distance(row, goal, w, grad),
            Matching::KlAndDecision { temperature, decision } => {
                let kl = divergence(row, goal, temperature, w, grad);
                kl + decision * against_decision(row, argmax(goal), w * decision, grad)
            }
        }
    })?;
    Ok(Loss { value: Value::Known(value), grad: like(grad, student)? })
}

// Each returns the loss of one row and adds `w` times its gradient.

fn divergence(s: &[f64], t: &[f64], temperature: f64, w: f64, grad: &mut [f64]) -> f64 {
    let (log_s, log_t) = (log_softmax(s, temperature), log_softmax(t, temperature));
    let mut kl = 0.0;
    for (g, (s, t)) in grad.iter_mut().zip(log_s.iter().zip(&log_t)) {
        let p = t.exp();
        kl += p * (t - s);
        *g += w * temperature * (s.exp() - p);
    }
    temperature * temperature * kl
}

fn centred(s: &[f64], t: &[f64], w: f64, grad: &mut [f64]) -> f64 {
    let (k, d): (f64, Vec<f64>) = (s.len() as f64, s.iter().zip(t).map(|(s, t)| s - t).collect());
    let mean = d.iter().sum::<f64>() / k;
    grad.iter_mut().zip(&d).for_each(|(g, d)| *g += w * (d - mean) / k);
    d.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (2.0 * k)
}

fn distance(s: &[f64], t: &[f64], w: f64, grad: &mut [f64]) -> f64 {
    let k = s.len() as f64;
    for (g, (s, t)) in grad.iter_mut().zip(s.iter().zip(t)) {
        *g += if s == t { 0.0 } else { w * (s - t).signum() / k };
    }
    s.iter().zip(t).map(|(s, t)| (s - t).abs()).sum::<f64>() / k
}

/// Cross-entropy.
fn against_decision(s: &[f64], class: usize, w: f64, grad: &mut [f64]) -> f64 {
    let log_s = log_softmax(s, 1.0);
    for (c, (g, l)) in grad.iter_mut().zip(&log_s).enumerate() {
        *g += w * (l.exp() - if c == class { 1.0 } else { 0.0 });
    }
    -log_s[class]
}

/// `KL(softmax(t/T) ‖ softmax(s/T))` of every image, the mean over its rows: the information gap that priorities follow.
pub fn kl_per_sample(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Vec<f32>> {
    #[cfg(feature = "cuda")]
    if student.device().is_cuda() && teacher.device().is_cuda() {
        let (s, t) = (super::rows::flat(student)?, super::rows::flat(teacher)?);
        let found = card::gaps(&s, &t, temperature as f32)?.get(0)?;
        return Ok(super::rows::per_image(&mem::view(&mem::host(&found)?)?, student.dims()[0]));
    }
    let (s, t) = (Rows::of(student)?, Rows::of(teacher)?);
    s.same_shape(&t)?;
    let gaps = each_row([&s, &t], |_, [s, t]| {
        let (log_s, log_t) = (log_softmax(s, temperature), log_softmax(t, temperature));
        log_t.iter().zip(&log_s).map(|(t, s)| t.exp() * (t - s)).sum::<f64>().max(0.0) as f32
    })?;
    Ok(s.per_image(&gaps))
}
