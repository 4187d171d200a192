//! `synth eval` of a network that answers for every pixel.

use super::eval::{Eval, LISTED_CLASSES, about};
use super::options::spare;
use super::{Global, print, print_json, table};
use serde_json::{Value, json};
use std::path::Path;
use synth::data::{LabelCodes, ReadOptions, Segmented};
use synth::export::Overlays;
use synth::files::Staging;
use synth::model::Model;
use synth::ops::Compute;
use synth::report::Reporter;
use synth::teacher::Teacher;
use synth::train::{PixelEvaluation, evaluate_pixels};
use synth::{Error, Result};

/// Pixels per forward pass: maps of all layers take some hundred times as many bytes.
const BATCH_PIXELS: usize = 1 << 21;
/// Longest class name in the table.
const NAME_WIDTH: usize = 18;

impl Eval {
    /// Measures a segmentation model.
    pub(super) fn pixels(&self, global: &Global, model: &Model) -> Result<()> {
        if self.card {
            let found = "the model answers for every pixel, and the model-index written here is that of classifiers";
            return Err(Error::invalid("--card", found, "leave it out"));
        }
        if let Some(folder) = &self.overlays {
            [Path::new(&model.source), &self.data].into_iter().try_for_each(|read| spare(self.force, read, folder))?;
        }
        let staging = self.overlays.as_ref().map(|folder| Staging::create(folder, self.force)).transpose()?;
        let compute = self.computing.open(global.quiet)?;
        let ignore = ignored(model);
        let frozen = Teacher::of(model).to(&compute)?;
        let codes = LabelCodes {
            classes: frozen.classes,
            ignore,
            void: None,
            first: self.first_label.or(model.config.pretrained_cfg.first_label),
        };
        let options =
            ReadOptions { channels: Some(frozen.channels), ..self.reading(&frozen, self.stretching(&frozen)) };
        let data = global.access().segmented(&self.data, &options, &codes)?;
        let images = &data.images;
        let frozen = frozen.at([images.height, images.width])?;
        let names = model.class_names();
        let overlays = staging.as_ref().map(|to| Overlays::create(to.path(), &names, data.len())).transpose()?;
        let usual = (BATCH_PIXELS / (images.height * images.width)).clamp(1, 16);
        let batch = self.batch.map_or(usual, |batch| batch as usize);
        let reporter = &mut Reporter::new(global.quiet || self.json, None)?;
        let found = evaluate_pixels(&frozen, &data, ignore, batch, reporter, |i, answers| match &overlays {
            Some(overlays) => overlays.write(i, images.image(i), data.label(i), answers, images.width),
            None => Ok(()),
        })?;
        if let Some(staging) = staging {
            staging.finish()?;
        }
        match self.json {
            true => print_json(&self.pixels_as_json(&found, model, (&data, &options), ignore, &compute)),
            false => print(&as_text(&found, model, &data, &compute)),
        }
    }

    fn pixels_as_json(
        &self,
        found: &PixelEvaluation,
        model: &Model,
        (data, reading): (&Segmented, &ReadOptions),
        ignore: Option<u8>,
        compute: &Compute,
    ) -> Value {
        let mut json = json!(found);
        json["task"] = json!(model.network.arch.task.name());
        json["ignored_class"] = json!(ignore);
        json["model"] = about(model);
        json["model"]["class_names"] = json!(model.class_names());
        json["device"] = json!(compute.name());
        json["precision"] = json!(compute.precision.name());
        json["data"] = json!({
            "source": self.data.display().to_string(),
            "name": data.name,
            "sha256": data.sha256,
            "height": data.images.height,
            "width": data.images.width,
            "framing": reading.framing,
            "first_label": data.first,
        });
        json
    }
}

/// The value that stands for void in the model's labels, as its configuration has it: a class, or a number that no label has; 255 is void
/// anyway.
fn ignored(model: &Model) -> Option<u8> {
    model.config.pretrained_cfg.ignore_index.and_then(|index| u8::try_from(index).ok())
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn as_text(found: &PixelEvaluation, model: &Model, data: &Segmented, compute: &Compute) -> String {
    let images = &data.images;
    let classes = found.iou.iter().flatten().count();
    let mut text = table(&[
        ("model", format!("{} ({})", model.source, model.config.architecture)),
        (
            "data",
            format!("{}, {} images of {}x{} (width x height)", data.name, found.count, images.width, images.height),
        ),
        ("mIoU", format!("{} over {classes} classes", percent(found.miou))),
        ("pixel accuracy", format!("{} of {} labelled pixels", percent(found.pixel_accuracy), found.pixels)),
        ("mean accuracy", percent(found.mean_accuracy)),
        ("weighted IoU", percent(found.frequency_weighted_iou)),
        ("device", compute.to_string()),
        ("images/s", format!("{:.1}", found.images_per_s)),
    ]);
    if found.iou.len() <= LISTED_CLASSES {
        text += "\n";
        text += &class_table(found, &model.class_names());
    }
    text
}

/// Per class its IoU, its share of the labelled pixels, and where those went, in percent of them.
fn class_table(found: &PixelEvaluation, names: &[String]) -> String {
    let short = |name: &str| name.chars().filter(|c| !c.is_control()).take(NAME_WIDTH).collect::<String>();
    let columns: String = (0..names.len()).map(|class| format!("{class:>5}")).collect();
    let mut text =
        format!("{:<1$}    IoU  pixels | answers in percent of the label's pixels\n", "label", NAME_WIDTH + 3);
    text += &format!("{:<1$}                |{columns}\n", "", NAME_WIDTH + 3);
    for (class, (row, name)) in found.confusion.iter().zip(names).enumerate() {
        let total: u64 = row.iter().sum();
        let of = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        let iou = found.iou[class].map_or("-".to_string(), |iou| format!("{:.1}", 100.0 * iou));
        let cells: String = row.iter().map(|count| format!("{:>5.1}", of(*count, total))).collect();
        let share = of(total, found.pixels);
        text += &format!("{class:>2} {:<NAME_WIDTH$} {iou:>6} {share:>6.2}% |{cells}\n", short(name));
    }
    text
}
