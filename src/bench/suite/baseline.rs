//! Sets that no inversion made: real images, or noise, with a teacher's answers.

use super::command::Surroundings;
use super::file::{Budget, Suite};
use super::run::{Kind, Run};
use crate::collect::{Draw, Noise};
use crate::data::{Framing, Images, Labelled, ReadOptions};
use crate::files::{Staging, sha256_bytes};
use crate::jobs::{Access, answered_set, open_model};
use crate::model::{Model, Overrides};
use crate::ops::Compute;
use crate::rng::Streams;
use crate::set::{SyntheticSet, most_images};
use crate::teacher::Teacher;
use crate::train::labels_for;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Which set: several runs share one.
pub struct SetKey {
    noise: bool,
    /// Images at most.
    count: Option<usize>,
    hold_back: usize,
    teacher: Value,
    data: String,
}

impl SetKey {
    /// The set that a run of KD learns from.
    pub fn of(run: &Run, suite: &Suite) -> Self {
        let noise = run.kind == Kind::KdNoise;
        let count = match run.budget {
            Some(Budget::Images(count)) => Some(count),
            _ if noise => Some(suite.kd.noise),
            _ => suite.kd.images,
        };
        let teacher = run.settings["teacher"].clone();
        Self { noise, count, hold_back: suite.hold_back, teacher, data: suite.data.clone() }
    }

    /// Where it lies.
    pub fn folder(&self, out: &Path) -> PathBuf {
        let Self { noise, count, hold_back, teacher, data } = self;
        let origin = if *noise { json!("noise") } else { json!([data, hold_back]) };
        let hash = sha256_bytes(json!([origin, count, teacher]).to_string().as_bytes());
        out.join("sets").join(format!("{}-{}", if *noise { "noise" } else { "real" }, &hash[..10]))
    }

    /// Makes the set unless it is there.
    ///
    /// # Errors
    /// A teacher or data that cannot be read or do not fit each other; [`crate::Error::Io`].
    pub fn make(&self, run: &Run, around: &Surroundings, access: &Access, compute: &Compute) -> Result<()> {
        let folder = self.folder(around.out);
        if folder.exists() {
            return Ok(());
        }
        let model = open_model(&around.teacher(run)?, None, &Overrides::default(), access)?;
        let frozen = Teacher::of(&model).to(compute)?;
        let staging = Staging::create(&folder, false)?;
        let set = match self.noise {
            true => noise(&frozen, &model, self.count.unwrap_or_default())?,
            false => self.real(&frozen, &model, &around.data()?, access)?,
        };
        set.write(staging.path())?;
        staging.finish().map(|_| ())
    }

    fn real(&self, frozen: &Teacher, model: &Model, data: &Path, access: &Access) -> Result<SyntheticSet> {
        let options = ReadOptions {
            split: Some("train".into()),
            framing: Some(Framing::stretched(frozen.size)),
            channels: Some(frozen.channels),
            ..ReadOptions::default()
        };
        let mut all = access.labelled(data, &options)?;
        labels_for(&model.class_names(), &mut all)?;
        if self.hold_back > 0 {
            all = all.held_back(self.hold_back)?.0;
        }
        let Labelled { images, labels, name, sha256, .. } = all.thinned(self.count.unwrap_or(usize::MAX))?;
        answered_set(model, frozen, images, Some(labels), json!({ "name": name, "sha256": sha256 }))
    }
}

/// Normal noise with the mean and the deviation of the teacher's normalisation, in 8 bits.
fn noise(frozen: &Teacher, model: &Model, count: usize) -> Result<SyntheticSet> {
    let ([height, width], channels) = (frozen.size, frozen.channels);
    let noise = Noise::Gaussian { mean: frozen.mean.clone(), std: frozen.std.clone() };
    let most = most_images([height, width, channels], frozen.classes, 0);
    if count > most {
        return Err(Error::invalid(
            "kd.noise",
            format!("{count} images"),
            format!("a set has at most {most} of this size"),
        ));
    }
    let mut pixels = vec![0; count * height * width * channels];
    noise.draw(&mut Streams::new(0).stream("bench/noise", 0), [height, width, channels], &mut pixels);
    let images = Images::new(pixels, channels, height, width)?;
    answered_set(model, frozen, images, None, json!({ "name": "normal noise" }))
}
