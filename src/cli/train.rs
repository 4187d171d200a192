//! `synth train`: supervised training, for baselines and teachers. The network says whether labels are of images or of pixels.

use super::options::{Columns, Common, Computing, Either, Lasting, SnapshotOptions, licence, sides};
use super::recipe::Overrides;
use super::{Global, distill};
use clap::Args;
use std::path::PathBuf;
use synth::data::{Framing, LabelCodes, Labelled, MAX_SIDE, ReadOptions, Segmented, VOID};
use synth::jobs::TrainJob;
use synth::nets::{Task, registry};
use synth::train::{Examples, SupervisedRecipe};
use synth::{Error, Result};

/// Train a network on labelled images, or a segmentation network on images with label images (baselines, teachers)
#[derive(Args)]
#[command(mut_arg("config", |arg| arg.help("TOML file with values of the training; what it leaves out keeps its default")))]
#[command(mut_arg("values", |arg| arg.help("One value of the training, such as lr=0.1, batch, weight_decay, augment.crop, mixup or label_smoothing")))]
pub struct Train {
    /// Architecture, such as resnet20, wrn-16-2 or, for segmentation, espnet-p2-q3
    net: String,
    /// Parquet file, Hugging Face dataset folder, folder with one sub-folder of pictures per class (for segmentation: folders of
    /// pictures and of label images, as CamVid and NYUv2 come), or name of a dataset on the Hugging Face Hub (owner/name,
    /// owner/name@revision)
    #[arg(long, value_name = "DATASET")]
    data: PathBuf,
    /// Split of the dataset
    #[arg(long, default_value = "train")]
    split: String,
    /// Folder of the model
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    /// Resize images bilinearly and label images to the nearest pixel
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = sides(1..=MAX_SIDE))]
    size: Option<[usize; 2]>,
    /// Read all images as grey (1) or as colour (3) [default: as the first one is, and refuse others]
    #[arg(long, value_name = "1|3", value_parser = ["1", "3"])]
    channels: Option<String>,
    #[command(flatten)]
    columns: Columns,
    /// For segmentation: number of classes [default: as many as the labels have]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..=255))]
    num_classes: Option<u16>,
    /// For segmentation: a value of label images that stands for void, beside 255, wherever classes begin
    #[arg(long, value_name = "VALUE")]
    void: Option<u8>,
    /// For segmentation: the value of the first class in label images; with 1, 0 is void [default: as the layout of the folders
    /// has it, else 0]
    #[arg(long, value_name = "VALUE", value_parser = clap::value_parser!(u8).range(0..=1))]
    first_label: Option<u8>,
    /// Passes over the images
    #[arg(long, value_name = "E")]
    epochs: Option<usize>,
    /// Use no more than this many images, evenly over the rows that --hold-back leaves; for segmentation the first ones
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
    /// Licence of the model, such as apache-2.0, for its card; what the training data allow is yours to know
    #[arg(long, value_name = "ID", value_parser = licence)]
    license: Option<String>,
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
        let place = self.lasting.open(&self.output, &self.common, &[&self.data])?;
        let compute = self.computing.open(global.quiet)?;
        let task = registry::task(&self.net)?;
        let mut recipe: SupervisedRecipe = self.overrides.apply(&SupervisedRecipe::of(task))?;
        recipe.epochs = self.epochs.unwrap_or(recipe.epochs);
        let data = self.read(task, global)?;
        let examples = data.examples(self.void);
        let (mean, std) = examples.images().mean_std();
        let (mean, std) = (self.mean.clone().unwrap_or(mean), self.std.clone().unwrap_or(std));
        if std.iter().any(|s| s.is_nan() || *s <= 0.0) {
            return Err(Error::invalid("--std", format!("{std:?}"), "every channel needs a deviation above 0"));
        }
        let job = TrainJob {
            net: &self.net,
            data: examples,
            recipe: &recipe,
            mean: &mean,
            std: &std,
            license: self.license.as_deref(),
            seed: self.common.seed,
            compute: &compute,
        };
        let mut session = match self.lasting.session(place, "", job.fingerprint(), &compute, global)? {
            Either::Running(session) => session,
            Either::Finished(provenance) => return distill::report_again(&self.output, &provenance, self.common.json),
        };
        let updates = recipe.epochs * recipe.steps_per_epoch(examples.len());
        self.snapshots.begin(&mut session, &["train"], None, updates)?;
        let (model, provenance) = job.run(session.as_mut())?;
        let staging = session.staging()?;
        let card = synth::report::model_card(&self.net, &model.config, &provenance);
        model.save(staging.path(), &card, &provenance)?;
        session.finish(staging)?;
        distill::report(&self.output, &model, &provenance, self.common.json)
    }

    fn read(&self, task: Task, global: &Global) -> Result<Data> {
        let limit = self.limit.filter(|_| task == Task::Segmentation);
        let options = ReadOptions {
            split: Some(self.split.clone()),
            image_column: self.columns.image_column.clone(),
            label_column: self.columns.label_column.clone(),
            framing: self.size.map(Framing::stretched),
            channels: self.channels.as_deref().map(|channels| if channels == "1" { 1 } else { 3 }),
            limit,
        };
        if task == Task::Segmentation {
            return self.read_pixels(&options, global);
        }
        let of_pixels = [
            ("--num-classes", self.num_classes.is_some()),
            ("--void", self.void.is_some()),
            ("--first-label", self.first_label.is_some()),
        ];
        if let Some((option, _)) = of_pixels.into_iter().find(|(_, given)| *given) {
            return Err(Error::invalid(option, "the network answers for whole images", "leave it out"));
        }
        let mut data = global.access().labelled(&self.data, &options)?;
        if let Some(count) = self.hold_back {
            data = data.held_back(count)?.0;
        }
        data = data.thinned(self.limit.unwrap_or(usize::MAX))?;
        Ok(Data::Images(data))
    }

    fn read_pixels(&self, options: &ReadOptions, global: &Global) -> Result<Data> {
        if self.hold_back.is_some() {
            let hint = "take another split for checks";
            return Err(Error::invalid("--hold-back", "it is for images with one label each", hint));
        }
        let most = usize::from(VOID);
        let asked = self.num_classes.map(usize::from);
        let codes =
            LabelCodes { classes: asked.unwrap_or(most), ignore: None, void: self.void, first: self.first_label };
        let data = global.access().segmented(&self.data, options, &codes)?;
        let classes = asked.map_or_else(|| classes_of(&data.labels), Ok)?;
        Ok(Data::Pixels(data, classes))
    }
}

