//! What a frozen network computes, operation by operation: the way from a forward pass to an exported graph, or to a count
//! of its multiplications.
//!
//! A [`Tape::tracing`] notes one [`Record`] per tape function; any other tape notes nothing. Values are told apart by
//! numbers that travel with the [`Var`]s, whether they lie in memory or behind a map that their readers apply.

use super::{Tape, Value, Var};
use crate::ops::bilinear::Corners;
use crate::ops::conv_transpose::ConvTransposeSpec;
use crate::ops::conv2d::Conv2dSpec;
use crate::ops::{Activation, pointwise::UnaryOp, spatial::Pool};
use crate::{Error, Result};
use candle_core::{Tensor, TensorId};
use std::cell::RefCell;
use std::collections::HashMap;

/// One operation, with everything but its inputs that determines its result. All of it is for channels-last values.
///
/// A new tape function gets a variant here and one line where it returns, `tape.note([x], y, || Op::Name { .. })`: what is
/// computed from the image goes into the inputs, in a fixed order, weights and sizes into the variant. Readers match without
/// `_` and take variants, [`Conv2dSpec`], [`Pool`] and [`Activation`] apart without `..`, so that the compiler shows what
/// they do not know yet. A function that forgets its line is an error that names it as soon as somebody reads its result.
#[derive(Clone, Debug)]
pub enum Op {
    /// `act(conv(x) + bias + residual)` of x and, if there is one, the residual.
    Conv {
        /// `[KH, KW, C/groups, C_out]`
        weight: Tensor,
        /// `[C_out]`
        bias: Option<Tensor>,
        spec: Conv2dSpec,
        act: Activation,
    },
    /// A transposed convolution.
    ConvTranspose {
        /// `[KH, KW, C_out, C_in]`
        weight: Tensor,
        spec: ConvTransposeSpec,
    },
    /// `x·weight + bias` of x `[N, in]`.
    Linear {
        /// `[in, out]` or `[1, 1, in, out]`
        weight: Tensor,
        /// `[out]`
        bias: Option<Tensor>,
    },
    /// `act(scale·x + shift + residual)` per channel of x and, if there is one, the residual: a batch norm that no
    /// convolution took up.
    Affine {
        /// `[C]`
        scale: Tensor,
        /// `[C]`
        shift: Tensor,
        act: Activation,
    },
    /// `act(x)`
    Activate { act: Activation },
    /// `act(a + b)`
    Add { act: Activation },
    /// `op(x)`
    Unary { op: UnaryOp },
    /// `x·σ(x)`
    Silu,
    /// `x` above 0, `slope·x` elsewhere.
    Prelu {
        /// `[C]`
        slope: Tensor,
    },
    /// `x·s` of x `[N, H, W, C]` and s `[N, C]`.
    Gate,
    /// Maximum or mean over windows.
    Pool { pool: Pool },
    /// `[N, H, W, C]` → `[N, C]`
    GlobalMean,
    /// Means of windows that share out all pixels: `[N, H, W, C]` → `[N, rows, columns, C]`.
    AdaptiveMean { windows: [usize; 2] },
    /// All values that it reads, channel after channel.
    Concat,
    /// To `h × w`.
    Bilinear { h: usize, w: usize, corners: Corners },
    /// Nearest-neighbour enlargement by 2.
    Nearest2,
    /// Every `stride`-th pixel, channels zero-padded to `c_out`, half before and half after.
    SubsamplePad { stride: usize, c_out: usize },
    /// `[N, H, W, C]` → `[N, C·H·W]`
    FlattenChw,
    /// `[N, C·H·W]` → `[N, H, W, C]`
    UnflattenChw { hwc: [usize; 3] },
    /// Augmentation: no part of a network.
    Place,
}

