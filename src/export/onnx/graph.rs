//! A graph that grows node by node: names, constants, shapes.

use super::proto::*;
use std::collections::BTreeMap;

/// Name of the open dimension.
const BATCH: &str = "batch";

/// A graph under construction. Values are called by their names.
#[derive(Default)]
pub struct Graph {
    proto: GraphProto,
    /// Dimensions of the constants by name.
    constants: BTreeMap<String, Vec<usize>>,
}

/// An attribute of a node.
pub enum Attribute<'a> {
    Int(i64),
    Float(f32),
    Text(&'a str),
    Ints(Vec<i64>),
}

impl Graph {
    /// Adds a node with one output and gives the output's name, which is that of the node.
    pub fn node(&mut self, op_type: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let name = self.next(op_type);
        self.proto.node.push(NodeProto {
            input: inputs.iter().map(|input| input.to_string()).collect(),
            output: vec![name.clone()],
            name: Some(name.clone()),
            op_type: Some(op_type.to_string()),
            attribute: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
        });
        name
    }

    /// The name that the next node would have: constants of a node are called after it.
    pub fn next(&self, op_type: &str) -> String {
        format!("{op_type}_{}", self.proto.node.len())
    }

    /// Adds a constant of f32 and gives its name; one that is there already under this name and shape is taken as the same.
    pub fn floats(&mut self, name: String, dims: &[usize], values: impl IntoIterator<Item = f32>) -> String {
        let bytes = || values.into_iter().map(f32::to_le_bytes).collect::<Vec<_>>().into_flattened();
        self.constant(name, dims, FLOAT, bytes)
    }

    /// Adds a constant list of integers and gives its name.
    pub fn integers(&mut self, name: String, values: &[i64]) -> String {
        self.constant(name, &[values.len()], INT64, || values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    fn constant(&mut self, name: String, dims: &[usize], kind: i32, bytes: impl FnOnce() -> Vec<u8>) -> String {
        match self.constants.get(&name) {
            Some(known) if known == dims => return name,
            Some(_) => return self.constant(format!("{name}_{}", self.constants.len()), dims, kind, bytes),
            None => {}
        }
        self.proto.initializer.push(TensorProto {
            dims: dims.iter().map(|d| *d as i64).collect(),
            data_type: Some(kind),
            name: Some(name.clone()),
            raw_data: Some(bytes()),
        });
        self.constants.insert(name.clone(), dims.to_vec());
        name
    }

    /// States the shape of a value `[N, ..]` (N stays open): runtimes check it, viewers show it.
    pub fn shape(&mut self, name: &str, dims: &[usize]) {
        self.proto.value_info.push(value_info(name, dims, None));
    }

    /// The finished graph, from `input` to the value `last`, which is called `output` from now on.
    pub fn finish(self, name: &str, input: (&str, &[usize], &str), last: &str, output: (&str, &[usize])) -> GraphProto {
        let mut proto = self.proto;
        let names = proto.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
        names.filter(|name| name.as_str() == last).for_each(|name| *name = output.0.to_string());
        proto.value_info.retain(|info| info.name.as_deref() != Some(last));
        proto.name = Some(name.to_string());
        proto.input = vec![value_info(input.0, input.1, Some(input.2))];
        proto.output = vec![value_info(output.0, output.1, None)];
        proto
    }
}

fn attribute(name: &str, value: &Attribute) -> AttributeProto {
    let empty = AttributeProto { name: Some(name.to_string()), ..Default::default() };
    match value {
        Attribute::Int(i) => AttributeProto { i: Some(*i), r#type: Some(ATTRIBUTE_INT), ..empty },
        Attribute::Float(f) => AttributeProto { f: Some(*f), r#type: Some(ATTRIBUTE_FLOAT), ..empty },
        Attribute::Text(s) => {
            AttributeProto { s: Some(s.as_bytes().to_vec()), r#type: Some(ATTRIBUTE_STRING), ..empty }
        }
        Attribute::Ints(ints) => AttributeProto { ints: ints.clone(), r#type: Some(ATTRIBUTE_INTS), ..empty },
    }
}

fn value_info(name: &str, dims: &[usize], about: Option<&str>) -> ValueInfoProto {
    let open = DimensionProto { dim_value: None, dim_param: Some(BATCH.into()) };
    let fixed = dims.iter().skip(1).map(|d| DimensionProto { dim_value: Some(*d as i64), dim_param: None });
    let shape = TensorShapeProto { dim: std::iter::once(open).chain(fixed).collect() };
    let tensor_type = Some(TensorTypeProto { elem_type: Some(FLOAT), shape: Some(shape) });
    ValueInfoProto {
        name: Some(name.to_string()),
        r#type: Some(TypeProto { tensor_type }),
        doc_string: about.map(String::from),
    }
}
