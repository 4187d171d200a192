//! How well a classifier does on labelled images.

use super::asking::{ask, fits, has_classes};
use crate::data::Labelled;
use crate::events::Observer;
use crate::loss::{argmax, log_softmax};
use crate::teacher::Teacher;
use crate::{Error, Result};
use serde::Serialize;
use std::time::Instant;

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Images looked at.
    pub count: usize,
    /// Images whose highest logit (the first of equal ones) is the label's.
    pub correct: usize,
    /// `correct / count`, 0 to 1.
    pub top1: f64,
    /// Share of images whose label is among the five highest logits; absent for fewer than six classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top5: Option<f64>,
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// Images per second, normalising included, reading and decoding not.
    pub images_per_s: f64,
    /// `confusion[label][answer]`: images of each class by the class that was answered.
    pub confusion: Vec<Vec<u32>>,
}

/// Answers all of `data` in batches of `batch` and compares with its labels, which are those of [`labels_for`].
///
/// # Errors
/// [`Error::Invalid`] if images or classes do not fit the model; [`Error::Failed`] if an answer is not finite;
/// [`Error::Interrupted`].
pub fn evaluate(model: &Teacher, data: &Labelled, batch: usize, observer: &mut dyn Observer) -> Result<Evaluation> {
    fits(model, &data.images, &data.name)?;
    has_classes(model, data.labels.iter().map(|label| *label as usize), &data.name)?;
    let classes = model.classes;
    let mut tally = Tally { loss: 0.0, top5: 0, confusion: vec![vec![0; classes]; classes] };
    let start = Instant::now();
    ask(model, &data.images, batch, observer, |i, logits| {
        tally.add(logits, data.labels[i] as usize);
        Ok(())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let count = data.len();
    let correct = (0..classes).map(|class| tally.confusion[class][class] as usize).sum();
    let share = |part: usize| part as f64 / count as f64;
    Ok(Evaluation {
        count,
        correct,
        top1: share(correct),
        top5: (classes > 5).then(|| share(tally.top5)),
        loss: tally.loss / count as f64,
        images_per_s: count as f64 / seconds.max(1e-9),
        confusion: tally.confusion,
    })
}

struct Tally {
    loss: f64,
    top5: usize,
    confusion: Vec<Vec<u32>>,
}

impl Tally {
    fn add(&mut self, logits: &[f32], label: usize) {
        let wide: Vec<f64> = logits.iter().map(|logit| f64::from(*logit)).collect();
        self.loss -= log_softmax(&wide, 1.0)[label];
        let before =
            |&(class, logit): &(usize, &f32)| *logit > logits[label] || *logit == logits[label] && class < label;
        self.top5 += usize::from(logits.iter().enumerate().filter(before).count() < 5);
        self.confusion[label][argmax(logits)] += 1;
    }
}

/// How labels of a dataset came to mean the model's classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Matched {
    /// Same names in the same order, or one side has no names.
    AsTheyAre,
    /// Same names in another order: labels were renumbered.
    ByName,
    /// As many classes under other names, taken in their order.
    ByOrder,
}

/// Gives the labels of `data` the numbers that `names`, the model's classes, have. A folder of pictures lists its classes by
/// alphabet, a model as it was trained.
///
/// # Errors
/// [`Error::Invalid`] if the numbers of classes differ, unless the dataset only has numbers and no more than the model.
pub fn labels_for(names: &[String], data: &mut Labelled) -> Result<Matched> {
    if data.class_names == names {
        return Ok(Matched::AsTheyAre);
    }
    let numbered = data.class_names.iter().enumerate().all(|(class, name)| *name == class.to_string());
    let (found, known) = (data.class_names.len(), names.len());
    if found != known && !(numbered && found < known) {
        let found = format!("it has {found} classes, the model has {known}");
        let hint = "choose the data that the model was trained for";
        return Err(Error::invalid(format!("dataset {}", data.name), found, hint));
    }
    // Numbers too are names: sorted as texts, 10 stands before 2.
    let position = |name: &String| names.iter().position(|known| known == name);
    let renumbered: Option<Vec<usize>> = data.class_names.iter().map(position).collect();
    let Some(renumbered) = renumbered.filter(|to| (0..known).all(|class| to.contains(&class))) else {
        let nameless = numbered || names.iter().enumerate().all(|(class, name)| *name == class.to_string());
        return Ok(if nameless { Matched::AsTheyAre } else { Matched::ByOrder });
    };
    data.labels.iter_mut().for_each(|label| *label = renumbered[*label as usize] as u32);
    data.class_names = names.to_vec();
    Ok(Matched::ByName)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Images;

    fn data(names: &[&str], labels: &[u32]) -> Labelled {
        Labelled {
            images: Images::new(vec![0; labels.len()], 1, 1, 1).unwrap(),
            labels: labels.to_vec(),
            class_names: names.iter().map(|name| name.to_string()).collect(),
            name: "test".into(),
            sha256: String::new(),
        }
    }

    #[test]
    fn labels_follow_the_names() {
        let names = ["cat", "ant", "bee"].map(String::from);
        let mut same = data(&["cat", "ant", "bee"], &[0, 1, 2]);
        assert_eq!(labels_for(&names, &mut same).unwrap(), Matched::AsTheyAre);
        let mut sorted = data(&["ant", "bee", "cat"], &[0, 1, 2, 0]);
        assert_eq!(labels_for(&names, &mut sorted).unwrap(), Matched::ByName);
        assert_eq!((sorted.labels, sorted.class_names), (vec![1, 2, 0, 1], names.to_vec()));
        let mut other = data(&["x", "y", "z"], &[0, 1, 2]);
        assert_eq!(labels_for(&names, &mut other).unwrap(), Matched::ByOrder);
        let mut twice = data(&["ant", "ant", "cat"], &[0, 1, 2]);
        assert_eq!(labels_for(&names, &mut twice).unwrap(), Matched::ByOrder);
        let mut plain = data(&["0", "1"], &[0, 1]);
        assert_eq!(labels_for(&names, &mut plain).unwrap(), Matched::AsTheyAre);
        let numbers: Vec<String> = (0..11).map(|class| class.to_string()).collect();
        let mut sorted: Vec<&str> = numbers.iter().map(String::as_str).collect();
        sorted.sort();
        let mut folders = data(&sorted, &[1, 2, 3, 10]);
        assert_eq!(labels_for(&numbers, &mut folders).unwrap(), Matched::ByName);
        assert_eq!(folders.labels, [1, 10, 2, 9]);
        let few = labels_for(&names, &mut data(&["ant", "bee"], &[0])).unwrap_err().to_string();
        assert!(few.contains("it has 2 classes, the model has 3"), "{few}");
        assert!(labels_for(&names, &mut data(&["0", "1", "2", "3"], &[0])).is_err());
    }

    #[test]
    fn a_tally_ranks_and_measures() {
        let mut tally = Tally { loss: 0.0, top5: 0, confusion: vec![vec![0; 7]; 7] };
        let logits = [0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0, 5.0];
        tally.add(&logits, 6); // a tie: the first of the highest is the answer
        tally.add(&logits, 2); // fifth
        tally.add(&logits, 1); // sixth
        assert_eq!((tally.top5, tally.confusion[6][5], tally.confusion[2][5]), (2, 1, 1));
        let sum: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        assert!((tally.loss - (3.0 * sum.ln() - 5.0 - 2.0 - 1.0)).abs() < 1e-9);
    }
}
