//! What can be said about a finished run without any real data: the numbers behind the alarms.
//!
//! | part | question |
//! |---|---|
//! | [`Answers`] | does the teacher see in the images what they were made for, and how surely? |
//! | [`Balance`] | are all classes there? |
//! | [`Pixels`] | do the images differ, and do they use the range of pixels as pictures do? |
//! | [`Fit`] | do the images excite the teacher as its own training data did, and is it a trained network at all? |
//! | [`Pupil`] | does the student decide like the teacher on images it has not seen? |
//! | [`Course`] | did the losses fall and stay numbers? |
//! | [`Signs`] | did generator and adversary do their work on the way? |
//!
//! Entropies are shares of `ln K`: 0 is certainty, 1 is no opinion. Pixel values are in 0..1.

mod fit;
mod pixels;

pub use fit::{Fit, LayerDistance};
pub use pixels::Pixels;

use super::summary::Trend;
use crate::Result;
use crate::data::Images;
use crate::distill::Distilled;
use crate::loss::{argmax, softmax};
use crate::nets::Task;
use crate::set::SyntheticSet;
use crate::signs::Signs;
use crate::teacher::Teacher;
use serde::{Deserialize, Serialize};

/// Everything that the alarms look at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    pub images: usize,
    pub classes: usize,
    pub answers: Answers,
    pub balance: Balance,
    pub pixels: Pixels,
    /// With a teacher only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<Fit>,
    /// After an inversion only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signs: Option<Signs>,
    /// After distillation only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pupil: Option<Pupil>,
    /// After distillation only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub course: Option<Course>,
}

/// The teacher's answers to the stored images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// Share of images of which the highest logit is the label.
    pub on_label: f64,
    /// Mean of the highest probability.
    pub confidence: f64,
    /// Mean entropy of the answers.
    pub entropy: f64,
    /// Entropy of the mean answer.
    pub entropy_of_mean: f64,
}

/// Images per class, by the teacher's decisions; where it answers for pixels, their area per class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Balance {
    /// Share of the rarest and of the most frequent class, both in units of an even one.
    pub rarest: f64,
    pub most_frequent: f64,
    /// Entropy of the histogram.
    pub entropy: f64,
    /// Images of the class with the fewest labels.
    pub fewest_labels: usize,
}

/// The student on the held-out tenth of the set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pupil {
    /// Share of images on which student and teacher decide alike.
    pub agreement: f64,
    /// Mean KL at temperature 1, in nats; none if it is no finite number.
    pub kl: Option<f64>,
}

/// What the updates of the student were like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// How often a loss was no finite number.
    pub non_finite: usize,
    /// Mean of its first and of its last losses.
    pub student_loss: Option<Trend>,
}

impl Health {
    /// Numbers of a set, and with its teacher those that need a pass of the stored images through it.
    ///
    /// # Errors
    /// A set that does not fit the teacher.
    pub fn of(set: &SyntheticSet, teacher: Option<&Teacher>) -> Result<Self> {
        Ok(Self {
            images: set.len(),
            classes: set.class_names.len(),
            answers: Answers::of(set),
            balance: Balance::of(set),
            pixels: Pixels::of(&set.images, &set.labels),
            fit: teacher.map(|t| Fit::of(t, &set.images, &(0..set.len()).collect::<Vec<_>>())).transpose()?,
            signs: None,
            pupil: None,
            course: None,
        })
    }

    /// With the batch norms looked at on what a generator has made alone, which are the `rows` of `images`: others of the set are
    /// not meant to match them.
    ///
    /// # Errors
    /// Images that the teacher does not take.
    pub fn fitted_on(mut self, teacher: &Teacher, images: &Images, rows: &[usize]) -> Result<Self> {
        self.fit = Some(Fit { generated: true, ..Fit::of(teacher, images, rows)? });
        Ok(self)
    }

    /// With what the inversion showed on its way.
    pub fn with_signs(mut self, signs: Signs) -> Self {
        self.signs = Some(signs);
        self
    }

