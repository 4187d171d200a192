//! Distance of logits as the generator's gain: Fang et al., "Data-Free Adversarial Distillation", 2019, equation 5, and the
//! bounded form of their segmentation experiments.

use super::Disagreement;
use super::rows::{Rows, like, sum, with_grads};
use crate::Result;
use candle_core::Tensor;

/// `−d`, or `−ln(1 + d)` if `bounded`, of `d = mean |s − t|` over samples and classes.
pub fn logit_distance(teacher: &Tensor, adversary: &Tensor, bounded: bool) -> Result<Disagreement> {
    let (t, s) = (Rows::of(teacher)?, Rows::of(adversary)?);
    t.same_shape(&s)?;
    let count = (t.n * t.k).max(1) as f64;
    let distance = sum([&s, &t], |_, [s, t]| s.iter().zip(t).map(|(s, t)| (s - t).abs()).sum())? / count;
    let (value, slope) = match bounded {
        true => (-distance.ln_1p(), -1.0 / (1.0 + distance)),
        false => (-distance, -1.0),
    };
    // At a difference of exactly 0 there is no way to go.
    let sign = |d: f64| if d == 0.0 { 0.0 } else { d.signum() };
    let (_, [dt, ds]) = with_grads([&t, &s], |_, [t, s], [dt, ds]| {
        for c in 0..t.len() {
            ds[c] = slope * sign(s[c] - t[c]) / count;
            dt[c] = -ds[c];
        }
        0.0
    })?;
    Ok(Disagreement::known([like(dt, teacher)?, like(ds, adversary)?], value, t.agreement(&s)?))
}
