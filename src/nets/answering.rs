//! What networks that only answer have in common: they refuse to train, and take large batches in pieces.

use super::{Forward, Mode};
use crate::tape::Var;
use crate::{Error, Result};
use candle_core::Tensor;

/// Positions (tokens, or pixels after the stem) of the images that go through a network at once. More does not run faster,
/// and a transformer's attention of a whole batch would take gigabytes.
const POSITIONS: usize = 4096;

/// Runs `answer` on pieces of `x [N, H, W, C]`, each of so many images that their positions, `positions` per image, are
/// about [`POSITIONS`]; gives all logits `[N, K]`. The cut depends on sizes alone.
///
/// # Errors
/// [`Error::Invalid`] where weights train or `x` wants a gradient: there is no way back through `answer`.
pub(super) fn in_pieces(
    f: &mut Forward,
    x: &Var,
    positions: usize,
    mut answer: impl FnMut(&mut Forward, Tensor) -> Result<Tensor>,
) -> Result<Var> {
    if matches!(f.mode, Mode::Train { .. }) || x.needs_grad() {
        return Err(only_answers("network", "it was asked for gradients, and it only answers"));
    }
    let x = x.tensor()?;
    let count = x.dim(0)?;
    let piece = (POSITIONS / positions.max(1)).max(1);
    let mut logits = Vec::with_capacity(count.div_ceil(piece));
    for start in (0..count).step_by(piece) {
        logits.push(answer(f, x.narrow(0, start, piece.min(count - start))?)?);
    }
    Ok(Var::constant(Tensor::cat(&logits, 0)?))
}

/// The refusal of a part that needs more than answers.
pub(super) fn only_answers(what: impl Into<String>, found: impl Into<String>) -> Error {
    let hint = "it can be the teacher of `distill` and be measured by `eval`, not be a student, an adversary or the source \
                of an inversion; `synth networks` says which networks train";
    Error::invalid(what, found, hint)
}