    /// With what distillation found on the held-out tenth.
    pub fn with_student(mut self, distilled: &Distilled) -> Self {
        let kl = Some(distilled.held_out_kl).filter(|v| v.is_finite());
        self.pupil = Some(Pupil { agreement: distilled.held_out_agreement, kl });
        self.course = Some(Course { non_finite: distilled.halvings as usize, student_loss: distilled.loss });
        self
    }
}

impl Answers {
    fn of(set: &SyntheticSet) -> Self {
        let (n, k) = (set.len().max(1) as f64, set.class_names.len());
        let (mut confidence, mut entropy, mut mean) = (0.0, 0.0, vec![0.0; k]);
        for row in set.logits.chunks_exact(k.max(1)) {
            let p = probabilities(row);
            confidence += p.iter().copied().fold(0.0, f64::max) / n;
            entropy += share_of_entropy(&p) / n;
            mean.iter_mut().zip(&p).for_each(|(m, p)| *m += p / n);
        }
        Self { on_label: set.agreement(), confidence, entropy, entropy_of_mean: share_of_entropy(&mean) }
    }
}

impl Balance {
    /// Of the answers that a set has.
    pub fn of(set: &SyntheticSet) -> Self {
        let (n, k) = (set.len().max(1) as f64, set.class_names.len());
        let mut sums = vec![0f64; k];
        for row in set.logits.chunks_exact(k.max(1)) {
            match set.task() {
                Task::Classification => sums[argmax(row)] += 1.0,
                Task::Segmentation => sums.iter_mut().zip(probabilities(row)).for_each(|(sum, p)| *sum += p),
            }
        }
        let shares: Vec<f64> = sums.into_iter().map(|sum| sum / n).collect();
        let void = set.void();
        let shares = without(&shares, void);
        let in_even = |share: Option<f64>| share.map_or(0.0, |share| share * shares.len() as f64);
        let labels = set.histogram().into_iter().enumerate().filter(|(class, _)| Some(*class) != void);
        Self {
            rarest: in_even(shares.iter().copied().min_by(f64::total_cmp)),
            most_frequent: in_even(shares.iter().copied().max_by(f64::total_cmp)),
            entropy: share_of_entropy(&shares),
            fewest_labels: labels.map(|(_, count)| count).min().unwrap_or(0),
        }
    }

    /// Share of the most frequent class among `classes`: what a student reaches that always answers the same.
    pub fn majority(&self, classes: usize) -> f64 {
        self.most_frequent / classes.max(1) as f64
    }
}

/// Shares of all classes but the one that is void, which no image is to show, as shares of what these have together.
pub(super) fn without(shares: &[f64], void: Option<usize>) -> Vec<f64> {
    let Some(void) = void else { return shares.to_vec() };
    let rest: f64 = 1.0 - shares[void];
    let others = shares.iter().enumerate().filter(|(class, _)| *class != void);
    others.map(|(_, share)| if rest > 0.0 { share / rest } else { 0.0 }).collect()
}

/// Entropy of the answer that these logits are.
pub(super) fn entropy(logits: &[f32]) -> f64 {
    share_of_entropy(&probabilities(logits))
}

pub(super) fn probabilities(logits: &[f32]) -> Vec<f64> {
    softmax(&logits.iter().map(|v| f64::from(*v)).collect::<Vec<_>>())
}

