//! One function per parser of what comes from outside, for `fuzz/` and for the test that replays what it found.
//!
//! Each takes any bytes, and neither panics nor takes much memory or time; what is refused is refused on one line without
//! control characters. A parser that needs several files takes them from one input, cut at the first NUL byte.

use crate::data::{Framing, Labelled, ReadOptions};
use crate::hub::{HubName, Kind};
use crate::invert::Recipe;
use crate::nets::registry;
use crate::report::{Arguments, MeasuredOn, with_accuracy};
use crate::set::SyntheticSet;
use crate::train::Evaluation;
use crate::weights::{Checkpoint, ModelConfig, licence, sharded};
use crate::{Result, checkpoint, data, hub, jobs, overlay, set};
use std::io::{Cursor, Write};
use std::path::Path;

/// A parser of any bytes.
pub type Target = fn(&[u8]);

/// All of them, by the names of the fuzz targets and of the folders of their corpora.
pub const TARGETS: [(&str, Target); 12] = [
    ("safetensors", safetensors),
    ("zip_pickle", zip_pickle),
    ("legacy_pickle", legacy_pickle),
    ("config", config),
    ("table", table),
    ("set", set),
    ("picture", picture),
    ("recipe", recipe),
    ("hub_name", hub_name),
    ("card", card),
    ("hub_reply", hub_reply),
    ("state", state),
];

/// A safetensors file, or any other that the reader of checkpoints tells by its content.
pub fn safetensors(bytes: &[u8]) {
    if let Some(checkpoint) = accepted(Checkpoint::parse(bytes, "input")) {
        for (name, tensor) in &checkpoint.tensors {
            assert_eq!(tensor.shape.iter().product::<usize>(), tensor.data.len(), "{name:?}");
        }
    }
}

/// A zip archive; other bytes are the pickle in a sound one, since hardly any change leaves an archive whole.
pub fn zip_pickle(bytes: &[u8]) {
    match bytes.starts_with(b"PK") {
        true => safetensors(bytes),
        false => safetensors(&archive_of(bytes)),
    }
}

/// A torch file before the zip format; bytes that do not begin as one come behind the usual head.
pub fn legacy_pickle(bytes: &[u8]) {
    const HEAD: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.}X\x0d\0\0\0little_endian\x88s.";
    match bytes.first() {
        Some(0x80) => safetensors(bytes),
        _ => safetensors(&[HEAD, bytes].concat()),
    }
}

/// `config.json`, up to the network that it describes; behind a NUL byte `preprocessor_config.json`.
pub fn config(bytes: &[u8]) {
    let (config, preprocessor) = cut(bytes);
    let Some(config) = accepted(ModelConfig::parse_with(config, preprocessor, Path::new("input"))) else { return };
    let text = serde_json::to_vec(&config).unwrap_or_default();
    // Not all of it is compared: numbers of many digits may come back changed in the last.
    let again = accepted(ModelConfig::parse(&text, "again"));
    let parts = |config: &ModelConfig| (config.architecture.clone(), config.num_classes, config.label_names.clone());
    assert_eq!(again.as_ref().map(parts), Some(parts(&config)), "it is not read back");
    accepted(registry::from_config(&config));
}

/// A parquet file of labelled pictures.
pub fn table(bytes: &[u8]) {
    let Some(folder) = folder_with(&[("test.parquet", bytes)]) else { return };
    let options =
        ReadOptions { framing: Some(Framing::stretched([8, 8])), channels: Some(3), ..ReadOptions::default() };
    if let Some(data) = accepted(Labelled::read(folder.path().join("test.parquet"), &options)) {
        assert_eq!(
            (data.images.len(), data.labels.iter().max() < Some(&(data.class_names.len() as u32))),
            (data.len(), true)
        );
    }
}

/// The folder of a synthetic set: `synth.json`, and behind a NUL byte its parquet file; up to the images and classes of a student.
pub fn set(bytes: &[u8]) {
    let (json, table) = cut(bytes);
    let files = [("synth.json", json), ("data/train-00000-of-00001.parquet", table.unwrap_or_default())];
    let Some(folder) = folder_with(&files) else { return };
    if let Some(set) = accepted(SyntheticSet::read(folder.path())) {
        assert_eq!(set.histogram().iter().sum::<usize>(), set.len());
        if let Some(config) = accepted(jobs::teacher_config(&set, folder.path())) {
            assert_eq!(config.num_classes, set.class_names.len());
        }
    }
}

/// An encoded picture.
pub fn picture(bytes: &[u8]) {
    piled_picture(bytes);
    let cut = Framing { resized: [5, 5], keeps_shape: true, ..Framing::stretched([4, 4]) };
    for framing in [None, Some(Framing::stretched([4, 4])), Some(cut)] {
        let options = ReadOptions { framing, channels: framing.map(|_| 3), ..ReadOptions::default() };
        let _ = data::table::guard(Path::new("input"), || {
            let mut collector = data::Collector::new(&options);
            let refused = collector.push(1, |_| Ok(bytes.into()));
            if let Err((_, refusal)) = &refused {
                is_one_line(&refusal.found);
            }
            let held = collector.finish().map_or(0, |images| images.len());
            assert_eq!(held, usize::from(refused.is_ok()));
            Ok(())
        });
    }
}

