//! Images from anywhere become a set.

use super::timed::Timed;
use super::{add_course, add_health, circumstances, essence, fingerprint, identity, merge, mib, seconds};
use crate::augment::CropFlip;
use crate::collect::{Balance, Growth, Pool, Selection, Source, Survey, Wanted, record, related};
use crate::data::{Images, MAX_PIXEL_BYTES};
use crate::distill::{check_views, view_list};
use crate::events::Observer;
use crate::loss::argmax;
use crate::model::Model;
use crate::nets::Task;
use crate::ops::Compute;
use crate::report::Health;
use crate::rng::Streams;
use crate::set::{SyntheticSet, has_pictures_of_others, most_images};
use crate::teacher::Teacher;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// Bytes of pixels and answers of a set from which on they live on disk.
const IN_MEMORY: usize = 192 << 20;
/// Where in training the share of an even draw begins to rise.
const EVEN_SHARE_RISES_FROM: f64 = 0.7;
/// Images that a quota chooses from, per image of the set, where sources are endless.
const POOL_FOR_QUOTA: usize = 4;

/// Options of a collection.
pub struct CollectJob<'a> {
    pub teacher: &'a Model,
    /// As [`super::open_sources`] gives them, with their weights.
    pub sources: Vec<(Box<dyn Source>, f64)>,
    /// Images of the set; fewer if the sources have fewer.
    pub samples: usize,
    /// Images that the teacher looks at; without it `samples`, or four times as many with quotas. Fewer than `samples` are of use
    /// with quotas, which varied copies fill.
    pub pool: Option<usize>,
    pub balance: Balance,
    /// Whether images that look related to the teacher's task are preferred; see [`related`].
    pub related: bool,
    /// Whether only the first of images that show the same is taken.
    pub distinct: bool,
    /// Images on both sides of the teacher's borders to add; see [`crate::collect::boundary`].
    pub boundary: usize,
    /// Views per image for which answers are recorded, 0 for none.
    pub views: usize,
    /// Licence of the set where that was stated; else it is the teacher's, or none where there are pictures of others.
    pub license: Option<&'a str>,
    pub seed: u64,
    pub compute: &'a Compute,
}

/// A class for which there are too few images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfilled {
    pub class: String,
    pub have: usize,
    pub wanted: usize,
}

/// A finished collection.
pub struct Collected {
    pub set: SyntheticSet,
    pub unfilled: Vec<Unfilled>,
}

/// Images of a set where nothing is said: 10,000, or 50 per class.
pub fn usual_samples(classes: usize) -> usize {
    (50 * classes).max(10_000)
}

/// Images that the teacher looks at for a set of `samples`: as many as `asked`, else as many as the set has, or four times as many
/// with quotas.
pub fn pool_size(asked: Option<usize>, samples: usize, balance: Balance) -> usize {
    let usual = if matches!(balance, Balance::Nayak { .. }) { POOL_FOR_QUOTA * samples } else { samples };
    asked.unwrap_or(usual)
}

