//! Reading and writing whole files, and damaged copies of them.

use std::fs;
use std::io::{Cursor, Write};

use proptest::prelude::*;
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::*;

/// The checkpoints that tests/fixtures/make_pickles.py wrote.
fn fixtures() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pickles");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn writing_is_atomic_and_reproducible() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, "old").unwrap();
    let tensor = RawTensor { shape: vec![2], data: RawData::F32(vec![1.0, f32::NAN]) };
    let bad = BTreeMap::from([("a".to_string(), RawTensor { shape: vec![3], ..tensor.clone() })]);
    assert!(Checkpoint::write_safetensors(&path, &bad, &BTreeMap::new()).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"old");
    let good = BTreeMap::from([("a".to_string(), tensor)]);
    let metadata: BTreeMap<_, _> = (0..20).map(|key| (key.to_string(), "value".to_string())).collect();
    Checkpoint::write_safetensors(&path, &good, &metadata).unwrap();
    let first = Checkpoint::read(&path).unwrap();
    Checkpoint::write_safetensors(&path, &good, &metadata).unwrap();
    assert_eq!(Checkpoint::read(&path).unwrap().sha256, first.sha256);
    assert_eq!(first.metadata, metadata);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn files_of_other_kinds_are_recognised() {
    for (bytes, message) in [
        (b"".as_slice(), "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html>", "a web page"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"{\"weight_map\": {}}", "JSON text"),
        (b"something else", "neither a safetensors file nor a torch checkpoint"),
    ] {
        let found = parse(bytes).err().unwrap().found;
        assert!(found.contains(message), "{found}");
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(Checkpoint::read(folder.path()).is_err());
    let absent = Checkpoint::read(folder.path().join("none.pth")).unwrap_err().to_string();
    assert!(absent.contains("cannot open") && absent.contains("none.pth"), "{absent}");
}

/// Bytes replaced, removed and inserted at places given as fractions of the length.
fn damaged(bytes: &[u8], edits: &[(f64, u8, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for &(place, kind, value) in edits {
        let at = (place * bytes.len() as f64) as usize;
        match kind {
            _ if bytes.is_empty() => {}
            0 => bytes.truncate(at),
            1 => bytes.insert(at, value),
            2 => drop(bytes.remove(at)),
            3 => bytes[at] ^= 1 << (value % 8),
            _ => bytes[at] = value,
        }
    }
    bytes
}

/// The archive with one member damaged and all checksums right, so that the damage reaches the parser behind them.
fn repacked(bytes: &[u8], edits: &[(f64, u8, u8)]) -> Option<Vec<u8>> {
    let mut old = ZipArchive::new(Cursor::new(bytes)).ok()?;
    let mut new = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..old.len() {
        let mut member = old.by_index(index).ok()?;
        let mut data = Vec::new();
        member.read_to_end(&mut data).ok()?;
        let name = member.name().ok()?.to_string();
        if name.ends_with("data.pkl") {
            data = damaged(&data, edits);
        }
        new.start_file(name, SimpleFileOptions::default()).ok()?;
        new.write_all(&data).ok()?;
    }
    Some(new.finish().ok()?.into_inner())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the bytes: a checkpoint or an error on one line, never a panic.
    #[test]
    fn damaged_files_never_panic(
        edits in proptest::collection::vec((0.0..1.0f64, 0..8u8, any::<u8>()), 1..6),
    ) {
        for (path, bytes) in fixtures() {
            let copies = [Some(damaged(&bytes, &edits)), repacked(&bytes, &edits)];
            for copy in copies.into_iter().flatten() {
                if let Err(fault) = parse(&copy) {
                    let message = fault.at(&path).to_string();
                    prop_assert!(!message.contains('\n') && message.len() < 2000, "{}", message);
                }
            }
        }
    }

    #[test]
    fn arbitrary_pickles_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&[b"\x80\x02", bytes.as_slice()].concat());
        let _ = parse(&[&(bytes.len() as u64).to_le_bytes(), b"{".as_slice(), &bytes].concat());
        let _ = parse(&[b"PK\x03\x04", bytes.as_slice()].concat());
        let _ = parse(&bytes);
    }
}
