//! What a student minimises: divergence from the teacher's answers.

use super::{Loss, Rows, Value, check_weights, log_softmax, matrix, size, weight};
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
}

#[cfg(feature = "cuda")]
impl Matching {
    /// The temperature as the kernel takes it: 0 for logits.
    pub(crate) fn on_card(self) -> f32 {
        match self {
            Self::Kl { temperature } => temperature as f32,
            Self::Logits => 0.0,
        }
    }
}

/// The weighted mean over the batch (`(1/N) Σ wᵢ·…`) and its gradient with respect to the student's logits.
pub fn matching_loss(student: &Tensor, teacher: &Tensor, how: Matching, weights: Option<&[f32]>) -> Result<Loss> {
    check_weights(weights, size(student)?.0)?;
    #[cfg(feature = "cuda")]
    if student.device().is_cuda() {
        let weights = card::brought(weights, student)?;
        return card::matching(student, teacher, how.on_card(), weights.as_ref()).map(Loss::from);
    }
    let (s, t) = (Rows::of(student)?, Rows::of(teacher)?);
    s.same_shape(&t)?;
    let mut value = 0.0;
    let mut grad = Vec::with_capacity(s.n * s.k);
    for i in 0..s.n {
        let w = weight(weights, i) / s.n as f64;
        match how {
            Matching::Kl { temperature } => {
                let (log_s, log_t) = (log_softmax(s.row(i), temperature), log_softmax(t.row(i), temperature));
                let kl: f64 = log_t.iter().zip(&log_s).map(|(t, s)| t.exp() * (t - s)).sum();
                value += w * temperature * temperature * kl;
                grad.extend(log_t.iter().zip(&log_s).map(|(t, s)| w * temperature * (s.exp() - t.exp())));
            }
            Matching::Logits => {
                let d: Vec<f64> = s.row(i).iter().zip(t.row(i)).map(|(s, t)| s - t).collect();
                let mean = d.iter().sum::<f64>() / s.k as f64;
                value += w * d.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (2.0 * s.k as f64);
                grad.extend(d.iter().map(|d| w * (d - mean) / s.k as f64));
            }
        }
    }
    Ok(Loss { value: Value::Known(value), grad: matrix(grad, s.n, s.k)? })
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
