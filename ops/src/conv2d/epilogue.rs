//! What convolutions do to their values on the way out.

use crate::activation::Activation;
use crate::simd::{Simd, load, store};

/// What happens to the values before they are written: `act(v + bias + residual)`, and Σ, Σ² of the result.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    pub bias: Option<&'a [f32]>,
    pub residual: Option<&'a [f32]>,
    pub act: Activation,
    pub sums: bool,
}

impl Epilogue<'_> {
    pub(crate) const NONE: Epilogue<'static> =
        Epilogue { bias: None, residual: None, act: Activation::IDENTITY, sums: false };

    /// Whether it leaves the values as they are.
    pub(super) fn is_nothing(&self) -> bool {
        self.bias.is_none() && self.residual.is_none() && self.act.is_identity() && !self.sums
    }
}

/// A block of output channels and where it goes.
pub(super) struct Columns<'a> {
    pub(super) epilogue: &'a Epilogue<'a>,
    /// Whether the epilogue does nothing.
    pub(super) plain: bool,
    /// First of the channels.
    pub(super) first: usize,
    pub(super) residual: Option<*const f32>,
    pub(super) out: *mut f32,
}

/// Epilogue and store of one vector: `offset` is its place in the block, `at` its place in the output; its sums are added to
/// `stats`. Unless it is `WHOLE`, only its first `lanes` lanes are channels, and the others are 0.
///
/// # Safety
/// The channels lie inside the block, and `at` inside residual and output.
#[inline(always)]
pub(super) unsafe fn write_vector<S: Simd, const WHOLE: bool>(
    c: &Columns,
    y: S::V,
    [offset, at, lanes]: [usize; 3],
    stats: [*mut S::V; 2],
) {
    let e = c.epilogue;
    // SAFETY: as the caller promises.
    unsafe {
        let load = |p: *const f32| load::<S, WHOLE>(p, lanes);
        let mut y = y;
        if !c.plain {
            if let Some(bias) = e.bias {
                y = S::add(y, load(bias.as_ptr().add(c.first + offset)));
            }
            if let Some(residual) = c.residual {
                y = S::add(y, load(residual.add(at)));
            }
            y = S::min(S::splat(e.act.cap), S::max(S::mul(y, S::splat(e.act.slope)), y));
            *stats[0] = S::add(*stats[0], y);
            *stats[1] = S::fma(y, y, *stats[1]);
        }
        store::<S, WHOLE>(c.out.add(at), y, lanes);
    }
}
