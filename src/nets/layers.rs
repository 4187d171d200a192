//! Layers: slots registered by a [`Builder`], run by a [`Forward`]. Which kernel path computes them is their secret.

use super::forward::{Forward, Observed, ObservedEach};
use super::weights::{Init, Kind, Slot, SlotId};
use crate::Result;
use crate::ops::conv2d::{Conv2dSpec, Padding, Sums};
use crate::ops::{Activation, layer_norm, mem, norm};
use crate::tape::{self, BatchNorm, Var};

/// Registers layers in the order in which PyTorch would.
#[derive(Default)]
pub struct Builder {
    slots: Vec<Slot>,
}

impl Builder {
    pub(super) fn slot(&mut self, name: String, kind: Kind, shape: &[usize], init: Init) -> SlotId {
        self.slots.push(Slot { name, kind, shape: shape.to_vec(), init });
        SlotId(self.slots.len() - 1)
    }

    pub(super) fn into_slots(self) -> Vec<Slot> {
        self.slots
    }

    /// A convolution without bias; He initialisation over the fan-out.
    pub fn conv(&mut self, name: &str, c_in: usize, c_out: usize, spec: Conv2dSpec) -> Conv {
        let fan_out = (spec.kernel[0] * spec.kernel[1] * c_out / spec.groups) as f32;
        self.conv_init(name, c_in, c_out, spec, Init::Normal((2.0 / fan_out).sqrt()))
    }

    /// A convolution without bias and with a given initialisation.
    pub fn conv_init(&mut self, name: &str, c_in: usize, c_out: usize, spec: Conv2dSpec, init: Init) -> Conv {
        let shape = [spec.kernel[0], spec.kernel[1], c_in / spec.groups, c_out];
        let weight = self.slot(format!("{name}.weight"), Kind::ConvWeight, &shape, init);
        Conv { weight, bias: None, spec }
    }

    /// A convolution without bias; PyTorch's default initialisation.
    pub fn conv_default(&mut self, name: &str, c_in: usize, c_out: usize, spec: Conv2dSpec) -> Conv {
        self.conv_init(name, c_in, c_out, spec, usual(c_in, &spec))
    }

    /// A convolution with bias; PyTorch's default initialisation.
    pub fn conv_bias(&mut self, name: &str, c_in: usize, c_out: usize, spec: Conv2dSpec) -> Conv {
        self.conv_bias_init(name, c_in, c_out, spec, [usual(c_in, &spec); 2])
    }

    /// A convolution with bias and with given initialisations of both.
    pub fn conv_bias_init(
        &mut self,
        name: &str,
        c_in: usize,
        c_out: usize,
        spec: Conv2dSpec,
        [weight, bias]: [Init; 2],
    ) -> Conv {
        let mut conv = self.conv_init(name, c_in, c_out, spec, weight);
        conv.bias = Some(self.slot(format!("{name}.bias"), Kind::Bias, &[c_out], bias));
        conv
    }

    /// A 2-d batch norm.
    pub fn norm(&mut self, name: &str, channels: usize, eps: f64) -> Norm {
        self.any_norm(name, channels, eps, true)
    }

    /// A 2-d batch norm whose result starts at 0, as the last one of a residual block may.
    pub fn norm_zero(&mut self, name: &str, channels: usize, eps: f64) -> Norm {
        let norm = self.norm(name, channels, eps);
        self.slots[norm.weight.0].init = Init::Constant(0.0);
        norm
    }

    /// A batch norm over features `[N, C]`; its statistics are not matched.
    pub fn norm_1d(&mut self, name: &str, channels: usize, eps: f64) -> Norm {
        self.any_norm(name, channels, eps, false)
    }

    fn any_norm(&mut self, name: &str, channels: usize, eps: f64, spatial: bool) -> Norm {
        let mut slot = |what: &str, kind, v| self.slot(format!("{name}.{what}"), kind, &[channels], Init::Constant(v));
        Norm {
            weight: slot("weight", Kind::NormWeight, 1.0),
            bias: slot("bias", Kind::NormBias, 0.0),
            mean: slot("running_mean", Kind::RunningMean { spatial }, 0.0),
            var: slot("running_var", Kind::RunningVar, 1.0),
            eps,
            spatial,
        }
    }

    /// A layer norm over channels.
    pub fn layer_norm(&mut self, name: &str, channels: usize, eps: f64) -> LayerNorm {
        let mut slot = |what: &str, kind, v| self.slot(format!("{name}.{what}"), kind, &[channels], Init::Constant(v));
        LayerNorm { weight: slot("weight", Kind::NormWeight, 1.0), bias: slot("bias", Kind::NormBias, 0.0), eps }
    }

