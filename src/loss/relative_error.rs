//! Features compared by value, in units of their own size: the regression of hints (Romero et al., "FitNets", 2015), free of the
//! scale of a teacher's features.

use super::{Loss, Rows, Value, check_weights, matrix_on, weight};
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
    check_weights(weights, s.n)?;
    let count = (s.n * s.k).max(1) as f64;
    let square = (t.values.iter().map(|v| v * v).sum::<f64>() / count).max(LEAST);
    let mut value = 0.0;
    let mut grad = Vec::with_capacity(s.n * s.k);
    for i in 0..s.n {
        let scale = weight(weights, i) / (count * square);
        let differences = || s.row(i).iter().zip(t.row(i)).map(|(s, t)| s - t);
        value += scale * differences().map(|d| d * d).sum::<f64>();
        grad.extend(differences().map(|d| 2.0 * scale * d));
    }
    Ok(Loss { value: Value::Known(value), grad: matrix_on(grad, s.n, s.k, student)? })
}
