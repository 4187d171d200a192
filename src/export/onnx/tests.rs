use super::*;
use crate::nets::layers::{Builder, Linear};
use crate::nets::registry::{self, Shape};
use crate::nets::{Architecture, Body, Forward, Kind, Network, Weights};
use crate::ops::Activation;
use crate::rng::Streams;
use crate::tape::{self, Placement, Var};
use crate::weights::ModelConfig;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Larger networks, of which smaller ones of the same family are listed, take too long for a test.
const PARAMETERS: usize = 45_000_000;

/// A network for the images that are usual for it.
fn described(name: &str, num_classes: usize) -> (Architecture, ModelConfig) {
    let [channels, height, width] = registry::usual_input(name).unwrap();
    let shape = Shape { channels, height, width, num_classes };
    let (mean, std) = (vec![0.5; channels], vec![0.25; channels]);
    registry::new_model(name, &shape, None, &mean, &std).unwrap()
}

/// It with weights of one value, which are soon there.
fn filled(name: &str, num_classes: usize) -> Model {
    let (arch, config) = described(name, num_classes);
    let weights = Weights::from_file(arch.slots.clone(), |slot| Ok(vec![0.5; slot.len()])).unwrap();
    Model { source: name.to_string(), ..Model::made(Network { arch: Arc::new(arch), weights }, config) }
}

/// It with fresh weights.
fn model(name: &str, num_classes: usize) -> Model {
    let (arch, config) = described(name, num_classes);
    let network = Network::init(Arc::new(arch), &mut Streams::new(5).stream("test", 0)).unwrap();
    Model { source: name.to_string(), ..Model::made(network, config) }
}

fn exported(model: &Model, options: &Options) -> (ModelProto, GraphProto) {
    let file = ModelProto::decode(&export(model, options).unwrap().bytes[..]).unwrap();
    let graph = file.graph.clone().unwrap();
    (file, graph)
}

/// Dimensions of a value, the open one as 0.
fn dims(info: &ValueInfoProto) -> Vec<i64> {
    let shape = info.r#type.clone().and_then(|t| t.tensor_type).and_then(|t| t.shape).unwrap();
    let dim = |d: &DimensionProto| match (d.dim_value, d.dim_param.as_deref()) {
        (Some(size), None) => size,
        (None, Some("batch")) => 0,
        other => panic!("{other:?}"),
    };
    shape.dim.iter().map(dim).collect()
}

fn ints<'a>(node: &'a NodeProto, name: &str) -> &'a [i64] {
    node.attribute.iter().find(|a| a.name.as_deref() == Some(name)).map_or(&[], |a| &a.ints)
}

fn int(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|a| a.name.as_deref() == Some(name)).and_then(|a| a.i)
}

/// Sides after windows of `kernel` over padded sides.
fn sides(node: &NodeProto, x: &[i64]) -> Vec<i64> {
    let (kernel, stride, pads) = (ints(node, "kernel_shape"), ints(node, "strides"), ints(node, "pads"));
    let dilation = |axis: usize| ints(node, "dilations").get(axis).copied().unwrap_or(1);
    let side = |axis: usize| {
        let reach = dilation(axis) * (kernel[axis] - 1) + 1;
        (x[axis + 2] + pads[axis] + pads[axis + 2] - reach) / stride[axis] + 1
    };
    vec![side(0), side(1)]
}

