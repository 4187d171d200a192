//! Competition of Adaptive DeepInversion: images on which the answers of teacher and student are far apart in the sense of
//! Jensen and Shannon (Yin et al., "Dreaming to Distill", 2020, equations 8 and 9).

use super::Disagreement;
use super::rows::{Rows, like, log_softmax, with_grads};
use crate::Result;
use candle_core::Tensor;

/// `−mean JS(p_T, p_S)`, `JS = ½·KL(p_T ‖ m) + ½·KL(p_S ‖ m)`, `m = ½·(p_T + p_S)`, of answers at `temperature`.
pub fn jensen_shannon(teacher: &Tensor, adversary: &Tensor, temperature: f64) -> Result<Disagreement> {
    let (t, s) = (Rows::of(teacher)?, Rows::of(adversary)?);
    t.same_shape(&s)?;
    let n = t.n as f64;
    let (value, [dt, ds]) = with_grads([&t, &s], |_, [t, s], grads| {
        let (lt, ls) = (log_softmax(t, temperature), log_softmax(s, temperature));
        let lm: Vec<f64> = lt.iter().zip(&ls).map(|(t, s)| log_mean(*t, *s)).collect();
        // Halves of the divergence: Σ p·(ln p − ln m). The derivative of JS with respect to p is ½·(ln p − ln m).
        let mut value = 0.0;
        for (own, grad) in [&lt, &ls].into_iter().zip(grads) {
            let divergence: f64 = own.iter().zip(&lm).map(|(l, m)| l.exp() * (l - m)).sum();
            value -= 0.5 * divergence / n;
            let scale = -0.5 / (n * temperature);
            let slopes = own.iter().zip(&lm).map(|(l, m)| scale * l.exp() * (l - m - divergence));
            grad.iter_mut().zip(slopes).for_each(|(g, slope)| *g = slope);
        }
        value
    })?;
    Ok(Disagreement::known([like(dt, teacher)?, like(ds, adversary)?], value, t.agreement(&s)?))
}

/// `ln ½(eᵃ + eᵇ)`
fn log_mean(a: f64, b: f64) -> f64 {
    let (high, low) = (a.max(b), a.min(b));
    high + (low - high).exp().ln_1p() - std::f64::consts::LN_2
}
