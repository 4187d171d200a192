//! What tells the results of commands from other folders and files, and which of them a new one may replace.

use super::{json_text, write_atomic};
use crate::{Error, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The file of a result folder that says how it came about. Its presence is what tells the folder from others.
pub(crate) const PROVENANCE: &str = "synth.json";

/// What the folder of a run holds: its stages have a [`PROVENANCE`] each.
const OF_A_RUN: [&str; 4] = ["set", "student", "metrics.jsonl", "snapshots"];
/// What a model or a set holds.
const OF_A_RESULT: [&str; 10] = [
    PROVENANCE,
    "README.md",
    "metrics.jsonl",
    "snapshots",
    "config.json",
    "model.safetensors",
    "data",
    "preview.png",
    "generator.safetensors",
    "adversary.safetensors",
];

/// The largest `synth.json` that is read, in bytes. Parsed JSON can take 80 times its text.
pub(crate) const PROVENANCE_LIMIT: u64 = 4 << 20;

/// The text of `folder`'s [`PROVENANCE`].
///
/// # Errors
/// As [`unwritable`].
pub(crate) fn provenance_text(folder: &Path, value: &impl Serialize) -> Result<String> {
    json_text(value, PROVENANCE_LIMIT).map_err(|e| unwritable(folder, &e))
}

/// [`Error::File`] for provenance that is no JSON.
pub(crate) fn unwritable(folder: &Path, e: &serde_json::Error) -> Error {
    Error::file(folder.join(PROVENANCE), format!("it cannot be written ({e})"), "check the provenance")
}

/// Writes `folder`'s [`PROVENANCE`], whole.
///
/// # Errors
/// As [`provenance_text`] and [`write_atomic`].
pub(crate) fn write_provenance(folder: &Path, value: &impl Serialize) -> Result<()> {
    write_atomic(folder.join(PROVENANCE), provenance_text(folder, value)?.as_bytes())
}

pub(crate) fn refuse_replacement(target: &Path, force: bool) -> Result<()> {
    let what = format!("output {}", target.display());
    if !force {
        return Err(Error::invalid(what, "it exists already", "choose another name or use --force to replace it"));
    }
    let here = std::env::current_dir().and_then(fs::canonicalize);
    if let (Ok(here), Ok(there)) = (here, fs::canonicalize(target))
        && here.starts_with(there)
    {
        return Err(Error::invalid(what, "it contains the current folder", "choose another name"));
    }
    Ok(())
}

/// The same for a folder, which is replaced only if a command has left all of it.
///
/// # Errors
/// As [`refuse_replacement`]; [`Error::Invalid`] for a file, and for a folder with anything else in it.
pub(crate) fn refuse_folder(target: &Path, force: bool) -> Result<()> {
    refuse_replacement(target, force)?;
    let refuse = |found: String| {
        let what = format!("output {}", target.display());
        Err(Error::invalid(what, found, "choose another name, or remove it by hand"))
    };
    if !target.is_dir() {
        return refuse("it is a file, and is not replaced by a folder".into());
    }
    match strange_in(target).map_err(Error::io("list", target))? {
        Some(name) => refuse(format!("it holds {name}, which this program did not make, and is not replaced")),
        None => Ok(()),
    }
}

/// The first name in `folder` that no command has left there. Exported pictures have folders and names of their own.
fn strange_in(folder: &Path) -> io::Result<Option<String>> {
    let stages = stages_in(folder);
    let is_result = folder.join(PROVENANCE).is_file();
    let pictures = is_result && !["config.json", "data"].iter().any(|name| folder.join(name).exists());
    let is_own = |entry: &fs::DirEntry, name: &str| match (pictures, is_result) {
        (true, _) => name == PROVENANCE || name == "legend.txt" || name.ends_with(".png") || entry.path().is_dir(),
        (false, true) => OF_A_RESULT.contains(&name),
        (false, false) => !stages.is_empty() && OF_A_RUN.contains(&name),
    };
    let mut names = Vec::new();
    for stage in stages.iter().filter(|_| !is_result) {
        let name = stage.file_name().unwrap_or_default().to_string_lossy();
        names.extend(strange_in(stage)?.map(|inner| format!("{name}/{inner}")));
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_own(&entry, &name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names.into_iter().next())
}

/// What to say of a folder in which no result was found: `otherwise`, if it is there and is not that of a whole run.
pub(crate) fn no_result(folder: &Path, otherwise: impl FnOnce() -> Error) -> Error {
    if !folder.exists() {
        return Error::file(folder, "no such folder", "give one that `synth` has made");
    }
    run_instead(folder).unwrap_or_else(otherwise)
}

/// That a folder is that of a whole run, if it is.
pub(crate) fn run_instead(folder: &Path) -> Option<Error> {
    let stages: Vec<String> = stages_in(folder).iter().map(|stage| stage.display().to_string()).collect();
    (!stages.is_empty())
        .then(|| Error::file(folder, "the folder of a whole run", format!("take {} by itself", stages.join(" or "))))
}

/// The stages of a run that lie in `folder`: `set`, `student`.
pub(crate) fn stages_in(folder: &Path) -> Vec<PathBuf> {
    ["set", "student"].map(|stage| folder.join(stage)).into_iter().filter(|s| s.join(PROVENANCE).is_file()).collect()
}
