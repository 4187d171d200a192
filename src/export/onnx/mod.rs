//! A model as an ONNX file: input `image` `[batch, C, H, W]`, output `logits` `[batch, K]`, or `[batch, K, H, W]` where every pixel
//! is answered for, both f32 (Open Neural
//! Network Exchange, `onnx.proto` of version 1.23).
//!
//! Nothing here knows any network: the graph follows the [`Trace`] of its frozen forward pass. Batch norms that this pass
//! folds into convolutions are folded in the file, the others are a multiplication and an addition.

mod graph;
mod proto;
#[cfg(test)]
mod tests;
mod translate;

use crate::data::Framing;
use crate::model::Model;
use crate::nets::{self, Task, Weights};
use crate::tape::{Op, Trace};
use crate::weights::PretrainedConfig;
use crate::{Error, Result, files};
use candle_core::{Tensor, TensorId};
use graph::Graph;
use prost::Message;
use proto::*;
use serde_json::json;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::Path;
use translate::{channels_first, per_channel, translate};

/// Opsets that can be written: from the first in which all operators take the form used here to the newest that a stable
/// release of ONNX Runtime (1.32) runs.
pub const OPSETS: RangeInclusive<u32> = 13..=28;
/// The opset that is written if nobody asks for another: that of PyTorch 2.15's exporter. All networks can be written in it, and what
/// reads ONNX files is made for it; ONNX Runtime's own quantised operators do not come with opset 28.
pub const DEFAULT_OPSET: u32 = 20;

/// Name of the input.
pub const INPUT: &str = "image";
/// Name of the output.
pub const OUTPUT: &str = "logits";

/// The most bytes of one message, which protobuf counts in 31 bits.
const MAX_BYTES: usize = i32::MAX as usize;

/// How a graph is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Version of the operators, within [`OPSETS`].
    pub opset: u32,
    /// Whether `(x - mean) / std` is part of the graph, whose input is then pixels in 0..1.
    pub normalise: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { opset: DEFAULT_OPSET, normalise: false }
    }
}

/// An encoded file and what it holds.
pub struct Exported {
    pub bytes: Vec<u8>,
    pub nodes: usize,
    pub opset: u32,
}

impl Exported {
    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        files::write_atomic(path, &self.bytes)
    }
}

/// The model as the bytes of an ONNX file.
///
/// # Errors
/// [`Error::Invalid`] for an opset that is not in [`OPSETS`], an operation that has no translation (named), or weights that
/// do not fit into one file (2 GB).
pub fn export(model: &Model, options: &Options) -> Result<Exported> {
    if !OPSETS.contains(&options.opset) {
        let hint = format!("{} to {} can be written", OPSETS.start(), OPSETS.end());
        return Err(Error::invalid("opset", options.opset.to_string(), hint));
    }
    let [channels, height, width] = model.config.pretrained_cfg.input_size;
    let trace = nets::trace(&model.network, [height, width, channels])?;
    check_size(constant_bytes(&trace))?;
    let graph = graph_of(model, &trace, options)?;
    let nodes = graph.node.len();
    let about = match model.network.arch.task {
        Task::Classification => "an image classifier",
        Task::Segmentation => "a network for image segmentation",
    };
    let proto = ModelProto {
        ir_version: Some(ir_version(options.opset)),
        producer_name: Some("synth".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        doc_string: Some(format!("{}, {about}", model.config.architecture)),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(options.opset.into()) }],
        metadata_props: metadata(model, options),
    };
    check_size(proto.encoded_len())?;
    Ok(Exported { bytes: proto.encode_to_vec(), nodes, opset: options.opset })
}

/// Refuses what protobuf cannot hold.
fn check_size(bytes: usize) -> Result<()> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    let found = format!("{} MB, and a file holds at most 2147", bytes / 1_000_000);
    Err(Error::invalid("ONNX export", found, "use the safetensors of the model folder, or a smaller network"))
}

