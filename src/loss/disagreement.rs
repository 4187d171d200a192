//! Decision-adversarial loss: the generator looks for images on which teacher and adversary agree in their decision
//! but differ in their answers (Fang et al., "Contrastive Model Inversion", 2021, and FastDFKD).

use super::rows::{CHUNK, Divergence, Rows, in_chunks, like};
use crate::Result;
use crate::ops::logits::Pair;
#[cfg(feature = "cuda")]
use crate::ops::{cuda::loss as card, mem};
use candle_core::Tensor;

/// The loss with both gradients: neither answer is detached.
pub struct Disagreement {
    /// With respect to the teacher's logits.
    pub teacher_grad: Tensor,
    /// With respect to the adversary's logits.
    pub adversary_grad: Tensor,
    found: Found,
}

enum Found {
    Known {
        value: f64,
        agreement: f64,
    },
    /// `[2, N]` on a card: the value of every row, and 1 where the decisions agree.
    #[cfg(feature = "cuda")]
    Rows(Tensor),
}

impl Disagreement {
    /// Gradients with respect to teacher and adversary, and numbers that are known.
    pub(super) fn known([teacher_grad, adversary_grad]: [Tensor; 2], value: f64, agreement: f64) -> Self {
        Self { teacher_grad, adversary_grad, found: Found::Known { value, agreement } }
    }

    /// `−(1/B) Σ mᵢ·KL(p_T ‖ p_S)` over rows, `mᵢ = 1` where the decisions agree, and the share of rows where they do. Waits for the
    /// card.
    pub fn value_and_agreement(&self) -> Result<(f64, f64)> {
        match &self.found {
            Found::Known { value, agreement } => Ok((*value, *agreement)),
            #[cfg(feature = "cuda")]
            Found::Rows(rows) => {
                let n = rows.dims()[1];
                let rows = mem::host(rows)?;
                let rows = mem::view(&rows)?;
                let sum = |part: &[f32]| part.iter().map(|v| f64::from(*v)).sum::<f64>();
                Ok((sum(&rows[..n]), sum(&rows[n..]) / n.max(1) as f64))
            }
        }
    }
}

/// Masked disagreement at temperature 1; the mean runs over the whole batch, masked samples count as 0.
pub fn masked_disagreement(teacher: &Tensor, adversary: &Tensor) -> Result<Disagreement> {
    #[cfg(feature = "cuda")]
    if teacher.device().is_cuda() {
        let (grads, rows) = card::disagreement(&super::rows::flat(teacher)?, &super::rows::flat(adversary)?)?;
        let [teacher_grad, adversary_grad] = grads.map(|grad| grad.reshape(teacher.shape()));
        let (teacher_grad, adversary_grad) = (teacher_grad?, adversary_grad?);
        return Ok(Disagreement { teacher_grad, adversary_grad, found: Found::Rows(rows) });
    }
    divergence(teacher, adversary, true)
}

/// `−(1/B) Σ KL(p_T ‖ p_S)` at temperature 1, of all samples (Micaelli and Storkey, "Zero-shot Knowledge Transfer", 2019,
/// equation 1).
pub fn disagreement(teacher: &Tensor, adversary: &Tensor) -> Result<Disagreement> {
    divergence(teacher, adversary, false)
}

fn divergence(teacher: &Tensor, adversary: &Tensor, masked: bool) -> Result<Disagreement> {
    let (t, s) = (Rows::of(teacher)?, Rows::of(adversary)?);
    t.same_shape(&s)?;
    let (n, k) = (t.n.max(1) as f64, t.k);
    let (parts, [dt, ds]) = in_chunks([&t, &s], [k; 2], |range, [t, s], [dt, ds]| {
        let pair = Pair { teacher: t, student: s, k, temperature: 1.0, masked };
        let found = Divergence::of(pair, &[(-1.0 / n) as f32; CHUNK], ds, dt);
        let rows = found.kl[..range.len()].iter().zip(&found.alike);
        let counted = rows.clone().filter(|(_, alike)| !masked || **alike > 0.0);
        let kl: f64 = counted.map(|(kl, _)| f64::from(*kl)).sum();
        [kl, rows.filter(|(_, alike)| **alike > 0.0).count() as f64]
    })?;
    let [kl, alike] = [0, 1].map(|which| parts.iter().map(|part| part[which]).sum::<f64>());
    Ok(Disagreement::known([like(dt, teacher)?, like(ds, adversary)?], -kl / n, alike / n))
}
