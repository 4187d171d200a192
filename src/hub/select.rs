//! Which files of a repository are needed.

use std::path::{Path, PathBuf};

use super::fault::nothing_for;
use super::listing::Listing;
use super::name::{HubName, quote};
use super::push::SET;
use crate::data::pick_shards;
use crate::weights::folder::{INDEX_NAMES, PICKLE_EXTENSIONS, SINGLE_NAMES};
use crate::weights::is_index;
use crate::{Error, Result};

const CONFIG: &str = "config.json";
/// Beside the weights: how images are prepared, how texts are cut up, and the licence.
pub(super) const EXTRAS: [&str; 3] = ["preprocessor_config.json", "tokenizer.json", "README.md"];
/// Files of a repository that are listed in a message.
const LISTED: usize = 12;
/// Weights that cannot be read, by their endings.
const FOREIGN: [(&str, &str); 9] = [
    (".h5", "Keras"),
    (".keras", "Keras"),
    (".msgpack", "Flax"),
    (".onnx", "ONNX"),
    (".gguf", "GGUF"),
    (".ggml", "GGML"),
    (".tflite", "TensorFlow Lite"),
    (".mlmodel", "Core ML"),
    (".ckpt", "TensorFlow or Lightning"),
];

/// The files of a model that are needed: configuration, what lies beside it, and the weights or the index of their parts.
pub(super) struct ModelFiles {
    pub small: Vec<String>,
    /// A file of weights, or the index of several.
    pub weights: String,
}

/// Chooses the files of a model: `model.safetensors`, else its parts, else `pytorch_model.bin`, else its parts, else the only
/// torch pickle at the top.
pub(super) fn model_files(name: &HubName, listing: &Listing) -> Result<ModelFiles> {
    let weights = weights(listing).ok_or_else(|| no_weights(name, listing))?;
    if !listing.has(CONFIG) {
        return Err(nothing_for(name, format!("it has no config.json; it holds {}", shown(&listing.files))));
    }
    let extras = EXTRAS.into_iter().filter(|file| listing.has(file));
    Ok(ModelFiles { small: std::iter::once(CONFIG).chain(extras).map(String::from).collect(), weights })
}

fn weights(listing: &Listing) -> Option<String> {
    let usual = SINGLE_NAMES.iter().zip(INDEX_NAMES).flat_map(|(single, index)| [*single, index]);
    let usual = usual.into_iter().find(|file| listing.has(file));
    let ending = |file: &str| Path::new(file).extension()?.to_str().map(String::from);
    let is_pickle = |file: &&String| {
        !file.contains('/') && ending(file).is_some_and(|ending| PICKLE_EXTENSIONS.contains(&ending.as_str()))
    };
    let mut pickles = listing.files.iter().filter(is_pickle);
    let only = pickles.next().filter(|_| pickles.next().is_none());
    usual.map(String::from).or_else(|| only.cloned())
}

fn no_weights(name: &HubName, listing: &Listing) -> Error {
    let foreign = FOREIGN.iter().find(|(ending, _)| listing.files.iter().any(|file| file.ends_with(ending)));
    let found = match foreign {
        Some((_, format)) => {
            format!("its weights are in a format that is not read ({format}): {}", shown(&listing.files))
        }
        None => format!("it has no weights; it holds {}", shown(&listing.files)),
    };
    nothing_for(name, found)
}

fn shown(files: &[String]) -> String {
    let listed: Vec<String> = files.iter().take(LISTED).map(|file| quote(file)).collect();
    match files.len() {
        0 => "no files".into(),
        count if count > LISTED => format!("{} and {} more", listed.join(", "), count - LISTED),
        _ => listed.join(", "),
    }
}

/// The parquet files of one split of a dataset; `None` if it has no parquet file at all.
///
/// # Errors
/// No such split, several folders that hold it, or a part that is missing, by the names of the files alone.
pub(super) fn dataset_files(name: &HubName, listing: &Listing, split: Option<&str>) -> Result<Option<Vec<String>>> {
    let root = PathBuf::from(name.to_string());
    let within = |file: &&String| match &name.folder {
        Some(folder) => file.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/')),
        None => true,
    };
    let visible = |file: &&String| file.ends_with(".parquet") && !file.split('/').any(|part| part.starts_with('.'));
    let prefix = name.folder.as_ref().map_or(String::new(), |folder| format!("{folder}/"));
    let of_split = listing.files.iter().filter(within).filter(visible);
    let paths = of_split.map(|file| root.join(file.strip_prefix(&prefix).unwrap_or(file))).collect();
    let Some((_, chosen)) = pick_shards(&root, paths, split)? else { return Ok(None) };
    let back = |path: &PathBuf| Some(format!("{prefix}{}", path.strip_prefix(&root).ok()?.to_str()?));
    Ok(Some(chosen.iter().filter_map(back).collect()))
}

