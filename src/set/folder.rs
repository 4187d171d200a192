//! The set's folder: its files, their order, and `synth.json`.

use super::{MAX_VIEWS, SyntheticSet, View, Views, card, most_images, preview, rows};
use crate::data::table::guard;
use crate::data::{Images, MAX_SIDE, shards};
use crate::files::{PROVENANCE, PROVENANCE_LIMIT, no_result, provenance_text, unwritable, write_atomic};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// Decoded pixels per parquet file: shards of 87,000 CIFAR or 1,800 ImageNet images.
pub(super) const SHARD_PIXEL_BYTES: usize = 256 << 20;

const FORMAT: u32 = 1;

/// The entry `set` of `synth.json`: what a reader checks the table against.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    pub format: u32,
    pub count: usize,
    pub classes: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<View>,
}

impl Description {
    fn of(set: &SyntheticSet) -> Self {
        let Images { channels, height, width, .. } = *set.images;
        let views = set.views.as_ref().map_or(Vec::new(), |v| v.list.clone());
        Self { format: FORMAT, count: set.len(), classes: set.class_names.len(), height, width, channels, views }
    }

    fn check(&self) -> std::result::Result<(), String> {
        let sides = 1..=MAX_SIDE;
        if self.format != FORMAT {
            return Err(format!("format {} (this program reads {FORMAT})", self.format));
        }
        if !sides.contains(&self.height) || !sides.contains(&self.width) || !matches!(self.channels, 1 | 3) {
            return Err(format!("images of [{}, {}, {}]", self.height, self.width, self.channels));
        }
        let most = most_images([self.height, self.width, self.channels], self.classes, self.views.len());
        if self.views.len() > MAX_VIEWS || self.count > most {
            return Err(format!("{} images with {} views, too much to read", self.count, self.views.len()));
        }
        Ok(())
    }
}

/// Writes a checked set, in shards of at most `shard_bytes` decoded bytes (but at least one image).
pub(super) fn write(set: &SyntheticSet, folder: &Path, shard_bytes: usize) -> Result<()> {
    let data = folder.join("data");
    if data.exists() {
        return Err(Error::file(&data, "it exists already", "write the set into a new folder"));
    }
    let description = serde_json::to_value(Description::of(set)).map_err(|e| unwritable(folder, &e))?;
    let mut provenance = set.provenance.clone();
    provenance["set"] = description;
    if provenance.get("task").is_none() {
        provenance["task"] = "image-classification".into();
    }
    let json = provenance_text(folder, &provenance)?;
    if json.len() as u64 > PROVENANCE_LIMIT {
        let found = format!("{} bytes, more than the {PROVENANCE_LIMIT} that are read", json.len());
        return Err(Error::file(folder.join(PROVENANCE), found, "shorten the teacher's config.json, which is in it"));
    }

    fs::create_dir_all(&data).map_err(Error::io("create", &data))?;
    let per_shard = (shard_bytes / set.images.image_len()).max(1);
    let count = set.len().div_ceil(per_shard);
    let mut bytes = 0;
    for shard in 0..count {
        let range = shard * per_shard..((shard + 1) * per_shard).min(set.len());
        bytes += rows::write(set, range, &data.join(format!("train-{shard:05}-of-{count:05}.parquet")))?;
    }
    let classes = set.class_names.len();
    preview::write_preview(folder.join("preview.png"), &set.images, &set.labels, classes)?;
    let card = card::card(set, bytes, &provenance, &folder_name(folder));
    write_atomic(folder.join("README.md"), card.as_bytes())?;
    write_atomic(folder.join(PROVENANCE), json.as_bytes())
}

pub(super) fn read(folder: &Path) -> Result<SyntheticSet> {
    let (provenance, description) = read_json(folder)?;
    let data = folder.join("data");
    let nothing = || Error::file(&data, "it holds no parquet file", "the set is incomplete; get it again");
    let (_, files) = shards(&data, Some("train"))?.ok_or_else(nothing)?;
    let mut reader = rows::Reader::new(&description);
    for file in &files {
        guard(file, || reader.read(file))?;
    }
    let found = reader.labels.len();
    if found != description.count {
        let hint = format!("synth.json says {}; get the set again", description.count);
        return Err(Error::file(&data, format!("{found} images"), hint));
    }
    let images = reader.collector.finish().ok_or_else(nothing)?;
    let views = (!description.views.is_empty())
        .then_some(Views { list: description.views.clone(), logits: reader.view_logits });
    let set = SyntheticSet {
        images: images.into(),
        labels: reader.labels,
        logits: reader.logits,
        priority: reader.priority,
        class_names: reader.class_names,
        views,
        provenance,
    };
    set.check()?;
    Ok(set)
}

pub(super) fn read_json(folder: &Path) -> Result<(serde_json::Value, Description)> {
    let path = folder.join(PROVENANCE);
    let refuse =
        |found: String| Error::file(&path, found, "name a folder that `synth invert` or `synth collect` finished");
    let about = fs::metadata(&path);
    let about = about.map_err(|e| no_result(folder, || refuse(format!("no finished set ({e})"))));
    let size = about?.len();
    if size > PROVENANCE_LIMIT {
        return Err(refuse(format!("{size} bytes, more than the {PROVENANCE_LIMIT} that are read")));
    }
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| refuse(format!("broken JSON ({e})")))?;
    if let Some(kind @ ("student" | "supervised")) = json["kind"].as_str() {
        return Err(refuse(format!("it is of a model ({kind}), not of a set")));
    }
    let entry = json.get("set").ok_or_else(|| refuse("no entry `set`".into()))?;
    let description =
        Description::deserialize(entry).map_err(|e| refuse(format!("its entry `set` cannot be used ({e})")))?;
    description.check().map_err(|found| refuse(format!("its entry `set` speaks of {found}")))?;
    Ok((json, description))
}

/// The folder's name for the card's title; a hidden temporary folder gives the name that it will get.
fn folder_name(folder: &Path) -> String {
    let full = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf());
    let name = full.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match name.strip_prefix('.').and_then(|n| n.split_once(".partial-")) {
        Some((target, _)) => target.to_string(),
        None => name,
    }
}
