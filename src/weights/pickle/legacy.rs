//! The plain container of torch before 1.6: magic number, protocol, system information, object and list of storage keys
//! as five pickles, then every storage as an element count (i64) and its elements.

use std::collections::BTreeMap;

use super::super::Contents;
use super::super::fault::{Fault, Parse, quote};
use super::machine::{self, Pickle};
use super::state_dict::StateDict;
use super::value::{Node, Storage, Value};

/// `0x1950a86a20f9469cfc6c`, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The only version there ever was.
const PROTOCOL: i64 = 1001;

/// Reads a checkpoint in the plain format.
pub(in super::super) fn read(bytes: &[u8]) -> Parse<Contents> {
    let mut rest = bytes;
    if next(&mut rest)?.root != Value::Long(&MAGIC) {
        return Err(Fault::new("a pickle that torch.save did not write", "expected a state dict saved by torch.save"));
    }
    if next(&mut rest)?.root != Value::Int(PROTOCOL) {
        return Err(Fault::damaged("a torch file of an unknown version"));
    }
    let system = next(&mut rest)?;
    let big_endian = match system.arena.get(system.root, "little_endian") {
        Some(Value::Bool(little)) => !little,
        _ => return Err(Fault::damaged("a torch file that does not say its byte order")),
    };
    let object = next(&mut rest)?;
    let keys = next(&mut rest)?;
    let storages = storages(&object, &keys, rest, big_endian)?;
    let state_dict = StateDict::find(&object)?;
    state_dict.read(super::element_limit(bytes.len()), big_endian, |view| {
        let found = storages.get(view.storage.key).copied();
        found.ok_or_else(|| Fault::damaged(format!("storage {} is missing", quote(view.storage.key))))
    })
}

/// Runs the pickle at the start of `rest` and moves on behind it.
fn next<'a>(rest: &mut &'a [u8]) -> Parse<Pickle<'a>> {
    let pickle = machine::run(rest)?;
    *rest = rest.get(pickle.length..).unwrap_or_default();
    Ok(pickle)
}

/// Cuts the bytes behind the pickles into the storages that the keys announce.
fn storages<'a>(
    object: &Pickle<'a>,
    keys: &Pickle<'a>,
    mut rest: &'a [u8],
    big_endian: bool,
) -> Parse<BTreeMap<&'a str, &'a [u8]>> {
    let mut declared: BTreeMap<&str, Storage> = BTreeMap::new();
    for node in &object.arena.nodes {
        if let Node::Storage(storage) = node {
            let known = declared.entry(storage.key).or_insert(*storage);
            if (known.element, known.count) != (storage.element, storage.count) {
                return Err(Fault::damaged(format!("storage {} is declared in two ways", quote(storage.key))));
            }
        }
    }
    let keys = keys.arena.items(keys.root).ok_or_else(|| Fault::damaged("no list of storages"))?;
    let mut storages = BTreeMap::new();
    for key in keys {
        let Value::Text(key) = key else { return Err(Fault::damaged("a storage key that is no text")) };
        let storage = declared.get(key).ok_or_else(|| Fault::damaged(format!("unknown storage {}", quote(key))))?;
        let short = || Fault::damaged(format!("the file ends inside storage {}", quote(key)));
        let (count, tail) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let count = if big_endian { u64::from_be_bytes(*count) } else { u64::from_le_bytes(*count) };
        if count != storage.count as u64 {
            let found = format!("storage {} has {count} elements, not {}", quote(key), storage.count);
            return Err(Fault::damaged(found));
        }
        let (bytes, tail) = tail.split_at_checked(storage.byte_len()?).ok_or_else(short)?;
        storages.insert(*key, bytes);
        rest = tail;
    }
    Ok(storages)
}
