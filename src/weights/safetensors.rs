//! The safetensors format: 8 bytes header length, JSON header, tensor bytes.
//!
//! The header is parsed by the `safetensors` crate. We write it ourselves, because the crate keeps the metadata in a hash
//! map: with more than one entry the same tensors would give different bytes, and a different hash, each time.

use std::collections::BTreeMap;
use std::io::Write;

use ::safetensors::tensor::{Dtype, Metadata};
use serde_json::{Map, Value, json};

use super::element::Element;
use super::fault::{Fault, Parse, quote};
use super::{Contents, RawData, RawTensor};
use crate::{Error, Result};

/// The largest header we read: 100 MB, as in the `safetensors` crate.
const HEADER_LIMIT: u64 = 100_000_000;
/// Bytes of the header length.
const LENGTH: usize = 8;
/// The one name that a tensor cannot have.
const METADATA: &str = "__metadata__";

/// Parses a whole file.
pub(super) fn parse(bytes: &[u8]) -> Parse<Contents> {
    let (header, body) = split(bytes)?;
    let header: Metadata =
        serde_json::from_slice(header).map_err(|error| Fault::damaged(format!("safetensors header: {error}")))?;
    if header.data_len() != body.len() {
        let found = format!("the safetensors header describes {} bytes, {} follow", header.data_len(), body.len());
        return Err(Fault::damaged(found));
    }
    let mut tensors = BTreeMap::new();
    for (name, info) in header.tensors() {
        let (start, end) = info.data_offsets;
        let raw = body.get(start..end).ok_or_else(|| Fault::damaged(format!("{}: offsets lie", quote(&name))))?;
        let data = element(info.dtype).decode(raw, false).map_err(|fault| fault_in(&name, fault))?;
        tensors.insert(name, RawTensor { shape: info.shape.clone(), data });
    }
    let metadata = header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok(Contents { tensors, metadata, warning: None })
}

/// Splits a file into JSON header and body, before anything is allocated.
fn split(bytes: &[u8]) -> Parse<(&[u8], &[u8])> {
    let (length, rest) =
        bytes.split_first_chunk::<LENGTH>().ok_or_else(|| Fault::damaged("too short for a safetensors file"))?;
    let length = u64::from_le_bytes(*length);
    if length > HEADER_LIMIT || length > rest.len() as u64 {
        let found = format!("safetensors header of {length} bytes in a file of {} bytes", bytes.len());
        return Err(Fault::damaged(found));
    }
    Ok(rest.split_at(length as usize))
}

fn fault_in(name: &str, fault: Fault) -> Fault {
    Fault::new(format!("tensor {}: {}", quote(name), fault.found), fault.hint)
}

fn element(dtype: Dtype) -> Element {
    match dtype {
        Dtype::F64 => Element::F64,
        Dtype::F32 => Element::F32,
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::Bf16,
        Dtype::I64 => Element::I64,
        Dtype::I32 => Element::I32,
        Dtype::I16 => Element::I16,
        Dtype::I8 => Element::I8,
        Dtype::U64 => Element::U64,
        Dtype::U32 => Element::U32,
        Dtype::U16 => Element::U16,
        Dtype::U8 => Element::U8,
        Dtype::BOOL => Element::Bool,
        Dtype::C64 => Element::Foreign("complex64", 8),
        _ => Element::Foreign("8-bit float or smaller", 1),
    }
}

/// The 8-byte length and the padded JSON header of a file with these tensors.
pub(super) fn header(tensors: &BTreeMap<String, RawTensor>, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut json = String::from("{");
    if !metadata.is_empty() {
        json += &format!("\"{METADATA}\":{},", json!(metadata));
    }
    let mut start = 0usize;
    for (name, tensor) in in_file_order(tensors) {
        let (dtype, size) = match tensor.data {
            RawData::F32(_) => ("F32", 4),
            RawData::I64(_) => ("I64", 8),
        };
        let elements = tensor.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if elements != Some(tensor.data.len()) || name == METADATA {
            let found = format!("shape {:?} with {} elements", tensor.shape, tensor.data.len());
            return Err(Error::invalid(format!("tensor {}", quote(name)), found, "it cannot be written"));
        }
        let end = start + tensor.data.len() * size;
        let key = Value::from(name.as_str());
        json += &format!("{key}:{{\"dtype\":\"{dtype}\",\"shape\":{},", json!(tensor.shape));
        json += &format!("\"data_offsets\":[{start},{end}]}},");
        start = end;
    }
    if json.len() > 1 {
        json.pop();
    }
    json.push('}');
    // Tensor data starts at a multiple of 8.
    json += &" ".repeat(json.len().next_multiple_of(LENGTH) - json.len());
    debug_assert!(serde_json::from_str::<Map<String, Value>>(&json).is_ok());
    Ok([&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat())
}

/// Writes the header and then the tensors.
pub(super) fn write(out: &mut dyn Write, header: &[u8], tensors: &BTreeMap<String, RawTensor>) -> std::io::Result<()> {
    out.write_all(header)?;
    for (_, tensor) in in_file_order(tensors) {
        match &tensor.data {
            RawData::F32(values) => values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))?,
            RawData::I64(values) => values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))?,
        }
    }
    Ok(())
}

