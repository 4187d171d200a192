//! Which parquet files of a dataset folder hold the split that is asked for.

use super::portion::Portion;
use super::table::Table;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How deep below the folder parquet files are looked for: `NAME/SPLIT/0000.parquet` is the deepest layout in use.
const MAX_DEPTH: usize = 3;

/// More folders and parquet files in one folder than this and it is not a dataset folder. Pictures may be as many as there are.
const MAX_ENTRIES: usize = 100_000;

/// Splits by name, each with its configurations (sub-folders), each with its shards in name order.
type Found = BTreeMap<String, BTreeMap<PathBuf, Vec<PathBuf>>>;

/// The split's name (as in the file names) and its shards, in name order. `None` when the folder holds no parquet file.
pub(crate) fn shards(root: &Path, asked: Option<&str>) -> Result<Option<(String, Vec<PathBuf>)>> {
    let mut files = Vec::new();
    collect(root, 0, &mut files)?;
    pick(root, files, asked)
}

/// As [`shards`], for a portion of the rows: those shards that hold it, though others may be missing.
pub(crate) fn shards_for(root: &Path, asked: Option<&str>, portion: Portion) -> Result<Option<(String, Vec<PathBuf>)>> {
    let Some(rows) = portion.rows() else { return shards(root, asked) };
    let mut files = Vec::new();
    collect(root, 0, &mut files)?;
    let Some((split, files)) = of_split(root, files, asked)? else { return Ok(None) };
    match holding(&files, portion, rows)? {
        Some(some) => Ok(Some((split, some))),
        None => whole(&files).map(|()| Some((split, files))),
    }
}

/// As [`shards`], among files of which only the names below `root` are looked at.
pub(crate) fn pick(root: &Path, files: Vec<PathBuf>, asked: Option<&str>) -> Result<Option<(String, Vec<PathBuf>)>> {
    let found = of_split(root, files, asked)?;
    found.iter().try_for_each(|(_, files)| whole(files))?;
    Ok(found)
}

/// The files of a split, whether or not some are missing.
fn of_split(root: &Path, mut files: Vec<PathBuf>, asked: Option<&str>) -> Result<Option<(String, Vec<PathBuf>)>> {
    if files.is_empty() {
        return Ok(None);
    }
    files.sort();
    let mut found = Found::new();
    for file in files {
        let (split, configuration) = split_of(root, &file);
        found.entry(split).or_default().entry(configuration).or_default().push(file);
    }
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    let split = choose(root, &names, asked)?.to_string();
    let configurations = found.remove(&split).unwrap_or_default();
    let folders: Vec<String> = configurations.keys().map(|p| p.display().to_string()).collect();
    let mut files = configurations.into_values();
    match (files.next(), files.next()) {
        (Some(files), None) => Ok(Some((split, files))),
        _ => {
            let found = format!("several folders hold the split `{split}`: {}", folders.join(", "));
            Err(Error::file(root, found, "name one of them as the dataset"))
        }
    }
}

/// The wanted one of the splits that are there: by name or alias when asked for, else `test`, `validation`, the only.
pub(super) fn choose<'a>(root: &Path, names: &[&'a str], asked: Option<&str>) -> Result<&'a str> {
    let find = |wanted: &str| {
        let exact = names.iter().find(|n| **n == wanted);
        exact.or_else(|| names.iter().find(|n| alias(n) == alias(wanted))).copied()
    };
    match asked {
        Some(wanted) => find(wanted).ok_or_else(|| Error::no_split(root, wanted, names)),
        None => find("test").or_else(|| find("validation")).or((names.len() == 1).then(|| names[0])).ok_or_else(|| {
            let hint = format!("choose a split among: {}", names.join(", "));
            Error::file(root, "it has neither a test nor a validation split", hint)
        }),
    }
}

/// One name for the splits that people name differently.
pub(super) fn alias(split: &str) -> &str {
    match split {
        "val" | "valid" | "dev" => "validation",
        "training" => "train",
        "eval" | "evaluation" => "test",
        other => other,
    }
}

/// Whether a split is taken before all others where none is asked for.
pub(crate) fn comes_first(split: &str) -> bool {
    alias(split) == "test"
}

/// Whether a name is that of a split rather than of a class.
pub(super) fn is_split(name: &str) -> bool {
    matches!(alias(name), "train" | "test" | "validation")
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut count = 0;
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        if path.file_name().is_none_or(|n| n.to_string_lossy().starts_with('.')) {
            continue;
        }
        let (is_dir, is_parquet) = (path.is_dir(), path.extension().is_some_and(|e| e == "parquet"));
        if !is_dir && !is_parquet {
            continue;
        }
        if count == MAX_ENTRIES {
            let found = format!("it has over {MAX_ENTRIES} folders and parquet files");
            return Err(Error::file(folder, found, "name a dataset folder"));
        }
        count += 1;
        if !is_dir {
            files.push(path);
        } else if depth < MAX_DEPTH {
            collect(&path, depth + 1, files)?;
        }
    }
    Ok(())
}

