//! From the operations of a trace to the operators of ONNX: channels last to channels first, one function per operation.
//!
//! Operators are used in forms that mean the same from opset 13 to the newest one; where an older opset lacks something,
//! the operation is refused.

use super::graph::{Attribute, Graph};
use crate::ops::adaptive::window;
use crate::ops::conv_transpose::ConvTransposeSpec;
use crate::ops::conv2d::{Conv2dSpec, Padding};
use crate::ops::{Activation, layout, mem};
use crate::tape::{Corners, Op, Pool, PoolKind, Record, Trace, UnaryOp};
use crate::{Error, Result};
use candle_core::{Tensor, TensorId};
use std::collections::HashMap;

/// Translates a whole trace whose input is called `input`; gives the name of its answer.
///
/// `names` are those of the network's own tensors. Weights that a batch norm was folded into are called after their node.
pub fn translate(
    trace: &Trace,
    graph: &mut Graph,
    input: String,
    names: &HashMap<TensorId, String>,
    opset: u32,
) -> Result<String> {
    let mut values = vec![input];
    for record in &trace.records {
        let inputs: Vec<&str> = record.inputs.iter().map(|value| values[*value].as_str()).collect();
        let from: Vec<&[usize]> = record.inputs.iter().map(|value| trace.dims(*value)).collect();
        let value = Translator { graph, names, opset, record, inputs: &inputs, from: &from }.run()?;
        if !values.contains(&value) {
            graph.shape(&value, &channels_first(&record.dims));
        }
        values.push(value);
    }
    Ok(values.swap_remove(trace.output))
}

/// `[N, H, W, C]` as `[N, C, H, W]`; other ranks stay.
pub fn channels_first(dims: &[usize]) -> Vec<usize> {
    match dims {
        &[n, h, w, c] => vec![n, c, h, w],
        other => other.to_vec(),
    }
}

struct Translator<'a> {
    graph: &'a mut Graph,
    names: &'a HashMap<TensorId, String>,
    opset: u32,
    record: &'a Record,
    /// Names of the values that the operation reads.
    inputs: &'a [&'a str],
    /// Their dimensions, channels last.
    from: &'a [&'a [usize]],
}

