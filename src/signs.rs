//! Numbers of an inversion under way that tell whether it goes well.

use crate::Result;
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::trend::{Ends, Trend};
use serde::{Deserialize, Serialize};

/// What can be said after some batches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signs {
    /// Batches made.
    pub batches: usize,
    /// Batch-norm loss of the first and of the last batches; none where it is not matched.
    pub bn: Option<Trend>,
    /// Share of images on which teacher and adversary decide alike, in the first and the last batches against it.
    pub agreement: Option<Trend>,
    /// Batches against an adversary.
    pub rounds: usize,
    /// Root-mean-square difference of one image of the last batch and the next, for pixels in 0..1.
    pub difference: f64,
    /// How far the generator has moved from its start: norm of the difference of its weights over the norm of the weights.
    pub movement: f64,
}

/// Batches behind each end of a trend.
const WINDOW: usize = 5;

/// Collects [`Signs`].
pub struct Watch {
    batches: usize,
    bn: Ends,
    agreement: Ends,
    difference: f64,
}

impl Default for Watch {
    fn default() -> Self {
        Self { batches: 0, bn: Ends::of(WINDOW), agreement: Ends::of(WINDOW), difference: 0.0 }
    }
}

impl Watch {
    /// Takes a batch of images of `image_len` 8-bit values: its batch-norm loss where that is matched, and how often teacher
    /// and adversary decide alike where there is one.
    pub fn take(&mut self, pixels: &[u8], image_len: usize, bn: Option<f64>, agreement: Option<f64>) {
        self.batches += 1;
        bn.into_iter().for_each(|value| self.bn.take(value));
        agreement.into_iter().for_each(|value| self.agreement.take(value));
        self.difference = difference(pixels, image_len);
    }

    /// The signs so far, with the generator's `movement`.
    pub fn signs(&self, movement: f64) -> Signs {
        Signs {
            batches: self.batches,
            bn: self.bn.trend(),
            agreement: self.agreement.trend(),
            rounds: self.agreement.count(),
            difference: self.difference,
            movement,
        }
    }
}

/// Root-mean-square difference of neighbours.
fn difference(pixels: &[u8], image_len: usize) -> f64 {
    let (Some(ahead), true) = (pixels.get(image_len..), image_len > 0) else { return 0.0 };
    let squares = |(a, b): (&u8, &u8)| (f64::from(*a) - f64::from(*b)).powi(2);
    let sum: f64 = pixels.iter().zip(ahead).map(squares).sum();
    (sum / ahead.len().max(1) as f64).sqrt() / 255.0
}

impl Resumable for Watch {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("batches", self.batches)?;
        to.part("bn", &self.bn)?;
        to.part("agreement", &self.agreement)?;
        to.owned("difference", &[self.difference]);
        Ok(())
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        self.batches = from.value("batches")?;
        from.restore("bn", &mut self.bn)?;
        from.restore("agreement", &mut self.agreement)?;
        self.difference = from.array("difference")?.first().copied().unwrap_or_default();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_differ_by_their_pixels() {
        assert_eq!(difference(&[0, 0, 255, 255, 0, 0], 2), 1.0);
        assert_eq!(difference(&[7; 12], 3), 0.0);
        assert_eq!((difference(&[9, 9], 2), difference(&[], 0)), (0.0, 0.0));
    }

    #[test]
    fn a_watch_goes_on_where_it_was() {
        let mut watch = Watch::default();
        for batch in 0..12 {
            watch.take(&[0, 51], 1, Some(f64::from(batch)), (batch > 8).then_some(0.5));
        }
        let signs = watch.signs(0.1);
        assert_eq!((signs.batches, signs.rounds, signs.difference), (12, 3, 0.2));
        assert_eq!(signs.bn, Some(Trend { first: 2.0, last: 9.0 }));
        let mut again = Watch::default();
        again.restore(&Saver::of(&watch).unwrap().keep()).unwrap();
        watch.take(&[0, 0], 1, Some(1.0), None);
        again.take(&[0, 0], 1, Some(1.0), None);
        assert_eq!(again.signs(0.0), watch.signs(0.0));
    }
}
