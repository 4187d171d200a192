//! The distillation stage proper: from a set on disk to a student.

use super::checks::{CHECKS, Checks, affordable, compare, watched};
use super::memory::check_memory;
use super::trainer::Trainer;
use super::{Answers, Input, Pool};
use super::{Hints, StudentRecipe};
use crate::checkpoint::{Clock, Resumable, Saved, Saver};
use crate::data::Images;
use crate::events::{Observer, Record};
use crate::nets::{Network, Task};
use crate::ops::place::Gallery;
use crate::rng::Streams;
use crate::set::priority::{Priorities, PriorityRule};
use crate::set::{SyntheticSet, Views};
use crate::teacher::Teacher;
use crate::train::fitting;
use crate::trend::Trend;
use crate::{Error, Result};
use std::time::{Duration, Instant};

/// Where the teacher's answers come from.
pub enum AnswerSource<'a> {
    /// The teacher answers every augmented view.
    Live(&'a Teacher),
    /// Answers recorded in the set; no teacher is needed.
    Stored,
}

/// When to stop, if not after the recipe's number of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stop {
    /// Checks without improvement on the held-out tenth after which to stop before the last step.
    pub patience: Option<usize>,
    /// Time for the updates. A few of them on a copy of the student, thrown away, tell how many fit; this is then the number
    /// of steps, and with it in the recipe the same seed gives the same student again.
    pub limit: Option<Duration>,
    /// Whether the student comes trained: where fewer than ten updates fit into the limit, it is left as it came, since so few at a
    /// rate for thousands only take it back.
    pub trained: bool,
    /// Passes over the set, above 0, in place of the recipe's number of steps.
    pub epochs: Option<f64>,
}

impl Stop {
    /// Updates on `images` images, if there is no time limit, of a recipe with a batch.
    pub fn steps(&self, recipe: &StudentRecipe, images: usize) -> usize {
        let of = |epochs: f64| (epochs * images as f64 / recipe.batch as f64).ceil() as usize;
        self.epochs.map_or(recipe.steps, of)
    }

    /// The updates to make where `fitting` fit into the limit.
    fn at_least(&self, fitting: usize) -> usize {
        if fitting >= TRIAL.1 {
            return fitting;
        }
        let made = if self.trained { 0 } else { fitting.max(1) };
        tracing::warn!(
            "the time that is left is that of {fitting} updates of the student; {made} are made: give it more --minutes"
        );
        made
    }
}

/// What distillation leaves.
pub struct Distilled {
    /// Averaged, with batch norms estimated anew, as the recipe says.
    pub student: Network,
    pub steps: usize,
    /// The recipe with nothing left open; its steps are those that the schedule was made for.
    pub recipe: StudentRecipe,
    /// On the held-out tenth (of large images, on a part of it): share of images (or pixels) on which student and teacher decide alike, and mean KL at temperature 1.
    pub held_out_agreement: f64,
    pub held_out_kl: f64,
    /// Loss of the first and of the last 50 updates.
    pub loss: Option<Trend>,
    /// How often the learning rate had to be halved because a loss was no number.
    pub halvings: u32,
    /// Time of the updates, over all processes.
    pub clock: Clock,
}