    /// A linear layer with bias; PyTorch's default initialisation.
    pub fn linear(&mut self, name: &str, c_in: usize, c_out: usize) -> Linear {
        self.linear_init(name, c_in, c_out, [Init::Uniform(1.0 / (c_in as f32).sqrt()); 2])
    }

    /// A linear layer with given initialisations of weight and bias.
    pub fn linear_init(&mut self, name: &str, c_in: usize, c_out: usize, [weight, bias]: [Init; 2]) -> Linear {
        Linear {
            weight: self.slot(format!("{name}.weight"), Kind::LinearWeight, &[c_in, c_out], weight),
            bias: self.slot(format!("{name}.bias"), Kind::Bias, &[c_out], bias),
        }
    }
}

/// PyTorch's default for the weights and the bias of a convolution.
fn usual(c_in: usize, spec: &Conv2dSpec) -> Init {
    Init::Uniform(1.0 / ((spec.kernel[0] * spec.kernel[1] * c_in / spec.groups) as f32).sqrt())
}

/// An activation as a layer: what a norm can carry, or a pass of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Nonlinearity {
    Piecewise(Activation),
    Silu,
    HardSwish,
}

impl Nonlinearity {
    /// The activation alone.
    pub fn forward(self, f: &mut Forward, x: &Var) -> Result<Var> {
        match self {
            Self::Piecewise(act) => tape::activate(f.tape, x, act),
            Self::Silu => tape::silu(f.tape, x),
            Self::HardSwish => tape::hard_swish(f.tape, x),
        }
    }
}

/// A convolution.
#[derive(Clone, Copy)]
pub struct Conv {
    weight: SlotId,
    bias: Option<SlotId>,
    spec: Conv2dSpec,
}

impl Conv {
    /// The same layer with other zeros around its input (where they depend on the input's size).
    pub fn padded(self, padding: Padding) -> Self {
        Self { spec: Conv2dSpec { padding, ..self.spec }, ..self }
    }

    /// `act(conv(x) + residual)`.
    pub fn forward(&self, f: &mut Forward, x: &Var, residual: Option<&Var>, act: Activation) -> Result<Var> {
        Ok(self.run(f, x, residual, act, false)?.0)
    }

    /// `conv(x) + residual` for a batch norm to read: with its sums if this pass wants them.
    pub fn forward_summed(&self, f: &mut Forward, x: &Var, residual: Option<&Var>) -> Result<(Var, Option<Sums>)> {
        self.run(f, x, residual, Activation::IDENTITY, f.sums_ahead())
    }

    fn run(
        &self,
        f: &mut Forward,
        x: &Var,
        residual: Option<&Var>,
        act: Activation,
        sums: bool,
    ) -> Result<(Var, Option<Sums>)> {
        let (w, b) = (f.param(self.weight), self.bias.map(|b| f.param(b)));
        let out = tape::conv2d(f.tape, x, &w, &f.multiplied(self.spec), b.as_ref(), residual, act, sums)?;
        Ok((out.y, out.sums))
    }

    /// A 1x1 convolution of `x [N, C]`, features of no extent.
    pub fn forward_rows(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let (w, b) = (f.param(self.weight), self.bias.map(|b| f.param(b)));
        tape::linear(f.tape, x, &w, b.as_ref())
    }

    /// `act(norm(conv(x)) + residual)`. Frozen, the norm is folded into the convolution.
    pub fn forward_norm(
        &self,
        f: &mut Forward,
        norm: &Norm,
        x: &Var,
        residual: Option<&Var>,
        act: Activation,
    ) -> Result<Var> {
        if !f.folds() {
            let (u, sums) = self.forward_summed(f, x, None)?;
            return norm.forward(f, &u, sums, residual, act);
        }
        let (scale, mut shift) = norm.scale_shift(f)?;
        let mut w = mem::view(&f.buffer(self.weight))?.to_vec();
        for row in w.chunks_exact_mut(scale.len()) {
            row.iter_mut().zip(&scale).for_each(|(w, s)| *w *= s);
        }
        if let Some(b) = self.bias {
            let b = f.buffer(b);
            shift.iter_mut().zip(mem::view(&b)?.iter()).zip(&scale).for_each(|((t, b), s)| *t += b * s);
        }
        let shape = f.buffer(self.weight).dims().to_vec();
        let w = Var::constant(mem::tensor(w, &shape[..])?);
        let channels = shift.len();
        let b = Var::constant(mem::tensor(shift, channels)?);
        Ok(tape::conv2d(f.tape, x, &w, &f.multiplied(self.spec), Some(&b), residual, act, false)?.y)
    }

