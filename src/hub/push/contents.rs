//! What of a result folder belongs on the Hub.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::hash::Running;
use super::super::name::{Kind, quote};
use crate::data::is_shard_of;
use crate::files::{PROVENANCE, PROVENANCE_LIMIT, no_result};
use crate::{Error, Result};

const CARD: &str = "README.md";
const DATA: &str = "data";
/// What a model folder may hold, and what it must.
const MODEL: [&str; 5] = [CARD, "config.json", "metrics.jsonl", "model.safetensors", PROVENANCE];
const MODEL_NEEDS: [&str; 3] = ["config.json", "model.safetensors", PROVENANCE];
/// The same for a set, beside `data/*.parquet`.
pub(in crate::hub) const SET: [&str; 6] =
    [CARD, "adversary.safetensors", "generator.safetensors", "metrics.jsonl", "preview.png", PROVENANCE];
const SET_NEEDS: [&str; 2] = [CARD, PROVENANCE];
/// Endings that the Hub stores as large files whatever their size, and the size from which it does so for others.
const LARGE: [&str; 3] = [".safetensors", ".parquet", ".png"];
const LARGE_SIZE: u64 = 10 << 20;

/// A result folder, seen as a repository.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    /// A model is a model; a set is a dataset.
    pub kind: Kind,
    /// In name order.
    pub items: Vec<Item>,
    /// What else lies in the folder and is not sent.
    pub skipped: Vec<String>,
}

/// A file to send.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its path in the repository.
    pub name: String,
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
}

impl Contents {
    /// Looks at a folder that `synth` has made.
    ///
    /// # Errors
    /// [`Error::File`] if it is none, or lacks a file that a model or a set must have; [`Error::Io`].
    pub fn of(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let kind = kind_of(folder)?;
        let (known, needed): (&[&str], &[&str]) = match kind {
            Kind::Model => (&MODEL, &MODEL_NEEDS),
            Kind::Dataset => (&SET, &SET_NEEDS),
        };
        let (mut items, mut skipped) = (Vec::new(), Vec::new());
        for name in names_in(folder)? {
            match item(folder, &name)? {
                Some(item) if known.contains(&name.as_str()) => items.push(item),
                None if name == DATA && kind == Kind::Dataset && folder.join(DATA).is_dir() => {
                    data_files(folder, &mut items, &mut skipped)?;
                }
                _ => skipped.push(name),
            }
        }
        items.sort_by(|a, b| a.name.cmp(&b.name));
        skipped.sort();
        let contents = Self { kind, items, skipped };
        contents.check(folder, needed)?;
        Ok(contents)
    }

    fn check(&self, folder: &Path, needed: &[&str]) -> Result<()> {
        let has = |name: &&&str| self.items.iter().any(|item| item.name == **name);
        let incomplete = |what: &str| {
            let found = format!("an incomplete {}: no {what}", if self.kind == Kind::Model { "model" } else { "set" });
            Error::file(folder, found, "make the result again, or copy it whole; links are not followed")
        };
        if let Some(missing) = needed.iter().find(|name| !has(name)) {
            return Err(incomplete(missing));
        }
        if self.kind == Kind::Dataset && crate::data::shards(&folder.join(DATA), Some("train"))?.is_none() {
            return Err(incomplete("data/train-*.parquet"));
        }
        Ok(())
    }

    /// Absolute paths that `synth.json` names, which say something about this machine.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read.
    pub fn local_paths(&self) -> Result<Vec<String>> {
        let Some(item) = self.items.iter().find(|item| item.name == PROVENANCE) else { return Ok(Vec::new()) };
        let bytes = fs::read(&item.path).map_err(Error::io("read", &item.path))?;
        let mut found = Vec::new();
        collect_paths(&serde_json::from_slice(&bytes).unwrap_or_default(), &mut found);
        Ok(found)
    }

    /// Whether a file of this name beside an older `synth.json` is part of a result that this one takes the place of, as a shard
    /// of a larger set is. A card may be somebody's own.
    pub(super) fn takes_the_place_of(&self, name: &str) -> bool {
        let known = match self.kind {
            Kind::Model => MODEL.contains(&name),
            Kind::Dataset => {
                let is_shard = |file: &str| !file.contains('/') && is_shard_of(Path::new(file), "train");
                SET.contains(&name) || name.strip_prefix("data/").is_some_and(is_shard)
            }
        };
        known && name != CARD && self.items.iter().all(|item| item.name != name)
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.items.iter().map(|item| item.size).sum()
    }
}

impl Item {
    /// Whether the Hub will probably store it as a large file (LFS) and not in git; it decides when it is asked.
    pub fn is_large(&self) -> bool {
        self.size >= LARGE_SIZE || LARGE.iter().any(|ending| self.name.ends_with(ending))
    }

    /// Hash of the content as `start` begins it.
    pub(super) fn hash(&self, mut running: Running) -> Result<String> {
        let mut file = File::open(&self.path).map_err(Error::io("open", &self.path))?;
        let mut buffer = vec![0; 128 << 10];
        loop {
            crate::events::check_interrupt()?;
            match file.read(&mut buffer).map_err(Error::io("read", &self.path))? {
                0 => return Ok(running.finish()),
                count => running.update(&buffer[..count]),
            }
        }
    }

    /// The first bytes of the content, by which the Hub tells text from other data.
    pub(super) fn sample(&self, count: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(&self.path).map_err(Error::io("open", &self.path))?;
        file.take(count).read_to_end(&mut bytes).map_err(Error::io("read", &self.path))?;
        Ok(bytes)
    }
}