/// Widest elements first, so that every tensor is aligned; by name within a type.
fn in_file_order(tensors: &BTreeMap<String, RawTensor>) -> impl Iterator<Item = (&String, &RawTensor)> {
    let wide = tensors.iter().filter(|(_, tensor)| matches!(tensor.data, RawData::I64(_)));
    wide.chain(tensors.iter().filter(|(_, tensor)| matches!(tensor.data, RawData::F32(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, body: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), body].concat()
    }

    fn refusal(bytes: &[u8]) -> String {
        match parse(bytes) {
            Err(fault) => fault.found,
            Ok(contents) => panic!("accepted: {:?}", contents.tensors),
        }
    }

    #[test]
    fn a_header_longer_than_the_file_is_refused() {
        let mut bytes = file("{}", &[]);
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(refusal(&bytes).contains("header of 18446744073709551615 bytes in a file of 10 bytes"));
        bytes[..8].copy_from_slice(&3u64.to_le_bytes());
        assert!(refusal(&bytes).contains("header of 3 bytes"));
        assert!(refusal(b"\x02").contains("too short"));
    }

    #[test]
    fn lying_offsets_are_refused() {
        let overlap = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
                          "b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
        assert!(refusal(&file(overlap, &[0; 12])).contains("invalid offset for tensor `b`"));
        let hole = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        assert!(refusal(&file(hole, &[0; 8])).contains("invalid offset for tensor `a`"));
        let backwards = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#;
        assert!(refusal(&file(backwards, &[0; 4])).contains("invalid offset"));
        let short = r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#;
        assert!(refusal(&file(short, &[0; 12])).contains("describes 16 bytes, 12 follow"));
        let shape = r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,16]}}"#;
        assert!(refusal(&file(shape, &[0; 16])).contains("invalid shape"));
        let overflow = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#;
        assert!(refusal(&file(overflow, &[])).contains("overflow"));
        let end_of_memory =
            r#"{"a":{"dtype":"U8","shape":[2305843009213693951],"data_offsets":[0,2305843009213693951]}}"#;
        assert!(refusal(&file(end_of_memory, &[0; 4])).contains("describes 2305843009213693951 bytes"));
    }

    #[test]
    fn unknown_element_types_are_refused() {
        let unknown = r#"{"a":{"dtype":"F7","shape":[1],"data_offsets":[0,4]}}"#;
        assert!(refusal(&file(unknown, &[0; 4])).contains("F7"));
        let complex = r#"{"a":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}"#;
        assert!(refusal(&file(complex, &[0; 8])).contains("tensor `a`: elements of type complex64"));
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        assert!(refusal(&file(&deep, &[])).contains("header"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut tensors = BTreeMap::new();
        tensors.insert("b\n\"é".to_string(), RawTensor { shape: vec![2, 1], data: RawData::F32(vec![1.0, f32::MIN]) });
        tensors.insert("a".to_string(), RawTensor { shape: vec![], data: RawData::I64(vec![-1]) });
        tensors.insert("empty".to_string(), RawTensor { shape: vec![0, 3], data: RawData::F32(vec![]) });
        let metadata = BTreeMap::from([("format".into(), "pt".into()), ("z".into(), "\u{1}".into())]);
        let mut bytes = Vec::new();
        write(&mut bytes, &header(&tensors, &metadata).unwrap(), &tensors).unwrap();
        let read = parse(&bytes).unwrap();
        assert_eq!((read.tensors, read.metadata), (tensors, metadata));
        assert!(::safetensors::SafeTensors::deserialize(&bytes).is_ok());
    }

    #[test]
    fn a_tensor_that_contradicts_itself_is_not_written() {
        let tensor = RawTensor { shape: vec![2], data: RawData::F32(vec![1.0]) };
        let tensors = BTreeMap::from([("a".to_string(), tensor)]);
        assert!(header(&tensors, &BTreeMap::new()).unwrap_err().to_string().contains("shape [2] with 1 elements"));
    }
}
