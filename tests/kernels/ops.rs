//! Every operation, forward and backward, against PyTorch in float64 (`fixtures/make_ops.py`), on every instruction set
//! and with 1 and 2 threads.

use crate::common::device::{bring, bring_f32, here, like};
use crate::common::{Fixtures, Pair, copy, values, verify};
use candle_core::Tensor;
use synth::ops::Activation;
use synth::ops::conv_transpose::ConvTransposeSpec;
use synth::ops::conv2d::{Conv2dSpec, Padding, Sums};
use synth::tape::{self, BatchNorm, Corners, Grads, NormMode, Placement, Pool, PoolKind, Tape, UnaryOp, Var};

/// Relative to the largest value of the tensor: sums of up to some hundred products in f32.
const TOLERANCE: f64 = 2e-6;

fn file() -> Fixtures {
    Fixtures::load("ops.safetensors")
}

fn activation(case: &str) -> Activation {
    let of = |name: &str| case.contains(name);
    match () {
        _ if of("relu6") => Activation::RELU6,
        _ if of("relu") => Activation::RELU,
        _ if of("leaky") => Activation::leaky(0.2),
        _ => Activation::IDENTITY,
    }
}

/// Collects (ours, reference) for the tensors of one case.
struct Case<'a> {
    file: &'a Fixtures,
    name: &'a str,
    tape: Tape,
    pairs: Vec<Pair>,
}

impl<'a> Case<'a> {
    fn new(file: &'a Fixtures, name: &'a str) -> Self {
        Self { file, name, tape: Tape::new(), pairs: Vec::new() }
    }

    fn get(&self, what: &str) -> Tensor {
        self.file.get(&format!("{}/{what}", self.name))
    }

    fn try_get(&self, what: &str) -> Option<Tensor> {
        self.file.try_get(&format!("{}/{what}", self.name))
    }

    fn leaf(&self, what: &str) -> Var {
        self.tape.leaf(bring(&self.get(what)))
    }

    fn try_leaf(&self, what: &str) -> Option<Var> {
        self.try_get(what).map(|t| self.tape.leaf(bring(&t)))
    }

    /// Weights of convolutions are f32 everywhere.
    fn try_weight(&self, what: &str) -> Option<Var> {
        self.try_get(what).map(|t| self.tape.leaf(bring_f32(&t)))
    }

    fn weight(&self, what: &str) -> Var {
        self.tape.leaf(bring_f32(&self.get(what)))
    }

    fn compare(&mut self, what: &str, got: Tensor) {
        self.pairs.push((what.into(), got, self.get(what)));
    }

    /// Compares the output, runs backwards from `dy` and compares the gradient of every given leaf.
    fn backward(&mut self, y: &Var, leaves: &[(&str, Option<&Var>)], more: Option<(Var, Tensor)>) {
        self.compare("y", y.tensor().unwrap());
        let seeds = [(y.clone(), like(&self.get("dy"), y.dtype()))].into_iter().chain(more);
        let mut grads: Grads = self.tape.backward(seeds).unwrap();
        for (what, leaf) in leaves {
            if let Some(leaf) = leaf {
                self.compare(what, grads.take(leaf).unwrap_or_else(|| panic!("{}: no {what}", self.name)));
            }
        }
    }

    fn batch_norm(&self) -> BatchNorm {
        BatchNorm {
            weight: self.leaf("weight"),
            bias: self.leaf("bias"),
            running_mean: bring(&self.get("running_mean")),
            running_var: bring(&self.get("running_var")),
            eps: 1e-5,
        }
    }
}

/// One input, one output.
fn simple(name: &str, run: impl Fn(&Tape, &Var) -> synth::Result<Var> + Sync) -> f64 {
    let file = file();
    verify(name, TOLERANCE, || {
        let mut case = Case::new(&file, name);
        let x = case.leaf("x");
        let y = run(&case.tape, &x).unwrap();
        case.backward(&y, &[("dx", Some(&x))], None);
        case.pairs
    })
}

fn spec(values: &[f32]) -> Conv2dSpec {
    let v: Vec<usize> = values.iter().map(|v| *v as usize).collect();
    Conv2dSpec {
        kernel: [v[0], v[1]],
        stride: [v[2], v[3]],
        padding: Padding { top: v[4], left: v[5], bottom: v[6], right: v[7] },
        dilation: [v[8], v[9]],
        groups: v[10],
        upsample: v[11],
        ..Conv2dSpec::new(1)
    }
}

