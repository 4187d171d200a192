//! How related an image looks to the teacher's task, told by the teacher alone.
//!
//! Begon & Geurts ("Distillation from heterogeneous unlabeled collections", 2022) prefer images that look related: training
//! converges sooner. What is read off the teacher are signs of images from outside its training data, low for those from
//! within: how unsure it is at a high temperature, the angle between the features and the weights of the class, and how far the
//! moments of a single image are from the statistics of each batch norm. Uniform noise says where "outside" lies.

use super::generated::Generated;
use super::noise::Noise;
use super::pool::{Place, Pool};
use super::source::{Source, Tally};
use super::survey::BATCH;
use crate::Result;
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::events::{Observer, Record, check_interrupt, or_put_away};
use crate::loss::{argmax, log_softmax};
use crate::nets::{Forward, Mode, ObservedEach};
use crate::ops;
use crate::ops::mem::{host, view};
use crate::ops::place::{Placement, place_bytes};
use crate::tape::{Tape, Var};
use crate::teacher::Teacher;
use crate::train::batch_for;
use rayon::prelude::*;

/// Temperature of the confidence (as ODIN has it).
const TEMPERATURE: f64 = 1000.0;
/// Noise images that are looked at.
const NOISE: usize = 500;
/// The power of relatedness that decides.
const SHARPNESS: i32 = 2;
/// Share of an even draw, so that nothing is left out.
pub const EVEN_SHARE: f64 = 0.1;

/// The name of the stage in records and states.
const STAGE: &str = "related";

/// Signs of an image from outside: unsureness, angle, deviation of means, deviation of standard deviations. What a network does
/// not tell is 0.
pub type Signs = [f64; 4];

/// How related the images at `wanted` (ascending) of a pool are, 0 to 1.
///
/// Images go through the teacher in batches; the moments of what a batch norm reads are those of every single image.
///
/// # Errors
/// As [`Pool::visit`].
pub fn relatedness(
    pool: &mut Pool,
    teacher: &Teacher,
    wanted: &[Place],
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Vec<f64>> {
    let (mut witness, total) = (Witness::new(teacher)?, wanted.len());
    let mut seen = Seen { signs: Vec::with_capacity(total) };
    if let Some(saved) = observer.earlier(STAGE)? {
        seen.restore(&saved)?;
    }
    let rest = wanted.get(seen.signs.len()..).unwrap_or_default();
    let looked = pool.visit_at(rest, &mut |places, pixels| {
        seen.signs.extend(witness.signs_of(pixels)?);
        let done = seen.signs.len();
        observer.record(&Record { stage: STAGE, done, total, images: places.len(), values: Vec::new() });
        observer.between(STAGE, &seen)
    });
    or_put_away(looked, STAGE, &seen, observer)?;
    observer.ended(STAGE, &seen)?;
    let mut noise = Generated::new(Noise::Uniform, seed ^ 0x6e6f_6973);
    let mut outside = Vec::with_capacity(NOISE);
    let numbers: Vec<usize> = (0..NOISE).collect();
    noise.visit(&numbers, pool.dims(), &mut Tally::default(), &mut |passed| {
        outside.extend(witness.signs_of(passed.pixels)?);
        Ok(())
    })?;
    Ok(against_noise(&seen.signs, &outside))
}

/// The signs of the images that were looked at so far.
struct Seen {
    signs: Vec<Signs>,
}

impl Resumable for Seen {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.array("signs", self.signs.as_flattened());
        Ok(())
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        self.signs = from.array("signs")?.as_chunks::<4>().0.to_vec();
        Ok(())
    }
}

/// The chance of every image to be drawn by relatedness alone, in units of the mean. What samples by it adds the even share.
pub fn sharpened(relatedness: &[f64]) -> Vec<f64> {
    let sharp = |r: &f64| r.powi(SHARPNESS);
    let mean = relatedness.iter().map(sharp).sum::<f64>() / relatedness.len().max(1) as f64;
    relatedness.iter().map(|r| sharp(r) / mean.max(1e-12)).collect()
}

/// The chance of every image to be taken, in units of the mean: mostly by relatedness, and a share evenly.
pub fn preference(relatedness: &[f64]) -> Vec<f64> {
    sharpened(relatedness).into_iter().map(|chance| (1.0 - EVEN_SHARE) * chance + EVEN_SHARE).collect()
}

