//! Distance of logits as the generator's gain: Fang et al., "Data-Free Adversarial Distillation", 2019, equation 5, and the
//! bounded form of their segmentation experiments.

use super::{Disagreement, Rows, matrix_on};
use crate::Result;
use candle_core::Tensor;

/// `−d`, or `−ln(1 + d)` if `bounded`, of `d = mean |s − t|` over samples and classes.
pub fn logit_distance(teacher: &Tensor, adversary: &Tensor, bounded: bool) -> Result<Disagreement> {
    let (t, s) = (Rows::of(teacher)?, Rows::of(adversary)?);
    t.same_shape(&s)?;
    let count = (t.n * t.k).max(1) as f64;
    let differences = || s.values.iter().zip(&t.values).map(|(s, t)| s - t);
    let distance = differences().map(f64::abs).sum::<f64>() / count;
    let (value, slope) = match bounded {
        true => (-distance.ln_1p(), -1.0 / (1.0 + distance)),
        false => (-distance, -1.0),
    };
    // At a difference of exactly 0 there is no way to go.
    let sign = |d: f64| if d == 0.0 { 0.0 } else { d.signum() };
    let ds: Vec<f64> = differences().map(|d| slope * sign(d) / count).collect();
    let dt = ds.iter().map(|d| -d).collect();
    let grads = [matrix_on(dt, t.n, t.k, teacher)?, matrix_on(ds, t.n, t.k, adversary)?];
    Ok(Disagreement::known(grads, value, t.agreement(&s)))
}
