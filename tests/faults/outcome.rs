//! What is there afterwards: whether a result is the right one, and whether anything else has changed.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use synth::files::sha256_file;

/// Entries that say how long something took, how much memory there was, and where the inputs lay.
const BESIDE_THE_POINT: [&str; 7] =
    ["seconds", "wall_seconds", "peak_memory_mib", "resumed", "id", "revision", "source"];

/// The files below a folder, by their path in it.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => open.push(entry.path()),
                false => drop(found.insert(entry.path().strip_prefix(folder).unwrap().to_path_buf(), entry.path())),
            }
        }
    }
    found
}

/// In which files a result differs from the right one; all bits count but those of times.
pub fn differences(right: &Path, found: &Path) -> Vec<String> {
    let (right, found) = (files(right), files(found));
    let mut wrong: Vec<String> = Vec::new();
    for name in right.keys().chain(found.keys().filter(|name| !right.contains_key(*name))) {
        match (right.get(name), found.get(name)) {
            (Some(a), Some(b)) if alike(a, b) => {}
            (Some(_), Some(_)) => wrong.push(format!("{} differs", name.display())),
            (Some(_), None) => wrong.push(format!("{} is missing", name.display())),
            _ => wrong.push(format!("{} is too much", name.display())),
        }
    }
    wrong
}

fn alike(a: &Path, b: &Path) -> bool {
    match a.extension().and_then(|e| e.to_str()) {
        Some("md") => std::fs::metadata(b).is_ok_and(|about| about.len() > 0), // it repeats the times
        Some("json" | "jsonl") => plain(a) == plain(b),
        _ => std::fs::read(a).unwrap() == std::fs::read(b).unwrap(),
    }
}

/// The lines of a JSON file, or the file as one, without what is beside the point.
fn plain(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let whole = serde_json::from_str(&text).map(|value| vec![value]);
    let lines = || text.lines().map(|line| serde_json::from_str(line).unwrap_or(Value::String(line.into()))).collect();
    let mut values: Vec<Value> = whole.unwrap_or_else(|_| lines());
    values.iter_mut().for_each(strip);
    values
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            entries.retain(|key, _| !BESIDE_THE_POINT.contains(&key.as_str()));
            entries.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}

/// The files that nothing may touch.
pub struct Bystanders {
    folders: Vec<PathBuf>,
    before: BTreeMap<PathBuf, (u64, String)>,
}

impl Bystanders {
    pub fn of(folders: &[&Path]) -> Self {
        let folders: Vec<PathBuf> = folders.iter().map(|folder| folder.to_path_buf()).collect();
        let before = look(&folders);
        Self { folders, before }
    }

    /// Bytes of files that are gone or have changed.
    pub fn lost(&self) -> u64 {
        let now = look(&self.folders);
        let gone = self.before.iter().filter(|(path, about)| now.get(*path) != Some(about));
        gone.map(|(_, (length, _))| length).sum()
    }
}

fn look(folders: &[PathBuf]) -> BTreeMap<PathBuf, (u64, String)> {
    let paths = folders.iter().flat_map(|folder| files(folder).into_values());
    paths.map(|path| (path.clone(), (std::fs::metadata(&path).unwrap().len(), sha256_file(&path).unwrap()))).collect()
}

/// Bytes under the final name that are not those of the right result.
pub fn half_written(right: impl Fn(&Path) -> Vec<String>, output: &Path) -> u64 {
    if !output.exists() || right(output).is_empty() {
        return 0;
    }
    files(output).values().map(|path| std::fs::metadata(path).map_or(0, |about| about.len())).sum::<u64>().max(1)
}