#[test]
fn convolutions() {
    let file = file();
    let cases = file.cases("conv/");
    assert!(cases.len() >= 22);
    for name in cases {
        let worst = verify(&name, TOLERANCE, || {
            let mut case = Case::new(&file, &name);
            let (x, w) = (case.leaf("x"), case.weight("w"));
            let (b, r) = (case.try_leaf("b"), case.try_leaf("residual"));
            let spec = spec(&values(&case.get("spec")));
            let act = activation(&name);
            let out = tape::conv2d(&case.tape, &x, &w, &spec, b.as_ref(), r.as_ref(), act, true).unwrap();
            assert!(out.sums.is_some() || !here().is_cpu());
            let sums = out.sums.unwrap_or(Sums { count: 0, sum: Vec::new(), sum_sq: Vec::new() });
            let y = values(&out.y.tensor().unwrap());
            for (c, (s, q)) in sums.sum.iter().zip(&sums.sum_sq).enumerate() {
                let channel = y.iter().skip(c).step_by(sums.sum.len()).map(|v| f64::from(*v));
                let (es, eq, n) = channel.fold((0.0, 0.0, 0), |(s, q, n), v| (s + v, q + v * v, n + 1));
                assert!(
                    (s - es).abs() < 1e-5 * (1.0 + eq) && (q - eq).abs() < 1e-5 * (1.0 + eq),
                    "{name}: sums of {c}"
                );
                assert_eq!(sums.count, n);
            }
            let leaves = [("dx", Some(&x)), ("dw", Some(&w)), ("db", b.as_ref()), ("dresidual", r.as_ref())];
            case.backward(&out.y, &leaves, None);
            case.pairs
        });
        println!("{name}: {worst:.1e}");
    }
}

#[test]
fn batch_norms() {
    let file = file();
    let cases = file.cases("norm/");
    assert!(cases.len() >= 14);
    for name in cases {
        let worst = verify(&name, TOLERANCE, || {
            let mut case = Case::new(&file, &name);
            let (x, r, w) = (case.leaf("x"), case.try_leaf("residual"), case.try_weight("w"));
            let bn = case.batch_norm();
            let mode = match () {
                _ if name.contains("train") => NormMode::Train { momentum: 0.1 },
                _ if name.contains("match") => NormMode::Match,
                _ => NormMode::Frozen,
            };
            let out = tape::batch_norm(&case.tape, &x, None, &bn, mode, activation(&name), r.as_ref()).unwrap();
            case.compare("new_mean", copy(&bn.running_mean));
            case.compare("new_var", copy(&bn.running_var));
            let more = out.moments.map(|m| {
                case.compare("moments", m.tensor().unwrap());
                (m, bring(&case.get("dmoments")))
            });
            let y = match &w {
                None => out.y,
                Some(w) => {
                    let k3 = Conv2dSpec::new(3).padding(1);
                    tape::conv2d(&case.tape, &out.y, w, &k3, None, None, Activation::IDENTITY, false).unwrap().y
                }
            };
            let leaves = [
                ("dx", Some(&x)),
                ("dweight", Some(&bn.weight)),
                ("dbias", Some(&bn.bias)),
                ("dresidual", r.as_ref()),
                ("dw", w.as_ref()),
            ];
            case.backward(&y, &leaves, more);
            case.pairs
        });
        println!("{name}: {worst:.1e}");
    }
}

#[test]
fn linear_layer() {
    let file = file();
    verify("linear", TOLERANCE, || {
        let mut case = Case::new(&file, "linear");
        let (x, w, b) = (case.leaf("x"), case.leaf("w"), case.leaf("b"));
        let y = tape::linear(&case.tape, &x, &w, Some(&b)).unwrap();
        case.backward(&y, &[("dx", Some(&x)), ("dw", Some(&w)), ("db", Some(&b))], None);
        case.pairs
    });
}

#[test]
fn pooling() {
    let average = |count_padding| PoolKind::Average { count_padding };
    for (name, kind, kernel, stride, padding) in [
        ("max_2x2", PoolKind::Max, 2, 2, 0),
        ("max_3x3_stride2_pad1", PoolKind::Max, 3, 2, 1),
        ("max_ties", PoolKind::Max, 3, 1, 1),
        ("average_2x2", average(true), 2, 2, 0),
        ("average_3x3_stride2_pad1", average(true), 3, 2, 1),
        ("average_3x3_stride2_pad1_real", average(false), 3, 2, 1),
        ("average_2x2_stride3", average(true), 2, 3, 0),
    ] {
        simple(&format!("pool/{name}"), |t, x| tape::pool(t, x, Pool { kind, kernel, stride, padding }));
    }
    simple("pool/global", tape::global_mean);
}

#[test]
fn resizing_and_layout() {
    for (name, h, w) in [("up", 9, 8), ("double", 10, 8), ("down", 3, 2), ("mixed", 2, 7), ("same", 5, 4)] {
        simple(&format!("bilinear/{name}"), |t, x| tape::bilinear(t, x, h, w));
    }
    let aligned = [("up", 9, 8), ("double", 10, 8), ("down", 3, 2), ("mixed", 2, 7), ("one", 1, 6)];
    for (name, h, w) in aligned {
        simple(&format!("aligned/{name}"), |t, x| tape::resize(t, x, [h, w], Corners::Aligned));
    }
    simple("nearest2", tape::nearest2);
    simple("flatten", tape::flatten_chw);
    simple("flatten", |t, x| {
        let flat = tape::flatten_chw(t, x)?;
        tape::flatten_chw(t, &tape::unflatten_chw(t, &flat, [5, 4, 3])?)
    });
    simple("option_a", |t, x| tape::subsample_pad(t, x, 2, 7));
}