/// Trains `student` on nine tenths of `set`.
///
/// # Errors
/// A set that does not fit the student's input or task, stored answers asked of a set that has none, a recipe out of range,
/// a loss that is no number, an interruption.
pub fn distill(
    set: &SyntheticSet,
    answers: AnswerSource,
    student: Network,
    input: &Input,
    recipe: &StudentRecipe,
    stop: Stop,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Distilled> {
    check_fit(set, input)?;
    check_task(set, &answers, &student, input)?;
    let source = Source::of(&answers, set)?;
    let live = source.live();
    let streams = Streams::new(seed);
    let (train, held_out) = split(set.len(), &streams);
    let held_out = watched(&held_out, input.largest());
    let mut recipe = recipe.clone().fitted_for(student.arch.task, input.largest());
    recipe.signal.check_set(set, live.is_some())?;
    if let Source::Stored(views) = source {
        check_recorded(&recipe)?;
        recipe.mixup_until = 0.0;
        let count = views.list.len();
        tracing::info!("answers to {count} recorded views of every image serve, which are neither augmented nor mixed");
    }
    check_memory(&student, live, input, &recipe)?;
    let hints = || Hints::new(recipe.signal, &student, live, input, &streams);
    let (hints, trial_hints) = (hints()?, hints()?);
    let earlier = observer.earlier(STAGE)?;
    recipe.steps = stop.steps(&recipe, set.len());
    let gallery = Gallery::new(&set.images.pixels, input.dims, &student.compute().device)?;
    let mut checks = CHECKS;
    if let Some(saved) = &earlier {
        recipe.steps = saved.value("steps")?;
    } else if let Some(limit) = stop.limit {
        let copy = Trainer::new(student.duplicate()?, recipe.clone(), input.clone(), streams, "distill/trial")?;
        let copy = copy.with_hints(trial_hints);
        let begin = Instant::now();
        // One check tells what all of them take.
        compare(&copy.current(), set, &held_out, input, live)?;
        let (count, time) = affordable(begin.elapsed(), limit);
        checks = count;
        let fitting = steps_within(copy, &set.images, &gallery, &train, source, limit.saturating_sub(time))?;
        recipe.steps = stop.at_least(fitting);
    }
    let priorities = priorities_of(set, &train, recipe.priority);
    let trainer = Trainer::new(student, recipe.clone(), input.clone(), streams, "distill")?.with_hints(hints);
    let check_every = recipe.steps.div_ceil(checks).max(1);
    let mut course = Course { trainer, priorities, clock: Clock::default(), check_every, checks: Checks::default() };
    if let Some(saved) = earlier {
        course.restore(&saved)?;
    }
    let total = recipe.steps;
    while !course.has_ended(total, stop.patience)? {
        observer.between(STAGE, &course)?;
        course.priorities.set_even_share(set.even_share(course.trainer.done() as f64 / total.max(1) as f64));
        let (images, gallery, rows, answers) = (&set.images, Some(&gallery), Some(&train[..]), source.answers());
        let mut pool = Pool { images, gallery, rows, priorities: &mut course.priorities, answers };
        let Some(r) = course.trainer.step(&mut pool)? else {
            course.checks.go_back_to(course.trainer.done());
            continue;
        };
        course.checks.loss.take(r.loss);
        let values = vec![("loss", r.loss), ("lr", r.lr), ("agreement", r.agreement)];
        let done = course.trainer.done();
        observer.record(&Record { stage: STAGE, done, total, images: recipe.batch, values });
        observer.updated(STAGE, &course.trainer)?;
        if done.is_multiple_of(course.check_every) || done == total {
            let found = compare(&course.trainer.current(), set, &held_out, input, live)?;
            let values = vec![("agreement", found.0), ("kl", found.1)];
            observer.record(&Record { stage: "held-out", done, total, images: 0, values });
            course.checks.take(done, found.1);
        }
    }
    observer.ended(STAGE, &course)?;
    let Course { trainer, mut priorities, clock, checks, .. } = course;
    let (images, rows, answers) = (&set.images, Some(&train[..]), source.answers());
    let student = trainer.finished(&Pool { images, gallery: None, rows, priorities: &mut priorities, answers })?;
    let last = compare(&student, set, &held_out, input, live)?;
    let (done, values) = (trainer.done(), vec![("agreement", last.0), ("kl", last.1)]);
    observer.record(&Record { stage: "finished", done, total: done, images: 0, values });
    Ok(Distilled {
        student,
        steps: trainer.done(),
        recipe: trainer.recipe().clone(),
        held_out_agreement: last.0,
        held_out_kl: last.1,
        loss: checks.loss.trend(),
        halvings: trainer.halvings(),
        clock,
    })
}

/// Where the answers are, once the set was looked into.
#[derive(Clone, Copy)]
enum Source<'a> {
    Live(&'a Teacher),
    Stored(&'a Views),
}

impl<'a> Source<'a> {
    fn of(answers: &AnswerSource<'a>, set: &'a SyntheticSet) -> Result<Self> {
        match (answers, &set.views) {
            (AnswerSource::Live(teacher), _) => Ok(Self::Live(teacher)),
            (AnswerSource::Stored, Some(views)) => Ok(Self::Stored(views)),
            (AnswerSource::Stored, None) => Err(Error::invalid(
                "answers",
                "the set has no recorded views",
                "make it with --views N, or use live answers with --teacher",
            )),
        }
    }

    fn live(self) -> Option<&'a Teacher> {
        match self {
            Self::Live(teacher) => Some(teacher),
            Self::Stored(_) => None,
        }
    }

    /// As a batch takes them.
    fn answers(self) -> Answers<'a> {
        match self {
            Self::Live(teacher) => Answers::Live(teacher),
            Self::Stored(views) => Answers::Stored(views),
        }
    }
}

