//! Reverse-mode differentiation over candle tensors: each op pushes one closure.
//!
//! Rules that keep it fast and small: the first gradient of a value is moved, later ones are added in place; a closure
//! owns what it needs and frees it when it has run; what needs no gradient records nothing. A gradient tensor has one
//! owner at any time, so closures may overwrite what they take.

mod conv;
mod gate;
mod held;
mod motion;
mod norm;
#[cfg(feature = "cuda")]
mod norm_on_card;
mod pointwise;
mod spatial;
pub mod trace;

pub(crate) use conv::reshaped;
pub use conv::{ConvOutput, conv_transpose, conv2d, linear};
pub use gate::{gate, prelu, silu};
pub use held::Held;
pub use motion::{columns, per_channel, roll, rows, stack_rows, windows};
pub use norm::{BatchNorm, NormMode, Normalised, batch_norm};
pub use pointwise::{UnaryOp, activate, add, cast, hard_swish, unary};
pub use spatial::{
    Corners, Placement, Pool, PoolKind, adaptive_mean, bilinear, concat, flatten_chw, global_mean, nearest2, place,
    pool, resize, subsample_pad, unflatten_chw,
};
pub use trace::{Op, Record, Trace};

use crate::ops::conv2d::Affine;
use crate::ops::mem;
use crate::ops::norm as passes;
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use std::cell::RefCell;

type Backward = Box<dyn FnOnce(&mut Grads) -> Result<()>>;

struct Node {
    outputs: Vec<usize>,
    backward: Backward,
}

/// The record of one forward pass.
#[derive(Default)]
pub struct Tape {
    nodes: RefCell<Vec<Node>>,
    ids: std::cell::Cell<usize>,
    /// What was computed, if somebody wants to know.
    trace: Option<RefCell<trace::Tracing>>,
    /// What it holds on to, if somebody wants to know.
    held: Option<RefCell<held::Held>>,
}

/// A value on the tape: a tensor, or a tensor behind a per-channel map that its readers apply themselves.
#[derive(Clone)]
pub struct Var {
    id: Option<usize>,
    /// Its number in the trace, if it was computed from the input of a tape that traces.
    traced: Option<usize>,
    value: Value,
}

#[derive(Clone)]
enum Value {
    Dense(Tensor),
    /// `act(scale·raw + shift)`, never written to memory unless somebody asks.
    Lazy {
        raw: Tensor,
        affine: Affine,
    },
}

impl Var {
    /// A value that needs no gradient.
    pub fn constant(value: Tensor) -> Self {
        Self { id: None, traced: None, value: Value::Dense(value) }
    }

    /// Whether gradients flow to it.
    pub fn needs_grad(&self) -> bool {
        self.id.is_some()
    }

    /// Dimensions of the value.
    pub fn dims(&self) -> &[usize] {
        match &self.value {
            Value::Dense(t) | Value::Lazy { raw: t, .. } => t.dims(),
        }
    }

    /// Kind of its values.
    pub fn dtype(&self) -> DType {
        self.source().0.dtype()
    }

    /// The value, computed if nobody has yet.
    pub fn tensor(&self) -> Result<Tensor> {
        match &self.value {
            Value::Dense(t) => Ok(t.clone()),
            Value::Lazy { raw, affine } => Ok(passes::apply(raw, affine, None)?),
        }
    }

    /// What to read and which map to apply while reading.
    fn source(&self) -> (&Tensor, Option<&Affine>) {
        match &self.value {
            Value::Dense(t) => (t, None),
            Value::Lazy { raw, affine } => (raw, Some(affine)),
        }
    }

    /// The same value with its map applied, so that several readers do not each apply it.
    pub fn dense(&self) -> Result<Var> {
        Ok(Var { value: Value::Dense(self.tensor()?), ..*self })
    }
}

impl Tape {
    pub fn new() -> Self {
        Self::default()
    }

    /// A value whose gradient is wanted.
    pub fn leaf(&self, value: Tensor) -> Var {
        Var { id: Some(self.next_id()), traced: None, value: Value::Dense(value) }
    }

    fn next_id(&self) -> usize {
        let id = self.ids.get();
        self.ids.set(id + 1);
        id
    }

    /// A result with its backward closure; without `needs_grad` nothing is recorded.
    fn record<B: FnOnce(Tensor, &mut Grads) -> Result<()> + 'static>(
        &self,
        value: Value,
        needs_grad: bool,
        backward: B,
    ) -> Var {
        self.made_by(&value, std::any::type_name::<B>());
        self.hold(&value, needs_grad);
        if !needs_grad {
            return Var { id: None, traced: None, value };
        }
        let id = self.next_id();
        self.push(
            vec![id],
            Box::new(move |grads| match grads.take_id(id) {
                Some(dy) => backward(dy, grads),
                None => Ok(()),
            }),
        );
        Var { id: Some(id), traced: None, value }
    }

    fn push(&self, outputs: Vec<usize>, backward: Backward) {
        self.nodes.borrow_mut().push(Node { outputs, backward });
    }

    /// Runs the record backwards from the given gradients and empties it.
    ///
    /// `seeds` are (value, gradient of the objective with respect to it). A value that needs no gradient is skipped.
    /// The gradients are copied, and become of the value's kind: closures overwrite what they take, and a caller may well pass
    /// the value itself (½‖y‖²).
    ///
    /// # Errors
    /// A gradient that does not have the shape of its value, or whatever an operation reports.
    pub fn backward(&self, seeds: impl IntoIterator<Item = (Var, Tensor)>) -> Result<Grads> {
        let mut grads = Grads { slots: Vec::new() };
        grads.slots.resize_with(self.ids.get(), || None);
        for (var, grad) in seeds {
            if grad.dims() != var.dims() {
                return Err(Error::shape("backward", format!("gradient {:?} of {:?}", grad.dims(), var.dims())));
            }
            grads.add(&var, mem::cast(&grad.force_contiguous()?, var.dtype())?)?;
        }
        let mut nodes = std::mem::take(&mut *self.nodes.borrow_mut());
        while let Some(node) = nodes.pop() {
            if node.outputs.iter().any(|&o| grads.slots[o].is_some()) {
                (node.backward)(&mut grads)?;
            }
        }
        Ok(grads)
    }
}

/// Gradients by value.
pub struct Grads {
    slots: Vec<Option<Tensor>>,
}

impl Grads {
    /// The gradient of `var`, if any reached it; it is the caller's from now on.
    pub fn take(&mut self, var: &Var) -> Option<Tensor> {
        var.id.and_then(|id| self.take_id(id))
    }

    fn take_id(&mut self, id: usize) -> Option<Tensor> {
        self.slots.get_mut(id).and_then(Option::take)
    }

    /// Adds a gradient that the caller gives away.
    fn add(&mut self, var: &Var, grad: Tensor) -> Result<()> {
        let Some(id) = var.id else { return Ok(()) };
        match &self.slots[id] {
            Some(sum) => passes::add_into(sum, &grad)?,
            None => self.slots[id] = Some(grad),
        }
        Ok(())
    }
}
