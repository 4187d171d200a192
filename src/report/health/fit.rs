//! How the images sit with the teacher: batch-norm distance, and whether the teacher is a trained network.

use crate::Result;
use crate::data::Images;
use crate::loss::{BnForm, BnStatsLoss, LayerStatistics};
use crate::nets::{Forward, Mode, Observed, SlotId};
use crate::ops::mem::{host, tensor, view};
use crate::ops::place::Placement;
use crate::tape::{Tape, Var};
use crate::teacher::Teacher;
use crate::train::batch_for;
use serde::{Deserialize, Serialize};

/// Images per pass: the moments are those of all passes together.
const BATCH: usize = 250;
/// More images of 32x32 than this change the moments by less than a hundredth; of more, so many are taken, evenly spaced. Of larger
/// ones as many as have as many pixels, which are what the moments are of.
const ENOUGH: usize = 4000;
/// Fewer are too few, however large they are.
const LEAST: usize = 200;

/// Images of `size` that are enough.
fn enough([height, width]: [usize; 2]) -> usize {
    (ENOUGH * 32 * 32 / height.saturating_mul(width).max(1)).clamp(LEAST, ENOUGH)
}

/// The images in front of the teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// Deviation of the images' moments from the running statistics in units of the teacher (`Δμ/σ` and `Δσ²/σ²`, root
    /// mean square over channels), one per 2-d batch norm in the order in which they run.
    pub layers: Vec<LayerDistance>,
    /// `‖Σₖ wₖ‖² / Σₖ ‖wₖ‖²` over the rows of the last linear layer. The gradient of softmax cross-entropy sums to 0
    /// over classes, so training lets the rows grow apart while their sum only decays: a trained classifier has a
    /// small ratio, rows drawn (or shuffled) independently have 1.
    pub classifier_sum: Option<f64>,
    /// Whether these are images of a generator alone.
    #[serde(default)]
    pub generated: bool,
}

/// One batch norm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerDistance {
    pub layer: String,
    pub distance: f64,
}

impl Fit {
    /// Of the images at `rows`.
    ///
    /// # Errors
    /// Images that the teacher does not take.
    pub(super) fn of(teacher: &Teacher, images: &Images, rows: &[usize]) -> Result<Self> {
        Ok(Self {
            layers: distances(teacher, images, rows)?,
            classifier_sum: classifier_sum(teacher)?,
            generated: false,
        })
    }

    /// Mean over layers, as [`BnStatsLoss::distance`]; none without batch norms.
    pub fn mean(&self) -> Option<f64> {
        let sum: f64 = self.layers.iter().map(|l| l.distance).sum();
        (!self.layers.is_empty()).then(|| sum / self.layers.len() as f64)
    }

    /// The middle layer by distance: what one layer alone cannot spoil.
    pub fn median(&self) -> Option<f64> {
        let mut all: Vec<f64> = self.layers.iter().map(|l| l.distance).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    }

    /// The layer that reads the image, almost directly.
    pub fn first(&self) -> Option<f64> {
        self.layers.first().map(|l| l.distance)
    }

    /// The layer with the largest distance.
    pub fn worst(&self) -> Option<&LayerDistance> {
        self.layers.iter().max_by(|a, b| a.distance.total_cmp(&b.distance))
    }
}

fn distances(teacher: &Teacher, images: &Images, rows: &[usize]) -> Result<Vec<LayerDistance>> {
    if teacher.network.arch.norm_layers() == 0 {
        return Ok(Vec::new());
    }
    let (norms, moments) = pooled_moments(teacher, images, rows)?;
    let weights = &teacher.network.weights;
    let mut layers = Vec::with_capacity(norms.len());
    for ((id, eps), m) in norms.into_iter().zip(moments) {
        let (mean, var) = weights.running_statistics(id)?;
        let channels = mean.len();
        let one = BnStatsLoss::new(vec![LayerStatistics { mean, var, eps: eps as f32 }], BnForm::TeacherUnits, 0.0);
        let m = tensor(m.into_iter().map(|v| v as f32).collect(), (2, channels))?;
        let layer = weights.slot(id).name.trim_end_matches(".running_mean").to_string();
        layers.push(LayerDistance { layer, distance: one.distance(&[m])? });
    }
    Ok(layers)
}