/// The name of the stage in records and states.
const STAGE: &str = "distill";

/// Everything that changes from step to step.
struct Course {
    trainer: Trainer,
    priorities: Priorities,
    clock: Clock,
    /// Updates between checks.
    check_every: usize,
    checks: Checks,
}

impl Course {
    /// Whether all `total` updates are done, or patience has run out. Weights that are no numbers end nothing: the trainer goes
    /// back, and what was checked later does not count.
    fn has_ended(&mut self, total: usize, patience: Option<usize>) -> Result<bool> {
        if self.trainer.done() < total && !self.checks.over(patience) {
            return Ok(false);
        }
        let sound = self.trainer.is_sound(&mut self.priorities)?;
        if !sound {
            self.checks.go_back_to(self.trainer.done());
        }
        Ok(sound)
    }
}

impl Resumable for Course {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("steps", self.trainer.recipe().steps)?;
        to.part("trainer", &self.trainer)?;
        to.part("priorities", &self.priorities)?;
        to.part("clock", &self.clock)?;
        to.value("check_every", self.check_every)?;
        to.part("checks", &self.checks)
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        from.restore("trainer", &mut self.trainer)?;
        let images = self.priorities.len();
        from.restore("priorities", &mut self.priorities)?;
        if self.priorities.len() != images {
            return Err(from.fault("priorities", "the set has another number of images"));
        }
        from.restore("clock", &mut self.clock)?;
        self.check_every = from.value::<usize>("check_every")?.max(1);
        from.restore("checks", &mut self.checks)
    }
}

/// Updates whose times are not counted, and how many are at least, to tell the speed.
const TRIAL: (usize, usize) = (2, 10);
/// They go on for this share of the time.
const TRIAL_SHARE: f64 = 0.01;

/// How many updates of `trial` fit into `limit`.
fn steps_within(
    mut trial: Trainer,
    images: &Images,
    gallery: &Gallery,
    train: &[usize],
    source: Source,
    limit: Duration,
) -> Result<usize> {
    let begin = Instant::now();
    let mut priorities = Priorities::new(PriorityRule::default(), train.len());
    let mut step = || {
        let (gallery, rows, priorities, answers) = (Some(gallery), Some(train), &mut priorities, source.answers());
        trial.step(&mut Pool { images, gallery, rows, priorities, answers })
    };
    for _ in 0..TRIAL.0 {
        step()?;
    }
    let (start, mut counted) = (Instant::now(), 0);
    while counted < TRIAL.1 || start.elapsed() < limit.mul_f64(TRIAL_SHARE) {
        step()?;
        counted += 1;
    }
    let took = start.elapsed();
    Ok(fitting(limit.saturating_sub(begin.elapsed()), took, counted))
}