/// As many classes as labels have: every one up to the highest, since a stray value would make a network with hundreds of them.
fn classes_of(labels: &[u8]) -> Result<usize> {
    let mut seen = [false; VOID as usize];
    labels.iter().filter(|label| **label != VOID).for_each(|label| seen[usize::from(*label)] = true);
    let Some(highest) = seen.iter().rposition(|seen| *seen) else {
        return Err(Error::invalid("--data", "all label images are void", "look at --void and --first-label"));
    };
    if let Some(missing) = seen[..highest].iter().position(|seen| !seen) {
        let found = format!("labels go up to class {highest}, but no pixel is of class {missing}");
        return Err(Error::invalid("--data", found, "say --num-classes, and --void for a value that is no class"));
    }
    Ok(highest + 1)
}

/// What was read.
enum Data {
    Images(Labelled),
    /// With the number of classes.
    Pixels(Segmented, usize),
}

impl Data {
    fn examples(&self, void: Option<u8>) -> Examples<'_> {
        match self {
            Self::Images(data) => data.into(),
            Self::Pixels(data, classes) => {
                // A model knows void by its class, as it knows the others; 255 is void under any.
                let class = |value: u8| if value == VOID { Some(VOID) } else { value.checked_sub(data.first) };
                Examples::Pixels { data, classes: *classes, void: void.and_then(class) }
            }
        }
    }
}