/// Every 2-d batch norm with its ε, and mean and biased variance (`2·C` values) of its input over all images at `rows` together.
fn pooled_moments(teacher: &Teacher, images: &Images, rows: &[usize]) -> Result<(Vec<(SlotId, f64)>, Vec<Vec<f64>>)> {
    let count = rows.len().min(enough(teacher.size));
    let chosen: Vec<usize> = (0..count).map(|i| rows[i * rows.len() / count.max(1)]).collect();
    let mut norms = Vec::new();
    let mut sums: Vec<Vec<f64>> = Vec::new();
    for batch in chosen.chunks(batch_for(BATCH, teacher.size)) {
        let x = teacher.normalised(images, batch, &vec![Placement::default(); batch.len()])?;
        let tape = Tape::new();
        let mut f = Forward::new(&tape, &teacher.network.weights, Mode::Match);
        teacher.network.forward(&mut f, Var::constant(x))?;
        let share = batch.len() as f64 / count as f64;
        if sums.is_empty() {
            norms = f.moments.iter().map(|seen| (seen.norm, seen.eps)).collect();
            let zeros = |seen: &Observed| Ok(vec![0.0; seen.moments.tensor()?.elem_count()]);
            sums = f.moments.iter().map(zeros).collect::<Result<_>>()?;
        }
        for (sum, seen) in sums.iter_mut().zip(&f.moments) {
            let m = host(&seen.moments.tensor()?)?;
            let m = view(&m)?;
            let channels = m.len() / 2;
            for c in 0..channels {
                let (mean, var) = (f64::from(m[c]), f64::from(m[channels + c]));
                sum[c] += share * mean;
                sum[channels + c] += share * (var + mean * mean);
            }
        }
    }
    for sum in &mut sums {
        let channels = sum.len() / 2;
        let (means, squares) = sum.split_at_mut(channels);
        squares.iter_mut().zip(means).for_each(|(q, m)| *q = (*q - *m * *m).max(0.0));
    }
    Ok((norms, sums))
}

