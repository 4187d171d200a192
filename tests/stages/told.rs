//! What an inversion says of itself while it is under way and when it is done, against what it was seen to do.

use crate::random::random_model;
use std::time::Duration;
use synth::events::{Observer, Record};
use synth::invert::{Feed, Inversion, Options, Recipe, invert};
use synth::nets::Network;
use synth::nets::registry::Shape;
use synth::rng::Streams;
use synth::teacher::Teacher;
use synth::train::Schedule;

/// Stage and values of all records, in their order.
#[derive(Default)]
struct Records(Vec<(&'static str, Vec<(&'static str, f64)>)>);

impl Observer for Records {
    fn record(&mut self, record: &Record) {
        self.0.push((record.stage, record.values.clone()));
    }
}

impl Records {
    /// The values called `name` of `stages`.
    fn of(&self, stages: &[&str], name: &str) -> Vec<f64> {
        let of_stages = self.0.iter().filter(|(stage, _)| stages.contains(stage));
        of_stages.flat_map(|(_, values)| values).filter(|(n, _)| *n == name).map(|(_, value)| *value).collect()
    }
}

/// Eight images of 16x16 pixels a batch, a ResNet-8 as teacher and another one as adversary.
fn inverted(name: &str, limit: Option<Duration>, change: impl FnOnce(&mut Recipe)) -> (Inversion, Records) {
    let shape = Shape { channels: 3, height: 16, width: 16, num_classes: 4 };
    let teacher = Teacher::of(&random_model("resnet8", &shape));
    let adversary = Network::init(teacher.network.arch.clone(), &mut Streams::new(3).stream("student", 0)).unwrap();
    let mut recipe = Recipe { batch: 8, adversary_steps: 2, ..Recipe::named(name).unwrap() };
    (recipe.generator.latent, recipe.generator.width, recipe.buffer.samples) = (8, 8, 64);
    recipe.student.batch = 6;
    change(&mut recipe);
    let mut records = Records::default();
    let options = Options { embeddings: None, all_views: false, seed: 3, limit };
    (invert(&teacher, adversary, &recipe, &options, &mut records).unwrap(), records)
}

/// The trends that alarms read are those of the terms they are named after.
#[test]
fn signs_are_of_their_terms() {
    let (done, records) = inverted("fast", None, |recipe| (recipe.fill, recipe.rounds) = (2, 7));
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let bn = records.of(&["fill", "synthesis"], "bn");
    // The first batch of the rounds has no opponent yet.
    let agreement = records.of(&["synthesis"], "agreement");
    assert_eq!((bn.len(), agreement.len(), done.signs.batches, done.signs.rounds), (9, 6, 9, 6));
    for (found, values) in [(done.signs.bn, bn), (done.signs.agreement, agreement)] {
        let (found, last) = (found.unwrap(), &values[values.len() - 5..]);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(found.first, mean(&values[..5])) && near(found.last, mean(last)), "{found:?}, {values:?}");
    }
}

/// Images that one update sees and nobody keeps are made too.
#[test]
fn all_images_are_counted() {
    let made = |feed| inverted("dafl", None, |recipe| (recipe.feed, recipe.rounds) = (feed, 3)).0.synthesised;
    assert_eq!((made(Feed::Batch), made(Feed::Fresh)), (3 * 8, 3 * 8 + 3 * 2 * 6));
}

/// With a time limit in place of a number of rounds, a rate that falls to 0 over the run does so within the rounds that fit.
#[test]
fn rates_follow_the_rounds_that_fit() {
    let (done, records) = inverted("dafl", Some(Duration::from_secs(2)), |recipe| {
        (recipe.rounds, recipe.on_the_fly) = (1_000_000, true);
        (recipe.student.schedule, recipe.student.warmup) = (Schedule::Cosine { floor: 0.0 }, 0);
    });
    let rates = records.of(&["adversary"], "lr");
    assert_eq!(rates.len(), 2 * done.plan.rounds);
    let (first, last) = (rates[0], rates[rates.len() - 1]);
    assert!(last < 0.5 * first, "{first} at first, {last} at the end of {} rounds", done.plan.rounds);
}
