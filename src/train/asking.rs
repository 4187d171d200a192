//! A frozen network asked about every image of a dataset, as measuring does, whatever it answers for.

use crate::data::Images;
use crate::events::{Observer, Record, check_interrupt};
use crate::ops::mem::{host, view};
use crate::ops::place::Placement;
use crate::teacher::Teacher;
use crate::{Error, Result};

/// Asks `model` about `images` as they are, in batches of `batch`, and tells `each` the number of every image and its logits, `[K]`
/// or `[H·W·K]`, which are finite.
///
/// # Errors
/// [`Error::Failed`] if a logit is not finite; [`Error::Interrupted`]; what `each` returns.
pub(super) fn ask(
    model: &Teacher,
    images: &Images,
    batch: usize,
    observer: &mut dyn Observer,
    mut each: impl FnMut(usize, &[f32]) -> Result<()>,
) -> Result<()> {
    let all: Vec<usize> = (0..images.len()).collect();
    for chunk in all.chunks(batch.max(1)) {
        check_interrupt()?;
        let x = model.normalised(images, chunk, &vec![Placement::default(); chunk.len()])?;
        let logits = host(&model.answers(&x)?)?;
        let logits = view(&logits)?;
        for (answer, &image) in logits.chunks_exact((logits.len() / chunk.len()).max(1)).zip(chunk) {
            finite(answer, image)?;
            each(image, answer)?;
        }
        let done = chunk.last().map_or(0, |last| last + 1);
        let record = Record { stage: "eval", done, total: images.len(), images: chunk.len(), values: Vec::new() };
        observer.record(&record);
    }
    Ok(())
}

fn finite(answer: &[f32], image: usize) -> Result<()> {
    if answer.iter().all(|logit| logit.is_finite()) {
        return Ok(());
    }
    let found = format!("the model's answer to image {image} is not finite");
    Err(Error::Failed { found, hint: "its weights overflow on these images; use another".into() })
}

/// Whether `images`, those of the dataset `name`, have the size and the channels that the model reads, and there are any.
pub(super) fn fits(model: &Teacher, images: &Images, name: &str) -> Result<()> {
    let what = || format!("dataset {name}");
    let dims = |[h, w]: [usize; 2], c: usize| {
        let order = if h == w { "" } else { " (height x width)" };
        format!("{h}x{w}{order} {}", if c == 1 { "grey" } else { "colour" })
    };
    let size = [images.height, images.width];
    if (size, images.channels) != (model.size, model.channels) {
        let [found, read] = [dims(size, images.channels), dims(model.size, model.channels)];
        let hint = "choose other data, or convert the images with --resize";
        return Err(Error::invalid(what(), format!("its images are {found}, the model reads {read}"), hint));
    }
    if images.is_empty() {
        return Err(Error::invalid(what(), "it has no images", "choose other data"));
    }
    Ok(())
}

/// Whether the model has a class for every one of `labels`, those of the dataset `name`.
pub(super) fn has_classes(model: &Teacher, mut labels: impl Iterator<Item = usize>, name: &str) -> Result<()> {
    match labels.find(|label| *label >= model.classes) {
        None => Ok(()),
        Some(label) => {
            let found = format!("label {label}, and the model has {} classes", model.classes);
            Err(Error::invalid(format!("dataset {name}"), found, "choose the data that the model was trained for"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_finite() {
        assert!(finite(&[0.0, -1e30], 7).is_ok());
        for bad in [f32::NAN, f32::INFINITY] {
            assert!(finite(&[0.0, bad], 7).unwrap_err().to_string().contains("image 7"));
        }
    }
}
