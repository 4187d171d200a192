//! Checks on the held-out tenth: what they find, and what they may take.

use super::Input;
use super::views;
use crate::Result;
use crate::checkpoint::{Resumable, Saved, Saver};
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
    /// Updates done and KL, in their order.
    found: Vec<(usize, f64)>,
    /// The loss of the updates.
    pub loss: Ends,
}

/// Updates behind each end of the loss's trend.
const TREND: usize = 50;

impl Default for Checks {
    fn default() -> Self {
        Self { found: Vec::new(), loss: Ends::of(TREND) }
    }
}

impl Checks {
    /// Takes the KL of a check after `done` updates.
    pub fn take(&mut self, done: usize, kl: f64) {
        self.found.push((done, kl));
    }

    /// Only the first `done` updates count any more: the others were taken back.
    pub fn go_back_to(&mut self, done: usize) {
        self.found.retain(|check| check.0 <= done);
        self.loss.go_back_to(done);
    }

    /// Whether so many checks as `patience` says came after the best KL.
    pub fn over(&self, patience: Option<usize>) -> bool {
        let kl = |i: usize| Some(self.found[i].1).filter(|kl| !kl.is_nan()).unwrap_or(f64::INFINITY);
        let better = |best: usize, i: usize| if kl(i) < kl(best) { i } else { best };
        let best = (1..self.found.len()).fold(0, better);
        patience.is_some_and(|patience| self.found.len() > best + patience)
    }
}

impl Resumable for Checks {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("updates", self.found.iter().map(|check| check.0).collect::<Vec<_>>())?;
        to.owned("kl", &self.found.iter().map(|check| check.1).collect::<Vec<_>>());
        to.part("loss", &self.loss)
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        let (updates, kl): (Vec<usize>, Vec<f64>) = (from.value("updates")?, from.array("kl")?);
        if kl.len() != updates.len() {
            return Err(from.fault("kl", "there is not one for each check"));
        }
        self.found = updates.into_iter().zip(kl).collect();
        from.restore("loss", &mut self.loss)
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
    use crate::loss::log_softmax;
    use crate::model::Model;
    use crate::ops::mem::view;
    use crate::report::tests::set_of;

    /// Of the rows that are held out alone, by the recorded answers as they are (temperature 1).
    #[test]
    fn a_check_is_the_agreement_and_the_divergence_of_what_is_held_out() {
        let mut set = set_of(&[0, 1, 0], &[[2.0, -1.0], [0.5, 1.5], [-3.0, 1.0]], |_, _| 0);
        let pixels: Vec<u8> = (0..3 * 64).map(|i| (i * i % 251) as u8).collect();
        set.images = Images::new(pixels, 1, 8, 8).unwrap().into();
        let model = Model::random("resnet8", [1, 8, 8], 2);
        let input = Teacher::of(&model).input();
        let log_p = |logits: &[f32]| log_softmax(&logits.iter().map(|v| f64::from(*v)).collect::<Vec<_>>(), 1.0);
        let of = |row: usize| {
            let pixels = set.images.image(row).iter().map(|p| (f32::from(*p) / 255.0 - 0.5) / 0.25).collect();
            let logits = infer(&model.network, &tensor(pixels, (1, 8, 8, 1)).unwrap()).unwrap();
            let (own, its) = (log_p(&view(&logits).unwrap()), log_p(set.answer(row)));
            let kl: f64 = [0, 1].map(|k| its[k].exp() * (its[k] - own[k])).iter().sum();
            (f64::from(u8::from((own[0] > own[1]) == (its[0] > its[1]))), kl)
        };
        let (first, second) = (of(2), of(0));
        let found = compare(&model.network, &set, &[2, 0], &input, None).unwrap();
        let expected = ((first.0 + second.0) / 2.0, (first.1 + second.1) / 2.0);
        assert_eq!(found.0, expected.0);
        assert!((found.1 - expected.1).abs() < 1e-5, "{found:?} {expected:?}");
    }

    #[test]
    fn patience_counts_checks_after_the_best_one() {
        let mut checks = Checks::default();
        assert!(!checks.over(Some(1)));
        for (done, kl) in [(10, 0.5), (20, 0.3), (30, 0.4)] {
            checks.take(done, kl);
        }
        assert!(checks.over(Some(1)) && !checks.over(Some(2)) && !checks.over(None));
        checks.take(40, 0.3);
        assert!(checks.over(Some(2)), "as good as the best is not better");
        // What came after update 15 was not, and 20 is checked anew.
        checks.go_back_to(15);
        checks.take(20, 0.6);
        assert_eq!(checks.found, [(10, 0.5), (20, 0.6)]);
        assert!(checks.over(Some(1)) && !checks.over(Some(2)));
        let mut again = Checks::default();
        again.restore(&Saver::of(&checks).unwrap().keep()).unwrap();
        assert_eq!(again.found, checks.found);
    }

    #[test]
    fn a_check_that_gave_no_number_is_not_the_best() {
        let mut checks = Checks::default();
        checks.take(10, f64::NAN);
        checks.take(20, 0.4);
        assert!(!checks.over(Some(1)));
    }

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
