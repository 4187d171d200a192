//! What a forward pass keeps in memory until it has been gone back through.

use super::{Tape, Value};
use candle_core::TensorId;
use std::collections::HashSet;

/// Values that a tape has seen.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Bytes of each, in their order, and whether closures of the backward pass hold on to it.
    pub values: Vec<(usize, bool)>,
    known: HashSet<TensorId>,
}

impl Tape {
    /// A tape that counts what it holds.
    pub fn counting() -> Self {
        Self { held: Some(Default::default()), ..Self::default() }
    }

    /// What it holds; nothing on a tape that does not count.
    pub fn held(&self) -> Held {
        self.held.as_ref().map(|held| held.borrow().clone()).unwrap_or_default()
    }

    pub(super) fn hold(&self, value: &Value, needs_grad: bool) {
        let (Some(held), Value::Dense(t) | Value::Lazy { raw: t, .. }) = (&self.held, value) else { return };
        let mut held = held.borrow_mut();
        let kept = needs_grad && held.known.insert(t.id());
        held.values.push((t.elem_count() * t.dtype().size_in_bytes(), kept));
    }
}