/// Entropy of probabilities as a share of its largest value; 0 for a single class.
pub(super) fn share_of_entropy(p: &[f64]) -> f64 {
    if p.len() < 2 {
        return 0.0;
    }
    // Of one class alone the sum is 0, and not -0.
    0.0 - p.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>() / (p.len() as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::set_of;

    /// Two of four images are on their label; answers are (1/2, 1/2) or nearly certain.
    #[test]
    fn answers_and_balance_are_what_they_say() {
        let set = set_of(&[0, 1, 0, 1], &[[0.0, 0.0], [0.0, 0.0], [50.0, 0.0], [50.0, 0.0]], |i, _| (i * 60) as u8);
        let health = Health::of(&set, None).unwrap();
        assert_eq!(health.answers.on_label, 0.5);
        assert!((health.answers.confidence - 0.75).abs() < 1e-9);
        assert!((health.answers.entropy - 0.5).abs() < 1e-9);
        // The mean answer is (3/4, 1/4): 0.811 bits.
        assert!((health.answers.entropy_of_mean - 0.811_278).abs() < 1e-6);
        assert_eq!((health.balance.rarest, health.balance.most_frequent), (0.0, 2.0));
        assert_eq!((health.balance.entropy, health.balance.fewest_labels), (0.0, 2));
        assert_eq!(health.balance.majority(2), 1.0);
    }

    /// Of images with an answer for every pixel, areas: (3/4, 1/4) of the pixels, though three images are mostly of class 0.
    #[test]
    fn pixels_are_balanced_by_area() {
        let ln = |shares: [f32; 2]| shares.map(f32::ln);
        let answers = [[0.8, 0.2], [0.8, 0.2], [0.9, 0.1], [0.5, 0.5]].map(ln);
        let mut set = set_of(&[0, 0, 0, 0], &answers, |i, _| (i * 60) as u8);
        set.provenance = serde_json::json!({ "task": "image-segmentation" });
        let Balance { rarest, most_frequent, entropy, .. } = Balance::of(&set);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(near(rarest, 0.5) && near(most_frequent, 1.5) && near(entropy, 0.811_278), "{rarest} {entropy}");
        // Void has no part in it: 1/2 and 1/2 of what is left.
        let answers = [[0.2, 0.2, 0.6], [0.4, 0.4, 0.2], [0.1, 0.1, 0.8], [0.5, 0.5, 1e-9]].map(|p| p.map(f32::ln));
        let mut set = set_of(&[0, 1, 0, 1], &answers, |i, _| (i * 60) as u8);
        let teacher = serde_json::json!({ "config": { "pretrained_cfg": { "ignore_index": 2 } } });
        set.provenance = serde_json::json!({ "task": "image-segmentation", "teacher": teacher });
        let Balance { rarest, most_frequent, entropy, fewest_labels } = Balance::of(&set);
        assert!(near(rarest, 1.0) && near(most_frequent, 1.0) && near(entropy, 1.0), "{rarest} {entropy}");
        assert_eq!(fewest_labels, 2);
    }

    #[test]
    fn a_student_is_what_distillation_found() {
        let distilled = |held_out_kl: f64| Distilled {
            student: crate::model::Model::random("resnet8", [3, 16, 16], 4).network,
            steps: 40,
            recipe: Default::default(),
            held_out_agreement: 0.31,
            held_out_kl,
            loss: Some(Trend { first: 2.0, last: 1.0 }),
            halvings: 3,
            clock: Default::default(),
        };
        let health = || Health::of(&set_of(&[0, 1], &[[1.0, 0.0], [0.0, 3.0]], |i, _| i as u8), None).unwrap();
        let found = health().with_student(&distilled(2.4));
        assert_eq!(found.pupil, Some(Pupil { agreement: 0.31, kl: Some(2.4) }));
        let student_loss = Some(Trend { first: 2.0, last: 1.0 });
        assert_eq!(found.course, Some(Course { non_finite: 3, student_loss }));
        let no_number = health().with_student(&distilled(f64::NAN)).pupil;
        assert_eq!(no_number, Some(Pupil { agreement: 0.31, kl: None }));
    }

    #[test]
    fn health_survives_a_trip_through_json() {
        let set = set_of(&[0, 1], &[[1.0, 0.0], [0.0, 3.0]], |i, j| (i * 7 + j) as u8);
        let mut health = Health::of(&set, None).unwrap();
        health.pupil = Some(Pupil { agreement: 0.5, kl: None });
        let back: Health = serde_json::from_str(&serde_json::to_string(&health).unwrap()).unwrap();
        assert!((back.answers.entropy_of_mean - health.answers.entropy_of_mean).abs() < 1e-12);
        assert_eq!((back.images, back.balance, back.pupil, back.fit), (2, health.balance, health.pupil, None));
    }
}
