//! Distance of logits as the generator's gain: Fang et al., "Data-Free Adversarial Distillation", 2019, equation 5, and the
//! bounded form of their segmentation experiments.

use super::Disagreement;
use super::rows::{Rows, in_chunks, like};
use crate::Result;
use candle_core::Tensor;

/// `−d`, or `−ln(1 + d)` if `bounded`, of `d = mean |s − t|` over samples and classes.
pub fn logit_distance(teacher: &Tensor, adversary: &Tensor, bounded: bool) -> Result<Disagreement> {
    let (t, s) = (Rows::of(teacher)?, Rows::of(adversary)?);
    t.same_shape(&s)?;
    let count = (t.n * t.k).max(1) as f64;
    let apart = |s: &f32, t: &f32| f64::from(*s) - f64::from(*t);
    let (parts, []) =
        in_chunks([&s, &t], [], |_, [s, t], []| s.iter().zip(t).map(|(s, t)| apart(s, t).abs()).sum::<f64>())?;
    let distance = parts.iter().sum::<f64>() / count;
    let (value, slope) = match bounded {
        true => (-distance.ln_1p(), -1.0 / (1.0 + distance)),
        false => (-distance, -1.0),
    };
    // At a difference of exactly 0 there is no way to go.
    let step = (slope / count) as f32;
    let (_, [dt, ds]) = in_chunks([&t, &s], [t.k; 2], |_, [t, s], [dt, ds]| {
        for ((dt, ds), (t, s)) in dt.iter_mut().zip(ds).zip(t.iter().zip(s)) {
            *ds = if s == t { 0.0 } else { step * (s - t).signum() };
            *dt = -*ds;
        }
    })?;
    Ok(Disagreement::known([like(dt, teacher)?, like(ds, adversary)?], value, t.agreement(&s)?))
}