fn check_fit(set: &SyntheticSet, input: &Input) -> Result<()> {
    let dims = [set.images.height, set.images.width, set.images.channels];
    if dims != input.dims || set.class_names.len() != input.classes {
        let found = format!("images of {dims:?} and {} classes", set.class_names.len());
        let hint = format!("the student takes {:?} and {} classes", input.dims, input.classes);
        return Err(Error::invalid("set", found, hint));
    }
    if set.len() < 2 {
        return Err(Error::invalid("set", format!("{} images", set.len()), "make a larger set"));
    }
    Ok(())
}

/// A set and a student of different tasks, or answers that do not fit pixels, are refused.
fn check_task(set: &SyntheticSet, answers: &AnswerSource, student: &Network, input: &Input) -> Result<()> {
    let task = student.arch.task;
    if let AnswerSource::Live(teacher) = answers
        && teacher.network.arch.task != task
    {
        let found = format!("its task is {}, the teacher's is {}", task.name(), teacher.network.arch.task.name());
        return Err(Error::invalid("student", found, "take a student of the teacher's task"));
    }
    if task != set.task() && matches!(answers, AnswerSource::Stored) {
        let found = format!("it answers for {}, the student's task is {}", set.task().name(), task.name());
        return Err(Error::invalid("set", found, "take a student of the set's task"));
    }
    if task == Task::Segmentation && matches!(answers, AnswerSource::Stored) {
        let found = "answers for every pixel are not recorded in a set";
        return Err(Error::invalid("answers stored", found, "let the teacher answer: --answers live"));
    }
    if task == Task::Segmentation && input.sees != [input.dims[0], input.dims[1]] {
        let found = "the student's pixels would not be the teacher's";
        return Err(Error::invalid("--size", found, "leave it out: student and teacher answer for the same pixels"));
    }
    Ok(())
}

/// # Errors
/// Changes of the images that answers to recorded views know nothing of.
fn check_recorded(recipe: &StudentRecipe) -> Result<()> {
    let changes = [("rand_augment", recipe.rand_augment > 0, 0), ("scale", recipe.scale < 1.0, 1)];
    let Some((key, _, none)) = changes.into_iter().find(|(_, asked, _)| *asked) else { return Ok(()) };
    let hint = format!("take --answers live, or leave it at {none}");
    Err(Error::invalid(format!("student.{key}"), "recorded answers are of other images", hint))
}

/// Nine tenths to learn from, one tenth (random, at least one image) to watch; both in the set's order.
fn split(images: usize, streams: &Streams) -> (Vec<usize>, Vec<usize>) {
    let order = crate::rng::permutation(images, &mut streams.stream("distill/held-out", 0));
    let (watched, learned) = order.split_at((images / 10).max(1));
    let (mut held_out, mut train) = (watched.to_vec(), learned.to_vec());
    held_out.sort_unstable();
    train.sort_unstable();
    (train, held_out)
}

