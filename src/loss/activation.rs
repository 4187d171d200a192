//! Activation loss of DAFL: real images excite the teacher's last features strongly (Chen et al., "Data-Free Learning of
//! Student Networks", 2019, equation 5).

use super::rows::{Rows, like, with_grads};
use super::{Loss, Value};
use crate::Result;
use candle_core::Tensor;

/// `−mean |f|` of features `[N, F]`; the gradient at 0 is 0.
pub fn activation(features: &Tensor) -> Result<Loss> {
    let rows = Rows::of(features)?;
    let count = (rows.n * rows.k).max(1) as f64;
    let (value, [grad]) = with_grads([&rows], |_, [row], [grad]| {
        grad.iter_mut().zip(row).for_each(|(g, v)| *g = if *v == 0.0 { 0.0 } else { -v.signum() / count });
        -row.iter().map(|v| v.abs()).sum::<f64>() / count
    })?;
    Ok(Loss { value: Value::Known(value), grad: like(grad, features)? })
}
