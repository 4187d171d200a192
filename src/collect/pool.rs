//! The pool: what all sources together offer, gone through once for the teacher's answers and once more for the images that
//! were chosen. Between the two only numbers and answers are kept.

use super::source::{Source, Tally};
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::ops::store::Store;
use crate::rng::Streams;
use crate::{Error, Result};
use rand::seq::index::sample;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Which image: its source, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub part: u32,
    pub number: usize,
}

/// Sources with the items of each that are looked at.
pub struct Pool {
    parts: Vec<Part>,
    dims: [usize; 3],
}

struct Part {
    source: Box<dyn Source>,
    weight: f64,
    /// Ascending.
    numbers: Vec<usize>,
}

/// How far a pool was gone through, and what happened to the items of each source on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    parts: Vec<Looked>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Looked {
    /// Of the part's numbers.
    items: usize,
    tally: Tally,
}

impl Progress {
    /// Why items were left out, and how many, in brackets; empty if none were.
    pub fn reasons(&self) -> String {
        let mut of_all: BTreeMap<&str, usize> = BTreeMap::new();
        let skipped = self.parts.iter().flat_map(|part| &part.tally.skipped);
        skipped.for_each(|(reason, count)| *of_all.entry(reason).or_default() += count);
        let list: Vec<String> = of_all.into_iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
        if list.is_empty() { String::new() } else { format!(" ({})", list.join(", ")) }
    }
}

/// What takes images of a pool: how far it was gone through with them, where they are from, and their pixels `[n, H, W, C]`.
type Take<'a> = dyn FnMut(&Progress, &[Place], &[u8]) -> Result<()> + 'a;

impl Pool {
    /// A pool of `size` items for images of `dims` (height, width, channels), shared out among the sources by weight. A source
    /// that has fewer items than its share gives all, and the others what is missing; where there are more, they are drawn at
    /// random.
    ///
    /// # Errors
    /// [`Error::Invalid`] without sources, for a size of 0, or for weights that are not above 0.
    pub fn new(sources: Vec<(Box<dyn Source>, f64)>, size: usize, dims: [usize; 3], streams: &Streams) -> Result<Self> {
        if sources.is_empty() || size == 0 {
            let found = format!("{} sources and {size} images", sources.len());
            return Err(Error::invalid("pool", found, "name a source with --from, and ask for one image at least"));
        }
        if let Some((source, weight)) = sources.iter().find(|(_, weight)| !(*weight > 0.0 && weight.is_finite())) {
            let hint = "weights are above 0, as in leaves=2";
            return Err(Error::invalid(source.name(), format!("a weight of {weight}"), hint));
        }
        let weights: Vec<f64> = sources.iter().map(|(_, weight)| *weight).collect();
        let items: Vec<usize> = sources.iter().map(|(source, _)| source.items().unwrap_or(usize::MAX)).collect();
        let shares = share_out(size, &weights, &items);
        let parts = sources.into_iter().zip(shares).enumerate().map(|(i, ((source, weight), count))| {
            let numbers = match source.items() {
                Some(items) if count < items => {
                    let mut drawn = sample(&mut streams.stream("collect/pool", i as u64), items, count).into_vec();
                    drawn.sort_unstable();
                    drawn
                }
                _ => (0..count).collect(),
            };
            Part { source, weight, numbers }
        });
        Ok(Self { parts: parts.collect(), dims })
    }

    /// Items that are looked at, readable or not.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.numbers.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Height, width and channels of its images.
    pub fn dims(&self) -> [usize; 3] {
        self.dims
    }

    /// Passes all readable images that `progress` has not come to yet to `each`, some at a time.
    ///
    /// # Errors
    /// As [`Source::visit`].
    pub fn visit(&mut self, progress: &mut Progress, each: &mut Take) -> Result<()> {
        progress.parts.resize(self.parts.len(), Looked::default());
        for (i, Part { source, numbers, .. }) in self.parts.iter_mut().enumerate() {
            let Looked { items, mut tally } = progress.parts[i].clone();
            source.visit(&numbers[items..], self.dims, &mut tally, &mut |passed| {
                let items = numbers.partition_point(|number| *number <= passed.last);
                progress.parts[i] = Looked { items, tally: passed.tally.clone() };
                each(progress, &places(i, passed.numbers), passed.pixels)
            })?;
            progress.parts[i] = Looked { items: numbers.len(), tally };
        }
        Ok(())
    }

    /// Whether that can be how far this pool was gone through. One who stopped before the first image knows of no part.
    pub fn knows(&self, progress: &Progress) -> bool {
        let (parts, own) = (&progress.parts, &self.parts);
        let fits = || parts.iter().zip(own).all(|(looked, part)| looked.items <= part.numbers.len());
        parts.is_empty() || parts.len() == own.len() && fits()
    }

