//! Activation loss of DAFL: real images excite the teacher's last features strongly (Chen et al., "Data-Free Learning of
//! Student Networks", 2019, equation 5).

use super::{Loss, Rows, Value, matrix_on};
use crate::Result;
use candle_core::Tensor;

/// `−mean |f|` of features `[N, F]`; the gradient at 0 is 0.
pub fn activation(features: &Tensor) -> Result<Loss> {
    let rows = Rows::of(features)?;
    let count = (rows.n * rows.k).max(1) as f64;
    let value = -rows.values.iter().map(|v| v.abs()).sum::<f64>() / count;
    let slope = |v: &f64| if *v == 0.0 { 0.0 } else { -v.signum() / count };
    let grad = rows.values.iter().map(slope).collect();
    Ok(Loss { value: Value::Known(value), grad: matrix_on(grad, rows.n, rows.k, features)? })
}
