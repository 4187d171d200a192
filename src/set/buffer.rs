//! The replay buffer: a fixed number of inverted images, partly replaced each round.

use super::areas::Areas;
use super::priority::{Priorities, PriorityRule};
use super::{View, Views};
use crate::Result;
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::data::Images;
use crate::loss::{Held, Modulation, argmax, confidence};
use crate::nets::Task;
use crate::ops::store::Store;
use serde::{Deserialize, Serialize};

/// Which images leave for new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replacement {
    /// Those with the lowest priority (learned already), oldest first among equals.
    Priority,
    /// The oldest.
    Oldest,
    /// None: what is made once the buffer is full is not kept. The comparison that shows what replacement brings.
    Never,
}

/// Rules of a buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BufferRule {
    pub capacity: usize,
    pub replacement: Replacement,
    /// No class falls below / rises above these multiples of capacity / classes (void is none)
    /// by replacement. Where answers are of pixels, the
    /// first one keeps the images with the most of a rare class, and the second, as images hold many classes, has no meaning.
    pub guards: (f64, f64),
    /// φ as a factor of the priority to stay, where the recipe wants it in replacement.
    pub modulation: Option<Modulation>,
    /// What answers are of.
    pub task: Task,
    /// The class that stands for void, of which nobody wants more.
    pub void: Option<usize>,
}

/// One stored image's bookkeeping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// The class it was made for.
    pub label: u32,
    /// The class the teacher sees, and how surely.
    pub class: u32,
    pub confidence: f32,
    /// Round in which it came.
    pub round: u64,
}

/// New images with the teacher's answers.
pub struct Batch<'a> {
    /// `[n, H, W, C]`
    pub pixels: &'a [u8],
    pub labels: &'a [u32],
    /// `[n, K]`, for the stored 8-bit images; as [`crate::loss::Verdicts`] has them.
    pub logits: &'a [f32],
    /// How surely the teacher answers, `[n]`; empty: the highest probability of its logits.
    pub confidence: &'a [f32],
    pub round: u64,
}

/// A fixed-size store of images and answers.
pub struct ReplayBuffer {
    pub(super) rule: BufferRule,
    classes: usize,
    pub images: Images,
    pub logits: Store<f32>,
    /// Recorded answers on a fixed list of views, if the buffer keeps them; of an image that has just come, that on the plain view alone.
    pub views: Option<Views>,
    pub entries: Vec<Entry>,
    pub priorities: Priorities,
    histogram: Vec<usize>,
    /// Where answers are of pixels.
    areas: Option<Areas>,
}

impl ReplayBuffer {
    /// An empty buffer for `[h, w, c]` images of `classes` classes, with recorded answers on `views` if there are any.
    pub fn new(
        rule: BufferRule,
        priority: PriorityRule,
        [h, w, c]: [usize; 3],
        classes: usize,
        views: Vec<View>,
    ) -> Result<Self> {
        Ok(Self {
            rule,
            classes,
            images: Images::new(Store::new(), c, h, w)?,
            logits: Store::new(),
            views: (!views.is_empty()).then(|| Views::of(views)),
            entries: Vec::new(),
            priorities: Priorities::new(priority, 0),
            histogram: vec![0; classes],
            areas: (rule.task == Task::Segmentation).then(|| Areas::of(&[], classes)),
        })
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.len() >= self.rule.capacity
    }

    /// Images per class as the teacher sees them, or sees most of in them.
    pub fn histogram(&self) -> &[usize] {
        &self.histogram
    }

    /// What φ counts: images per class or, where answers are of pixels, thousandths of an image's area per class.
    pub fn class_counts(&self) -> Vec<usize> {
        self.areas.as_ref().map_or_else(|| self.histogram.clone(), Areas::counts)
    }

    /// Images per class as they were asked for.
    pub fn label_histogram(&self) -> Vec<usize> {
        let mut h = vec![0; self.classes];
        self.entries.iter().for_each(|e| h[e.label as usize] += 1);
        h
    }

    /// The most images that it holds.
    pub fn capacity(&self) -> usize {
        self.rule.capacity
    }

    /// Takes in a batch: appended while there is room, then replacing others. Returns the slots that were written.
    ///
    /// # Errors
    /// As [`Store::extend`], where images or answers live on disk.
    pub fn insert(&mut self, batch: &Batch) -> Result<Vec<usize>> {
        let image_len = self.images.image_len();
        let mut written = Vec::with_capacity(batch.labels.len());
        let keep = self.keep_scores();
        for (i, &label) in batch.labels.iter().enumerate() {
            let logits = row(batch.logits, i, self.classes);
            let confidence = batch.confidence.get(i).copied().unwrap_or_else(|| confidence(logits));
            let entry = Entry { label, class: argmax(logits) as u32, confidence, round: batch.round };
            let shares = self.areas.as_ref().map(|areas| areas.shares_of(logits));
            let slot = if self.is_full() {
                let Some(slot) = self.leaver(&entry, shares.as_deref(), &keep) else { continue };
                self.histogram[self.entries[slot].class as usize] -= 1;
                self.entries[slot] = entry;
                self.priorities.reset(slot);
                slot
            } else {
                self.entries.push(entry);
                self.priorities.extend(1);
                self.len() - 1
            };
            self.histogram[entry.class as usize] += 1;
            if let (Some(areas), Some(shares)) = (&mut self.areas, &shares) {
                areas.place(slot, shares);
            }
            self.images.pixels.place(slot, row(batch.pixels, i, image_len))?;
            self.logits.place(slot, logits)?;
            if let Some(views) = &mut self.views {
                views.renew(slot, logits)?;
            }
            written.push(slot);
        }
        Ok(written)
    }

