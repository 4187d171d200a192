//! Hand-made pickles, most of them hostile.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::super::fault::Fault;
use super::super::{Contents, RawData, parse};
use super::machine;
use super::value::{Node, Value};

/// A text as BINUNICODE.
fn text(value: &str) -> Vec<u8> {
    [b"X".as_slice(), &(value.len() as u32).to_le_bytes(), value.as_bytes()].concat()
}

/// A pickle of protocol 2.
fn pickle(parts: &[&[u8]]) -> Vec<u8> {
    [b"\x80\x02".as_slice(), &parts.concat(), b"."].concat()
}

/// `{"w": tensor}` over storage `0` of `count` floats; `rest` are offset, size and stride.
fn tensor_of(count: u8, rest: &[u8]) -> Vec<u8> {
    let storage = [b"(".as_slice(), &text("storage"), b"ctorch\nFloatStorage\n", &text("0"), &text("cpu")].concat();
    let arguments = [b"(".as_slice(), &storage, b"K", &[count], b"tQ", rest, b"t"].concat();
    pickle(&[b"}", &text("w"), b"ctorch._utils\n_rebuild_tensor\n", &arguments, b"Rs"])
}

/// Offset 0, size (2,), stride (1,).
const PAIR: &[u8] = b"K\x00K\x02\x85K\x01\x85";

fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, data) in members {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        zip.start_file(*name, options).unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn legacy(little_endian: bool, object: &[u8], keys: &[u8], storages: &[u8]) -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let system = pickle(&[b"}", &text("little_endian"), if little_endian { b"\x88" } else { b"\x89" }, b"s"]);
    [magic.as_slice(), &pickle(&[b"M\xe9\x03"]), &system, object, keys, storages].concat()
}

fn values(contents: Result<Contents, Fault>) -> Vec<f32> {
    match contents.unwrap().tensors.remove("w").unwrap().data {
        RawData::F32(values) => values,
        RawData::I64(values) => panic!("{values:?}"),
    }
}

fn refusal(contents: Result<Contents, Fault>) -> String {
    match contents {
        Err(fault) => {
            assert!(!fault.found.contains('\n') && fault.found.len() < 600, "{}", fault.found);
            fault.found
        }
        Ok(contents) => panic!("accepted: {:?}", contents.tensors),
    }
}

fn machine_refusal(bytes: &[u8]) -> String {
    machine::run(bytes).err().expect("accepted").found
}

#[test]
fn both_containers_and_both_byte_orders_are_read() {
    let object = tensor_of(3, PAIR);
    let data = floats(&[1.0, -2.0, 3.0]);
    let turned: Vec<u8> = data.chunks(4).flat_map(|value| value.iter().rev().copied()).collect();
    let little = [("x/data.pkl", object.as_slice()), ("x/data/0", &data)];
    assert_eq!(values(parse(&archive(&little))), [1.0, -2.0]);
    let big = [("x/data.pkl", object.as_slice()), ("x/byteorder", b"big"), ("x/data/0", &turned)];
    assert_eq!(values(parse(&archive(&big))), [1.0, -2.0]);
    let keys = pickle(&[b"]", &text("0"), b"a"]);
    let storage = [&3u64.to_le_bytes(), data.as_slice()].concat();
    assert_eq!(values(parse(&legacy(true, &object, &keys, &storage))), [1.0, -2.0]);
    let storage = [&3u64.to_be_bytes(), turned.as_slice()].concat();
    assert_eq!(values(parse(&legacy(false, &object, &keys, &storage))), [1.0, -2.0]);
    // A count in the other byte order.
    assert!(refusal(parse(&legacy(true, &object, &keys, &storage))).contains("has 216172782113783808 elements, not 3"));
}

#[test]
fn a_view_storage_of_very_old_files_is_a_window() {
    let class = b"ctorch\nFloatStorage\n";
    let window = [b"(".as_slice(), &text("1"), b"K\x01K\x02t"].concat();
    let id = [b"(".as_slice(), &text("storage"), class, &text("0"), &text("cuda:0"), b"K\x03", &window, b"tQ"].concat();
    let object = pickle(&[b"}", &text("w"), b"ctorch._utils\n_rebuild_tensor\n(", &id, PAIR, b"tRs"]);
    let data = floats(&[1.0, 2.0, 3.0]);
    assert_eq!(values(parse(&archive(&[("x/data.pkl", &object), ("x/data/0", &data)]))), [2.0, 3.0]);
}