    /// `act(norm(conv(x)))` for any activation.
    pub fn forward_activated(&self, f: &mut Forward, norm: &Norm, x: &Var, act: Nonlinearity) -> Result<Var> {
        match act {
            Nonlinearity::Piecewise(act) => self.forward_norm(f, norm, x, None, act),
            Nonlinearity::Silu | Nonlinearity::HardSwish => {
                let z = self.forward_norm(f, norm, x, None, Activation::IDENTITY)?;
                act.forward(f, &z)
            }
        }
    }
}

/// A batch norm.
pub struct Norm {
    weight: SlotId,
    bias: SlotId,
    mean: SlotId,
    var: SlotId,
    eps: f64,
    spatial: bool,
}

impl Norm {
    /// `act(norm(x) + residual)`; `sums` as [`Conv::forward_summed`] returned them with `x`.
    pub fn forward(
        &self,
        f: &mut Forward,
        x: &Var,
        sums: Option<Sums>,
        residual: Option<&Var>,
        act: Activation,
    ) -> Result<Var> {
        let x = &x.dense()?;
        if let Some(inputs) = f.inputs.as_mut().filter(|_| self.spatial) {
            inputs.push(tape::global_mean(f.tape, x)?);
        }
        if let Some(each) = f.each.as_mut().filter(|_| self.spatial) {
            let sums = norm::sums_each(&x.tensor()?)?;
            let pixels = x.dims()[1..x.dims().len() - 1].iter().product();
            each.push(ObservedEach { norm: self.mean, eps: self.eps, pixels, sums });
        }
        let bn = BatchNorm {
            weight: f.param(self.weight),
            bias: f.param(self.bias),
            running_mean: f.buffer(self.mean),
            running_var: f.buffer(self.var),
            eps: self.eps,
        };
        let out = tape::batch_norm(f.tape, x, sums, &bn, f.norm_mode(), act, residual)?;
        if let Some(moments) = out.moments.filter(|_| self.spatial) {
            let values = x.dims()[..3].iter().product();
            f.moments.push(Observed { norm: self.mean, eps: self.eps, moments, values });
        }
        Ok(out.y)
    }

    /// The frozen layer as `scale·x + shift`.
    fn scale_shift(&self, f: &Forward) -> Result<(Vec<f32>, Vec<f32>)> {
        let all = [self.weight, self.bias, self.mean, self.var].map(|id| f.buffer(id));
        let [w, b, m, v] = [0, 1, 2, 3].map(|i| mem::view(&all[i]));
        let (w, b, m, v) = (w?, b?, m?, v?);
        Ok((0..w.len())
            .map(|c| {
                let scale = f64::from(w[c]) / (f64::from(v[c]) + self.eps).sqrt();
                (scale as f32, (f64::from(b[c]) - scale * f64::from(m[c])) as f32)
            })
            .unzip())
    }
}

/// A linear layer.
pub struct Linear {
    weight: SlotId,
    bias: SlotId,
}

impl Linear {
    /// `x·w + b` for `x [N, in]`.
    pub fn forward(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let (w, b) = (f.param(self.weight), f.param(self.bias));
        tape::linear(f.tape, x, &w, Some(&b))
    }

    /// `x·w + b` for every pixel of `x [N, H, W, in]`.
    pub fn forward_pixels(&self, f: &mut Forward, x: &Var) -> Result<Var> {
        let (w, b) = (f.param(self.weight), f.param(self.bias));
        let kernel = tape::reshaped(f.tape, &w, &[&[1, 1], w.dims()].concat())?;
        let spec = f.multiplied(Conv2dSpec::new(1));
        Ok(tape::conv2d(f.tape, x, &kernel, &spec, Some(&b), None, Activation::IDENTITY, false)?.y)
    }

    /// `act(x·w + b)`.
    pub fn forward_act(&self, f: &mut Forward, x: &Var, act: Activation) -> Result<Var> {
        let y = self.forward(f, x)?;
        tape::activate(f.tape, &y, act)
    }
}

/// A layer norm over the last dimension; it has no backward pass.
pub struct LayerNorm {
    weight: SlotId,
    bias: SlotId,
    eps: f64,
}

impl LayerNorm {
    /// `norm(x)` for a constant `x [.., C]`.
    pub fn forward(&self, f: &Forward, x: &Var) -> Result<Var> {
        let y = layer_norm::forward(&x.tensor()?, &f.buffer(self.weight), &f.buffer(self.bias), self.eps)?;
        Ok(Var::constant(y))
    }
}