fn classifier_sum(teacher: &Teacher) -> Result<Option<f64>> {
    let Some(values) = teacher.classifier()? else { return Ok(None) };
    let (mut of_sum, mut squares) = (0.0, 0.0);
    for row in values.chunks_exact(teacher.classes) {
        of_sum += row.iter().map(|v| f64::from(*v)).sum::<f64>().powi(2);
        squares += row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
    }
    Ok(Some(if squares > 0.0 { of_sum / squares } else { 1.0 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::{Architecture, Network, Passes, ResNetCifar, Shortcut};
    use crate::ops::mem::update;
    use crate::rng::Streams;
    use std::sync::Arc;

    fn teacher() -> Teacher {
        with_epsilon(1e-5)
    }

    fn with_epsilon(bn_eps: f64) -> Teacher {
        let net = ResNetCifar {
            blocks: vec![1, 1],
            widths: vec![16, 16],
            shortcut: Shortcut::A,
            in_channels: 3,
            num_classes: 2,
            bn_eps,
            head: "fc",
        };
        let arch = Arc::new(Architecture::new(|b| net.build(b)));
        let network = Network::init(arch, &mut Streams::new(1).stream("teacher", 0)).unwrap();
        Teacher {
            network,
            mean: vec![0.5; 3],
            std: vec![0.25; 3],
            size: [8, 8],
            channels: 3,
            classes: 2,
            void: None,
            passes: Passes::default(),
        }
    }

    fn set(teacher: &Teacher, name: &str, values: &[f32]) {
        let (_, tensor) = teacher.network.weights.iter().find(|(s, _)| s.name == name).unwrap();
        update(tensor, |t| t.copy_from_slice(values)).unwrap();
    }

    /// More images than a batch, so that the moments of several passes are put together.
    #[test]
    fn images_that_the_running_statistics_come_from_are_at_no_distance() {
        let teacher = teacher();
        let pixels: Vec<u8> = (0..300 * 192u64).map(|i| (i * i % 8191 * (1 + i / 192) % 256) as u8).collect();
        let images = Images::new(pixels, 3, 8, 8).unwrap();
        let all: Vec<usize> = (0..images.len()).collect();
        // What a layer reads depends on the statistics of those before it.
        for _ in 0..5 {
            let (norms, moments) = pooled_moments(&teacher, &images, &all).unwrap();
            for ((id, _), m) in norms.iter().zip(&moments) {
                let layer = teacher.network.weights.slot(*id).name.trim_end_matches("running_mean").to_string();
                let m: Vec<f32> = m.iter().map(|v| *v as f32).collect();
                set(&teacher, &format!("{layer}running_mean"), &m[..16]);
                set(&teacher, &format!("{layer}running_var"), &m[16..]);
            }
        }
        let fit = Fit::of(&teacher, &images, &all).unwrap();
        let names: Vec<&str> = fit.layers.iter().map(|l| l.layer.as_str()).collect();
        assert_eq!(names, ["bn1", "layer1.0.bn1", "layer1.0.bn2", "layer2.0.bn1", "layer2.0.bn2"]);
        assert!(fit.worst().unwrap().distance < 1e-2, "{fit:?}");

        let one = teacher.network.weights.iter().find(|(s, _)| s.name == "layer2.0.bn2.running_var").unwrap().1;
        update(one, |v| v.iter_mut().for_each(|v| *v /= 4.0)).unwrap();
        let fit = Fit::of(&teacher, &images, &all).unwrap();
        // (v - v/4) / (v/4) = 3
        let worst = fit.worst().unwrap();
        assert!(worst.layer == "layer2.0.bn2" && (worst.distance - 3.0).abs() < 0.05, "{fit:?}");
        assert!((fit.mean().unwrap() - worst.distance / 5.0).abs() < 1e-2 && fit.median().unwrap() < 1e-2);
    }

    /// The first layer reads the same with any ε: what changes is the unit that its distance is told in.
    #[test]
    fn distances_are_told_with_the_epsilon_of_the_layer() {
        let pixels: Vec<u8> = (0..20 * 192u64).map(|i| (i * i % 8191 % 256) as u8).collect();
        let images = Images::new(pixels, 3, 8, 8).unwrap();
        let all: Vec<usize> = (0..images.len()).collect();
        let root_mean_square = |values: &mut dyn Iterator<Item = f64>| {
            let squares: Vec<f64> = values.map(|v| v * v).collect();
            (squares.iter().sum::<f64>() / squares.len() as f64).sqrt()
        };
        for eps in [1e-5, 3.0] {
            let teacher = with_epsilon(eps);
            let m = pooled_moments(&teacher, &images, &all).unwrap().1.remove(0);
            let (means, vars) = m.split_at(16);
            let expected = root_mean_square(&mut means.iter().map(|m| m / (1.0 + eps).sqrt()))
                + root_mean_square(&mut vars.iter().map(|v| (v - 1.0) / (1.0 + eps)));
            let found = Fit::of(&teacher, &images, &all).unwrap().first().unwrap();
            assert!((found - expected).abs() < 1e-4 * expected, "{eps}: {found}, expected {expected}");
        }
    }

    #[test]
    fn fewer_of_large_images_are_enough() {
        let sizes = [[8, 8], [32, 32], [64, 64], [120, 160], [1024, 2048]];
        assert_eq!(sizes.map(enough), [4000, 4000, 1000, 213, 200]);
    }

    #[test]
    fn rows_that_cancel_have_no_sum() {
        let teacher = teacher();
        let row: Vec<f32> = (0..16).map(|i| i as f32 - 3.0).collect();
        set(&teacher, "fc.weight", &row.iter().flat_map(|v| [*v, -v]).collect::<Vec<_>>());
        assert!(classifier_sum(&teacher).unwrap().unwrap() < 1e-12);
        set(&teacher, "fc.weight", &row.iter().flat_map(|v| [*v, *v]).collect::<Vec<_>>());
        assert!((classifier_sum(&teacher).unwrap().unwrap() - 2.0).abs() < 1e-12);
    }

    /// Half black, half white: those that are looked at are from all over the set.
    #[test]
    fn many_images_are_looked_at_evenly() {
        let teacher = teacher();
        let mean = |pixels: Vec<u8>| {
            let images = Images::new(pixels, 3, 8, 8).unwrap();
            let all: Vec<usize> = (0..images.len()).collect();
            pooled_moments(&teacher, &images, &all).unwrap().1[0][0]
        };
        let (black, white) = (mean(vec![0; 192]), mean(vec![255; 192]));
        let both = mean([vec![0; 4000 * 192], vec![255; 4000 * 192]].concat());
        assert!((both - (black + white) / 2.0).abs() < 1e-3 * (white - black).abs(), "{both} of {black} and {white}");
    }
}