/// A file out of a pile of pictures.
fn piled_picture(bytes: &[u8]) {
    let mut out = [0; 4 * 6 * 3];
    for dims in [[4, 6, 3], [4, 6, 1]] {
        let len = dims.iter().product();
        match crate::collect::picture::decode(bytes, Some(Path::new("input.png")), dims, &mut out[..len]) {
            Ok(changes) => assert!(changes.len() <= 6),
            Err(reason) => is_one_line(reason),
        }
    }
}

/// A recipe in TOML over the default one; behind a NUL byte a `KEY=VALUE` of `--set`.
pub fn recipe(bytes: &[u8]) {
    let (file, pair) = cut(bytes);
    let (Ok(file), Ok(pair)) = (str::from_utf8(file), pair.map(str::from_utf8).transpose()) else { return };
    let pairs: Vec<String> = pair.into_iter().map(String::from).collect();
    let overlaid = overlay::overlaid(&Recipe::default(), Some((file, Path::new("input"))), &pairs);
    let Some(recipe) = accepted(overlaid) else { return };
    if accepted(recipe.check()).is_some() {
        accepted(recipe.student.check());
    }
}

/// The name of a model and of a dataset on the Hub.
pub fn hub_name(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    for kind in [Kind::Model, Kind::Dataset] {
        let Some(name) = accepted(HubName::parse(text, kind)) else { continue };
        let scheme = if name.folder.is_some() { "hf://datasets/" } else { "" };
        let again = accepted(HubName::parse(&format!("{scheme}{name}"), kind));
        let parts = |name: &HubName| (name.repo.clone(), name.revision.clone(), name.folder.clone());
        assert_eq!(again.as_ref().map(parts), Some(parts(&name)), "it is not read back");
        let path = format!("{}/{}/{}", name.repo, name.revision(), name.folder.as_deref().unwrap_or("x"));
        assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")), "{path:?}");
        assert!(!path.contains(|c: char| c.is_control() || matches!(c, '\\' | ':')), "{path:?}");
    }
}

/// A model card: its licence and its head, and its text as a name in a card of ours.
pub fn card(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(id) = licence::in_card(&text) {
        assert!(licence::is_identifier(&id));
    }
    let args = Arguments { num_examples: 4, framing: None };
    let on = MeasuredOn { id: "a/b".into(), name: "b".into(), config: None, split: None, revision: None, args };
    let top = |top1| Evaluation {
        count: 4,
        correct: 3,
        top1,
        top5: None,
        loss: 0.5,
        images_per_s: 1.0,
        confusion: Vec::new(),
    };
    match with_accuracy(&text, "model", &on, &top(0.75)) {
        Ok(card) => assert_eq!(with_accuracy(&card, "model", &on, &top(0.75)).as_deref(), Ok(card.as_str())),
        Err(refusal) => is_one_line(&refusal),
    }
    let quoted = format!("name: {}\n", set::card::yaml_string(&text));
    let read: std::result::Result<yaml_serde::Mapping, _> = yaml_serde::from_str(&quoted);
    assert_eq!(read.ok().and_then(|map| map["name"].as_str().map(String::from)).as_deref(), Some(&*text), "{quoted:?}");
    let cell = set::card::markdown(&text);
    assert!(!cell.contains(|c: char| c.is_control() || c == '<'), "{cell:?}");
}

/// The state of an interrupted run whose hash is right; bytes that do not begin as one are the header of one without arrays.
pub fn state(bytes: &[u8]) {
    let _ = match bytes.get(8) {
        Some(b'{') => checkpoint::read_bytes(bytes),
        _ => checkpoint::read_bytes(&[&(bytes.len() as u64).to_le_bytes(), bytes].concat()),
    };
}

/// Answers of a Hub: a listing and the files chosen of it, a redirect, a hash, and the index of weights in parts.
pub fn hub_reply(bytes: &[u8]) {
    hub::read_reply(bytes);
    if let Some(index) = accepted(sharded::Index::parse(bytes, Path::new("model.safetensors.index.json"))) {
        assert!(index.files().iter().all(|file| !file.contains(['/', '\\', ':']) && !file.starts_with('.')));
    }
}

/// What was read; of a refusal, that it is one line.
fn accepted<T>(read: Result<T>) -> Option<T> {
    read.map_err(|error| is_one_line(&error.to_string())).ok()
}

fn is_one_line(message: &str) {
    assert!(!message.contains(char::is_control), "{message:?}");
}

fn cut(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match bytes.iter().position(|byte| *byte == 0) {
        Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
        None => (bytes, None),
    }
}

/// Files in a folder in memory where there is one; nothing if the machine has no room.
fn folder_with(files: &[(&str, &[u8])]) -> Option<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.ok()?;
    for (name, bytes) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent()?).ok()?;
        std::fs::write(path, bytes).ok()?;
    }
    Some(folder)
}

/// A torch archive with this pickle and one storage of 64 bytes.
fn archive_of(pickle: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [("a/data.pkl", pickle), ("a/byteorder", b"little"), ("a/data/0", &[1; 64])] {
        let written = archive.start_file(name, stored).map(|()| archive.write_all(bytes));
        assert!(matches!(written, Ok(Ok(()))), "an archive in memory is written");
    }
    archive.finish().map(Cursor::into_inner).unwrap_or_default()
}