/// Of the rows `train` of a set, drawn as the set asks for, if it does; an even draw keeps its balance of classes.
fn priorities_of(set: &SyntheticSet, train: &[usize], rule: PriorityRule) -> Priorities {
    let priorities = Priorities::new(rule, train.len());
    let Some(weights) = set.sampling_weights() else { return priorities };
    let of_train = |weights: &[f32]| train.iter().map(|&row| weights[row]).collect::<Vec<f32>>();
    let even = set.even_weights().map(|even| of_train(&even));
    priorities.with_wanted(&of_train(weights), even.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::Matching;
    use crate::model::Model;
    use crate::report::tests::set_of;
    use crate::set::View;
    use serde_json::json;

    /// Weights by relatedness on top of the soft balance of three images and one: late in training only the balance is left.
    #[test]
    fn an_even_draw_has_the_balance_of_the_set() {
        let mut set = set_of(&[0, 0, 0, 1, 0], &[[1.0, 0.0]; 5], |i, j| (i + j) as u8);
        set.priority = vec![4.0, 1.0, 1.0, 1.0, 1.0];
        let of_train = |set: &SyntheticSet, share: f64| {
            let mut priorities = priorities_of(set, &[0, 1, 2, 3], PriorityRule::default());
            priorities.set_even_share(share);
            priorities.probabilities()
        };
        let near = |found: Vec<f64>, expected: [f64; 4]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {expected:?}");
        };
        near(of_train(&set, 0.0), [0.25; 4]);
        set.provenance = json!({ "sampling": { "weights": "priority" }, "balance": { "method": "none" } });
        near(of_train(&set, 0.0), [4.0, 1.0, 1.0, 1.0].map(|w| w / 7.0));
        near(of_train(&set, 1.0), [0.25; 4]);
        set.provenance["balance"] = json!({ "method": "soft", "rho": 0.5 });
        near(of_train(&set, 0.0), [4.0, 1.0, 1.0, 1.0].map(|w| w / 7.0));
        // 4^-1/2 against 1, of which three and one are trained on: (1, 1, 1, 2)/5.
        near(of_train(&set, 1.0), [0.2, 0.2, 0.2, 0.4]);
        near(of_train(&set, 0.1), [0.9 * 4.0 / 7.0 + 0.02, 0.9 / 7.0 + 0.02, 0.9 / 7.0 + 0.02, 0.9 / 7.0 + 0.04]);
    }

    /// The losses of a stage, update by update.
    #[derive(Default)]
    struct Losses(Vec<f64>);

    impl Observer for Losses {
        fn record(&mut self, record: &Record) {
            if record.stage == STAGE {
                self.0.extend(record.values.iter().find(|(name, _)| *name == "loss").map(|(_, value)| *value));
            }
        }
    }

    /// Half of the images are wanted. Of the others, which an even draw alone brings, the recorded answer is so far off that the
    /// loss of an update counts them: a quarter of the draw is even at first, and after half of the updates ever more of it.
    #[test]
    fn the_even_share_of_a_draw_rises_in_training() {
        let labels: Vec<u32> = (0..40).map(|i| i % 2).collect();
        let mut set = set_of(&labels, &[[1.0, 0.0]; 40], |_, _| 0);
        set.images = Images::new(vec![100; 40 * 768], 3, 16, 16).unwrap().into();
        set.priority = labels.iter().map(|label| *label as f32).collect();
        let answers: Vec<f32> =
            labels.iter().flat_map(|label| [1000.0, -1000.0].map(|far| far * (1.0 - *label as f32))).collect();
        set.views = Some(Views { list: vec![View::PLAIN], logits: answers.into() });
        let even_share = json!({ "first": 0.25, "rises_from": 0.5 });
        set.provenance = json!({ "sampling": { "weights": "priority", "even_share": even_share } });
        let model = Model::random("resnet8", [3, 16, 16], 2);
        let recipe = StudentRecipe {
            steps: 8,
            batch: 512,
            lr: 1e-9,
            muon: 0.0,
            mixup_until: 0.0,
            matching: Matching::Logits,
            priority: PriorityRule { alpha: 0.0, beta: 0.0, temperature: 1.0 },
            ..StudentRecipe::default()
        };
        let (input, mut losses) = (Teacher::of(&model).input(), Losses::default());
        let student = model.network.clone();
        distill(&set, AnswerSource::Stored, student, &input, &recipe, Stop::default(), 3, &mut losses).unwrap();
        let (train, _) = split(40, &Streams::new(3));
        assert_eq!(losses.0.len(), 8);
        let others = train.iter().filter(|row| labels[**row] == 0).count() as f64 / train.len() as f64;
        for (loss, even) in losses.0.iter().zip([0.25, 0.25, 0.25, 0.25, 0.25, 0.4375, 0.625, 0.8125]) {
            // Half of the mean square of ±1000.
            let found = loss / 5e5 / others;
            assert!((found - even).abs() < 0.09, "{found} of the draw is even, not {even}: {:?}", losses.0);
        }
    }

    #[test]
    fn what_is_watched_is_not_learned_from() {
        let (train, held_out) = split(105, &Streams::new(3));
        assert_eq!((train.len(), held_out.len()), (95, 10));
        let mut all = [train, held_out].concat();
        all.sort_unstable();
        assert_eq!(all, (0..105).collect::<Vec<_>>());
    }
}