/// Bytes of all weights.
fn constant_bytes(trace: &Trace) -> usize {
    let size = |t: &Tensor| 4 * t.elem_count();
    let of = |op: &Op| match op {
        Op::Conv { weight, bias, .. } | Op::Linear { weight, bias } => size(weight) + bias.as_ref().map_or(0, size),
        Op::Affine { scale, shift, .. } => size(scale) + size(shift),
        Op::ConvTranspose { weight, .. } | Op::Prelu { slope: weight } => size(weight),
        _ => 0,
    };
    trace.records.iter().map(|record| of(&record.op)).sum()
}

fn graph_of(model: &Model, trace: &Trace, options: &Options) -> Result<GraphProto> {
    let images = &model.config.pretrained_cfg;
    let mut graph = Graph::default();
    let mut x = INPUT.to_string();
    if options.normalise {
        x = normalise(&mut graph, images, x);
        graph.shape(&x, &channels_first(&trace.input));
    }
    let last = translate(trace, &mut graph, x, &names(&model.network.weights), options.opset)?;
    let about = match options.normalise {
        true => "pixels in 0..1, RGB if there are three channels",
        false => "(pixel - mean) / std of pixels in 0..1, RGB if there are three channels",
    };
    let input = channels_first(&trace.input);
    let output = channels_first(trace.dims(trace.output));
    Ok(graph.finish(&model.config.architecture, (INPUT, &input, about), &last, (OUTPUT, &output)))
}

/// `(x - mean) / std` per channel.
fn normalise(graph: &mut Graph, images: &PretrainedConfig, x: String) -> String {
    let narrow = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect::<Vec<_>>();
    let (mean, std) = images.rgb_mean_std();
    let dims = per_channel(mean.len(), 4);
    let mean = graph.floats(graph.next("Sub") + ".mean", &dims, narrow(mean));
    let centred = graph.node("Sub", &[&x, &mean], &[]);
    let std = graph.floats(graph.next("Div") + ".std", &dims, narrow(std));
    graph.node("Div", &[&centred, &std], &[])
}

/// Names of a network's tensors.
fn names(weights: &Weights) -> HashMap<TensorId, String> {
    weights.iter().map(|(slot, tensor)| (tensor.id(), slot.name.clone())).collect()
}

/// What a user of the file needs to know, as texts; lists are JSON.
fn metadata(model: &Model, options: &Options) -> Vec<StringStringEntryProto> {
    let (config, images) = (&model.config, &model.config.pretrained_cfg);
    let (mean, std) = images.rgb_mean_std();
    let licence = images.license.clone().or_else(|| config.extra.get("license")?.as_str().map(String::from));
    let normalisation = if options.normalise { "inside the graph" } else { "before the graph" };
    // Those that answer for pixels take pictures whole.
    let framing = Framing::known(images).filter(|_| model.network.arch.task == Task::Classification);
    let entries = [
        ("architecture", Some(config.architecture.clone())),
        ("class_names", config.label_names.as_ref().map(|names| json!(names).to_string())),
        ("mean", Some(json!(mean).to_string())),
        ("std", Some(json!(std).to_string())),
        ("normalisation", Some(normalisation.to_string())),
        ("pictures", framing.map(|framing| framing.to_string())),
        ("weights_sha256", Some(model.sha256.clone()).filter(|hash| !hash.is_empty())),
        ("license", licence),
    ];
    let entry = |(key, value): (&str, Option<String>)| {
        value.map(|value| StringStringEntryProto { key: Some(key.to_string()), value: Some(value) })
    };
    entries.into_iter().filter_map(entry).collect()
}

/// The version of the file format that came with an opset.
fn ir_version(opset: u32) -> i64 {
    match opset {
        ..15 => 7,
        15..19 => 8,
        19..21 => 9,
        21..23 => 10,
        23 => 11,
        24 => 12,
        25..28 => 13,
        28.. => 14,
    }
}
