//! `synth train`: supervised training, for baselines and teachers.

use super::options::{Common, Computing, Either, Lasting, SnapshotOptions};
use super::recipe::Overrides;
use super::{Global, distill};
use clap::Args;
use std::path::PathBuf;
use synth::data::ReadOptions;
use synth::jobs::TrainJob;
use synth::train::SupervisedRecipe;
use synth::{Error, Result};

/// Train a network on labelled images (baselines, teachers)
#[derive(Args)]
pub struct Train {
    /// Architecture, such as resnet20 or wrn-16-2
    net: String,
    /// Parquet file, Hugging Face dataset folder, folder with one sub-folder of pictures per class, or name of a dataset on the
    /// Hugging Face Hub (owner/name, owner/name@revision)
    #[arg(long, value_name = "DATASET")]
    data: PathBuf,
    /// Split of the dataset
    #[arg(long, default_value = "train")]
    split: String,
    /// Folder of the model
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    /// Passes over the images
    #[arg(long, value_name = "E")]
    epochs: Option<usize>,
    /// Use no more than this many images: the first ones, or with --hold-back evenly over what that leaves
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Leave out this many images, evenly over the rows: for checks that must not look at the test set
    #[arg(long, value_name = "N")]
    hold_back: Option<usize>,
    /// Mean per channel that is subtracted, for pixels in 0..1 [default: measured on the images]
    #[arg(long, value_name = "M,..", value_delimiter = ',')]
    mean: Option<Vec<f64>>,
    /// Standard deviation per channel that is divided by [default: measured on the images]
    #[arg(long, value_name = "S,..", value_delimiter = ',')]
    std: Option<Vec<f64>>,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    snapshots: SnapshotOptions,
    #[command(flatten)]
    computing: Computing,
    #[command(flatten)]
    lasting: Lasting,
    #[command(flatten)]
    common: Common,
}

impl Train {
    pub fn run(&self, global: &Global) -> Result<()> {
        let place = self.lasting.open(&self.output, &self.common)?;
        let compute = self.computing.open(global.quiet)?;
        let mut recipe: SupervisedRecipe = self.overrides.apply(&SupervisedRecipe::default())?;
        recipe.epochs = self.epochs.unwrap_or(recipe.epochs);
        let limit = self.limit.filter(|_| self.hold_back.is_none());
        let options = ReadOptions { split: Some(self.split.clone()), limit, ..ReadOptions::default() };
        let mut data = global.access().labelled(&self.data, &options)?;
        if let Some(count) = self.hold_back {
            data = data.held_back(count)?.0.thinned(self.limit.unwrap_or(usize::MAX))?;
        }
        let (mean, std) = data.images.mean_std();
        let (mean, std) = (self.mean.clone().unwrap_or(mean), self.std.clone().unwrap_or(std));
        if std.iter().any(|s| s.is_nan() || *s <= 0.0) {
            return Err(Error::invalid("--std", format!("{std:?}"), "every channel needs a deviation above 0"));
        }
        let job = TrainJob {
            net: &self.net,
            data: &data,
            recipe: &recipe,
            mean: &mean,
            std: &std,
            seed: self.common.seed,
            compute: &compute,
        };
        let mut session = match self.lasting.session(place, "", job.fingerprint(), &compute, global)? {
            Either::Running(session) => session,
            Either::Finished(provenance) => return distill::report_again(&self.output, &provenance, self.common.json),
        };
        let updates = recipe.epochs * recipe.steps_per_epoch(data.len());
        self.snapshots.begin(&mut session, &["train"], None, updates)?;
        let (model, provenance) = job.run(session.as_mut())?;
        let staging = session.staging()?;
        let card = synth::report::model_card(&self.net, &model.config, &provenance);
        model.save(staging.path(), &card, &provenance)?;
        session.finish(staging)?;
        distill::report(&self.output, &model, &provenance, self.common.json)
    }
}