/// Where a set says what it is, if the dataset is one: beside its tables or at the top.
pub(super) fn about_set(name: &HubName, listing: &Listing) -> Vec<String> {
    let beside = name.folder.iter().map(|folder| format!("{folder}/synth.json"));
    beside.chain(["synth.json".to_string()]).filter(|file| listing.has(file)).collect()
}

/// The files of a set, as `push` sends them.
pub(super) fn set_files(name: &HubName, listing: &Listing) -> Result<Vec<String>> {
    let belongs = |file: &&String| match file.strip_prefix("data/") {
        Some(shard) => shard.ends_with(".parquet") && !shard.contains('/'),
        None => SET.contains(&file.as_str()),
    };
    let files: Vec<String> = listing.files.iter().filter(belongs).cloned().collect();
    match listing.has("synth.json") && files.iter().any(|file| file.starts_with("data/")) {
        true => Ok(files),
        false => Err(nothing_for(name, "it is no set that `synth` has made: no synth.json or no data/*.parquet")),
    }
}

/// Whether the chosen weights are an index, whose parts are still to be fetched.
pub(super) fn has_parts(weights: &str) -> bool {
    is_index(Path::new(weights))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::name::Kind;

    fn listing(files: &[&str]) -> Listing {
        Listing { commit: "0".repeat(40), files: files.iter().map(|f| f.to_string()).collect(), private: None }
    }

    fn chosen(files: &[&str]) -> std::result::Result<String, String> {
        let name = HubName::parse("a/b", Kind::Model).unwrap();
        model_files(&name, &listing(files)).map(|files| files.weights).map_err(|error| error.to_string())
    }

    #[test]
    fn weights_are_chosen_in_order_of_preference() {
        for (files, expected) in [
            (vec!["config.json", "pytorch_model.bin", "model.safetensors", "x.pth"], "model.safetensors"),
            (vec!["config.json", "pytorch_model.bin", "model.safetensors.index.json"], "model.safetensors.index.json"),
            (vec!["config.json", "pytorch_model.bin.index.json", "pytorch_model.bin"], "pytorch_model.bin"),
            (vec!["config.json", "pytorch_model.bin.index.json", "tf_model.h5"], "pytorch_model.bin.index.json"),
            (vec!["config.json", "checkpoint.pth", "sub/other.pth"], "checkpoint.pth"),
        ] {
            assert_eq!(chosen(&files).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_missing_is_said_with_what_is_there() {
        for (files, parts) in [
            (vec![], ["no weights", "no files"]),
            (vec!["config.json", "README.md"], ["it has no weights", "`config.json`, `README.md`"]),
            (vec!["config.json", "tf_model.h5"], ["not read (Keras)", "`tf_model.h5`"]),
            (vec!["model-q4.gguf"], ["not read (GGUF)", "`model-q4.gguf`"]),
            (vec!["onnx/model.onnx", "config.json"], ["not read (ONNX)", "`onnx/model.onnx`"]),
            (vec!["model.safetensors"], ["no config.json", "`model.safetensors`"]),
            (vec!["config.json", "a.pth", "b.pth"], ["no weights", "`a.pth`, `b.pth`"]),
        ] {
            let message = chosen(&files).unwrap_err();
            assert!(parts.iter().all(|part| message.contains(part)) && message.starts_with("a/b"), "{message}");
        }
        let many: Vec<String> = (0..30).map(|i| format!("{i}.txt")).collect();
        assert!(chosen(&many.iter().map(String::as_str).collect::<Vec<_>>()).unwrap_err().contains("and 18 more"));
    }

    #[test]
    fn the_files_of_a_split_are_chosen_by_their_names() {
        let of = |text: &str, files: &[&str], split: Option<&str>| {
            let name = HubName::parse(text, Kind::Dataset).unwrap();
            dataset_files(&name, &listing(files), split).map_err(|error| error.to_string())
        };
        let two = [
            "README.md",
            "data/train-00000-of-00002.parquet",
            "data/train-00001-of-00002.parquet",
            "data/test-00000-of-00001.parquet",
        ];
        assert_eq!(of("a/b", &two, None).unwrap().unwrap(), [two[3]]);
        assert_eq!(of("a/b", &two, Some("train")).unwrap().unwrap(), [two[1], two[2]]);
        assert!(of("a/b", &two[..2], Some("train")).unwrap_err().contains("1 of the 2 files"));
        assert!(of("a/b", &two, Some("dev")).unwrap_err().contains("no split `dev`"));
        assert_eq!(of("a/b", &["README.md", "x.csv", ".hidden/test.parquet"], None).unwrap(), None);
        let several = ["x/test/0000.parquet", "y/test/0000.parquet"];
        assert!(of("a/b", &several, None).unwrap_err().contains("several folders hold the split `test`"));
        assert_eq!(of("hf://datasets/a/b/y", &several, None).unwrap().unwrap(), ["y/test/0000.parquet"]);
    }
}
