//! What a student minimises: divergence from the teacher's answers.

use super::{Loss, Rows, Value, argmax, check_weights, log_softmax, matrix_on, size, weight};
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

/// The weighted mean over the batch (`(1/N) Σ wᵢ·…`) and its gradient with respect to the student's logits.
pub fn matching_loss(student: &Tensor, teacher: &Tensor, how: Matching, weights: Option<&[f32]>) -> Result<Loss> {
    check_weights(weights, size(student)?.0)?;
    #[cfg(feature = "cuda")]
    if let Some(temperature) = how.on_card().filter(|_| student.device().is_cuda()) {
        let weights = card::brought(weights, student)?;
        return card::matching(student, teacher, temperature, weights.as_ref()).map(Loss::from);
    }
    let (s, t) = (Rows::of(student)?, Rows::of(teacher)?);
    s.same_shape(&t)?;
    let mut value = 0.0;
    let mut grad = Vec::with_capacity(s.n * s.k);
    for i in 0..s.n {
        let w = weight(weights, i) / s.n as f64;
        let (row, goal) = (s.row(i), t.row(i));
        value += w * match how {
            Matching::Kl { temperature } => divergence(row, goal, temperature, w, &mut grad),
            Matching::Logits => centred(row, goal, w, &mut grad),
            Matching::L1 => distance(row, goal, w, &mut grad),
            Matching::KlAndDecision { temperature, decision } => {
                let start = grad.len();
                let kl = divergence(row, goal, temperature, w, &mut grad);
                kl + decision * against_decision(row, argmax(goal), w * decision, &mut grad[start..])
            }
        };
    }
    Ok(Loss { value: Value::Known(value), grad: matrix_on(grad, s.n, s.k, student)? })
}

// Each returns the loss of one sample and appends `w` times its gradient.

fn divergence(s: &[f64], t: &[f64], temperature: f64, w: f64, grad: &mut Vec<f64>) -> f64 {
    let (log_s, log_t) = (log_softmax(s, temperature), log_softmax(t, temperature));
    let kl: f64 = log_t.iter().zip(&log_s).map(|(t, s)| t.exp() * (t - s)).sum();
    grad.extend(log_t.iter().zip(&log_s).map(|(t, s)| w * temperature * (s.exp() - t.exp())));
    temperature * temperature * kl
}

fn centred(s: &[f64], t: &[f64], w: f64, grad: &mut Vec<f64>) -> f64 {
    let (k, d): (f64, Vec<f64>) = (s.len() as f64, s.iter().zip(t).map(|(s, t)| s - t).collect());
    let mean = d.iter().sum::<f64>() / k;
    grad.extend(d.iter().map(|d| w * (d - mean) / k));
    d.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (2.0 * k)
}

fn distance(s: &[f64], t: &[f64], w: f64, grad: &mut Vec<f64>) -> f64 {
    let k = s.len() as f64;
    grad.extend(s.iter().zip(t).map(|(s, t)| if s == t { 0.0 } else { w * (s - t).signum() / k }));
    s.iter().zip(t).map(|(s, t)| (s - t).abs()).sum::<f64>() / k
}

/// Cross-entropy; adds to the gradient.
fn against_decision(s: &[f64], class: usize, w: f64, grad: &mut [f64]) -> f64 {
    let log_s = log_softmax(s, 1.0);
    for (c, (g, l)) in grad.iter_mut().zip(&log_s).enumerate() {
        *g += w * (l.exp() - if c == class { 1.0 } else { 0.0 });
    }
    -log_s[class]
}

/// `KL(softmax(t/T) ‖ softmax(s/T))` of every sample: the information gap that priorities follow.
pub fn kl_per_sample(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Vec<f32>> {
    #[cfg(feature = "cuda")]
    if student.device().is_cuda() && teacher.device().is_cuda() {
        let found = card::gaps(student, teacher, temperature as f32)?.get(0)?;
        return Ok(mem::view(&mem::host(&found)?)?.to_vec());
    }
    let (s, t) = (Rows::of(student)?, Rows::of(teacher)?);
    s.same_shape(&t)?;
    Ok((0..s.n)
        .map(|i| {
            let (log_s, log_t) = (log_softmax(s.row(i), temperature), log_softmax(t.row(i), temperature));
            log_t.iter().zip(&log_s).map(|(t, s)| t.exp() * (t - s)).sum::<f64>().max(0.0) as f32
        })
        .collect())
}
