//! `synth eval`: accuracy of a model on labelled images; see `eval_pixels.rs` for those that answer for every pixel.

use super::options::{Columns, Computing, ModelOptions};
use super::{Global, print, print_json, table};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::path::PathBuf;
use synth::data::{Framing, Labelled, ReadOptions};
use synth::jobs::CardFile;
use synth::model::Model;
use synth::nets::Task;
use synth::ops::Compute;
use synth::report::{MeasuredOn, Reporter};
use synth::teacher::Teacher;
use synth::train::{Evaluation, Matched, batch_for, evaluate, labels_for};
use synth::{Error, Result};

/// Most classes whose confusion matrix is printed for people.
pub(super) const LISTED_CLASSES: usize = 20;
/// Longest class name in the table.
const NAME_WIDTH: usize = 14;

/// How pictures become images of the model's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Resize {
    Published,
    Stretch,
}

/// Accuracy of a model on labelled images, or mean IoU of a segmentation model on images with label images
#[derive(Args)]
pub struct Eval {
    #[command(flatten)]
    model: ModelOptions,
    /// Parquet file, Hugging Face dataset folder, folder with one sub-folder of pictures per class (of a segmentation model:
    /// folders of pictures and of label images, as CamVid and NYUv2 come), or name of a dataset on the Hugging Face Hub
    /// (owner/name, owner/name@revision)
    #[arg(long, value_name = "DATASET")]
    pub(super) data: PathBuf,
    /// Split of the dataset [default: test, else validation, else the only one]
    #[arg(long)]
    split: Option<String>,
    /// Images per forward pass [default: 256, fewer of more than 64x64 pixels; of a segmentation model 16, fewer of
    /// more than 131,072 pixels]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(super) batch: Option<u32>,
    /// Look at no more than this many images
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Bring pictures to the size and the channels that the model reads: `published` as its configuration says (timm's crop_pct,
    /// crop_mode and interpolation, or the image processor of transformers), which is meant without a value, or `stretch` to that
    /// size whatever their shape, as is done where the configuration says nothing, and always for segmentation
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "published")]
    resize: Option<Resize>,
    #[command(flatten)]
    columns: Columns,
    /// Write the accuracies into the head of the model's card (README.md) as the Hub's model-index; those on the same dataset and
    /// split are replaced. MODEL must be a folder on this machine
    #[arg(long)]
    pub(super) card: bool,
    /// Of a segmentation model: write each image, its labels and the model's answers side by side as PNG files into this folder
    #[arg(long, value_name = "DIR")]
    pub(super) overlays: Option<PathBuf>,
    /// With --overlays: replace the folder
    #[arg(long, requires = "overlays")]
    pub(super) force: bool,
    /// Of a segmentation model: the value of the first class in label images; with 1, 0 is void [default: 1 where the model's image
    /// processor reduces labels or the folders are those of NYUv2's published label images, else 0]
    #[arg(long, value_name = "VALUE", value_parser = clap::value_parser!(u8).range(0..=1))]
    pub(super) first_label: Option<u8>,
    #[command(flatten)]
    pub(super) computing: Computing,
    /// Print JSON: shares are 0 to 1, the loss is in nats, confusion[label][answer] counts images (pixels of a segmentation model)
    #[arg(long)]
    pub(super) json: bool,
}

/// What was measured, for machines.
pub(super) fn about(model: &Model) -> Value {
    json!({
        "source": model.source,
        "sha256": model.sha256,
        "architecture": model.config.architecture,
        "parameters": model.network.arch.parameters(),
    })
}

impl Eval {
    pub fn run(&self, global: &Global) -> Result<()> {
        let card = self.card.then(|| self.card_file()).transpose()?;
        let model = self.model.load(&global.access())?;
        if model.network.arch.task == Task::Segmentation {
            return self.pixels(global, &model);
        }
        self.is_of_images()?;
        let compute = self.computing.open(global.quiet)?;
        let frozen = Teacher::of(&model).to(&compute)?;
        let reading = self.reading(&frozen, self.framing(&model)?);
        let mut data = global.access().labelled(&self.data, &reading)?;
        let matched = labels_for(&model.class_names(), &mut data)?;
        if matched == Matched::ByOrder {
            tracing::warn!("{}: classes have other names than the model's; they are taken in their order", data.name);
        }
        let batch = self.batch.map_or_else(|| batch_for(256, frozen.size), |batch| batch as usize);
        let found = evaluate(&frozen, &data, batch, &mut Reporter::new(global.quiet || self.json, None)?)?;
        if let Some(card) = &card {
            card.record(&MeasuredOn::of(&data, reading.framing), &found)?;
        }
        match self.json {
            true => print_json(&self.as_json(&found, &model, (&data, &reading), matched, &compute, card.as_ref())),
            false => print(&self.as_text(&found, &model, (&data, &reading), &compute, card.as_ref())),
        }
    }