impl Op {
    /// The name of the tape function.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "conv2d",
            Self::ConvTranspose { .. } => "conv_transpose",
            Self::Linear { .. } => "linear",
            Self::Affine { .. } => "batch_norm",
            Self::Activate { .. } => "activate",
            Self::Add { .. } => "add",
            Self::Unary { .. } => "unary",
            Self::Silu => "silu",
            Self::Prelu { .. } => "prelu",
            Self::Gate => "gate",
            Self::Pool { .. } => "pool",
            Self::GlobalMean => "global_mean",
            Self::AdaptiveMean { .. } => "adaptive_mean",
            Self::Concat => "concat",
            Self::Bilinear { .. } => "bilinear",
            Self::Nearest2 => "nearest2",
            Self::SubsamplePad { .. } => "subsample_pad",
            Self::FlattenChw => "flatten_chw",
            Self::UnflattenChw { .. } => "unflatten_chw",
            Self::Place => "place",
        }
    }
}

/// An operation that was run, with the values that it read.
#[derive(Clone, Debug)]
pub struct Record {
    pub op: Op,
    /// Numbers of values; see [`Trace`].
    pub inputs: Vec<usize>,
    /// Dimensions of the result.
    pub dims: Vec<usize>,
}

/// A whole pass. Value 0 is the network's input, value `i + 1` the result of record `i`; every record reads values that are
/// there before it.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Dimensions of the input.
    pub input: Vec<usize>,
    /// In the order in which they ran.
    pub records: Vec<Record>,
    /// The value that the network answers with.
    pub output: usize,
}

impl Trace {
    /// Dimensions of a value.
    ///
    /// # Panics
    /// When there is no such value, like any slice.
    pub fn dims(&self, value: usize) -> &[usize] {
        match value {
            0 => &self.input,
            _ => &self.records[value - 1].dims,
        }
    }
}

/// The trace while it grows.
#[derive(Default)]
pub(super) struct Tracing {
    input: Vec<usize>,
    records: Vec<Record>,
    /// Which function made a tensor, to name the ones that leave no record.
    makers: HashMap<TensorId, &'static str>,
}

impl Tape {
    /// A tape that notes what is computed from its [`Tape::input`].
    pub fn tracing() -> Self {
        Self { trace: Some(RefCell::default()), ..Self::default() }
    }

    /// The input of the network that is traced.
    pub fn input(&self, value: Tensor) -> Var {
        let traced = self.trace.as_ref().map(|trace| {
            trace.borrow_mut().input = value.dims().to_vec();
            0
        });
        Var { traced, ..Var::constant(value) }
    }

    /// The trace up to `output`; the tape is left without records.
    ///
    /// # Errors
    /// If the tape does not trace, or `output` was not computed from its input by functions that leave records.
    pub fn take_trace(&self, output: &Var) -> Result<Trace> {
        let Some(trace) = &self.trace else { return Err(Error::shape("trace", "this tape traces nothing")) };
        let found = trace.borrow().number("the network's answer", output)?;
        let Tracing { input, records, .. } = trace.take();
        Ok(Trace { input, records, output: found })
    }

    /// Whether it traces: what depends on the batch is then refused.
    pub(super) fn is_tracing(&self) -> bool {
        self.trace.is_some()
    }

    /// Notes that `y` is `op` of `inputs` and gives `y` back; costs nothing on a tape that does not trace.
    pub(super) fn note<'a>(
        &self,
        inputs: impl IntoIterator<Item = &'a Var>,
        y: Var,
        op: impl FnOnce() -> Op,
    ) -> Result<Var> {
        let Some(trace) = &self.trace else { return Ok(y) };
        let mut trace = trace.borrow_mut();
        let op = op();
        let inputs = inputs.into_iter().map(|x| trace.number(op.name(), x)).collect::<Result<_>>()?;
        trace.records.push(Record { op, inputs, dims: y.dims().to_vec() });
        Ok(Var { traced: Some(trace.records.len()), ..y })
    }

    /// Remembers which function's backward closure came with `value`.
    pub(super) fn made_by(&self, value: &Value, closure: &'static str) {
        let (Some(trace), Value::Dense(t)) = (&self.trace, value) else { return };
        trace.borrow_mut().makers.insert(t.id(), closure);
    }
}

