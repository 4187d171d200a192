//! What a person writes behind `--from`: a source, its split, its weight.

use super::source::Source;
use super::{Archive, Dataset, Folder, Generated, Leaves, Noise, Shaders, archive};
use crate::data::{Portion, shards};
use crate::teacher::Teacher;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// `SOURCE[=WEIGHT]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    pub source: String,
    /// Above 0; 1 where nothing is said.
    pub weight: f64,
}

impl std::str::FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (source, weight) = match text.rsplit_once('=') {
            // A path may have a = in it.
            Some((source, weight)) if !Path::new(text).exists() => {
                let weight = weight.parse().ok().filter(|w: &f64| *w > 0.0 && *w <= 1e9);
                (source, weight.ok_or("a weight is a number above 0, as in leaves=2")?)
            }
            _ => (text, 1.0),
        };
        match source.is_empty() {
            true => Err("name a source, such as leaves, shaders, noise or a folder".into()),
            false => Ok(Self { source: source.into(), weight }),
        }
    }
}

impl Wish {
    /// The path or name that is meant, and the split if one is named: `PATH:SPLIT`, unless the whole is a path that exists.
    pub fn path_and_split(&self) -> (PathBuf, Option<&str>) {
        let whole = PathBuf::from(&self.source);
        match self.source.rsplit_once(':') {
            Some((path, split)) if !whole.exists() && !split.is_empty() && !split.contains('/') => {
                (path.into(), Some(split))
            }
            _ => (whole, None),
        }
    }

    /// The generator of that name, if it is one.
    pub fn generator(&self, teacher: &Teacher, seed: u64) -> Option<Box<dyn Source>> {
        Some(match self.source.as_str() {
            "noise" => {
                let kind = Noise::Gaussian { mean: teacher.mean.clone(), std: teacher.std.clone() };
                Box::new(Generated::new(kind, seed))
            }
            "noise:uniform" => Box::new(Generated::new(Noise::Uniform, seed)),
            "leaves" => Box::new(Generated::new(Leaves, seed)),
            "shaders" => Box::new(Generated::new(Shaders, seed)),
            _ => return None,
        })
    }
}

/// What lies at a path: a tar file or a folder of them, a parquet file or a folder with some (a dataset, a set), or a folder
/// of pictures. `name` is how provenance calls it; of a dataset with numbered files only those that hold the `portion` are needed.
///
/// # Errors
/// [`Error::Io`] where nothing is there; a split of what has none; as [`Archive::open`], [`Dataset::open`] and [`Folder::open`].
pub fn open(path: &Path, name: &str, split: Option<&str>, portion: Portion) -> Result<Box<dyn Source>> {
    let about = std::fs::metadata(path).map_err(Error::io("open", path))?;
    if about.is_file() {
        no_split(name, split)?;
        return match path.extension().is_some_and(|ending| ending == "tar") {
            true => Ok(Box::new(Archive::open(path)?)),
            false => Ok(Box::new(Dataset::open(path, name, None, Portion::Whole)?)),
        };
    }
    if !archive::tars_in(path)?.is_empty() {
        no_split(name, split)?;
        return Ok(Box::new(Archive::open(path)?));
    }
    match shards(path, Some("train")) {
        Ok(None) => {
            no_split(name, split)?;
            Ok(Box::new(Folder::open(path)?))
        }
        _ => Ok(Box::new(Dataset::open(path, name, split, portion)?)),
    }
}

/// # Errors
/// A split of a file or of a pile of pictures.
fn no_split(name: &str, split: Option<&str>) -> Result<()> {
    let Some(split) = split else { return Ok(()) };
    let hint = format!("leave out :{split}, or name the folder that holds it");
    Err(Error::invalid("--from", format!("{name} has no splits"), hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_and_splits_are_told_from_names() {
        let wish = |text: &str| text.parse::<Wish>();
        assert_eq!(wish("leaves=2.5").unwrap(), Wish { source: "leaves".into(), weight: 2.5 });
        assert_eq!(wish("noise:uniform").unwrap().weight, 1.0);
        for bad in ["leaves=0", "leaves=x", "leaves=-1", "leaves=nan", "=2", ""] {
            assert!(wish(bad).is_err(), "{bad}");
        }
        let split = |text: &str| wish(text).unwrap().path_and_split().1.map(str::to_string);
        assert_eq!(split("owner/name:test").as_deref(), Some("test"));
        assert_eq!((split("hf://owner/name"), split("owner/name@x")), (None, None));
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("a=1:b");
        std::fs::create_dir(&odd).unwrap();
        let wish = wish(odd.to_str().unwrap()).unwrap();
        assert_eq!((wish.weight, wish.path_and_split()), (1.0, (odd, None)));
    }

    #[test]
    fn a_split_of_what_has_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (pictures, tars) = (folder.path().join("pictures"), folder.path().join("tars"));
        for (folder, file) in [(&pictures, "a.png"), (&tars, "a.tar"), (&tars, "a.parquet")] {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join(file), b"").unwrap();
        }
        assert!(open(&pictures, "x", None, Portion::Whole).is_ok());
        for path in [pictures, tars.join("a.tar"), tars.join("a.parquet"), tars] {
            let refusal = open(&path, "x", Some("val"), Portion::Whole).err().unwrap().to_string();
            assert!(refusal.starts_with("--from: x has no splits; leave out :val"), "{refusal}");
        }
    }
}
