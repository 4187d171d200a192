//! The images of a set as PNG files in one folder per class, which `--data` and every image-folder reader takes.

use crate::events::check_interrupt;
use crate::files::write_provenance;
use crate::set::SyntheticSet;
use crate::{Error, Result};
use rayon::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Longest folder name in bytes that is made of a class name; file systems end at 255.
const MAX_NAME_BYTES: usize = 200;

/// Images between two looks at Ctrl-C.
const CHUNK: usize = 1024;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pictures {
    pub count: usize,
    /// Of all files together.
    pub bytes: u64,
    /// Names of the folders, one per class in the order of the labels.
    pub folders: Vec<String>,
}

/// Writes every image of `set` as `folder/CLASS/INDEX.png`, losslessly; INDEX counts over the whole set, and a class
/// without images has an empty folder. `synth.json` beside them says that they are pictures of the set, and what is known of it. For a folder that appears at once, write into a [`crate::files::Staging`].
///
/// Folders have the names of the classes. If one of these could not be a folder that readers list (separators, control
/// characters, a leading dot, ...) or two are the same, all folders get the number of their class in front, so that their
/// order is that of the labels.
///
/// # Errors
/// [`Error::Io`]; [`Error::Interrupted`].
pub fn write_pictures(set: &SyntheticSet, folder: impl AsRef<Path>) -> Result<Pictures> {
    let folder = folder.as_ref();
    let folders = folder_names(&set.class_names);
    for name in &folders {
        let path = folder.join(name);
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
    }
    let digits = digits(set.len());
    let write = |i: usize| {
        let path = folder.join(&folders[set.labels[i] as usize]).join(format!("{i:0digits$}.png"));
        let bytes = set.png(i)?;
        fs::write(&path, &bytes).map_err(Error::io("write", &path))?;
        Ok(bytes.len() as u64)
    };
    let mut bytes = 0;
    for start in (0..set.len()).step_by(CHUNK) {
        check_interrupt()?;
        let chunk = start..(start + CHUNK).min(set.len());
        bytes += chunk.into_par_iter().map(write).collect::<Result<Vec<_>>>()?.iter().sum::<u64>();
    }
    let license = &set.provenance["license"];
    write_provenance(
        folder,
        &json!({ "kind": "pictures", "count": set.len(), "license": license, "set": set.provenance }),
    )?;
    Ok(Pictures { count: set.len(), bytes, folders })
}

/// Digits of the largest index below `count`.
fn digits(count: usize) -> usize {
    count.saturating_sub(1).to_string().len()
}

/// One folder name per class; see [`write_pictures`].
fn folder_names(classes: &[String]) -> Vec<String> {
    let safe: Vec<String> = classes.iter().map(|name| safe_name(name)).collect();
    // Some file systems do not tell cases apart.
    let distinct: BTreeSet<String> = safe.iter().map(|name| name.to_lowercase()).collect();
    if safe == classes && distinct.len() == classes.len() {
        return safe;
    }
    let digits = digits(classes.len());
    safe.iter().enumerate().map(|(class, name)| format!("{class:0digits$} {name}").trim_end().to_string()).collect()
}

/// A class name as a folder name: what separates paths, cannot be printed or means something to a file system becomes `_`.
fn safe_name(class: &str) -> String {
    let forbidden = |c: char| c.is_control() || r#"/\:*?"<>|"#.contains(c);
    let mut name = String::new();
    for c in class.trim().chars() {
        // `.` and `..` are folders of their own, and readers skip hidden ones.
        let dot_in_front = c == '.' && name.is_empty();
        name.push(if forbidden(c) || dot_in_front { '_' } else { c });
        if name.len() > MAX_NAME_BYTES - 4 {
            break;
        }
    }
    match name.trim_end_matches(['.', ' ']) {
        "" => "_".into(),
        name => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(classes: &[&str]) -> Vec<String> {
        folder_names(&classes.iter().map(|name| name.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn ordinary_names_stay() {
        let ordinary = ["truck", "n01440764 tench, Tinca tinca", "it's", "naïve", "1", "train", "a.b"];
        assert_eq!(names(&ordinary), ordinary);
    }

    #[test]
    fn awkward_names_become_folders_in_the_order_of_the_labels() {
        let awkward = ["z/../../etc", "..", ".hidden", "tab\there", "", "C:\\x", "dot.", " space ", "\u{7f}"];
        let expected = ["0 z_.._.._etc", "1 _", "2 _hidden", "3 tab_here", "4 _", "5 C__x", "6 dot", "7 space", "8 _"];
        assert_eq!(names(&awkward), expected);
        assert_eq!(names(&["Cat", "cat"]), ["0 Cat", "1 cat"]);
        let long = "ä".repeat(300);
        let cut = names(&[&long]).remove(0);
        assert!(cut.starts_with("0 ää") && (MAX_NAME_BYTES - 4..=MAX_NAME_BYTES + 2).contains(&cut.len()), "{cut}");
        let many: Vec<String> = (0..12).map(|_| "same".to_string()).collect();
        let folders = folder_names(&many);
        assert_eq!((folders[2].as_str(), folders[11].as_str(), folders.is_sorted()), ("02 same", "11 same", true));
    }
}
