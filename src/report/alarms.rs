//! Alarms: signs in the numbers of a finished run that it has failed, found without any real data.
//!
//! Each criterion is a number of [`Health`], a bound, and one sentence. The bounds lie in the gaps between small runs that
//! went well and runs that were broken on purpose (`tests/alarms.rs`), so that they hold for budgets far below the default.

use super::health::Health;
use super::progress::significant;
use serde::Serialize;
use std::fmt;

/// Something is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alarm {
    pub name: &'static str,
    /// The number that triggered it, in words.
    pub measure: String,
    pub value: f64,
    pub threshold: f64,
    /// What it probably means and what to do.
    pub advice: &'static str,
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (value, threshold) = (significant(self.value), significant(self.threshold));
        write!(f, "{}: {} is {value} (threshold {threshold}); {}", self.name, self.measure, self.advice)
    }
}

/// A held-out tenth of 20 images leaves an uncertainty of 11 points in the agreement, and a set this small is learned by
/// heart.
const FEWEST_IMAGES: f64 = 200.0;
/// The inversion asks the teacher for these very labels. Small healthy runs reach 0.8; images that ignore their labels
/// reach 1/K, and an inversion that one of its losses prevents stays in between.
const LEAST_ON_LABEL: f64 = 0.5;

/// Which criteria a run fails; none of a healthy one. Parts of `health` that are missing raise nothing.
pub fn alarms(health: &Health) -> Vec<Alarm> {
    let mut raised = Raised(Vec::new());
    answers(health, &mut raised);
    raised.0
}

/// Alarms so far.
struct Raised(Vec<Alarm>);

impl Raised {
    /// Raises an alarm if `value` is below `threshold`, or no number.
    fn below(&mut self, name: &'static str, measure: &str, value: f64, threshold: f64, advice: &'static str) {
        if !(value >= threshold) {
            self.0.push(Alarm { name, measure: measure.into(), value, threshold, advice });
        }
    }

    /// Raises an alarm if `value` is above `threshold`, or no number.
    fn above(&mut self, name: &'static str, measure: &str, value: f64, threshold: f64, advice: &'static str) {
        if !(value <= threshold) {
            self.0.push(Alarm { name, measure: measure.into(), value, threshold, advice });
        }
    }
}

fn answers(health: &Health, raised: &mut Raised) {
    let advice = "the student will learn them by heart: make a larger set";
    raised.below("few images", "number of images", health.images as f64, FEWEST_IMAGES, advice);
    let advice = "check --mean and --std and the teacher's weights, and that loss.one_hot is above 0";
    raised.below("off label", "share of images in their class", health.answers.on_label, LEAST_ON_LABEL, advice);
}
