//! Embeddings of the classes' names, which NAYER's generator reads.

use crate::rng::{Streams, normal};
use crate::{Error, Result};

/// One row per class.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelEmbeddings {
    /// `[classes, width]`
    pub rows: Vec<f32>,
    pub width: usize,
    /// Where they come from: a text encoder by its name, or `orthogonal`.
    pub source: String,
}

/// Values of an orthogonal embedding, if there are no more classes.
const WIDTH: usize = 512;

impl LabelEmbeddings {
    /// What a text encoder made of the class names.
    ///
    /// # Errors
    /// Rows that are not all `width` finite values.
    pub fn new(rows: Vec<f32>, width: usize, source: String) -> Result<Self> {
        if width == 0 || rows.is_empty() || !rows.len().is_multiple_of(width) || rows.iter().any(|v| !v.is_finite()) {
            let found = format!("{} values in rows of {width}, or one that is not finite", rows.len());
            return Err(Error::invalid("label embeddings", found, "use another text encoder"));
        }
        Ok(Self { rows, width, source })
    }

    /// Orthogonal rows of length 1, the same in every run: without an encoder, no class is nearer to one than to another.
    pub fn orthogonal(classes: usize) -> Self {
        let width = classes.max(WIDTH);
        let mut rng = Streams::new(0).stream("label-embeddings", 0);
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(classes);
        while rows.len() < classes {
            let mut row: Vec<f64> = normal(&mut rng, width).into_iter().map(f64::from).collect();
            // Twice, so that what rounding left of the others goes too.
            for other in rows.iter().chain(&rows) {
                let along: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
            }
            let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            if length > 1e-6 {
                row.iter_mut().for_each(|v| *v /= length);
                rows.push(row);
            }
        }
        let rows = rows.into_iter().flatten().map(|v| v as f32).collect();
        Self { rows, width, source: "orthogonal".into() }
    }

    /// Number of rows.
    pub fn classes(&self) -> usize {
        self.rows.len() / self.width
    }

    /// The row of a class.
    pub fn of(&self, class: u32) -> &[f32] {
        &self.rows[class as usize * self.width..][..self.width]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orthogonal_rows_are_orthogonal() {
        for classes in [3, 100, 520] {
            let e = LabelEmbeddings::orthogonal(classes);
            assert_eq!((e.classes(), e.width), (classes, classes.max(512)));
            for (a, b) in [(0, 0), (0, 1), (1, 2), (classes as u32 - 1, 0), (classes as u32 - 1, classes as u32 - 2)] {
                let dot: f64 = e.of(a).iter().zip(e.of(b)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                assert!((dot - if a == b { 1.0 } else { 0.0 }).abs() < 1e-5, "{a}·{b} = {dot} of {classes}");
            }
        }
        assert_eq!(LabelEmbeddings::orthogonal(4), LabelEmbeddings::orthogonal(4));
        assert!(LabelEmbeddings::new(vec![1.0, f32::NAN], 2, String::new()).is_err());
        assert!(LabelEmbeddings::new(vec![1.0; 3], 2, String::new()).is_err());
    }
}
