//! What tells the results of commands from other folders and files, and which of them a new one may replace.

use super::{json_text, write_atomic};
use crate::{Error, Result};
use serde::Serialize;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The file of a result folder that says how it came about. Its presence is what tells the folder from others.
pub(crate) const PROVENANCE: &str = "synth.json";

/// Files that a model or a set holds, beside folders of numbered ones (`data`, `snapshots`).
const OF_A_RESULT: [&str; 8] = [
    PROVENANCE,
    "README.md",
    "metrics.jsonl",
    "config.json",
    "model.safetensors",
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

/// The first name in `folder` that no command has left there, whose own folders are looked into as well.
fn strange_in(folder: &Path) -> io::Result<Option<String>> {
    let is_result = folder.join(PROVENANCE).is_file();
    let (is_run, pictures) = (!is_result && !stages_in(folder).is_empty(), is_result && holds_pictures(folder));
    let mut strange = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let inside = match entry.file_type()?.is_dir() {
            false if pictures => {
                (name != PROVENANCE && name != "legend.txt" && !is_numbered(&name, "", "png")).then(String::new)
            }
            true if pictures => first_but(&entry.path(), |file| is_numbered(file, "", "png"))?,
            true if is_result && name == "data" => {
                first_but(&entry.path(), |file| is_numbered(file, "train-", "parquet"))?
            }
            true if (is_result || is_run) && name == "snapshots" => {
                first_but(&entry.path(), |file| file == "index.jsonl" || is_numbered(file, "", "safetensors"))?
            }
            true if is_run && ["set", "student"].contains(&&*name) => strange_in(&entry.path())?,
            is_folder => {
                let own = is_result && OF_A_RESULT.contains(&&*name) || is_run && name == "metrics.jsonl";
                (is_folder || !own).then(String::new)
            }
        };
        strange.extend(inside.map(|inner| if inner.is_empty() { name } else { format!("{name}/{inner}") }));
    }
    strange.sort();
    Ok(strange.into_iter().next())
}

/// Whether a folder with provenance is that of pictures: `synth export --to png`, `synth eval --overlays`.
fn holds_pictures(folder: &Path) -> bool {
    let mut text = Vec::new();
    let read =
        fs::File::open(folder.join(PROVENANCE)).and_then(|file| file.take(PROVENANCE_LIMIT).read_to_end(&mut text));
    let about: serde_json::Value = read.ok().and_then(|_| serde_json::from_slice(&text).ok()).unwrap_or_default();
    about["kind"] == "pictures" || about["kind"] == "overlays"
}

/// Whether a file is called `head`, digits (parts of them with `-of-` between), and `ending`.
fn is_numbered(name: &str, head: &str, ending: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let number = name.strip_prefix(head).and_then(|rest| rest.strip_suffix(ending)?.strip_suffix('.'));
    number.is_some_and(|number| number.split("-of-").all(digits))
}

/// The first name in a folder of files that is not `own`.
fn first_but(folder: &Path, own: impl Fn(&str) -> bool) -> io::Result<Option<String>> {
    let mut strange = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() || !own(&name) {
            strange.push(name);
        }
    }
    strange.sort();
    Ok(strange.into_iter().next())
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