/// The shape that the standard gives to the result of a node; `None` where the graph must say it.
fn inferred(node: &NodeProto, of: &dyn Fn(usize) -> Vec<i64>) -> Option<Vec<i64>> {
    let x = of(0);
    match node.op_type.as_deref().unwrap() {
        "Conv" => {
            let w = of(1);
            assert_eq!(w[1] * int(node, "group").unwrap(), x[1], "{node:?}");
            assert_eq!(&w[2..], ints(node, "kernel_shape"));
            Some([&[0, w[0]], &sides(node, &x)[..]].concat())
        }
        "ConvTranspose" => {
            let (w, pads, added) = (of(1), ints(node, "pads"), ints(node, "output_padding"));
            assert_eq!((w[0], &w[2..]), (x[1], ints(node, "kernel_shape")), "{node:?}");
            let stride = ints(node, "strides");
            let side = |axis: usize| {
                (x[axis + 2] - 1) * stride[axis] + w[axis + 2] + added[axis] - pads[axis] - pads[axis + 2]
            };
            Some(vec![0, w[1], side(0), side(1)])
        }
        "MaxPool" | "AveragePool" => Some([&x[..2], &sides(node, &x)].concat()),
        "Gemm" => {
            let w = of(1);
            assert_eq!((w[1], int(node, "transB")), (x[1], Some(1)), "{node:?}");
            Some(vec![0, w[0]])
        }
        "Flatten" => Some(vec![0, x[1..].iter().product()]),
        "Concat" => {
            let channels = (0..node.input.len()).map(|i| of(i)[1]).sum();
            Some([&[0, channels], &x[2..]].concat())
        }
        "Unsqueeze" => Some([&x[..], &[1, 1]].concat()),
        "MatMul" => {
            // One side is a constant matrix.
            let y = of(1);
            assert_eq!(x[x.len() - 1], y[y.len() - 2], "{node:?}");
            let (rows, columns) = (x[x.len() - 2], y[y.len() - 1]);
            let outer = if x.len() > y.len() { &x[..x.len() - 2] } else { &y[..y.len() - 2] };
            Some([outer, &[rows, columns]].concat())
        }
        "GlobalAveragePool" => Some(vec![0, x[1], 1, 1]),
        "Add" | "Mul" | "Sub" | "Div" | "Relu" | "LeakyRelu" | "PRelu" | "Clip" | "Sigmoid" | "HardSigmoid" => Some(x),
        "Slice" | "Pad" | "Resize" | "Reshape" => None,
        other => panic!("a node of unknown type {other}"),
    }
}

/// Asserts that values are defined once and before use, constants hold what they say, and shapes are those of the standard.
fn check(graph: &GraphProto, place: &str) {
    let mut known: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for t in &graph.initializer {
        let size = if t.data_type == Some(FLOAT) { 4 } else { 8 };
        let elements: i64 = t.dims.iter().product();
        assert_eq!(t.raw_data.as_ref().unwrap().len() as i64, size * elements, "{place} {:?}", t.name);
        assert!(known.insert(t.name.as_deref().unwrap(), t.dims.clone()).is_none(), "{place} {:?}", t.name);
        let uses = graph.node.iter().flat_map(|n| &n.input).filter(|i| **i == *t.name.as_ref().unwrap());
        assert!(uses.count() > 0, "{place}: {:?} is not used", t.name);
    }
    known.insert(INPUT, dims(&graph.input[0]));
    let infos = graph.value_info.iter().chain(&graph.output);
    let stated: BTreeMap<&str, Vec<i64>> = infos.map(|i| (i.name.as_deref().unwrap(), dims(i))).collect();
    assert_eq!(stated.len(), graph.value_info.len() + 1, "{place}: a shape is stated twice");
    for node in &graph.node {
        for input in node.input.iter().filter(|i| !i.is_empty()) {
            assert!(known.contains_key(input.as_str()), "{place}: {input} is used before it is there");
        }
        let [output] = &node.output[..] else { panic!("{place}: {node:?}") };
        let found = inferred(node, &|i| known[node.input[i].as_str()].clone());
        let stated = stated.get(output.as_str());
        if let (Some(found), Some(stated)) = (&found, stated) {
            assert_eq!(found, stated, "{place} {output}");
        }
        // In front of a padding, which states its shape, nobody needs to know that of a slice.
        let sliced = (node.op_type.as_deref() == Some("Slice")).then(|| known[node.input[0].as_str()].clone());
        let dims = found.or(stated.cloned()).or(sliced);
        let dims = dims.unwrap_or_else(|| panic!("{place}: nobody knows the shape of {output}"));
        assert!(known.insert(output, dims).is_none(), "{place}: {output} is there twice");
    }
    assert!(known.contains_key(OUTPUT), "{place}: no answer");
}

