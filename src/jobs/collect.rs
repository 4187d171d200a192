//! Images from anywhere become a set.

use super::{Access, add_health, circumstances, identity, merge, mib, seconds};
use crate::collect::{Balance, Place, Pool, Selection, Source, Survey, Wish, fill, open};
use crate::collect::{boundary, related};
use crate::data::Images;
use crate::events::{Observer, Record};
use crate::hub::{HubName, Kind};
use crate::loss::argmax;
use crate::model::Model;
use crate::nets::Task;
use crate::ops::Compute;
use crate::ops::mem::peak_memory;
use crate::ops::store::Store;
use crate::report::{Health, Transfer};
use crate::rng::Streams;
use crate::set::SyntheticSet;
use crate::teacher::Teacher;
use crate::{Error, Result};
use serde::Serialize;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Bytes of pixels and answers of a set from which on they live on disk.
const IN_MEMORY: usize = 192 << 20;
/// Where in training the share of an even draw begins to rise.
const EVEN_SHARE_RISES_FROM: f64 = 0.7;
/// Images that a quota chooses from, per image of the set, where sources are endless.
const POOL_FOR_QUOTA: usize = 4;

/// Options of a collection.
pub struct CollectJob<'a> {
    pub teacher: &'a Model,
    /// As [`open_sources`] gives them, with their weights.
    pub sources: Vec<(Box<dyn Source>, f64)>,
    /// Images of the set; fewer if the sources have fewer.
    pub samples: usize,
    /// Images that the teacher looks at; without it `samples`, or four times as many with quotas.
    pub pool: Option<usize>,
    pub balance: Balance,
    /// Whether images that look related to the teacher's task are preferred; see [`related`].
    pub related: bool,
    /// Whether only the first of images that show the same is taken.
    pub distinct: bool,
    /// Images on both sides of the teacher's borders to add; see [`boundary`].
    pub boundary: usize,
    pub seed: u64,
    pub compute: &'a Compute,
}

/// A class for which there are too few images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

/// Images that the teacher looks at for a set of `samples`: as many, or four times as many with quotas, unless `asked` says otherwise.
pub fn pool_size(asked: Option<usize>, samples: usize, balance: Balance) -> usize {
    let usual = if matches!(balance, Balance::Nayak { .. }) { POOL_FOR_QUOTA * samples } else { samples };
    asked.unwrap_or(usual).max(samples)
}

/// Opens what `wishes` name: generators, paths, datasets on the Hub. Of these only the shards that hold the first `limit` rows are
/// fetched, which is enough for a pool of that size.
///
/// # Errors
/// As [`open`] and [`crate::hub::Hub::dataset`].
pub fn open_sources(
    wishes: &[Wish],
    teacher: &Teacher,
    seed: u64,
    limit: Option<usize>,
    access: &Access,
) -> Result<Vec<(Box<dyn Source>, f64)>> {
    let one = |wish: &Wish| {
        let source = match wish.generator(teacher, seed) {
            Some(generator) => generator,
            None => open_named(wish, limit, access)?,
        };
        Ok((source, wish.weight))
    };
    wishes.iter().map(one).collect()
}

fn open_named(wish: &Wish, limit: Option<usize>, access: &Access) -> Result<Box<dyn Source>> {
    let (path, split) = wish.path_and_split();
    let Some(name) = HubName::of_path(&path, Kind::Dataset)? else {
        if !path.exists() {
            let hint =
                "noise, noise:uniform, leaves, shaders, a folder, a dataset, a tar file, a set or a name on the Hub";
            return Err(Error::invalid("--from", format!("there is no {}", path.display()), hint));
        }
        return open(&path, &path.display().to_string(), split, None);
    };
    let (hub, mut transfer) = (access.hub()?, Transfer::stderr("fetching", access.quiet));
    let fetched = match split {
        Some(_) => hub.dataset(&name, split, limit, &mut transfer)?,
        None => match hub.dataset(&name, Some("train"), limit, &mut transfer) {
            Err(Error::File { .. } | Error::Hub { .. }) => hub.dataset(&name, None, limit, &mut transfer)?,
            other => other?,
        },
    };
    open(&fetched.folder, &fetched.source(), split, limit)
}

/// Images of a set while they come together.
struct Gathered {
    pixels: Store<u8>,
    logits: Store<f32>,
}