impl Translator<'_> {
    fn run(mut self) -> Result<String> {
        let x = self.inputs[0];
        match &self.record.op {
            Op::Conv { weight, bias, spec, act } => {
                let y = self.conv(x, weight, bias.as_ref(), spec)?;
                let y = self.plus_residual(y);
                Ok(self.activation(y, *act))
            }
            Op::ConvTranspose { weight, spec } => self.conv_transpose(x, weight, spec),
            Op::Linear { weight, bias } => self.linear(x, weight, bias.as_ref()),
            Op::Affine { scale, shift, act } => {
                let y = self.affine(x, scale, shift)?;
                let y = self.plus_residual(y);
                Ok(self.activation(y, *act))
            }
            Op::Activate { act } => Ok(self.activation(x.to_string(), *act)),
            Op::Add { act } => {
                let y = self.plus_residual(x.to_string());
                Ok(self.activation(y, *act))
            }
            Op::Unary { op } => Ok(self.unary(x, *op)),
            Op::Silu => {
                let gate = self.graph.node("Sigmoid", &[x], &[]);
                Ok(self.graph.node("Mul", &[x, &gate], &[]))
            }
            Op::Prelu { slope } => {
                let dims = per_channel(slope.elem_count(), self.record.dims.len());
                let slope = self.weight("PRelu", "slope", slope, &dims, None)?;
                Ok(self.graph.node("PRelu", &[x, &slope], &[]))
            }
            Op::Gate => {
                let axes = self.graph.integers(self.graph.next("Unsqueeze") + ".axes", &[2, 3]);
                let gate = self.graph.node("Unsqueeze", &[self.inputs[1], &axes], &[]);
                Ok(self.graph.node("Mul", &[x, &gate], &[]))
            }
            Op::Pool { pool } => Ok(self.pool(x, pool)),
            Op::GlobalMean => {
                let mean = self.graph.node("GlobalAveragePool", &[x], &[]);
                Ok(self.graph.node("Flatten", &[&mean], &[("axis", Attribute::Int(1))]))
            }
            Op::AdaptiveMean { windows } => self.adaptive_mean(x, *windows),
            Op::Concat => Ok(self.graph.node("Concat", self.inputs, &[("axis", Attribute::Int(1))])),
            Op::Bilinear { h, w, corners } => self.bilinear(x, [*h, *w], *corners),
            Op::Nearest2 => Ok(self.nearest2(x)),
            Op::SubsamplePad { stride, c_out } => self.subsample_pad(x, *stride, *c_out),
            Op::FlattenChw => Ok(self.graph.node("Flatten", &[x], &[("axis", Attribute::Int(1))])),
            Op::UnflattenChw { hwc: [h, w, c] } => {
                let name = self.graph.next("Reshape") + ".shape";
                let shape = self.graph.integers(name, &[-1, *c as i64, *h as i64, *w as i64]);
                Ok(self.graph.node("Reshape", &[x, &shape], &[]))
            }
            Op::Place => Err(self.refuse("augmentation is no part of a network")),
        }
    }

    fn refuse(&self, why: &str) -> Error {
        let what = format!("ONNX export of the operation `{}`", self.record.op.name());
        Error::invalid(what, why, "this network cannot be exported so; where an opset is too old, name a newer one")
    }

    /// A constant of `dims`: the network's own tensor under its name, anything else as `NODE.part`. `turned`, if given, is what
    /// [`layout::outputs_first`] makes of it.
    fn weight(
        &mut self,
        node: &str,
        part: &str,
        t: &Tensor,
        dims: &[usize],
        turned: Option<[usize; 3]>,
    ) -> Result<String> {
        let name = self.names.get(&t.id()).cloned().unwrap_or_else(|| format!("{}.{part}", self.graph.next(node)));
        let values = mem::view(t)?;
        Ok(match turned {
            Some(from) => self.graph.floats(name, dims, layout::outputs_first(&values, from)),
            None => self.graph.floats(name, dims, values.iter().copied()),
        })
    }

    fn conv(&mut self, x: &str, weight: &Tensor, bias: Option<&Tensor>, spec: &Conv2dSpec) -> Result<String> {
        let Conv2dSpec { kernel, stride, padding, dilation, groups, upsample, products: _ } = *spec;
        let Padding { top, left, bottom, right } = padding;
        let x = match upsample {
            1 => x.to_string(),
            2 => self.nearest2(x),
            _ => return Err(self.refuse("it enlarges by more than 2")),
        };
        let (kh, kw, c_in, c_out) = weight.dims4()?;
        let turned = Some([kh * kw, c_in, c_out]);
        let mut inputs = vec![x, self.weight("Conv", "weight", weight, &[c_out, c_in, kh, kw], turned)?];
        if let Some(bias) = bias {
            inputs.push(self.weight("Conv", "bias", bias, &[c_out], None)?);
        }
        let attributes = [
            ("kernel_shape", sizes(&kernel)),
            ("strides", sizes(&stride)),
            ("pads", sizes(&[top, left, bottom, right])),
            ("dilations", sizes(&dilation)),
            ("group", Attribute::Int(groups as i64)),
        ];
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        Ok(self.graph.node("Conv", &inputs, &attributes))
    }

    fn conv_transpose(&mut self, x: &str, weight: &Tensor, spec: &ConvTransposeSpec) -> Result<String> {
        let ConvTransposeSpec { kernel, stride, padding, output_padding } = *spec;
        let (kh, kw, c_out, c_in) = weight.dims4()?;
        let turned = Some([kh * kw, c_out, c_in]);
        let weight = self.weight("ConvTranspose", "weight", weight, &[c_in, c_out, kh, kw], turned)?;
        let attributes = [
            ("kernel_shape", sizes(&[kernel; 2])),
            ("strides", sizes(&[stride; 2])),
            ("pads", sizes(&[padding; 4])),
            ("output_padding", sizes(&[output_padding; 2])),
        ];
        Ok(self.graph.node("ConvTranspose", &[x, &weight], &attributes))
    }

    fn linear(&mut self, x: &str, weight: &Tensor, bias: Option<&Tensor>) -> Result<String> {
        let &[.., c_in, c_out] = weight.dims() else { return Err(self.refuse("its weight is no matrix")) };
        let turned = Some([1, c_in, c_out]);
        let mut inputs = vec![x.to_string(), self.weight("Gemm", "weight", weight, &[c_out, c_in], turned)?];
        if let Some(bias) = bias {
            inputs.push(self.weight("Gemm", "bias", bias, &[c_out], None)?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        Ok(self.graph.node("Gemm", &inputs, &[("transB", Attribute::Int(1))]))
    }

    fn affine(&mut self, x: &str, scale: &Tensor, shift: &Tensor) -> Result<String> {
        let dims = per_channel(scale.elem_count(), self.record.dims.len());
        let scale = self.weight("Mul", "scale", scale, &dims, None)?;
        let y = self.graph.node("Mul", &[x, &scale], &[]);
        let shift = self.weight("Add", "shift", shift, &dims, None)?;
        Ok(self.graph.node("Add", &[&y, &shift], &[]))
    }

    /// Adds the second value that the operation reads, if it reads two.
    fn plus_residual(&mut self, y: String) -> String {
        match self.inputs.get(1) {
            Some(residual) => self.graph.node("Add", &[&y, residual], &[]),
            None => y,
        }
    }

    fn activation(&mut self, x: String, act: Activation) -> String {
        let Activation { slope, cap } = act;
        if slope == 0.0 && cap < f32::INFINITY {
            return self.clip(&x, Some(0.0), cap);
        }
        let y = match slope {
            1.0 => x,
            0.0 => self.graph.node("Relu", &[&x], &[]),
            _ => self.graph.node("LeakyRelu", &[&x], &[("alpha", Attribute::Float(slope))]),
        };
        if cap < f32::INFINITY { self.clip(&y, None, cap) } else { y }
    }

    fn clip(&mut self, x: &str, low: Option<f32>, high: f32) -> String {
        let name = self.graph.next("Clip");
        let low = low.map_or(String::new(), |low| self.graph.floats(format!("{name}.min"), &[], [low]));
        let high = self.graph.floats(format!("{name}.max"), &[], [high]);
        self.graph.node("Clip", &[x, &low, &high], &[])
    }

    fn unary(&mut self, x: &str, op: UnaryOp) -> String {
        match op {
            UnaryOp::Sigmoid => self.graph.node("Sigmoid", &[x], &[]),
            UnaryOp::QuickGelu => {
                let steepness = self.graph.floats(self.graph.next("Mul") + ".steepness", &[], [1.702]);
                let steep = self.graph.node("Mul", &[x, &steepness], &[]);
                let gate = self.graph.node("Sigmoid", &[&steep], &[]);
                self.graph.node("Mul", &[x, &gate], &[])
            }
            UnaryOp::HardSigmoid => self.hard_sigmoid(x),
            // HardSwish itself is newer than the oldest opset that can be written.
            UnaryOp::HardSwish => {
                let gate = self.hard_sigmoid(x);
                self.graph.node("Mul", &[x, &gate], &[])
            }
        }
    }

    fn hard_sigmoid(&mut self, x: &str) -> String {
        let slope = [("alpha", Attribute::Float(1.0 / 6.0)), ("beta", Attribute::Float(0.5))];
        self.graph.node("HardSigmoid", &[x], &slope)
    }

    fn pool(&mut self, x: &str, pool: &Pool) -> String {
        let Pool { kind, kernel, stride, padding } = *pool;
        let mut attributes = vec![
            ("kernel_shape", sizes(&[kernel; 2])),
            ("strides", sizes(&[stride; 2])),
            ("pads", sizes(&[padding; 4])),
        ];
        match kind {
            PoolKind::Max => self.graph.node("MaxPool", &[x], &attributes),
            PoolKind::Average { count_padding } => {
                attributes.push(("count_include_pad", Attribute::Int(count_padding.into())));
                self.graph.node("AveragePool", &[x], &attributes)
            }
        }
    }

    /// Means along the columns, then along the rows: ONNX has no adaptive pooling, but windows are sums of pixels.
    fn adaptive_mean(&mut self, x: &str, windows: [usize; 2]) -> Result<String> {
        let &[_, h, w, _] = self.from[0] else { return Err(self.refuse("its input is no image")) };
        let share = |pixel: usize, o: usize, size: usize, windows: usize| {
            let window = window(o, size, windows);
            if window.contains(&pixel) { 1.0 / window.len() as f32 } else { 0.0 }
        };
        let [rows, columns] = windows;
        let name = self.graph.next("MatMul") + ".columns";
        let values = (0..w * columns).map(|i| share(i / columns, i % columns, w, columns));
        let right = self.graph.floats(name, &[w, columns], values);
        let y = self.graph.node("MatMul", &[x, &right], &[]);
        let name = self.graph.next("MatMul") + ".rows";
        let values = (0..rows * h).map(|i| share(i % h, i / h, h, rows));
        let left = self.graph.floats(name, &[rows, h], values);
        Ok(self.graph.node("MatMul", &[&left, &y], &[]))
    }

    fn bilinear(&mut self, x: &str, size: [usize; 2], corners: Corners) -> Result<String> {
        if self.opset < 18 {
            return Err(self.refuse("resizing to a fixed size with an open batch needs opset 18 or newer"));
        }
        let sides = self.graph.integers(self.graph.next("Resize") + ".sizes", &size.map(|side| side as i64));
        let grid = match corners {
            Corners::Half => "half_pixel",
            Corners::Aligned => "align_corners",
        };
        let attributes = [
            ("mode", Attribute::Text("linear")),
            ("coordinate_transformation_mode", Attribute::Text(grid)),
            ("axes", Attribute::Ints(vec![2, 3])),
        ];
        Ok(self.graph.node("Resize", &[x, "", "", &sides], &attributes))
    }

    fn nearest2(&mut self, x: &str) -> String {
        let scales = self.graph.floats(self.graph.next("Resize") + ".scales", &[4], [1.0, 1.0, 2.0, 2.0]);
        let attributes = [
            ("mode", Attribute::Text("nearest")),
            ("coordinate_transformation_mode", Attribute::Text("asymmetric")),
            ("nearest_mode", Attribute::Text("floor")),
        ];
        self.graph.node("Resize", &[x, "", &scales], &attributes)
    }

    fn subsample_pad(&mut self, x: &str, stride: usize, c_out: usize) -> Result<String> {
        let &[_, h, w, c] = self.from[0] else { return Err(self.refuse("its input is no image")) };
        let mut y = x.to_string();
        if stride > 1 {
            let name = self.graph.next("Slice");
            let parts = [("starts", [0, 0]), ("ends", [h, w]), ("axes", [2, 3]), ("steps", [stride; 2])];
            let parts = parts.map(|(part, v)| self.graph.integers(format!("{name}.{part}"), &v.map(|v| v as i64)));
            let [starts, ends, axes, steps] = &parts;
            y = self.graph.node("Slice", &[&y, starts, ends, axes, steps], &[]);
        }
        if c_out > c {
            let before = (c_out - c) / 2;
            let pads = [0, before, 0, 0, 0, c_out - c - before, 0, 0].map(|v| v as i64);
            let pads = self.graph.integers(self.graph.next("Pad") + ".pads", &pads);
            y = self.graph.node("Pad", &[&y, &pads], &[]);
        }
        Ok(y)
    }
}

/// Dimensions of a constant per channel beside a channels-first value of the given rank.
pub fn per_channel(channels: usize, rank: usize) -> Vec<usize> {
    let mut dims = vec![1; rank.saturating_sub(1)];
    dims[0] = channels;
    dims
}

fn sizes(values: &[usize]) -> Attribute<'static> {
    Attribute::Ints(values.iter().map(|v| *v as i64).collect())
}