/// Split and configuration of `CONFIGURATION/SPLIT-00000-of-00001.parquet`, `CONFIGURATION/SPLIT/0000.parquet` or
/// `CONFIGURATION/SPLIT.parquet`.
fn split_of(root: &Path, file: &Path) -> (String, PathBuf) {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let folder = file.parent().unwrap_or(root);
    let relative = |folder: &Path| folder.strip_prefix(root).unwrap_or(folder).to_path_buf();
    if let Some((split, ..)) = numbered(&stem) {
        return (split.to_string(), relative(folder));
    }
    let is_number = !stem.is_empty() && stem.bytes().all(|b| b.is_ascii_digit());
    match (is_number, folder.file_name(), folder.parent()) {
        (true, Some(split), Some(parent)) => (split.to_string_lossy().into_owned(), relative(parent)),
        _ => (stem, relative(folder)),
    }
}

/// Split, index and shard count of `SPLIT-00000-of-00001`, behind which older files have a hash: `-1359597a978bc4fa`.
fn numbered(stem: &str) -> Option<(&str, usize, usize)> {
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (split, index) = rest.rsplit_once('-')?;
    let (count, hash) = count.split_once('-').unwrap_or((count, ""));
    let is_hash = hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then_some((split, index.parse().ok()?, count.parse().ok()?))
}

/// Whether `file` is called like a shard of `split`.
pub(crate) fn is_shard_of(file: &Path, split: &str) -> bool {
    let is_parquet = file.extension().is_some_and(|extension| extension == "parquet");
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    is_parquet && numbered(&stem).is_some_and(|(of, ..)| of == split)
}

/// A single file is of the split that its name says; one that says none may be meant to be trained on.
pub(super) fn check_split(file: &Path, asked: Option<&str>) -> Result<()> {
    let Some(asked) = asked else { return Ok(()) };
    let split = split_of(Path::new(""), file).0;
    let found = match is_split(&split) {
        _ if alias(&split) == alias(asked) => return Ok(()),
        true => format!("a file of the split `{split}`, not `{asked}`"),
        false if alias(asked) == "train" => return Ok(()),
        false => format!("a single file, which has no split `{asked}`"),
    };
    Err(Error::file(file, found, "name the folder of the dataset, or leave the split out"))
}

/// Whether a file says in its name which of how many shards it is, so that a missing one is noticed.
pub(crate) fn says_its_place(file: &Path) -> bool {
    numbered(&file.file_stem().unwrap_or_default().to_string_lossy()).is_some()
}

/// The shards that hold a portion of `rows` rows, in the order of their numbers, if those are there.
fn holding(files: &[PathBuf], portion: Portion, rows: usize) -> Result<Option<Vec<PathBuf>>> {
    let mut shards = BTreeMap::new();
    let mut count = 0;
    for file in files {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let Some((_, index, of)) = numbered(&stem) else { return Ok(None) };
        shards.insert(index, file);
        count = count.max(of);
    }
    let (mut taken, mut found) = (BTreeMap::new(), 0);
    for index in portion.order(count) {
        let Some(file) = shards.get(&index) else { break };
        taken.insert(index, PathBuf::clone(file));
        found += Table::open(file)?.rows();
        if found >= rows {
            return Ok(Some(taken.into_values().collect()));
        }
    }
    Ok(None)
}

/// Refuses a split of which a shard is missing: accuracy on a part would pass for accuracy on the whole.
fn whole(files: &[PathBuf]) -> Result<()> {
    let Some(first) = files.first() else { return Ok(()) };
    for file in files {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        if let Some((_, _, count)) = numbered(&stem)
            && count != files.len()
        {
            let folder = first.parent().unwrap_or(first);
            let found = format!("{} of the {count} files that `{stem}` speaks of are there", files.len());
            return Err(Error::file(folder, found, "get the missing ones, remove the surplus, or name one file"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_say_their_split_their_number_and_how_many_there_are() {
        assert_eq!(numbered("train-00003-of-00010"), Some(("train", 3, 10)));
        assert_eq!(numbered("train-clean-00003-of-00010-1359597a978bc4fa"), Some(("train-clean", 3, 10)));
        for other in ["train", "0000", "train-00000", "train-of-3", "train-00000-of-00001-old"] {
            assert_eq!(numbered(other), None, "{other}");
        }
        let is_shard = |file: &str| is_shard_of(Path::new(file), "train");
        assert!(is_shard("data/train-00000-of-00001.parquet"));
        assert!(!is_shard("data/train-00000-of-00001.jsonl") && !is_shard("data/train-clean-00000-of-00001.parquet"));
    }

    #[test]
    fn a_single_file_is_of_the_split_that_it_says() {
        let serves = |file: &str, asked: &str| check_split(Path::new(file), Some(asked)).is_ok();
        assert!(serves("validation-00000-of-00001.parquet", "val") && serves("d/test/0000.parquet", "test"));
        assert!(serves("test.parquet", "test") && !serves("test.parquet", "train"));
        assert!(serves("birds.parquet", "train") && !serves("birds.parquet", "test"));
        assert!(serves("birds-00000-of-00001.parquet", "birds"));
    }
}