impl CollectJob<'_> {
    /// Collects the set.
    ///
    /// # Errors
    /// As [`Pool::visit`] and [`Survey::of`]; options out of range.
    pub fn run(self, observer: &mut dyn Observer) -> Result<Collected> {
        let start = Instant::now();
        self.check_task()?;
        let streams = Streams::new(self.seed);
        let teacher = Teacher::of(self.teacher).to(self.compute)?;
        let dims = [teacher.size[0], teacher.size[1], teacher.channels];
        let (samples, balance) = (self.samples, self.balance);
        let mut pool = Pool::new(self.sources, pool_size(self.pool, samples, balance), dims, &streams)?;
        let survey = Survey::of(&mut pool, &teacher, self.distinct, observer)?;
        let passed = start.elapsed();
        let preference = match self.related {
            true => Some(preference_of(&survey, &mut pool, &teacher, self.seed, observer)?),
            false => None,
        };

        let chosen = balance.choose(&survey, samples, preference.as_deref(), &streams);
        let mut gathered = gather(&mut pool, &survey, &chosen, observer)?;
        let filled = fill_quotas(&teacher, &survey, &chosen, dims, &streams, &mut gathered)?;
        let mut crossings = 0;
        if self.boundary > 0 {
            let images = boundary::Images { pixels: &mut gathered.pixels, logits: &mut gathered.logits };
            crossings = boundary::add_crossings(&teacher, images, self.boundary, &streams)?;
        }
        let Gathered { pixels, logits } = gathered;
        let labels: Vec<u32> = logits.chunks_exact(teacher.classes).map(|row| argmax(row) as u32).collect();
        if labels.is_empty() {
            let found = "no image of the pool is sure enough".into();
            return Err(Error::Failed { found, hint: "lower --min-confidence".into() });
        }
        let weights = weights(balance, &labels, teacher.classes, &chosen, preference.as_deref());
        let unfilled = unfilled(&self.teacher.class_names(), &chosen.missing, &filled, &labels);
        let used = pool.count(chosen.rows.iter().map(|&row| survey.places[row]));
        let times = [passed, start.elapsed()];
        let facts = json!({
            "sources": pool.provenance(&used),
            "balance": balance,
            "sampling": sampling(weights.is_some(), self.related),
            "metrics": {
                "pool": survey.len(),
                "pool_per_class": histogram(&survey.decisions(), teacher.classes),
                "varied_copies": filled.iter().sum::<usize>(),
                "boundary": crossings,
                "repeated": survey.repeated,
                "unfilled": unfilled,
            },
        });
        let mut set = SyntheticSet {
            images: Images::new(pixels, dims[2], dims[0], dims[1])?.into(),
            priority: weights.unwrap_or_else(|| vec![1.0; labels.len()]),
            labels,
            logits,
            class_names: self.teacher.class_names(),
            views: None,
            provenance: merge(provenance(self.teacher, times), facts),
        };
        set.provenance = merge(set.provenance.take(), circumstances(self.seed, self.compute));
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
            ("--boundary", self.boundary > 0, "leave it out"),
        ];
        let found = "the teacher answers for every pixel: an image has no one class";
        match options.into_iter().find(|(_, given, _)| *given) {
            Some((option, _, hint)) => Err(Error::invalid(option, found, hint)),
            None => Ok(()),
        }
    }
}

fn provenance(teacher: &Model, [pass, total]: [Duration; 2]) -> Value {
    json!({
        "task": teacher.network.arch.task.name(),
        "kind": "collected",
        "teacher": identity(teacher),
        "license": teacher.config.pretrained_cfg.license,
        "wall_seconds": { "total": seconds(total), "pool": seconds(pass) },
        "peak_memory_mib": mib(peak_memory()),
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

/// Relatedness of the images in a survey.
fn preference_of(
    survey: &Survey,
    pool: &mut Pool,
    teacher: &Teacher,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Vec<f64>> {
    let found = related::relatedness(pool, teacher, &survey.places, seed, observer)?;
    Ok(related::preference(&found))
}

/// How often each image of the set is to be drawn: by balance, by preference, or both; images that were made count as average.
fn weights(
    balance: Balance,
    labels: &[u32],
    classes: usize,
    chosen: &Selection,
    preference: Option<&[f64]>,
) -> Option<Vec<f32>> {
    let by_class = balance.weights(labels, classes);
    let Some(preference) = preference else { return by_class };
    let mean = chosen.rows.iter().map(|&row| preference[row]).sum::<f64>() / chosen.rows.len().max(1) as f64;
    let mut weights = by_class.unwrap_or_else(|| vec![1.0; labels.len()]);
    weights.iter_mut().zip(&chosen.rows).for_each(|(weight, &row)| *weight *= (preference[row] / mean) as f32);
    Some(weights)
}

fn histogram(decisions: &[u32], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    decisions.iter().for_each(|&class| counts[class as usize] += 1);
    counts
}

/// The chosen images, drawn or read again, with their answers.
fn gather(pool: &mut Pool, survey: &Survey, chosen: &Selection, observer: &mut dyn Observer) -> Result<Gathered> {
    let mut gathered = Gathered { pixels: Store::spilling_at(IN_MEMORY), logits: Store::spilling_at(IN_MEMORY) };
    let wanted: Vec<Place> = chosen.rows.iter().map(|&row| survey.places[row]).collect();
    pool.gather(&wanted, &mut gathered.pixels)?;
    chosen.rows.iter().try_for_each(|&row| gathered.logits.extend(survey.answer(row)))?;
    let total = wanted.len();
    observer.record(&Record { stage: "gather", done: total, total, images: total, values: Vec::new() });
    Ok(gathered)
}

/// Appends varied copies for classes whose quota is not filled; returns how many of each class.
fn fill_quotas(
    teacher: &Teacher,
    survey: &Survey,
    chosen: &Selection,
    dims: [usize; 3],
    streams: &Streams,
    gathered: &mut Gathered,
) -> Result<Vec<usize>> {
    let len: usize = dims.iter().product();
    let mut members: Vec<Vec<u8>> = vec![Vec::new(); teacher.classes];
    for (i, &row) in chosen.rows.iter().enumerate() {
        let class = argmax(survey.answer(row));
        if chosen.missing[class] > 0 {
            members[class].extend_from_slice(&gathered.pixels[i * len..(i + 1) * len]);
        }
    }
    let mut filled = vec![0; teacher.classes];
    for (class, members) in members.iter().enumerate() {
        let (pixels, logits) = (&mut gathered.pixels, &mut gathered.logits);
        filled[class] = fill(teacher, members, class as u32, chosen.missing[class], streams, pixels, logits)?;
    }
    Ok(filled)
}

fn unfilled(names: &[String], missing: &[usize], filled: &[usize], labels: &[u32]) -> Vec<Unfilled> {
    let have = histogram(labels, names.len());
    let one = |class: usize| {
        let short = missing[class] - filled[class];
        (short > 0).then(|| Unfilled { class: names[class].clone(), have: have[class], wanted: have[class] + short })
    };
    (0..names.len()).filter_map(one).collect()
}