    /// Refuses what only pixels have.
    fn is_of_images(&self) -> Result<()> {
        let options = [("--overlays", self.overlays.is_some()), ("--first-label", self.first_label.is_some())];
        match options.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Error::invalid(option, "the model answers for whole images", "leave it out")),
            None => Ok(()),
        }
    }

    /// The model's card, which speaks of the model as its folder describes it.
    fn card_file(&self) -> Result<CardFile> {
        if self.limit.is_some() {
            let found = "the accuracy would be that of a part of the split, and stand for the whole";
            return Err(Error::invalid("--card", found, "leave out --limit"));
        }
        if self.model.is_described() {
            let found = "the accuracy would be that of another model than its folder describes";
            return Err(Error::invalid("--card", found, "leave out --arch, --mean, --std and so on"));
        }
        CardFile::of(&self.model.path)
    }

    /// How pictures become images of the model's size, if that is asked for.
    fn framing(&self, model: &Model) -> Result<Option<Framing>> {
        let [_, height, width] = model.config.pretrained_cfg.input_size;
        let published = match self.resize {
            None => return Ok(None),
            Some(Resize::Published) => Framing::of(&model.config.pretrained_cfg).map_err(|found| {
                Error::file(&model.source, found, "--resize=stretch takes pictures whole, whatever their shape")
            })?,
            Some(Resize::Stretch) => None,
        };
        Ok(Some(published.unwrap_or(Framing::stretched([height, width]))))
    }

    /// As [`Eval::framing`], where the labels are pixels too: they are stretched.
    pub(super) fn stretching(&self, model: &Teacher) -> Option<Framing> {
        self.resize.map(|_| Framing::stretched(model.size))
    }

    pub(super) fn reading(&self, model: &Teacher, framing: Option<Framing>) -> ReadOptions {
        ReadOptions {
            split: self.split.clone(),
            image_column: self.columns.image_column.clone(),
            label_column: self.columns.label_column.clone(),
            framing,
            channels: framing.map(|_| model.channels),
            limit: self.limit,
        }
    }

    fn as_json(
        &self,
        found: &Evaluation,
        model: &Model,
        (data, reading): (&Labelled, &ReadOptions),
        matched: Matched,
        compute: &Compute,
        card: Option<&CardFile>,
    ) -> Value {
        let mut json = json!(found);
        json["model"] = about(model);
        json["device"] = json!(compute.name());
        json["precision"] = json!(compute.precision.name());
        json["data"] = json!({
            "source": self.data.display().to_string(),
            "name": data.name,
            "sha256": data.sha256,
            "class_names": data.class_names,
            "labels_matched": matched,
            "framing": reading.framing,
        });
        json["card"] = json!(card.map(|card| card.path().display().to_string()));
        json
    }

    fn as_text(
        &self,
        found: &Evaluation,
        model: &Model,
        (data, reading): (&Labelled, &ReadOptions),
        compute: &Compute,
        card: Option<&CardFile>,
    ) -> String {
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        let mut rows = vec![
            ("model", format!("{} ({})", model.source, model.config.architecture)),
            ("data", format!("{}, {} images", data.name, found.count)),
        ];
        rows.extend(reading.framing.map(|framing| ("pictures", framing.to_string())));
        rows.push(("top-1", format!("{} ({} of {})", percent(found.top1), found.correct, found.count)));
        rows.extend(found.top5.map(|share| ("top-5", percent(share))));
        rows.push(("loss", format!("{:.4}", found.loss)));
        rows.push(("device", compute.to_string()));
        rows.push(("images/s", format!("{:.0}", found.images_per_s)));
        rows.extend(card.map(|card| ("card", card.path().display().to_string())));
        let mut text = table(&rows);
        if found.confusion.len() <= LISTED_CLASSES {
            text += "\n";
            text += &confusion_table(&found.confusion, &model.class_names());
        }
        text
    }
}

/// Rows are labels, columns answers, numbered; the last column is the share of each class that was found.
fn confusion_table(confusion: &[Vec<u32>], names: &[String]) -> String {
    let short = |name: &str| name.chars().filter(|c| !c.is_control()).take(NAME_WIDTH).collect::<String>();
    let largest = confusion.iter().flatten().max().copied().unwrap_or(0);
    let width = largest.max(confusion.len() as u32).to_string().len() + 1;
    let columns: String = (0..confusion.len()).map(|class| format!("{class:>width$}")).collect();
    let mut text = format!("{:<1$}{columns}\n", "label \\ answer", NAME_WIDTH + 4);
    for (class, (row, name)) in confusion.iter().zip(names).enumerate() {
        let total: u32 = row.iter().sum();
        let cells: String = row.iter().map(|count| format!("{count:>width$}")).collect();
        let share = match total {
            0 => "-".to_string(),
            _ => format!("{:.1} %", 100.0 * f64::from(row[class]) / f64::from(total)),
        };
        text += &format!("{class:>2} {:<NAME_WIDTH$} {cells}  {share:>7}\n", short(name));
    }
    text
}