impl CollectJob<'_> {
    /// All that the result depends on.
    pub fn fingerprint(&self) -> Value {
        let source = |(source, weight): &(Box<dyn Source>, f64)| json!({ "is": source.provenance(), "weight": weight });
        let job = json!({
            "teacher": essence(self.teacher),
            "sources": self.sources.iter().map(source).collect::<Vec<_>>(),
            "samples": self.samples,
            "pool": pool_size(self.pool, self.samples, self.balance),
            "balance": self.balance,
            "related": self.related,
            "distinct": self.distinct,
            "boundary": self.boundary,
            "views": self.views,
        });
        fingerprint("collect", self.seed, job)
    }

    /// Collects the set.
    ///
    /// # Errors
    /// As [`Pool::visit`] and [`Survey::of`]; options out of range.
    pub fn run(self, observer: &mut dyn Observer) -> Result<Collected> {
        self.check_task()?;
        check_views(self.views, &CropFlip::default())?;
        self.check_boundary()?;
        let (fingerprint, streams) = (self.fingerprint(), Streams::new(self.seed));
        let observer = &mut Timed::new(observer);
        let teacher = Teacher::of(self.teacher).to(self.compute)?;
        let dims = [teacher.size[0], teacher.size[1], teacher.channels];
        let (samples, balance) = (self.samples, self.balance);
        let mut pool = Pool::new(self.sources, pool_size(self.pool, samples, balance), dims, &streams)?;
        let filled_up = matches!(balance, Balance::Nayak { .. });
        let largest = if filled_up { samples } else { samples.min(pool.len()) };
        check_size([largest, self.boundary], dims, teacher.classes, self.views)?;
        let survey = Survey::of(&mut pool, &teacher, self.distinct, observer)?;
        let passed = observer.clock.elapsed();
        let relatedness = match self.related {
            true => Some(related::relatedness(&mut pool, &teacher, &survey.places, self.seed, observer)?),
            false => None,
        };
        let preference = relatedness.as_deref().map(related::preference);

        let chosen = balance.choose(&survey, samples, preference.as_deref(), &streams);
        let mut growth = Growth::of(&mut pool, &survey, &chosen, IN_MEMORY, observer)?;
        let least = balance.least_confidence();
        let wanted = Wanted { copies: chosen.missing.clone(), least, boundary: self.boundary };
        growth.grow(&teacher, &wanted, &streams, observer)?;
        let crossings = growth.crossings();
        let Growth { pixels, logits, filled, .. } = growth;
        let labels: Vec<u32> = logits.chunks_exact(teacher.classes).map(|row| argmax(row) as u32).collect();
        if labels.is_empty() {
            let found = "no image of the pool is sure enough".into();
            return Err(Error::Failed { found, hint: "lower --min-confidence".into() });
        }
        let images = Images::new(pixels, dims[2], dims[0], dims[1])?;
        let list = || view_list(self.views, &CropFlip::default(), &mut streams.stream("collect/views", 0));
        let views = (self.views > 0).then(|| record(&teacher, &images, &logits, list(), observer)).transpose()?;
        let sharpened = relatedness.as_deref().map(related::sharpened);
        let weights = weights(balance, &labels, teacher.classes, &chosen, sharpened.as_deref());
        let names = self.teacher.class_names();
        let unfilled = unfilled(&names, &balance.quotas(samples, names.len()), &labels);
        let used = pool.count(chosen.rows.iter().map(|&row| survey.places[row]));
        let sources = json!({ "sources": pool.provenance(&survey.progress, &used) });
        let license = match has_pictures_of_others(&sources) {
            true => self.license,
            false => self.license.or(self.teacher.config.pretrained_cfg.license.as_deref()),
        };
        let facts = json!({
            "license": license,
            "balance": balance,
            "sampling": sampling(weights.is_some(), self.related),
            "metrics": {
                "pool": survey.len(),
                "pool_per_class": histogram(&survey.decisions(), teacher.classes),
                "varied_copies": filled.iter().sum::<usize>(),
                "copies_per_class": filled,
                "boundary": crossings,
                "repeated": survey.repeated,
                "unfilled": unfilled,
                "unseen": unseen(&names, &labels, self.teacher.network.arch.task),
            },
        });
        let times = [passed, observer.clock.elapsed()];
        let mut set = SyntheticSet {
            images: images.into(),
            priority: weights.unwrap_or_else(|| vec![1.0; labels.len()]),
            labels,
            logits,
            class_names: names,
            views,
            provenance: merge(provenance(self.teacher, times, observer.clock.peak_memory()), merge(sources, facts)),
        };
        set.provenance = merge(set.provenance.take(), circumstances(self.seed, self.compute));
        add_course(&mut set.provenance, &fingerprint, &observer.clock, &[]);
        let (health, about) =
            (Health::of(&set, Some(&teacher))?, json!({ "kind": "collected", "task": set.task().name() }));
        add_health(&mut set.provenance, &health, &about, observer)?;
        Ok(Collected { set, unfilled })
    }
}

impl CollectJob<'_> {
    /// # Errors
    /// Options that are about the one class of an image, with a teacher that answers for pixels.
    fn check_task(&self) -> Result<()> {
        if self.teacher.network.arch.task == Task::Classification {
            return Ok(());
        }
        let options = [
            ("--balance", self.balance != Balance::None, "take --balance none"),
            ("--related", self.related, "leave it out"),
            ("--views", self.views > 0, "leave it out"),
            ("--boundary", self.boundary > 0, "leave it out"),
        ];
        let found = "the teacher answers for every pixel: an image has no one class";
        match options.into_iter().find(|(_, given, _)| *given) {
            Some((option, _, hint)) => Err(Error::invalid(option, found, hint)),
            None => Ok(()),
        }
    }

    /// # Errors
    /// Images from borders, of a teacher that has none or cannot be followed to them.
    fn check_boundary(&self) -> Result<()> {
        let arch = &self.teacher.network.arch;
        let found = match (self.boundary, self.teacher.config.num_classes) {
            (0, _) => return Ok(()),
            (_, 0 | 1) => "the teacher has one class, and no border",
            _ if arch.trains() => return Ok(()),
            _ => "it follows the teacher's gradients, and this teacher only answers",
        };
        Err(Error::invalid("--boundary", found, "leave it out"))
    }
}