    /// How much each stored image deserves to stay.
    fn keep_scores(&self) -> Vec<f64> {
        let mut keep = match self.rule.replacement {
            Replacement::Priority => self.priorities.probabilities(),
            Replacement::Oldest | Replacement::Never => vec![1.0; self.len()],
        };
        if let Some(m) = self.rule.modulation {
            let class: Vec<u32> = self.entries.iter().map(|e| e.class).collect();
            let confidence: Vec<f32> = self.entries.iter().map(|e| e.confidence).collect();
            let held = Held { counts: &self.class_counts(), void: self.rule.void };
            let phi = match &self.areas {
                Some(areas) => m.weights_by_area(&areas.shares(), &confidence, held),
                None => m.weights(&class, &confidence, held, class.len()),
            };
            keep.iter_mut().zip(phi).for_each(|(k, p)| *k *= f64::from(p));
        }
        keep
    }

    /// Who leaves for a newcomer: someone of the same class if that class is full, else anyone of a class that can spare one;
    /// where answers are of pixels, of which the newcomer's `shares` are, anyone who can be spared ([`Areas::needs`]). Images of
    /// this round stay. `None` if the newcomer itself has no place.
    fn leaver(&self, newcomer: &Entry, shares: Option<&[u32]>, keep: &[f64]) -> Option<usize> {
        if self.rule.replacement == Replacement::Never {
            return None;
        }
        let known = self.classes - usize::from(self.rule.void.is_some());
        let share = self.rule.capacity as f64 / known as f64;
        let (low, high) = (self.rule.guards.0 * share, self.rule.guards.1 * share);
        let Entry { class, round, .. } = *newcomer;
        let own_only = self.histogram[class as usize] as f64 + 1.0 > high;
        let better = |a: usize, b: usize| {
            let (ka, kb) = (keep.get(a), keep.get(b));
            ka.partial_cmp(&kb).is_some_and(|o| o.then(self.entries[a].round.cmp(&self.entries[b].round)).is_lt())
        };
        let mut best: Option<usize> = None;
        for (i, e) in self.entries.iter().enumerate() {
            // Where most are worse candidates, what costs more is asked last.
            let candidate = e.round != round && best.is_none_or(|b| better(i, b));
            let allowed = || match (&self.areas, shares) {
                (Some(areas), Some(shares)) => !areas.needs(i, shares, low, self.rule.void),
                _ if own_only => e.class == class,
                _ => e.class == class || self.histogram[e.class as usize] as f64 - 1.0 >= low,
            };
            if candidate && allowed() {
                best = Some(i);
            }
        }
        best
    }
}

impl Resumable for ReplayBuffer {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.array("pixels", &self.images.pixels[..]);
        to.array("logits", &self.logits[..]);
        self.views.as_ref().map_or(Ok(()), |views| to.part("views", views))?;
        let entries = &self.entries;
        to.owned("label", &entries.iter().map(|e| e.label).collect::<Vec<_>>());
        to.owned("class", &entries.iter().map(|e| e.class).collect::<Vec<_>>());
        to.owned("confidence", &entries.iter().map(|e| e.confidence).collect::<Vec<_>>());
        to.owned("round", &entries.iter().map(|e| e.round).collect::<Vec<_>>());
        to.part("priorities", &self.priorities)
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        let labels: Vec<u32> = from.array("label")?;
        let (classes, rounds) = (from.array::<u32>("class")?, from.array::<u64>("round")?);
        let confidences: Vec<f32> = from.array("confidence")?;
        from.restore("priorities", &mut self.priorities)?;
        let lengths = [classes.len(), rounds.len(), confidences.len(), self.priorities.len()];
        if lengths.iter().any(|n| *n != labels.len())
            || classes.iter().chain(&labels).any(|&c| c as usize >= self.classes)
        {
            return Err(from.fault("label", "labels and answers do not fit together"));
        }
        let Images { height, width, channels, .. } = self.images;
        self.images = Images::new(from.store("pixels")?, channels, height, width)?;
        self.logits = from.store("logits")?;
        let count = labels.len();
        let mut fits = self.images.len() == count && self.logits.len() == count * self.classes;
        if let Some(views) = &mut self.views {
            from.restore("views", views)?;
            fits &= views.logits.len() == count * views.list.len() * self.classes;
        }
        if !fits {
            return Err(from.fault("pixels", "images and answers do not fit together"));
        }
        let rows = labels.into_iter().zip(classes).zip(confidences).zip(rounds);
        let entry = |(((label, class), confidence), round)| Entry { label, class, confidence, round };
        self.entries = rows.map(entry).collect();
        self.histogram = vec![0; self.classes];
        self.entries.iter().for_each(|e| self.histogram[e.class as usize] += 1);
        self.areas = self.areas.as_ref().map(|_| Areas::of(&self.logits, self.classes));
        Ok(())
    }
}

fn row<T>(values: &[T], i: usize, len: usize) -> &[T] {
    &values[i * len..(i + 1) * len]
}
