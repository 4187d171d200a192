//! What tells whether training goes well, of all tensors of a network: on a card without bringing them down.

use super::mem::view;
use crate::Result;
use candle_core::Tensor;

/// Norm of the difference of all first tensors from the second ones, over the norm of these.
///
/// # Errors
/// Pairs that differ in size or place.
pub fn distance(pairs: &[(&Tensor, &Tensor)]) -> Result<f64> {
    let Some((first, _)) = pairs.first() else { return Ok(0.0) };
    on_cuda!(first, super::cuda::step::squares_apart(pairs).map(ratio));
    let mut squares = [0.0; 2];
    for (own, theirs) in pairs {
        for (a, b) in view(own)?.iter().zip(view(theirs)?.iter()) {
            squares[0] += f64::from(a - b).powi(2);
            squares[1] += f64::from(*b).powi(2);
        }
    }
    Ok(ratio(squares))
}

/// Of the square of the difference and that of what it is a difference from.
fn ratio([difference, norm]: [f64; 2]) -> f64 {
    (difference / norm.max(f64::MIN_POSITIVE)).sqrt()
}

/// Whether all values are numbers: no NaN, no infinity. On a card, values whose squares are infinite are not taken for numbers.
///
/// # Errors
/// A device that does not answer.
pub fn are_finite(tensors: &[Tensor]) -> Result<bool> {
    let Some(first) = tensors.first() else { return Ok(true) };
    on_cuda!(first, super::cuda::step::squares_are_finite(tensors));
    for tensor in tensors {
        if !view(tensor)?.iter().all(|value| value.is_finite()) {
            return Ok(false);
        }
    }
    Ok(true)
}