    /// Passes the images at `wanted` (ascending), which were readable before, to `each`, some at a time.
    ///
    /// # Errors
    /// As [`Source::visit`]; [`Error::Failed`] where one of them cannot be read any more.
    pub fn visit_at(&mut self, wanted: &[Place], each: &mut dyn FnMut(&[Place], &[u8]) -> Result<()>) -> Result<()> {
        let mut passed = 0;
        for (i, part) in self.parts.iter_mut().enumerate() {
            let of_part = |p: &&Place| p.part as usize == i;
            let numbers: Vec<usize> = wanted.iter().filter(of_part).map(|p| p.number).collect();
            if numbers.is_empty() {
                continue;
            }
            part.source.visit(&numbers, self.dims, &mut Tally::default(), &mut |found| {
                passed += found.numbers.len();
                each(&places(i, found.numbers), found.pixels)
            })?;
        }
        if passed != wanted.len() {
            let found = "images that the teacher has seen cannot be read a second time".into();
            return Err(Error::Failed { found, hint: "a source changed meanwhile; collect again".into() });
        }
        Ok(())
    }

    /// The pixels of the images at `wanted` (ascending), one after another.
    ///
    /// # Errors
    /// As [`Pool::visit_at`] and [`Store::extend`].
    pub fn gather(&mut self, wanted: &[Place], pixels: &mut Store<u8>) -> Result<()> {
        self.visit_at(wanted, &mut |_, found| Ok(pixels.extend(found)?))
    }

    /// What `synth.json` says of every source: what it is, its weight, how many items were looked at, and what happened to
    /// those that were not taken as they are when all of it was gone through. `used` counts images of the set per source.
    pub fn provenance(&self, progress: &Progress, used: &[usize]) -> Value {
        let none = Tally::default();
        let one = |(i, (part, used)): (usize, (&Part, &usize))| {
            let tally = progress.parts.get(i).map_or(&none, |looked| &looked.tally);
            let mut about = part.source.provenance();
            about["weight"] = json!(part.weight);
            about["looked_at"] = json!(part.numbers.len());
            about["used"] = json!(used);
            about["skipped"] = json!(tally.skipped);
            about["converted"] = json!(tally.converted);
            about
        };
        self.parts.iter().zip(used).enumerate().map(one).collect()
    }

    /// How many of some images are from each source.
    pub fn count(&self, places: impl Iterator<Item = Place>) -> Vec<usize> {
        let mut counts = vec![0; self.parts.len()];
        places.for_each(|place| counts[place.part as usize] += 1);
        counts
    }
}

impl Resumable for Progress {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        let (items, tallies): (Vec<usize>, Vec<&Tally>) = self.parts.iter().map(|l| (l.items, &l.tally)).unzip();
        to.value("items", items)?;
        to.value("tallies", tallies)
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        let (items, tallies): (Vec<usize>, Vec<Tally>) = (from.value("items")?, from.value("tallies")?);
        self.parts = items.into_iter().zip(tallies).map(|(items, tally)| Looked { items, tally }).collect();
        Ok(())
    }
}

fn places(part: usize, numbers: &[usize]) -> Vec<Place> {
    numbers.iter().map(|&number| Place { part: part as u32, number }).collect()
}

/// `size` shared out by weight, no share above its limit.
fn share_out(size: usize, weights: &[f64], limits: &[usize]) -> Vec<usize> {
    let mut shares = vec![0; weights.len()];
    let mut open: Vec<usize> = (0..weights.len()).collect();
    let mut left = size;
    while left > 0 && !open.is_empty() {
        let (total, before): (f64, usize) = (open.iter().map(|&i| weights[i]).sum(), left);
        for &i in &open {
            // What should be a whole number may come out a little below it.
            let even = (before as f64 * weights[i] / total + 1e-6).floor() as usize;
            let more = even.max(1).min(limits[i] - shares[i]).min(left);
            shares[i] += more;
            left -= more;
        }
        open.retain(|&i| shares[i] < limits[i]);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::super::generated::Generated;
    use super::super::leaves::Leaves;
    use super::*;

    #[test]
    fn a_pool_knows_how_far_it_can_have_been_gone_through() {
        let leaves = || -> (Box<dyn Source>, f64) { (Box::new(Generated::new(Leaves, 0)), 1.0) };
        let pool = Pool::new(vec![leaves(), leaves()], 8, [8, 8, 3], &Streams::new(0)).unwrap();
        let come_to = |items: &[usize]| Progress {
            parts: items.iter().map(|&items| Looked { items, tally: Tally::default() }).collect(),
        };
        // The first: stopped before the first image.
        assert!([&[][..], &[0, 0], &[4, 0], &[4, 4]].map(come_to).iter().all(|progress| pool.knows(progress)));
        assert!([&[0][..], &[0, 0, 0], &[5, 0]].map(come_to).iter().all(|progress| !pool.knows(progress)));
    }

    #[test]
    fn shares_follow_the_weights_and_what_there_is() {
        assert_eq!(share_out(100, &[1.0, 3.0], &[usize::MAX; 2]), [25, 75]);
        assert_eq!(share_out(100, &[1.0, 3.0], &[usize::MAX, 10]), [90, 10]);
        assert_eq!(share_out(100, &[1.0, 1.0, 1.0], &[usize::MAX; 3]).iter().sum::<usize>(), 100);
        assert_eq!(share_out(100, &[1.0, 1.0], &[3, 4]), [3, 4]);
        assert_eq!(share_out(1, &[1.0, 1.0], &[usize::MAX; 2]), [1, 0]);
        assert_eq!(share_out(170, &[1.0, 0.5, 0.1, 0.1], &[usize::MAX; 4]), [100, 50, 10, 10]);
        assert_eq!(share_out(5, &[1e-9, 1.0], &[usize::MAX; 2]), [1, 4]);
    }
}