#[test]
fn crop_flip_and_normalise() {
    let file = file();
    let places: Vec<Placement> = values(&file.get("place/places"))
        .chunks_exact(3)
        .map(|p| Placement { dy: p[0] as i32, dx: p[1] as i32, flip: p[2] != 0.0 })
        .collect();
    let (mean, std) = (values(&file.get("place/mean")), values(&file.get("place/std")));
    simple("place", |t, x| tape::place(t, x, &places, &mean, &std));
}

#[test]
fn element_wise_functions_with_values_on_the_kinks() {
    simple("unary/relu", |t, x| tape::activate(t, x, Activation::RELU));
    simple("unary/relu6", |t, x| tape::activate(t, x, Activation::RELU6));
    simple("unary/leaky", |t, x| tape::activate(t, x, Activation::leaky(0.2)));
    simple("unary/sigmoid", |t, x| tape::unary(t, x, UnaryOp::Sigmoid));
    simple("unary/quick_gelu", |t, x| tape::unary(t, x, UnaryOp::QuickGelu));
    simple("unary/hard_sigmoid", |t, x| tape::unary(t, x, UnaryOp::HardSigmoid));
    simple("unary/hard_swish", tape::hard_swish);
}

#[test]
fn gates_and_activations_of_their_own() {
    simple("unary/silu", tape::silu);
    let file = file();
    verify("gate", TOLERANCE, || {
        let mut case = Case::new(&file, "gate");
        let (x, s) = (case.leaf("x"), case.leaf("s"));
        let y = tape::gate(&case.tape, &x, &s).unwrap();
        case.backward(&y, &[("dx", Some(&x)), ("ds", Some(&s))], None);
        case.pairs
    });
    for (name, mode) in [("silu/train", NormMode::Train { momentum: 0.1 }), ("silu/frozen", NormMode::Frozen)] {
        verify(name, TOLERANCE, || {
            let mut case = Case::new(&file, name);
            let x = case.leaf("x");
            let bn = case.batch_norm();
            let z = tape::batch_norm(&case.tape, &x, None, &bn, mode, Activation::IDENTITY, None).unwrap().y;
            let y = tape::silu(&case.tape, &z).unwrap();
            let leaves = [("dx", Some(&x)), ("dweight", Some(&bn.weight)), ("dbias", Some(&bn.bias))];
            case.backward(&y, &leaves, None);
            case.pairs
        });
    }
}

#[test]
fn transposed_convolutions() {
    let file = file();
    for (kernel, stride, padding, output_padding) in
        [(2, 2, 0, 0), (3, 2, 1, 1), (3, 2, 0, 0), (4, 2, 1, 0), (3, 3, 1, 2), (3, 1, 1, 0)]
    {
        let name = format!("transposed/{kernel}{stride}{padding}{output_padding}");
        let spec = ConvTransposeSpec { kernel, stride, padding, output_padding };
        verify(&name, TOLERANCE, || {
            let mut case = Case::new(&file, &name);
            let (x, w) = (case.leaf("x"), case.weight("w"));
            let y = tape::conv_transpose(&case.tape, &x, &w, &spec).unwrap();
            case.backward(&y, &[("dx", Some(&x)), ("dw", Some(&w))], None);
            case.pairs
        });
    }
}

#[test]
fn rectifiers_with_a_slope_per_channel() {
    let file = file();
    verify("prelu/alone", TOLERANCE, || {
        let mut case = Case::new(&file, "prelu/alone");
        let (x, slope) = (case.leaf("x"), case.weight("slope"));
        let y = tape::prelu(&case.tape, &x, &slope).unwrap();
        case.backward(&y, &[("dx", Some(&x)), ("dslope", Some(&slope))], None);
        case.pairs
    });
    for (name, mode) in [("prelu/train", NormMode::Train { momentum: 0.1 }), ("prelu/frozen", NormMode::Frozen)] {
        verify(name, TOLERANCE, || {
            let mut case = Case::new(&file, name);
            let (x, slope) = (case.leaf("x"), case.weight("slope"));
            let bn = case.batch_norm();
            let z = tape::batch_norm(&case.tape, &x, None, &bn, mode, Activation::IDENTITY, None).unwrap().y;
            let y = tape::prelu(&case.tape, &z, &slope).unwrap();
            let leaves = [("dx", Some(&x)), ("dweight", Some(&bn.weight)), ("dbias", Some(&bn.bias))];
            case.backward(&y, &leaves, None);
            case.pairs
        });
    }
}