#[test]
fn every_listed_network_becomes_a_well_formed_graph() {
    let names: Vec<String> = registry::listed().into_iter().chain(["resnet8-b".into(), "resnet8x4".into()]).collect();
    names.into_par_iter().for_each(|name| {
        let (arch, _) = described(&name, 12);
        // Networks that only answer run through candle and leave no records.
        if !arch.trains() || arch.parameters() > PARAMETERS {
            return;
        }
        let model = filled(&name, 12);
        let (file, graph) = exported(&model, &Options::default());
        check(&graph, &name);
        let [c, h, w] = model.config.pretrained_cfg.input_size.map(|v| v as i64);
        let answer = match model.network.arch.task {
            Task::Classification => vec![0, 12],
            Task::Segmentation => vec![0, 12, h, w],
        };
        assert_eq!((dims(&graph.input[0]), dims(&graph.output[0])), (vec![0, c, h, w], answer), "{name}");
        assert_eq!((file.opset_import[0].version, file.ir_version), (Some(20), Some(9)));
        // Every weight that multiplies is there, once.
        let multiplied = |node: &&NodeProto| matches!(node.op_type.as_deref(), Some("Conv" | "ConvTranspose" | "Gemm"));
        let size = |name: &String| {
            let t = graph.initializer.iter().find(|t| t.name.as_ref() == Some(name)).unwrap();
            t.dims.iter().product::<i64>() as usize
        };
        let found: usize = graph.node.iter().filter(multiplied).map(|node| size(&node.input[1])).sum();
        let slots = model.network.weights.slots.iter();
        let expected: usize = slots.filter(|s| s.kind.is_weight()).map(|s| s.len()).sum();
        assert_eq!(found, expected, "{name}");
    });
}

#[test]
fn weights_of_layers_that_stay_keep_their_names_and_the_layout_of_files() {
    let model = model("lenet-cifar", 10);
    let (_, graph) = exported(&model, &Options::default());
    let weights = &model.network.weights;
    for (i, slot) in weights.slots.iter().enumerate() {
        let t = graph.initializer.iter().find(|t| t.name.as_ref() == Some(&slot.name)).unwrap();
        assert_eq!(t.dims, slot.file_shape().iter().map(|d| *d as i64).collect::<Vec<_>>(), "{}", slot.name);
        let bytes: Vec<u8> = weights.to_file(i).unwrap().into_iter().flat_map(f32::to_le_bytes).collect();
        assert_eq!(t.raw_data.as_ref(), Some(&bytes), "{}", slot.name);
    }
}

#[test]
fn batch_norms_are_folded_where_the_frozen_pass_folds_them() {
    let count = |name: &str, op: &str| {
        let (_, graph) = exported(&model(name, 10), &Options::default());
        graph.node.iter().filter(|node| node.op_type.as_deref() == Some(op)).count()
    };
    assert_eq!(count("resnet20", "Mul"), 0);
    assert_eq!(count("wrn-16-1", "Mul"), 7, "those on the residual stream stay");
    assert_eq!(count("burn-mnist-cnn", "Mul"), 2);
}