/// # Errors
/// More images (chosen or made of these, and from borders) than a set can be read with.
fn check_size([samples, boundary]: [usize; 2], dims: [usize; 3], classes: usize, views: usize) -> Result<()> {
    let most = most_images(dims, classes, views);
    if samples.saturating_add(boundary) <= most {
        return Ok(());
    }
    let found = format!("{samples} images and {boundary} from borders, with their answers");
    let limit = MAX_PIXEL_BYTES >> 30;
    let hint = format!("a set is read up to {limit} GiB of pixels or of answers: at most {most} images here in all");
    Err(Error::invalid("--samples", found, hint))
}

fn provenance(teacher: &Model, [pass, total]: [Duration; 2], peak: u64) -> Value {
    json!({
        "task": teacher.network.arch.task.name(),
        "kind": "collected",
        "teacher": identity(teacher),
        "wall_seconds": { "total": seconds(total), "pool": seconds(pass) },
        "peak_memory_mib": mib(peak),
    })
}

/// What a set says of its weights. Where relatedness is in them, the share of an even draw rises late in training.
fn sampling(weighted: bool, related: bool) -> Value {
    match (weighted, related) {
        (true, true) => {
            let share = json!({ "first": related::EVEN_SHARE, "rises_from": EVEN_SHARE_RISES_FROM });
            json!({ "weights": "priority", "even_share": share })
        }
        (true, false) => json!({ "weights": "priority" }),
        (false, _) => Value::Null,
    }
}

/// How often each image of the set is to be drawn: by balance, by relatedness (of all images in the survey), or both; images that
/// were made count as average.
fn weights(
    balance: Balance,
    labels: &[u32],
    classes: usize,
    chosen: &Selection,
    related: Option<&[f64]>,
) -> Option<Vec<f32>> {
    let by_class = balance.weights(labels, classes);
    let Some(related) = related else { return by_class };
    let mean = chosen.rows.iter().map(|&row| related[row]).sum::<f64>() / chosen.rows.len().max(1) as f64;
    let mut weights = by_class.unwrap_or_else(|| vec![1.0; labels.len()]);
    weights.iter_mut().zip(&chosen.rows).for_each(|(weight, &row)| *weight *= (related[row] / mean) as f32);
    Some(weights)
}

fn histogram(decisions: &[u32], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    decisions.iter().for_each(|&class| counts[class as usize] += 1);
    counts
}

fn unfilled(names: &[String], quotas: &[usize], labels: &[u32]) -> Vec<Unfilled> {
    let have = histogram(labels, names.len());
    let one = |class: usize| Unfilled { class: names[class].clone(), have: have[class], wanted: quotas[class] };
    (0..names.len()).filter(|&class| have[class] < quotas[class]).map(one).collect()
}

/// Classes that the teacher sees in no image of the set; where it answers for pixels, an image has no one class.
fn unseen<'a>(names: &'a [String], labels: &[u32], task: Task) -> Vec<&'a str> {
    let have = histogram(labels, names.len());
    let of_images = task == Task::Classification;
    names.iter().zip(have).filter(|(_, count)| of_images && *count == 0).map(|(name, _)| name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_read_again_is_not_begun() {
        let refusal = |sizes, dims, classes, views| {
            check_size(sizes, dims, classes, views).err().map(|error| error.to_string()).unwrap_or_default()
        };
        // 16 GiB are 114,130 images of 224x224 in colour, or the answers of 1,000 classes to 252,645 images and 16 views of each.
        assert_eq!(refusal([114_000, 130], [224, 224, 3], 1000, 0), "");
        assert!(refusal([114_000, 131], [224, 224, 3], 1000, 0).contains("at most 114130 images"));
        let said = refusal([300_000, 0], [32, 32, 3], 1000, 16);
        assert!(said.starts_with("--samples: 300000 images") && said.contains("at most 252645 images"), "{said}");
        assert_ne!(refusal([usize::MAX, usize::MAX], [32, 32, 3], 10, 0), "");
    }

    #[test]
    fn unfilled_classes_have_less_than_their_quota_and_unseen_ones_nothing() {
        let names = ["a", "b", "c"].map(String::from);
        let short = |class: &str, have, wanted| Unfilled { class: class.into(), have, wanted };
        assert_eq!(unfilled(&names, &[2, 2, 1], &[0, 0, 0, 1]), [short("b", 1, 2), short("c", 0, 1)]);
        assert_eq!(unfilled(&names, &[0; 3], &[0, 0, 0, 1]), []);
        assert_eq!(unseen(&names, &[0, 0, 0, 1], Task::Classification), ["c"]);
        assert!(unseen(&names, &[0], Task::Segmentation).is_empty());
    }
}
