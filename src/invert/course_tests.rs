//! What an inversion under way keeps of itself.

use super::*;
use crate::model::Model;

/// What time has made of the plan, which the recipe does not say.
#[test]
fn a_limited_plan_comes_back_with_its_state() {
    let model = Model::random("resnet8", [3, 16, 16], 4);
    let (teacher, adversary) = (Teacher::of(&model), &model.network);
    let mut recipe = Recipe { batch: 8, rounds: 3, ..Recipe::default() };
    (recipe.generator.width, recipe.buffer.samples, recipe.student.batch) = (8, 16, 8);
    let options = Options { seed: 1, limit: Some(Duration::from_secs(600)), ..Options::default() };
    let begun = || Course::new(&teacher, adversary.clone(), &recipe, &options).unwrap();
    let mut course = begun();
    course.plan = Plan { practice: 4, fill: 5, rounds: 7, more_updates: 6, ..course.plan };
    course.trainer.plan_steps(321);
    (course.batch, course.rounds_begin) = (9, Duration::from_secs(8));
    (course.synthesis_time, course.adversary_time) = (Duration::from_secs(5), Duration::from_secs(2));
    let mut saver = Saver::default();
    course.save(&mut saver).unwrap();
    let mut again = begun();
    assert_ne!(again.plan, course.plan);
    again.restore(&saver.keep()).unwrap();
    let timed = |c: &Course| (c.batch, c.plan, c.trainer.recipe().steps, c.rounds_begin);
    assert_eq!(timed(&again), timed(&course));
    assert_eq!((again.synthesis_time, again.adversary_time), (course.synthesis_time, course.adversary_time));
}
