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

/// What a buffer holds.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// Images of each class or, where answers are of pixels, of its area in them; nothing before there is a buffer.
    pub counts: &'a [usize],
    /// The class that is none.
    pub void: Option<usize>,
}

/// Bound of the relative diversity term.
const RELATIVE_BOUND: f64 = 5.0;

impl Modulation {
    /// φ for each image, given the teacher's class and confidence of each of its rows (one, or its pixels: φ is then the mean over
    /// them), and what the buffer holds of each class. All `images` have equally many rows. Confidence is not looked at unless
    /// it [counts](Modulation::needs_confidence).
    pub fn weights(&self, class: &[u32], confidence: &[f32], held: Held, images: usize) -> Vec<f32> {
        let diversity = self.diversities(held);
        let rarity = |i: usize| diversity.get(class[i] as usize).copied().unwrap_or(1.0);
        let of_row = |i: usize| match self.needs_confidence() {
            true => rarity(i) * (1.0 - f64::from(confidence[i])).max(0.0).powf(self.gamma),
            false => rarity(i),
        };
        let rows = (class.len() / images.max(1)).max(1);
        let first = (0..class.len()).step_by(rows);
        let of_image = |first: usize| (first..class.len().min(first + rows)).map(of_row).sum::<f64>() / rows as f64;
        self.normed(first.map(of_image).collect())
    }

    /// φ for each image, given the share of its area that each class takes, `[N·K]`, and how surely the teacher sees it.
    pub fn weights_by_area(&self, shares: &[f32], confidence: &[f32], held: Held) -> Vec<f32> {
        let diversity = self.diversities(held);
        let of_image = |(shares, p): (&[f32], &f32)| {
            let diversity: f64 = shares.iter().zip(&diversity).map(|(share, d)| f64::from(*share) * d).sum();
            diversity * (1.0 - f64::from(*p)).max(0.0).powf(self.gamma)
        };
        self.normed(shares.chunks(diversity.len().max(1)).zip(confidence).map(of_image).collect())
    }

    fn normed(&self, mut phi: Vec<f64>) -> Vec<f32> {
        if self.norm == PhiNorm::BatchMean {
            let mean = phi.iter().sum::<f64>() / phi.len().max(1) as f64;
            // A batch of which the teacher is wholly sure has no difficulty to order: all weights are then 1.
            phi.iter_mut().for_each(|v| *v = if mean > 1e-12 { (*v / mean).clamp(0.1, 10.0) } else { 1.0 });
        }
        phi.into_iter().map(|v| v as f32).collect()
    }

    /// Whether difficulty plays a part: else no row's confidence is looked at.
    pub fn needs_confidence(&self) -> bool {
        self.gamma != 0.0
    }

    /// How rare each class is: void is the last thing of which there should be more.
    fn diversities(&self, Held { counts, void }: Held) -> Vec<f64> {
        let known = || counts.iter().enumerate().filter(|(class, _)| Some(*class) != void).map(|(_, count)| *count);
        let (total, classes) = (known().sum::<usize>() as f64, known().count() as f64);
        let of_class = |(class, count): (usize, &usize)| match self.diversity {
            Diversity::Off => 1.0,
            _ if total == 0.0 => 1.0,
            Diversity::Share if Some(class) == void => 0.0,
            Diversity::Share => 1.0 - *count as f64 / total,
            Diversity::Relative if Some(class) == void => 1.0 / RELATIVE_BOUND,
            Diversity::Relative => {
                (total / classes / (1.0 + *count as f64)).clamp(1.0 / RELATIVE_BOUND, RELATIVE_BOUND)
            }
        };
        counts.iter().enumerate().map(of_class).collect()
    }
}
