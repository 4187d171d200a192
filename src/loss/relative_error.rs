//! Features compared by value, in units of their own size: the regression of hints (Romero et al., "FitNets", 2015), free of the
//! scale of a teacher's features.

use super::rows::{Rows, Weights, like, sum, with_grads};
use super::{Loss, Value};
use crate::Result;
use candle_core::Tensor;

/// Mean squares below this are 0.
const LEAST: f64 = 1e-12;

/// Weighted mean over the batch of `mean_d (s − t)² / m`, where `m` is the mean square of all of `t`; 1 is what saying nothing
/// costs. The gradient is with respect to `student`.
///
/// `student` and `teacher` are `[N, D]`.
///
/// # Errors
/// Matrices of different shapes, or another number of weights.
pub fn relative_error(student: &Tensor, teacher: &Tensor, weights: Option<&[f32]>) -> Result<Loss> {
    let (s, t) = (Rows::of(student)?, Rows::of(teacher)?);
    s.same_shape(&t)?;
    let (weights, d) = (Weights::of(weights, student)?, s.k.max(1) as f64);
    let square = sum([&t], |_, [t]| t.iter().map(|v| v * v).sum())? / (t.n.max(1) as f64 * d);
    let square = square.max(LEAST);
    let (value, [grad]) = with_grads([&s, &t], |i, [s, t], [grad]| {
        let scale = weights.share(i) / (d * square);
        let differences = || s.iter().zip(t).map(|(s, t)| s - t);
        grad.iter_mut().zip(differences()).for_each(|(grad, difference)| *grad = 2.0 * scale * difference);
        scale * differences().map(|difference| difference * difference).sum::<f64>()
    })?;
    Ok(Loss { value: Value::Known(value), grad: like(grad, student)? })
}
