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
use crate::Result;
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::events::{Observer, Record, check_interrupt, or_put_away};
use crate::loss::{argmax, log_softmax};
use crate::nets::{Forward, Mode};
use crate::ops::mem::{host, view};
use crate::ops::place::{Placement, place_bytes};
use crate::tape::{Tape, Var};
use crate::teacher::Teacher;
use rayon::prelude::*;

/// Temperature of the confidence (as ODIN has it).
const TEMPERATURE: f64 = 1000.0;
/// Noise images that are looked at.
const NOISE: usize = 500;
/// The power of relatedness that decides.
const SHARPNESS: i32 = 2;
/// Share of an even draw in the preference, so that nothing is left out.
pub const EVEN_SHARE: f64 = 0.1;

/// The name of the stage in records and states.
const STAGE: &str = "related";

/// Signs of an image from outside: unsureness, angle, deviation of means, deviation of standard deviations. What a network does
/// not tell is 0.
pub type Signs = [f64; 4];

/// How related the images at `wanted` (ascending) of a pool are, 0 to 1.
///
/// Every image goes through the teacher by itself, since a batch norm's moments are to be those of one image.
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
    let (classifier, total) = (teacher.classifier()?, wanted.len());
    let mut seen = Seen { signs: Vec::with_capacity(total) };
    if let Some(saved) = observer.earlier(STAGE)? {
        seen.restore(&saved)?;
    }
    let rest = wanted.get(seen.signs.len()..).unwrap_or_default();
    let looked = pool.visit_at(rest, &mut |places, pixels| {
        seen.signs.extend(signs_of(teacher, classifier.as_deref(), pixels)?);
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
        outside.extend(signs_of(teacher, classifier.as_deref(), passed.pixels)?);
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

/// The chance of every image to be drawn, in units of the mean: mostly by relatedness, and a share evenly.
pub fn preference(relatedness: &[f64]) -> Vec<f64> {
    let sharp = |r: &f64| r.powi(SHARPNESS);
    let mean = relatedness.iter().map(sharp).sum::<f64>() / relatedness.len().max(1) as f64;
    relatedness.iter().map(|r| (1.0 - EVEN_SHARE) * sharp(r) / mean.max(1e-12) + EVEN_SHARE).collect()
}

/// Every sign is measured from the median of noise, in units of its spread (median absolute deviation) over the pool; their mean
/// goes through a sigmoid: 0.5 is as unrelated as noise.
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

/// The signs of 8-bit images `[n, H, W, C]`; `classifier` has the weights of the last layer, `[features, K]`.
fn signs_of(teacher: &Teacher, classifier: Option<&[f32]>, pixels: &[u8]) -> Result<Vec<Signs>> {
    check_interrupt()?;
    let len = teacher.size[0] * teacher.size[1] * teacher.channels;
    pixels.par_chunks_exact(len).map(|image| signs_of_one(teacher, classifier, image)).collect()
}

fn signs_of_one(teacher: &Teacher, classifier: Option<&[f32]>, image: &[u8]) -> Result<Signs> {
    let dims = [teacher.size[0], teacher.size[1], teacher.channels];
    let (places, device) = ([Placement::default()], &teacher.network.compute().device);
    let x = place_bytes(&[image], dims, &places, &teacher.mean, &teacher.std, device)?;
    let weights = &teacher.network.weights;
    let tape = Tape::new();
    let mode = if teacher.network.arch.norm_layers() > 0 { Mode::Match } else { Mode::Frozen };
    let mut f = Forward::new(&tape, weights, mode);
    let logits = host(&teacher.network.forward(&mut f, Var::constant(x))?.tensor()?)?;
    let logits: Vec<f64> = view(&logits)?.iter().map(|v| f64::from(*v)).collect();
    let top = argmax(&logits);
    let unsure = 1.0 - log_softmax(&logits, TEMPERATURE)[top].exp();
    let angle = match (&f.features, classifier) {
        (Some(features), Some(classifier)) => {
            let features = host(&features.tensor()?)?;
            angle(&view(&features)?, classifier, teacher.classes, top)
        }
        _ => 0.0,
    };
    let (mut means, mut deviations, mut layers) = (0.0, 0.0, 0usize);
    for seen in &f.moments {
        let (mean, var) = weights.running_statistics(seen.norm)?;
        let moments = host(&seen.moments.tensor()?)?;
        let moments = view(&moments)?;
        let channels = mean.len();
        for c in 0..channels {
            let scale = (f64::from(var[c]) + seen.eps).sqrt();
            means += ((f64::from(moments[c]) - f64::from(mean[c])) / scale).powi(2) / channels as f64;
            deviations += (f64::from(moments[channels + c]).max(0.0).sqrt() / scale - 1.0).powi(2) / channels as f64;
        }
        layers += 1;
    }
    let layers = layers.max(1) as f64;
    Ok([unsure, angle, means / layers, deviations / layers])
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
    use super::*;

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
