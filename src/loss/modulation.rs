//! The class-modulating function φ of SSD-KD (Liu et al., CVPR 2024): a weight per sample that is large where the
//! buffer has few images of the class and where the teacher is unsure.
//!
//! The authors released no code; this is our reconstruction of `φ(x) = diversity(x) · difficulty(x)`. φ is a pure weight:
//! no gradient flows through it.

use serde::{Deserialize, Serialize};

/// How rare a class is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Diversity {
    /// `1 − n_c / N`: hardly differs between classes when there are many.
    Share,
    /// `clip((N/K) / (1 + n_c), 1/k, k)` with k = 5: the same order, free of the number of classes.
    Relative,
    /// 1.
    Off,
}

/// What φ is scaled by within a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhiNorm {
    None,
    /// Divide by the batch mean, clamp to [0.1, 10]: the weight of cross-entropy keeps its meaning.
    BatchMean,
}

/// φ with its choices.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modulation {
    pub diversity: Diversity,
    /// Focusing exponent γ of `(1 − p_T)^γ`; 0 switches difficulty off.
    pub gamma: f64,
    pub norm: PhiNorm,
}

/// Bound of the relative diversity term.
const RELATIVE_BOUND: f64 = 5.0;

impl Modulation {
    /// φ for each sample, given the teacher's class and confidence, and the buffer's histogram of teacher classes.
    pub fn weights(&self, class: &[u32], confidence: &[f32], histogram: &[usize]) -> Vec<f32> {
        let total: usize = histogram.iter().sum();
        let mut phi: Vec<f64> = class
            .iter()
            .zip(confidence)
            .map(|(c, p)| {
                let count = histogram.get(*c as usize).copied().unwrap_or(0) as f64;
                let diversity = match self.diversity {
                    Diversity::Off => 1.0,
                    _ if total == 0 => 1.0,
                    Diversity::Share => 1.0 - count / total as f64,
                    Diversity::Relative => (total as f64 / histogram.len() as f64 / (1.0 + count))
                        .clamp(1.0 / RELATIVE_BOUND, RELATIVE_BOUND),
                };
                diversity * (1.0 - f64::from(*p)).max(0.0).powf(self.gamma)
            })
            .collect();
        if self.norm == PhiNorm::BatchMean {
            let mean = phi.iter().sum::<f64>() / phi.len().max(1) as f64;
            // A batch of which the teacher is wholly sure has no difficulty to order: all weights are then 1.
            phi.iter_mut().for_each(|v| *v = if mean > 1e-12 { (*v / mean).clamp(0.1, 10.0) } else { 1.0 });
        }
        phi.into_iter().map(|v| v as f32).collect()
    }
}