/// Model or set, by the entry `kind` of `synth.json`.
fn kind_of(folder: &Path) -> Result<Kind> {
    let path = folder.join(PROVENANCE);
    let hint = "give a folder that `synth` has made: a student, a trained model or a set";
    let about = fs::metadata(&path)
        .map_err(|_| no_result(folder, || Error::file(folder, "a folder without synth.json", hint)))?;
    if about.len() > PROVENANCE_LIMIT {
        let found = format!("{} bytes, more than the {PROVENANCE_LIMIT} that are read", about.len());
        return Err(Error::file(&path, found, hint));
    }
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    let json: Value =
        serde_json::from_slice(&bytes).map_err(|e| Error::file(&path, format!("broken JSON ({e})"), hint))?;
    match json["kind"].as_str() {
        Some("student" | "supervised") => Ok(Kind::Model),
        Some("set" | "collected") => Ok(Kind::Dataset),
        Some(other) => Err(Error::file(&path, format!("kind {}", quote(other)), hint)),
        None => Err(Error::file(&path, "no entry `kind`", hint)),
    }
}

fn collect_paths(json: &Value, found: &mut Vec<String>) {
    match json {
        Value::String(text) if Path::new(text).is_absolute() => found.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|value| collect_paths(value, found)),
        Value::Object(map) => map.values().for_each(|value| collect_paths(value, found)),
        _ => {}
    }
}

fn names_in(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        names.push(entry.map_err(Error::io("list", folder))?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// A regular file; `None` for folders, links and all else.
fn item(folder: &Path, name: &str) -> Result<Option<Item>> {
    let path = folder.join(name);
    let about = fs::symlink_metadata(&path).map_err(Error::io("examine", &path))?;
    Ok(about.is_file().then(|| Item { name: name.to_string(), size: about.len(), path }))
}

fn data_files(folder: &Path, items: &mut Vec<Item>, skipped: &mut Vec<String>) -> Result<()> {
    for name in names_in(&folder.join(DATA))? {
        let name = format!("{DATA}/{name}");
        match item(folder, &name)? {
            Some(item) if name.ends_with(".parquet") && !name.starts_with("data/.") => items.push(item),
            _ => skipped.push(name),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(kind: &str, files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            fs::create_dir_all(folder.path().join(file).parent().unwrap()).unwrap();
            fs::write(folder.path().join(file), "x").unwrap();
        }
        fs::write(folder.path().join(PROVENANCE), format!("{{\"kind\": \"{kind}\"}}")).unwrap();
        folder
    }

    fn names(contents: &Contents) -> Vec<&str> {
        contents.items.iter().map(|item| item.name.as_str()).collect()
    }

    #[test]
    fn what_belongs_to_a_result_is_sent_and_nothing_else() {
        let secret = [".env", "notes.txt", "data/train.csv", "sub/model.safetensors", "model.safetensors.bak"];
        let model = ["README.md", "config.json", "model.safetensors"];
        let folder = folder("student", &[&model[..], &secret].concat());
        let contents = Contents::of(folder.path()).unwrap();
        assert_eq!(
            (contents.kind, names(&contents)),
            (Kind::Model, vec!["README.md", "config.json", "model.safetensors", "synth.json"])
        );
        assert_eq!(contents.skipped, [".env", "data", "model.safetensors.bak", "notes.txt", "sub"]);
        assert!(contents.items[2].is_large() && !contents.items[1].is_large());
    }

    #[test]
    fn a_set_is_a_dataset() {
        let files = ["README.md", "preview.png", "data/train-00000-of-00001.parquet", "data/x.txt", "config.json"];
        let contents = Contents::of(folder("set", &files).path()).unwrap();
        let expected = vec!["README.md", "data/train-00000-of-00001.parquet", "preview.png", "synth.json"];
        assert_eq!((contents.kind, names(&contents)), (Kind::Dataset, expected));
        assert_eq!(contents.skipped, ["config.json", "data/x.txt"]);
    }

    #[test]
    fn what_is_no_whole_result_is_refused() {
        let refused = |folder: &Path| Contents::of(folder).unwrap_err().to_string();
        assert!(refused(folder("student", &["config.json"]).path()).contains("no model.safetensors"));
        assert!(refused(folder("set", &["README.md", "data/x.txt"]).path()).contains("no data/train-*.parquet"));
        assert!(
            refused(folder("set", &["README.md", "data/train-00000-of-00002.parquet"]).path()).contains("1 of the 2")
        );
        assert!(refused(folder("tokenizer", &[]).path()).contains("kind `tokenizer`"));
        assert!(refused(tempfile::tempdir().unwrap().path()).contains("without synth.json"));
        let run = folder("x", &["student/synth.json"]);
        fs::remove_file(run.path().join(PROVENANCE)).unwrap();
        assert!(
            refused(run.path()).contains("the folder of a whole run")
                && refused(run.path()).contains("student by itself")
        );
    }

    #[test]
    fn paths_of_this_machine_are_noticed() {
        let folder = folder("student", &["config.json", "model.safetensors"]);
        let json = r#"{"kind": "student", "teacher": {"id": "/home/me/teacher"}, "set": ["a/b", {"x": "/data"}]}"#;
        fs::write(folder.path().join(PROVENANCE), json).unwrap();
        let mut found = Contents::of(folder.path()).unwrap().local_paths().unwrap();
        found.sort();
        assert_eq!(found, ["/data", "/home/me/teacher"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let folder = folder("student", &["config.json", "model.safetensors"]);
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("README.md")).unwrap();
        let contents = Contents::of(folder.path()).unwrap();
        assert_eq!(contents.skipped, ["README.md"]);
    }
}