#[test]
fn names_off_the_list_are_refused_and_nothing_runs() {
    let marker = std::env::temp_dir().join(format!("synth-ran-{}", std::process::id()));
    let command = text(&format!("touch {}", marker.display()));
    for (module, name) in [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("numpy.testing", "x")] {
        let global = format!("c{module}\n{name}\n");
        let object = pickle(&[global.as_bytes(), &command, b"\x85R"]);
        let message = refusal(parse(&archive(&[("x/data.pkl", &object)])));
        assert!(message.contains(&format!("`{module}.{name}`")), "{message}");
        let stacked = pickle(&[&text(module), &text(name), b"\x93", &command, b"\x85R"]);
        assert!(machine_refusal(&stacked).contains(&format!("`{module}.{name}`")));
    }
    assert!(!marker.exists());
    assert!(machine::run(b"\x80\x02cpathlib._local\nPosixPath\n.").is_ok());
    assert!(machine_refusal(b"\x80\x02c__torch__.net\nNet\n.").contains("`__torch__.net.Net`"));
    assert!(machine_refusal(b"\x80\x02cos\x1b[31m\nsystem\n.").contains("`os\\u{1b}[31m.system`"));
}

#[test]
fn nesting_has_no_depth_to_overflow() {
    let depth = 300_000;
    let nested = pickle(&[&vec![b']'; depth], &vec![b'a'; depth - 1]]);
    assert!(refusal(parse(&archive(&[("x/data.pkl", &nested)]))).contains("holds a list, not a dict"));
    let tuples = pickle(&[b"N", &vec![0x85; depth]]);
    assert!(machine::run(&tuples).is_ok());
    assert!(machine_refusal(&vec![b'('; 5_000_000]).contains("at once"));
    assert!(machine_refusal(&[b"]".as_slice(), &vec![b'2'; 5_000_000]].concat()).contains("at once"));
}

#[test]
fn a_dict_that_contains_itself_ends() {
    let object = pickle(&[b"}q\x00", &text("state_dict"), b"h\x00s"]);
    assert!(refusal(parse(&archive(&[("x/data.pkl", &object)]))).contains("no tensors"));
}

#[test]
fn averaged_weights_that_are_left_are_named() {
    let dict = [b"}".as_slice(), &text("w"), b"ctorch._utils\n_rebuild_tensor\n"].concat();
    let id =
        [b"(".as_slice(), &text("storage"), b"ctorch\nFloatStorage\n", &text("0"), &text("cpu"), b"K\x03tQ"].concat();
    let dict = [dict.as_slice(), b"(", &id, PAIR, b"tRs"].concat();
    let data = floats(&[1.0, 2.0, 3.0]);
    let read = |object: &[u8]| parse(&archive(&[("x/data.pkl", object), ("x/data/0", &data)])).unwrap().warning;
    let both = pickle(&[b"}", &text("model"), &dict, b"s", &text("model_ema"), &dict, b"s"]);
    let warning = read(&both).unwrap();
    assert!(warning.contains("`model` is taken, `model_ema` is left"), "{warning}");
    let alone = pickle(&[b"}", &text("model"), &dict, b"s", &text("model_ema"), b"}s"]);
    assert_eq!(read(&alone), None);
}

#[test]
fn copies_are_limited_by_the_length_of_the_pickle() {
    let pairs = [b"](".as_slice(), &b"NN\x86".repeat(1000), b"e\x85q\x00"].concat();
    let copies = b"ccollections\nOrderedDict\nh\x00R".repeat(200);
    assert!(machine_refusal(&pickle(&[&pairs, &copies])).contains("copies itself"));
}

/// A byte of a pickle must not become a hundred.
#[test]
fn values_that_nobody_needs_are_limited() {
    for (bytes, part) in [
        (b"]0".repeat(1_100_000), "values at once"),
        (b"N".repeat(1_100_000), "values at once"),
        ([b"](".as_slice(), &b"N".repeat(1_000_000), b"e("].concat().repeat(5), "more than 4194304 items"),
    ] {
        assert!(machine_refusal(&pickle(&[&bytes])).contains(part), "{part}");
    }
}

