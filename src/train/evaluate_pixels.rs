//! How well a segmentation network does on images whose pixels are labelled.

use super::asking::{ask, fits, has_classes};
use crate::data::{Segmented, VOID};
use crate::events::Observer;
use crate::loss::argmax;
use crate::nets::Task;
use crate::teacher::Teacher;
use crate::{Error, Result};
use serde::Serialize;
use std::time::{Duration, Instant};

/// What an evaluation found. Void pixels count nowhere; shares are 0 to 1.
///
/// The intersection over union of a class is TP / (TP + FP + FN), from sums over the whole dataset (Everingham et al., "The
/// PASCAL Visual Object Classes Challenge", 2010, section 4.1.3).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PixelEvaluation {
    /// Images looked at.
    pub count: usize,
    /// Labelled pixels.
    pub pixels: u64,
    /// Mean of `iou` over the classes that have one.
    pub miou: f64,
    /// Per class; none for the class that is void, and for classes that are neither labelled nor answered anywhere.
    pub iou: Vec<Option<f64>>,
    /// Share of labelled pixels whose highest logit (the first of equal ones) is the label's.
    pub pixel_accuracy: f64,
    /// Mean share over the classes that are labelled somewhere.
    pub mean_accuracy: f64,
    /// Mean of `iou`, weighted by labelled pixels.
    pub frequency_weighted_iou: f64,
    /// Images per second, normalising included, reading and decoding not.
    pub images_per_s: f64,
    /// `confusion[label][answer]`: pixels of each class by the class that was answered.
    pub confusion: Vec<Vec<u64>>,
}

/// Answers all of `data` in batches of `batch` and compares with its labels, of which class `ignore` counts as void. `each` is
/// told the answer for every image, `[H, W]`.
///
/// # Errors
/// [`Error::Invalid`] if the model answers for images only, or images or labels do not fit it; [`Error::Failed`] if an answer
/// is not finite; [`Error::Interrupted`]; what `each` returns.
pub fn evaluate_pixels(
    model: &Teacher,
    data: &Segmented,
    ignore: Option<u8>,
    batch: usize,
    observer: &mut dyn Observer,
    mut each: impl FnMut(usize, &[u8]) -> Result<()>,
) -> Result<PixelEvaluation> {
    answers_for_pixels(model)?;
    fits(model, &data.images, &data.name)?;
    let labels = data.labels.iter().filter(|label| **label != VOID);
    has_classes(model, labels.map(|label| usize::from(*label)), &data.name)?;
    let classes = model.classes;
    let mut confusion = vec![vec![0u64; classes]; classes];
    let start = Instant::now();
    let mut apart = Duration::ZERO;
    ask(model, &data.images, batch, observer, |i, logits| {
        let answer = decided(logits, classes);
        count(data.label(i), &answer, ignore, &mut confusion);
        let aside = Instant::now();
        each(i, &answer)?;
        apart += aside.elapsed();
        Ok(())
    })?;
    let seconds = start.elapsed().saturating_sub(apart).as_secs_f64();
    let measures = Measures::of(&confusion, ignore.map(usize::from));
    if measures.pixels == 0 {
        let what = format!("dataset {}", data.name);
        return Err(Error::invalid(what, "all of its pixels are void", "choose other data, or other label codes"));
    }
    Ok(PixelEvaluation {
        count: data.len(),
        pixels: measures.pixels,
        miou: mean(&measures.iou),
        pixel_accuracy: measures.correct as f64 / measures.pixels as f64,
        mean_accuracy: mean(&measures.accuracy),
        frequency_weighted_iou: measures.weighted,
        iou: measures.iou,
        images_per_s: data.len() as f64 / seconds.max(1e-9),
        confusion,
    })
}

/// The class of every pixel.
fn decided(logits: &[f32], classes: usize) -> Vec<u8> {
    logits.chunks_exact(classes).map(|pixel| argmax(pixel) as u8).collect()
}

fn count(labels: &[u8], answer: &[u8], ignore: Option<u8>, confusion: &mut [Vec<u64>]) {
    for (label, answer) in labels.iter().zip(answer).filter(|(label, _)| **label != VOID && Some(**label) != ignore) {
        confusion[usize::from(*label)][usize::from(*answer)] += 1;
    }
}

struct Measures {
    pixels: u64,
    correct: u64,
    iou: Vec<Option<f64>>,
    accuracy: Vec<Option<f64>>,
    weighted: f64,
}

impl Measures {
    fn of(confusion: &[Vec<u64>], ignore: Option<usize>) -> Self {
        let classes = confusion.len();
        let labelled: Vec<u64> = confusion.iter().map(|row| row.iter().sum()).collect();
        let answered: Vec<u64> = (0..classes).map(|class| confusion.iter().map(|row| row[class]).sum()).collect();
        let pixels: u64 = labelled.iter().sum();
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let of =
            |class: usize| share(confusion[class][class], labelled[class] + answered[class] - confusion[class][class]);
        let iou: Vec<Option<f64>> = (0..classes).map(|class| of(class).filter(|_| Some(class) != ignore)).collect();
        let weighted = iou.iter().zip(&labelled).map(|(iou, n)| iou.unwrap_or(0.0) * *n as f64).sum::<f64>();
        Self {
            pixels,
            correct: (0..classes).map(|class| confusion[class][class]).sum(),
            accuracy: (0..classes).map(|class| share(confusion[class][class], labelled[class])).collect(),
            iou,
            weighted: weighted / pixels.max(1) as f64,
        }
    }
}

/// Over what is there.
fn mean(values: &[Option<f64>]) -> f64 {
    let there: Vec<f64> = values.iter().flatten().copied().collect();
    there.iter().sum::<f64>() / there.len().max(1) as f64
}

fn answers_for_pixels(model: &Teacher) -> Result<()> {
    if model.network.arch.task != Task::Segmentation {
        return Err(Error::invalid("model", "it answers for whole images", "measure it on images with one label each"));
    }
    if model.classes > usize::from(VOID) {
        let found = format!("{} classes", model.classes);
        return Err(Error::invalid("model", found, format!("label images have at most {VOID}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three classes and void: worked out by hand.
    #[test]
    fn measures_are_those_of_the_definition() {
        let mut confusion = vec![vec![0; 4]; 4];
        let labels = [0, 0, 0, 1, 1, 1, 1, VOID, VOID, 0, 3, 3];
        let answer = [0, 0, 1, 1, 1, 3, 0, 0, 1, 0, 0, 3];
        count(&labels, &answer, Some(3), &mut confusion);
        assert_eq!(confusion, [[3, 1, 0, 0], [1, 2, 0, 1], [0; 4], [0; 4]]);
        let found = Measures::of(&confusion, Some(3));
        assert_eq!((found.pixels, found.correct), (8, 5));
        // Class 2 is nowhere; answers of class 3, which is void, only cost class 1.
        assert_eq!(found.iou, [Some(3.0 / 5.0), Some(2.0 / 5.0), None, None]);
        assert_eq!(found.accuracy, [Some(0.75), Some(0.5), None, None]);
        assert!((mean(&found.iou) - 0.5).abs() < 1e-12 && (found.weighted - 0.5).abs() < 1e-12);
        // Where class 3 is a class, its wrong answer is an intersection of 0.
        assert_eq!(Measures::of(&confusion, None).iou[3], Some(0.0));
    }

    #[test]
    fn answers_are_the_first_of_the_highest() {
        assert_eq!(decided(&[0.0, 2.0, 2.0, 1.0, 0.5, 0.25], 3), [1, 0]);
    }
}
