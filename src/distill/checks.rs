//! Checks on the held-out tenth: what they find, and what they may take.

use super::Input;
use super::views;
use crate::Result;
use crate::data::Images;
use crate::loss::{compared, without};
use crate::nets::{Network, Task, infer};
use crate::ops::mem::{host, tensor};
use crate::ops::place::{Placement, place_bytes};
use crate::set::SyntheticSet;
use crate::teacher::Teacher;
use crate::train::batch_for;
use crate::trend::Ends;
use candle_core::{Device, Tensor};
use std::time::Duration;

/// Checks per run, if there is time for them.
pub(super) const CHECKS: usize = 20;
/// The share of a time limit that they may take.
const SHARE: f64 = 0.05;
/// Pixels that a check looks at, and images that it looks at however large they are.
const WATCHED: (usize, usize) = (1 << 22, 16);

/// Those of the held-out rows that are looked at: all, or of large images some, evenly spaced.
pub(super) fn watched(held_out: &[usize], [height, width]: [usize; 2]) -> Vec<usize> {
    let most = (WATCHED.0 / height.saturating_mul(width).max(1)).max(WATCHED.1);
    let count = held_out.len().min(most);
    (0..count).map(|i| held_out[i * held_out.len() / count]).collect()
}

/// How many checks a run within `limit` makes, of which each takes `each`, and the time of all, with the one that told so and the
/// one at the end. At least one is made; however long that takes, three quarters of the limit are for updates.
pub(super) fn affordable(each: Duration, limit: Duration) -> (usize, Duration) {
    let fit = (SHARE * limit.as_secs_f64() / each.as_secs_f64().max(1e-9)) as usize;
    let checks = fit.saturating_sub(2).clamp(1, CHECKS);
    (checks, (each * (checks as u32 + 2)).min(limit / 4))
}

/// What the checks on the held-out tenth found.
pub(super) struct Checks {
    /// Agreement and KL of the last one.
    pub last: (f64, f64),
    pub best: f64,
    pub since_best: usize,
    /// Whether patience has run out.
    pub over: bool,
    /// The loss of the updates.
    pub loss: Ends,
}

/// Updates behind each end of the loss's trend.
const TREND: usize = 50;

impl Default for Checks {
    fn default() -> Self {
        Self { last: (0.0, f64::NAN), best: f64::INFINITY, since_best: 0, over: false, loss: Ends::of(TREND) }
    }
}

impl Checks {
    pub fn take(&mut self, found: (f64, f64), patience: Option<usize>) {
        self.last = found;
        self.since_best = if found.1 < self.best { 0 } else { self.since_best + 1 };
        self.best = self.best.min(found.1);
        self.over = patience.is_some_and(|patience| self.since_best >= patience);
    }
}

/// Agreement and mean KL between a network and the recorded answers on `rows` of a set, without augmentation; where answers are
/// of pixels, they are those of the `live` teacher.
pub(super) fn compare(
    network: &Network,
    set: &SyntheticSet,
    rows: &[usize],
    input: &Input,
    live: Option<&Teacher>,
) -> Result<(f64, f64)> {
    let live = live.filter(|_| network.arch.task == Task::Segmentation);
    let (mut same, mut kl) = (0.0, 0.0);
    for chunk in rows.chunks(batch_for(views::BATCH, input.largest())) {
        let x = plain(&set.images, chunk, input, &network.compute().device)?;
        let logits = host(&infer(network, &x)?)?;
        let recorded = || chunk.iter().flat_map(|&row| set.answer(row).iter().copied()).collect();
        let answers: Tensor = match live {
            Some(teacher) => host(&without(&teacher.answers(&x)?, input.void)?)?,
            None => tensor(recorded(), (chunk.len(), input.classes))?,
        };
        let found = compared(&logits, &answers, 1.0)?;
        same += found.agreement * chunk.len() as f64;
        kl += found.kl.iter().map(|v| f64::from(*v)).sum::<f64>();
    }
    let n = rows.len().max(1) as f64;
    Ok((same / n, kl / n))
}

fn plain(images: &Images, indices: &[usize], input: &Input, device: &Device) -> Result<Tensor> {
    let slices: Vec<&[u8]> = indices.iter().map(|&i| images.image(i)).collect();
    let places = vec![Placement::default(); indices.len()];
    input.seen(place_bytes(&slices, input.dims, &places, &input.mean, &input.std, device)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_looks_at_fewer_of_large_images() {
        let held_out: Vec<usize> = (0..1536).map(|i| 10 * i).collect();
        assert_eq!(watched(&held_out, [32, 32]), held_out);
        let few = watched(&held_out, [120, 160]);
        assert_eq!((few.len(), few[0], few[109]), (218, 0, 7680));
        assert!(few.is_sorted() && few.iter().all(|row| held_out.contains(row)));
        assert_eq!(watched(&held_out, [1024, 2048]).len(), 16);
        assert_eq!(watched(&held_out[..3], [1024, 2048]), [0, 10, 20]);
        assert_eq!(watched(&[], [32, 32]).len(), 0);
    }

    #[test]
    fn checks_take_a_twentieth_of_the_time() {
        let seconds = Duration::from_secs_f64;
        assert_eq!(affordable(seconds(0.01), seconds(60.0)), (20, seconds(0.22)));
        // 12 s each would have been 264 s of 230.
        assert_eq!(affordable(seconds(12.0), seconds(230.0)), (1, seconds(36.0)));
        assert_eq!(affordable(seconds(1.5), seconds(230.0)), (5, seconds(10.5)));
        let (checks, time) = affordable(seconds(300.0), seconds(100.0));
        assert_eq!((checks, time), (1, seconds(25.0)), "updates keep their time");
    }
}