#[test]
fn malformed_programs_are_errors() {
    for bytes in [
        b"".as_slice(),
        b".",
        b"\x80",
        b"\x80\x07.",
        b"a.",
        b"]a.",
        b"Na.",
        b"N(Ne.",
        b"e.",
        b"t.",
        b"(0t.",
        b"(N(a.",
        b"}(Nu.",
        b"h\x00.",
        b"j\xff\xff\xff\xff.",
        b"q\x00.",
        b"X\xff\xff\xff\xffa.",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffa.",
        b"\x8b\xff\xff\xff\x7f.",
        b"X\x01\x00\x00\x00\xff.",
        b"NNR.",
        b"N)R.",
        b"ccollections\nOrderedDict\nNR.",
        b"ccollections\nOrderedDict\nK\x01\x85R.",
        b"ctorch\nSize\n)R.",
        b"ctorch._utils\n_rebuild_tensor\n)R.",
        b"ctorch._utils\n_rebuild_tensor_v3\n)R.",
        b"NQ.",
        b"ccollections",
        b"I1\n.",
        b"(icollections\nOrderedDict\n.",
        b"\x82\x01.",
    ] {
        assert!(machine::run(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn integers_of_every_width_are_read() {
    let bytes =
        b"(K\xffM\xff\xffJ\xff\xff\xff\xff\x8a\x00\x8a\x02\x00\x80\x8a\x09\0\0\0\0\0\0\0\0\x01G\x3f\xf8\0\0\0\0\0\0t.";
    let pickle = machine::run(bytes).unwrap();
    let Some(Node::Tuple(items)) = pickle.arena.node(pickle.root) else { panic!("no tuple") };
    let long = Value::Long(&[0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let expected = [255, 65535, -1, 0, -32768].map(Value::Int).into_iter().chain([long, Value::Float(1.5)]);
    assert_eq!(*items, expected.collect::<Vec<_>>());
}

#[test]
fn tensors_must_lie_in_their_storage() {
    let data = floats(&[1.0, 2.0, 3.0]);
    for (what, rest) in [
        ("offset", b"K\x02K\x02\x85K\x01\x85".as_slice()),
        ("size", b"K\x00K\x04\x85K\x01\x85"),
        ("stride", b"K\x00K\x02\x85K\x03\x85"),
        ("negative size", b"K\x00J\xff\xff\xff\xff\x85K\x01\x85"),
        ("negative stride", b"K\x02K\x02\x85J\xff\xff\xff\xff\x85"),
        ("ranks", b"K\x00K\x02\x85)"),
        ("no tuple", b"K\x00NK\x01\x85"),
        ("overflow", b"K\x00\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\x04\x86K\x00K\x00\x86"),
    ] {
        let object = tensor_of(3, rest);
        assert!(parse(&archive(&[("x/data.pkl", &object), ("x/data/0", &data)])).is_err(), "{what}");
    }
    let short = [("x/data.pkl", &*tensor_of(3, PAIR)), ("x/data/0", &data[..8])];
    assert!(refusal(parse(&archive(&short))).contains("storage `0` has 8 bytes, not 12"));
    let absent = [("x/data.pkl", &*tensor_of(3, PAIR))];
    assert!(refusal(parse(&archive(&absent))).contains("`x/data/0`"));
}

#[test]
fn damaged_archives_are_refused() {
    let object = tensor_of(2, PAIR);
    let data = floats(&[1.0, 2.0]);
    let members = [("x/data.pkl", object.as_slice()), ("x/byteorder", b"little"), ("x/data/0", &data)];
    let good = archive(&members);
    assert_eq!(values(parse(&good)), [1.0, 2.0]);
    for length in 0..good.len() {
        assert!(parse(&good[..length]).is_err(), "{length} of {}", good.len());
    }
    let garbage = [members[0], ("x/byteorder", b"middle"), members[2]];
    assert!(refusal(parse(&archive(&garbage))).contains("byte order"));
    assert!(refusal(parse(&archive(&members[1..]))).contains("without data.pkl"));
    let twice = [members[0], ("y/data.pkl", b"")];
    assert!(refusal(parse(&archive(&twice))).contains("several data.pkl"));
    // One flipped bit in a weight: only the checksum notices.
    let mut flipped = good.clone();
    let at = good.windows(data.len()).position(|window| window == data).unwrap();
    flipped[at] ^= 1;
    assert!(refusal(parse(&flipped)).contains("`x/data/0`"));
    // Declared sizes of 4 GB - 2, in the local and the central header of the storage.
    let mut huge = good.clone();
    let lengths = [8u32.to_le_bytes(), 8u32.to_le_bytes()].concat();
    for at in 0..huge.len() - lengths.len() {
        if huge[at..at + lengths.len()] == lengths {
            huge[at..at + lengths.len()].copy_from_slice(&[0xfe, 0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff]);
        }
    }
    assert_ne!(huge, good);
    assert!(parse(&huge).is_err());
}

#[test]
fn damaged_plain_files_are_refused() {
    let object = tensor_of(2, PAIR);
    let keys = pickle(&[b"]", &text("0"), b"a"]);
    let storage = [&2u64.to_le_bytes(), floats(&[1.0, 2.0]).as_slice()].concat();
    let good = legacy(true, &object, &keys, &storage);
    assert_eq!(values(parse(&good)), [1.0, 2.0]);
    for length in 0..good.len() {
        assert!(parse(&good[..length]).is_err(), "{length} of {}", good.len());
    }
    let none = pickle(&[b"]"]);
    assert!(refusal(parse(&legacy(true, &object, &none, &storage))).contains("storage `0` is missing"));
    let other = pickle(&[b"]", &text("1"), b"a"]);
    assert!(refusal(parse(&legacy(true, &object, &other, &storage))).contains("unknown storage `1`"));
    let lying = [&u64::MAX.to_le_bytes(), storage.as_slice()].concat();
    assert!(refusal(parse(&legacy(true, &object, &keys, &lying))).contains("has 18446744073709551615 elements, not 2"));
    assert!(refusal(parse(&pickle(&[b"}"]))).contains("torch.save did not write"));
}
