//! How diverse a set is to the teacher: the features that its last layer reads.

use super::evenly;
use crate::Result;
use crate::ops::mem::view;
use crate::ops::place::Placement;
use crate::set::SyntheticSet;
use crate::teacher::Teacher;
use crate::train::batch_for;
use rayon::prelude::*;
use serde::Serialize;

/// Images whose features are compared.
const COMPARED: usize = 2000;
const BATCH: usize = 250;

/// Spread of the features.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Features {
    /// How many there are per image.
    pub count: usize,
    /// Dimensions in which the images effectively differ: `(Σλ)² / Σλ²` over the eigenvalues λ of the covariance.
    pub effective_dimensions: f64,
    /// Share of features that are not the same for all images.
    pub alive: f64,
}

impl Features {
    /// `None` where the network does not say what its classifier reads. `shares` is how much every image counts, `[n]`.
    pub(super) fn of(set: &SyntheticSet, shares: &[f64], teacher: &Teacher) -> Result<Option<Self>> {
        let rows = evenly(set.len(), COMPARED);
        let weights: Vec<f64> = rows.iter().map(|&row| shares[row]).collect();
        let mut all = Vec::new();
        for chunk in rows.chunks(batch_for(BATCH, teacher.size)) {
            let x = teacher.normalised(&set.images, chunk, &vec![Placement::default(); chunk.len()])?;
            let Some(features) = teacher.answers_and_features(&x)?.1 else { return Ok(None) };
            all.extend_from_slice(&view(&features)?);
        }
        let count = all.len() / rows.len().max(1);
        if count == 0 {
            return Ok(None);
        }
        centre(&mut all, count, &weights);
        let alive = (0..count).filter(|&j| all.iter().skip(j).step_by(count).any(|v| v.abs() > 1e-6)).count();
        let effective_dimensions = participation(all, count, &weights);
        Ok(Some(Self { count, effective_dimensions, alive: alive as f64 / count as f64 }))
    }
}

/// `(Σλ)² / Σλ²` over the eigenvalues λ of the covariance of rows of `count` values each: 1 if all lie on a line, `count` if they
/// spread evenly in all directions; 0 if all are the same.
pub fn effective_dimensions(rows: &[f32], count: usize) -> f64 {
    weighted_dimensions(rows.to_vec(), count, &vec![1.0; rows.len() / count])
}

/// The same where rows count by `weights`.
fn weighted_dimensions(mut rows: Vec<f32>, count: usize, weights: &[f64]) -> f64 {
    centre(&mut rows, count, weights);
    participation(rows, count, weights)
}

/// Takes the mean off every column.
fn centre(rows: &mut [f32], count: usize, weights: &[f64]) {
    let total = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let mut mean = vec![0f64; count];
    for (row, weight) in rows.chunks_exact(count).zip(weights) {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += weight * f64::from(*v) / total);
    }
    rows.chunks_exact_mut(count).for_each(|row| row.iter_mut().zip(&mean).for_each(|(v, m)| *v -= *m as f32));
}

/// `tr(C)² / tr(C²)` of the centred rows' covariance C: no eigenvalue is needed. Of C or of the products of rows with each other,
/// which have the same eigenvalues, the smaller matrix is gone through.
fn participation(mut rows: Vec<f32>, count: usize, weights: &[f64]) -> f64 {
    let n = rows.len() / count;
    let mean = weights.iter().sum::<f64>() / n.max(1) as f64;
    for (row, weight) in rows.chunks_exact_mut(count).zip(weights) {
        let root = (weight / mean.max(f64::MIN_POSITIVE)).sqrt() as f32;
        row.iter_mut().for_each(|v| *v *= root);
    }
    let trace: f64 = rows.iter().map(|v| f64::from(*v).powi(2)).sum();
    let squares: f64 = if n <= count {
        let row = |i: usize| &rows[i * count..(i + 1) * count];
        let products = |i: usize| (0..n).map(|j| dot(row(i), row(j)).powi(2)).sum::<f64>();
        (0..n).into_par_iter().map(products).collect::<Vec<_>>().iter().sum()
    } else {
        let columns: Vec<Vec<f32>> =
            (0..count).map(|j| rows.iter().skip(j).step_by(count).copied().collect()).collect();
        let products = |i: usize| (0..count).map(|j| dot(&columns[i], &columns[j]).powi(2)).sum::<f64>();
        (0..count).into_par_iter().map(products).collect::<Vec<_>>().iter().sum()
    };
    if squares > 0.0 { trace * trace / squares } else { 0.0 }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points at ±a, ±b, ±c on three axes have the eigenvalues a², b², c² (over 3): (1+4+9)²/(1+16+81) = 2.
    #[test]
    fn dimensions_are_those_of_the_eigenvalues() {
        let mut rows = Vec::new();
        for (axis, size) in [(0, 1f32), (1, 2.0), (2, 3.0)] {
            for sign in [1.0, -1.0] {
                let mut row = [5.0, -1.0, 2.0, 7.0];
                row[axis] += sign * size;
                rows.extend(row);
            }
        }
        // 6 rows of 4 values go the one way, transposed features the other.
        assert!((effective_dimensions(&rows, 4) - 2.0).abs() < 1e-5);
        let few: Vec<f32> = rows[..12].to_vec();
        // Around their mean (1, -2/3), (-1, -2/3), (0, 4/3): λ = 2 and 8/3, (14/3)² / (4 + 64/9) = 1.96
        assert!((effective_dimensions(&few, 4) - 1.96).abs() < 1e-5, "{}", effective_dimensions(&few, 4));
        assert_eq!(effective_dimensions(&[3.0; 12], 4), 0.0);
    }

    #[test]
    fn a_row_of_twice_the_weight_counts_as_two() {
        let rows = [1f32, 0.0, 0.0, 1.0, -1.0, 2.0, 3.0, 1.0];
        let twice = [&rows[..], &rows[6..]].concat();
        let weighted = weighted_dimensions(rows.to_vec(), 2, &[1.0, 1.0, 1.0, 2.0]);
        assert!((weighted - effective_dimensions(&twice, 2)).abs() < 1e-5, "{weighted}");
        assert!((weighted - effective_dimensions(&rows, 2)).abs() > 1e-3, "{weighted}");
    }
}