impl Tracing {
    /// The number of a value that `reader` reads.
    fn number(&self, reader: &str, x: &Var) -> Result<usize> {
        x.traced.ok_or_else(|| {
            let closure = self.makers.get(&x.source().0.id()).copied().unwrap_or("something outside the tape");
            let function = closure.split("::").filter(|part| !part.starts_with("{{")).last().unwrap_or(closure);
            Error::shape("trace", format!("{reader} reads {:?} made by {function}, which leaves no record", x.dims()))
        })
    }
}

impl Var {
    /// The value of a weight, which must not depend on the network's input.
    pub(super) fn weight(&self) -> Result<Tensor> {
        match self.traced {
            None => self.tensor(),
            Some(_) => Err(Error::shape("trace", format!("a weight {:?} depends on the image", self.dims()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{self as tape, NormMode};
    use super::*;
    use crate::ops::mem::tensor;

    fn ones(dims: &[usize]) -> Tensor {
        tensor(vec![1.0; dims.iter().product()], dims).unwrap()
    }

    #[test]
    fn nested_functions_note_once_and_lazy_values_keep_their_number() {
        let tape = Tape::tracing();
        let x = tape.input(ones(&[1, 4, 4, 2]));
        let weight = || Var::constant(ones(&[2]));
        let bn = tape::BatchNorm {
            weight: weight(),
            bias: weight(),
            running_mean: ones(&[2]),
            running_var: ones(&[2]),
            eps: 0.0,
        };
        let y = tape::batch_norm(&tape, &x, None, &bn, NormMode::Frozen, Activation::RELU, None).unwrap().y;
        let sum = tape::add(&tape, &y.dense().unwrap(), &y, Activation::IDENTITY).unwrap();
        let flat = tape::global_mean(&tape, &sum).unwrap();
        let out = tape::linear(&tape, &flat, &Var::constant(ones(&[2, 3])), None).unwrap();
        let trace = tape.take_trace(&out).unwrap();
        let names: Vec<&str> = trace.records.iter().map(|r| r.op.name()).collect();
        assert_eq!(names, ["batch_norm", "add", "global_mean", "linear"]);
        assert_eq!((&trace.records[1].inputs[..], trace.output), (&[1, 1][..], 4));
        assert_eq!((trace.dims(0), trace.dims(4)), (&[1, 4, 4, 2][..], &[1, 3][..]));
        // Statistics of the batch are no part of a frozen network.
        let train = NormMode::Train { momentum: 0.1 };
        assert!(tape::batch_norm(&tape, &x, None, &bn, train, Activation::RELU, None).is_err());
    }

    fn forgetful(tape: &Tape, x: &Var) -> Var {
        tape.record(Value::Dense(x.tensor().unwrap().copy().unwrap()), false, |_, _| Ok(()))
    }

    #[test]
    fn a_function_without_a_record_is_named() {
        let tape = Tape::tracing();
        let x = tape.input(ones(&[1, 2, 2, 1]));
        let y = forgetful(&tape, &x);
        let message = tape::global_mean(&tape, &y).err().unwrap().to_string();
        assert!(message.contains("global_mean reads [1, 2, 2, 1] made by forgetful, which leaves no"), "{message}");
        assert!(tape.take_trace(&y).unwrap_err().to_string().contains("answer reads"));
        let foreign = Var::constant(ones(&[1, 2, 2, 1]));
        let message = tape::nearest2(&tape, &foreign).err().unwrap().to_string();
        assert!(message.contains("made by something outside the tape"), "{message}");
        let square = tape::flatten_chw(&tape, &tape.input(ones(&[4, 2, 2, 1]))).unwrap();
        let message = tape::linear(&tape, &square, &square, None).err().unwrap().to_string();
        assert!(message.contains("a weight [4, 4] depends on the image"), "{message}");
    }

    #[test]
    fn an_ordinary_tape_notes_nothing() {
        let tape = Tape::new();
        let y = tape::nearest2(&tape, &tape.input(ones(&[1, 2, 2, 1]))).unwrap();
        assert!(y.traced.is_none() && tape.take_trace(&y).is_err());
    }
}