/// Every sign is measured from the median of noise, in units of its spread (median absolute deviation) over the pool; their mean
/// goes through a sigmoid: 0.5 is as unrelated as noise.
///
/// The unit is ours. The spread of noise would be the obvious one, but noise images are all alike: in units of so little, any
/// picture would be at one end of the sigmoid. In that of the pool its images are told apart, which is what they are weighed for,
/// and where all of them are far from noise all are about equally related. Numbers of different pools do not compare.
fn against_noise(signs: &[Signs], noise: &[Signs]) -> Vec<f64> {
    let column = |rows: &[Signs], j: usize| rows.iter().map(|row| row[j]).collect::<Vec<f64>>();
    let scales: Vec<(f64, f64)> = (0..4)
        .map(|j| {
            let all = column(signs, j);
            let middle = median(all.clone());
            (median(column(noise, j)), median(all.iter().map(|v| (v - middle).abs()).collect()))
        })
        .collect();
    let used = scales.iter().filter(|(_, spread)| *spread > 0.0).count().max(1) as f64;
    let one = |row: &Signs| {
        let sum: f64 = row
            .iter()
            .zip(&scales)
            .filter(|(_, (_, spread))| *spread > 0.0)
            .map(|(value, (zero, spread))| ((zero - value) / spread).clamp(-10.0, 10.0))
            .sum();
        1.0 / (1.0 + (-sum / used).exp())
    };
    signs.iter().map(one).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// A teacher that is asked for signs, with what need only be read of it once.
struct Witness<'a> {
    teacher: &'a Teacher,
    /// The weights of the last layer, `[features, K]`.
    classifier: Option<Vec<f32>>,
    /// What the batch norms know, in the order of a pass; from the first pass on.
    known: Vec<Known>,
}

impl<'a> Witness<'a> {
    fn new(teacher: &'a Teacher) -> Result<Self> {
        Ok(Self { teacher, classifier: teacher.classifier()?, known: Vec::new() })
    }

    /// The signs of 8-bit images `[n, H, W, C]`.
    fn signs_of(&mut self, pixels: &[u8]) -> Result<Vec<Signs>> {
        let len = self.teacher.size[0] * self.teacher.size[1] * self.teacher.channels;
        let images: Vec<&[u8]> = pixels.chunks_exact(len).collect();
        let mut signs = Vec::with_capacity(images.len());
        for batch in images.chunks(batch_for(BATCH, self.teacher.size)) {
            check_interrupt()?;
            signs.extend(self.signs_of_batch(batch)?);
        }
        Ok(signs)
    }

    /// The same of images that go through the teacher at once.
    fn signs_of_batch(&mut self, images: &[&[u8]]) -> Result<Vec<Signs>> {
        let (teacher, count) = (self.teacher, images.len());
        let dims = [teacher.size[0], teacher.size[1], teacher.channels];
        let (places, device) = (vec![Placement::default(); count], &teacher.network.compute().device);
        let x = place_bytes(images, dims, &places, &teacher.mean, &teacher.std, device)?;
        let tape = Tape::new();
        let mut f = Forward::new(&tape, &teacher.network.weights, Mode::Frozen).with_each();
        let logits = host(&teacher.network.forward(&mut f, Var::constant(x))?.tensor()?)?;
        let features = f.features.take().map(|features| features.tensor()).transpose()?;
        let features = features.as_ref().map(host).transpose()?;
        let norms = f.each.take().unwrap_or_default();
        if self.known.is_empty() {
            self.known = norms.iter().map(|norm| Known::of(teacher, norm)).collect::<Result<_>>()?;
        }
        let sums = norms.iter().map(|norm| host(&norm.sums)).collect::<ops::Result<Vec<_>>>()?;
        let (logits, features) = (view(&logits)?, features.as_ref().map(view).transpose()?);
        let sums = sums.iter().map(view).collect::<ops::Result<Vec<_>>>()?;
        let (logits, features): (&[f32], Option<&[f32]>) = (&logits, features.as_deref());
        let (classifier, classes) = (self.classifier.as_deref(), teacher.classes);
        let read: Vec<(&Known, &[f32], usize)> = (self.known.iter().zip(&sums).zip(&norms))
            .map(|((known, sums), norm)| (known, &**sums, norm.pixels))
            .collect();
        let of_image = |i: usize| {
            let logits: Vec<f64> = row(logits, count, i).iter().map(|v| f64::from(*v)).collect();
            let top = argmax(&logits);
            let unsure = 1.0 - log_softmax(&logits, TEMPERATURE)[top].exp();
            let angle = match (features, classifier) {
                (Some(features), Some(classifier)) => angle(row(features, count, i), classifier, classes, top),
                _ => 0.0,
            };
            let (mut means, mut deviations) = (0.0, 0.0);
            for (known, sums, pixels) in &read {
                let [mean, deviation] = known.distances(row(sums, count, i), *pixels);
                means += mean;
                deviations += deviation;
            }
            let layers = read.len().max(1) as f64;
            [unsure, angle, means / layers, deviations / layers]
        };
        Ok((0..count).into_par_iter().map(of_image).collect())
    }
}