#[test]
fn the_file_says_what_it_is() {
    let mut model = model("mnist-convnet", 2);
    model.config.label_names = Some(vec!["a \"b\"".into(), "ü".into()]);
    model.config.pretrained_cfg.license = Some("mit".into());
    model.config.pretrained_cfg.crop_pct = Some(0.875);
    model.sha256 = "00".repeat(32);
    let options = Options { normalise: true, opset: 17 };
    let (file, graph) = exported(&model, &options);
    check(&graph, "normalised");
    let said: BTreeMap<String, String> =
        file.metadata_props.iter().map(|p| (p.key.clone().unwrap(), p.value.clone().unwrap())).collect();
    assert_eq!(said["class_names"], r#"["a \"b\"","ü"]"#);
    assert_eq!((said["mean"].as_str(), said["std"].as_str(), said["license"].as_str()), ("[0.5]", "[0.25]", "mit"));
    assert_eq!((said["normalisation"].as_str(), said["weights_sha256"].len()), ("inside the graph", 64));
    assert_eq!((file.producer_name.as_deref(), file.ir_version), (Some("synth"), Some(8)));
    assert_eq!(said["pictures"], "shorter side to 32 (bicubic), the middle 28x28");
    let first: Vec<&str> = graph.node.iter().take(3).map(|n| n.op_type.as_deref().unwrap()).collect();
    assert_eq!(first, ["Sub", "Div", "Conv"]);
    model.config.pretrained_cfg.license = None;
    let (file, graph) = exported(&model, &Options { normalise: false, opset: 13 });
    assert!(file.metadata_props.iter().all(|p| p.key.as_deref() != Some("license")));
    assert_eq!((graph.node[0].input[0].as_str(), graph.node[0].op_type.as_deref()), (INPUT, Some("Conv")));
    let (file, _) = exported(&model, &Options { normalise: false, opset: *OPSETS.end() });
    assert_eq!((file.opset_import[0].version, file.ir_version), (Some(28), Some(14)));
}

/// A network whose middle is up to the test.
struct Odd {
    fc: Linear,
    middle: fn(&mut Forward, Var) -> Result<Var>,
}

impl Body for Odd {
    fn forward(&self, f: &mut Forward, x: Var) -> Result<Var> {
        let x = (self.middle)(f, x)?;
        let x = tape::global_mean(f.tape, &x)?;
        self.fc.forward(f, &x)
    }
}

fn refusal(middle: fn(&mut Forward, Var) -> Result<Var>, opset: u32) -> String {
    let mut odd = model("mnist-convnet", 10);
    let arch = Architecture::new(|b: &mut Builder| Odd { fc: b.linear("fc", 1, 10), middle });
    odd.network = Network::init(Arc::new(arch), &mut Streams::new(0).stream("test", 0)).unwrap();
    let options = Options { opset, ..Options::default() };
    match export(&odd, &options) {
        Ok(_) => panic!("it was exported"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_cannot_be_translated_is_named() {
    let message = refusal(|f, x| tape::place(f.tape, &x, &[Placement::default()], &[0.5], &[0.5]), 20);
    assert!(message.contains("`place`") && message.contains("augmentation"), "{message}");
    let message = refusal(|_, x| Ok(Var::constant(x.tensor()?)), 20);
    assert!(message.contains("global_mean reads [1, 28, 28, 1] made by something outside the tape"), "{message}");
    let message = refusal(|f, x| tape::bilinear(f.tape, &x, 7, 9), 17);
    assert!(message.contains("`bilinear`") && message.contains("opset 18"), "{message}");
    let message = refusal(|f, x| tape::activate(f.tape, &x, Activation::RELU), OPSETS.end() + 1);
    assert!(message.contains("opset: 29; 13 to 28 can be written"), "{message}");
}

#[test]
fn what_protobuf_cannot_hold_is_refused() {
    assert!(check_size(MAX_BYTES).is_ok());
    let message = check_size(MAX_BYTES + 1).unwrap_err().to_string();
    assert!(message.contains("2147 MB, and a file holds at most 2147"), "{message}");
    let lenet = model("lenet5", 10);
    let trace = nets::trace(&lenet.network, [32, 32, 1]).unwrap();
    assert_eq!(constant_bytes(&trace), 4 * lenet.network.arch.parameters());
    assert!(lenet.network.weights.slots.iter().all(|slot| slot.kind != Kind::RunningVar));
}