/// Row `i` of `rows` equally long ones.
fn row(values: &[f32], rows: usize, i: usize) -> &[f32] {
    let len = values.len() / rows;
    &values[i * len..(i + 1) * len]
}

/// The running statistics of a batch norm, per channel.
struct Known {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Known {
    fn of(teacher: &Teacher, seen: &ObservedEach) -> Result<Self> {
        let (mean, var) = teacher.network.weights.running_statistics(seen.norm)?;
        let deviation = var.into_iter().map(|v| (f64::from(v) + seen.eps).sqrt()).collect();
        Ok(Self { mean: mean.into_iter().map(f64::from).collect(), deviation })
    }

    /// How far the moments of one image are from them, in units of the deviation: mean squares over the channels of the difference
    /// of means and of that of deviations. `sums` are Σ and Σ² over so many pixels, `[2·C]`.
    fn distances(&self, sums: &[f32], pixels: usize) -> [f64; 2] {
        let (channels, pixels) = (self.mean.len(), pixels as f64);
        let (mut means, mut deviations) = (0.0, 0.0);
        for c in 0..channels {
            let mean = f64::from(sums[c]) / pixels;
            let var = f64::from(sums[channels + c]) / pixels - mean * mean;
            means += ((mean - self.mean[c]) / self.deviation[c]).powi(2);
            deviations += (var.max(0.0).sqrt() / self.deviation[c] - 1.0).powi(2);
        }
        [means, deviations].map(|sum| sum / channels as f64)
    }
}

/// `1 − cos` of the angle between features and the weights of a class.
fn angle(features: &[f32], classifier: &[f32], classes: usize, class: usize) -> f64 {
    let weights = classifier.iter().skip(class).step_by(classes).map(|w| f64::from(*w));
    let (mut product, mut a, mut b) = (0.0, 0.0, 0.0);
    for (u, w) in features.iter().map(|u| f64::from(*u)).zip(weights) {
        product += u * w;
        a += u * u;
        b += w * w;
    }
    if a * b > 0.0 { 1.0 - product / (a * b).sqrt() } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::super::leaves::Leaves;
    use super::*;
    use crate::model::Model;
    use crate::nets::Kind;
    use crate::ops::mem::update;
    use crate::set::priority::{Priorities, PriorityRule};

    const SIDE: usize = 16;

    /// A teacher with random weights, whose batch norms know another mean and variance for each channel.
    fn teacher() -> Teacher {
        let model = Model::random("resnet8", [3, SIDE, SIDE], 5);
        for (slot, tensor) in model.network.weights.iter() {
            let known = |i: usize| match slot.kind {
                Kind::RunningMean { .. } => Some(0.1 * (i % 3) as f32),
                Kind::RunningVar => Some(0.5 + 0.25 * (i % 4) as f32),
                _ => None,
            };
            update(tensor, |t| t.iter_mut().enumerate().for_each(|(i, v)| *v = known(i).unwrap_or(*v))).unwrap();
        }
        Teacher::of(&model)
    }

    /// What the batch norms say of an image that goes through the teacher alone: the moments of the batch are its own.
    fn deviations_alone(teacher: &Teacher, image: &[u8]) -> [f64; 2] {
        let (places, device) = ([Placement::default()], &teacher.network.compute().device);
        let x = place_bytes(&[image], [SIDE, SIDE, 3], &places, &teacher.mean, &teacher.std, device).unwrap();
        let (tape, weights) = (Tape::new(), &teacher.network.weights);
        let mut f = Forward::new(&tape, weights, Mode::Match);
        teacher.network.forward(&mut f, Var::constant(x)).unwrap();
        let mut sums = [0.0; 2];
        for seen in &f.moments {
            let (mean, var) = weights.running_statistics(seen.norm).unwrap();
            let moments = seen.moments.tensor().unwrap();
            let moments = view(&moments).unwrap();
            let channels = mean.len();
            for c in 0..channels {
                let scale = (f64::from(var[c]) + seen.eps).sqrt();
                let off = (f64::from(moments[c]) - f64::from(mean[c])) / scale;
                sums[0] += off.powi(2) / channels as f64;
                sums[1] += (f64::from(moments[channels + c]).sqrt() / scale - 1.0).powi(2) / channels as f64;
            }
        }
        sums.map(|sum| sum / f.moments.len() as f64)
    }

    #[test]
    fn a_batch_gives_the_signs_of_single_passes() {
        // At a temperature of 1000 the first one hardly differs from image to image.
        let close = |found: &Signs, expected: &Signs| {
            (0..4).all(|j| (found[j] - expected[j]).abs() < [1e-6, 1e-4, 1e-4, 1e-4][j] * (1.0 + expected[j]))
        };
        let (teacher, len) = (teacher(), SIDE * SIDE * 3);
        let mut pixels = vec![0; 8 * len];
        Generated::new(Leaves, 1).images(0, [SIDE, SIDE, 3], &mut pixels);
        let together = Witness::new(&teacher).unwrap().signs_of(&pixels).unwrap();
        assert_eq!(together.len(), 8);
        for (signs, image) in together.iter().zip(pixels.chunks_exact(len)) {
            let alone = Witness::new(&teacher).unwrap().signs_of(image).unwrap()[0];
            let [means, deviations] = deviations_alone(&teacher, image);
            let expected = [alone[0], alone[1], means, deviations];
            assert!(close(&alone, &expected) && close(signs, &expected), "{signs:?} {alone:?} {expected:?}");
        }
        assert!(together[1..].iter().all(|signs| !close(signs, &together[0])), "{together:?}");
    }

    /// What the sampler makes of the weights of a set: nine tenths by the square of relatedness, one tenth evenly.
    #[test]
    fn a_tenth_of_the_draw_is_even() {
        let weights: Vec<f32> = sharpened(&[0.2, 0.6]).iter().map(|w| *w as f32).collect();
        let mut priorities = Priorities::new(PriorityRule::default(), 2).with_wanted(&weights, None);
        priorities.set_even_share(EVEN_SHARE);
        // 0.9·0.04/0.4 + 0.1/2 and 0.9·0.36/0.4 + 0.1/2
        let p = priorities.probabilities();
        assert!((p[0] - 0.14).abs() < 1e-6 && (p[1] - 0.86).abs() < 1e-6, "{p:?}");
    }

    #[test]
    fn angles_are_those_to_the_column_of_the_class() {
        // Columns (3, 4) and (0, 1), with features (0, 2): cosines 4/5 and 1.
        let classifier = [3.0, 0.0, 4.0, 1.0];
        assert!((angle(&[0.0, 2.0], &classifier, 2, 0) - 0.2).abs() < 1e-9);
        assert!(angle(&[0.0, 2.0], &classifier, 2, 1).abs() < 1e-9);
        assert_eq!(angle(&[0.0, 0.0], &classifier, 2, 1), 1.0);
    }

    #[test]
    fn noise_is_the_middle_and_what_lies_below_is_related() {
        let row = |v: f64| [v, v, v, 0.0];
        let noise: Vec<Signs> = [1.0, 1.1, 0.9].map(row).to_vec();
        let found = against_noise(&[row(1.0), row(0.5), row(0.0), row(0.5), row(1.5)], &noise);
        // The spread over the pool is the median of 0.5, 0, 0.5, 0, 1: a half. (1 - 0)/0.5 = 2, sigmoid 0.8808.
        assert!((found[0] - 0.5).abs() < 1e-9 && (found[2] - 0.880_797).abs() < 1e-6, "{found:?}");
        assert!(found[2] > found[1] && found[1] == found[3] && found[4] < 0.5);
        let preferred = preference(&[0.2, 0.6]);
        // 0.9·0.04/0.2 + 0.1 and 0.9·0.36/0.2 + 0.1
        assert!((preferred[0] - 0.28).abs() < 1e-9 && (preferred[1] - 1.72).abs() < 1e-9, "{preferred:?}");
    }
}
