//! What a budget means for a recipe.

use super::file::{Budget, Method, Start};
use crate::invert::{Feed, Recipe};
use crate::jobs::FINISH_SHARE;
use crate::train::batch_for;
use crate::{Error, Result};

/// Options of `synth run` with which `recipe` spends `budget`.
///
/// # Errors
/// [`Error::Invalid`] for images or steps that are fewer than the recipe needs for its first round.
pub fn spend(recipe: &Recipe, budget: Budget, method: &Method) -> Result<Vec<String>> {
    let set = |key: &str, value: usize| ["--set".to_string(), format!("{key}={value}")];
    let on_the_fly = method.on_the_fly || recipe.on_the_fly;
    match budget {
        Budget::Minutes(minutes) => Ok(vec!["--minutes".into(), minutes.to_string()]),
        Budget::Images(images) => {
            // Suites that count images are for small ones.
            let batch = if recipe.batch > 0 { recipe.batch } else { batch_for(256, [32, 32]) };
            let batches = images / batch;
            let samples = recipe.samples(10).min(batches.saturating_sub(recipe.practice) * batch);
            let whole = samples.div_ceil(batch);
            let fill = if recipe.feed == Feed::Buffer { recipe.fill.min(whole) } else { 0 };
            let before = recipe.practice + fill;
            // All of it is the set.
            if recipe.rounds == 0 && fill > 0 {
                return Ok([set("batch", batch), set("buffer.samples", samples)].concat());
            }
            // Fresh images are made for every update.
            let student_batch = if recipe.student.batch > 0 { recipe.student.batch } else { batch };
            let fresh = if recipe.feed == Feed::Fresh { recipe.adversary_steps * student_batch } else { 0 };
            let of_round = recipe.batches * batch + fresh;
            match images.saturating_sub(before * batch) / of_round.max(1) {
                0 => {
                    let found = format!("{images} images in batches of {batch}");
                    let hint = format!(
                        "the recipe makes {before} batches before its first round, and {of_round} images in one: budget more"
                    );
                    Err(Error::invalid("budget", found, hint))
                }
                rounds => Ok([set("batch", batch), set("rounds", rounds), set("buffer.samples", samples)].concat()),
            }
        }
        Budget::Steps(steps) if recipe.rounds == 0 || method.init == Start::Scratch && !on_the_fly => {
            Ok(set("student.steps", steps).to_vec())
        }
        Budget::Steps(steps) => {
            // Of the updates as of the time in `synth run --minutes`.
            let finish = if on_the_fly { 0 } else { (steps as f64 * FINISH_SHARE) as usize };
            let of_round = recipe.adversary_steps.max(1);
            match ((steps - finish) / of_round, on_the_fly) {
                (0, _) => {
                    let hint = format!("a round of the recipe has {of_round} updates: budget more");
                    Err(Error::invalid("budget", format!("{steps} steps"), hint))
                }
                (rounds, true) => Ok(set("rounds", rounds).to_vec()),
                (rounds, false) => {
                    let finish = (steps - rounds * recipe.adversary_steps).max(1);
                    Ok([set("rounds", rounds), set("finish_steps", finish)].concat())
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(budget: Budget, init: Start, on_the_fly: bool) -> Result<String> {
        let method = Method { name: None, recipe: "ssd".into(), set: Vec::new(), on_the_fly, init, seeds: Vec::new() };
        let recipe = Recipe { adversary_steps: 80, practice: 10, fill: 20, batch: 0, ..Recipe::default() };
        spend(&recipe, budget, &method).map(|options| options.join(" "))
    }

    #[test]
    fn a_recipe_without_rounds_spends_its_steps_on_the_finished_set() {
        let method = Method {
            name: None,
            recipe: "deepinversion".into(),
            set: Vec::new(),
            on_the_fly: false,
            init: Start::Adversary,
            seeds: Vec::new(),
        };
        let options = spend(&Recipe::named("deepinversion").unwrap(), Budget::Steps(4000), &method).unwrap();
        assert_eq!(options, ["--set", "student.steps=4000"]);
        let options = spend(&Recipe::named("deepinversion").unwrap(), Budget::Images(2560), &method).unwrap();
        assert_eq!(options, ["--set", "batch=256", "--set", "buffer.samples=2560"]);
    }

    #[test]
    fn steps_are_those_of_the_student_in_both_stages() {
        let steps = |init, on_the_fly| options(Budget::Steps(1000), init, on_the_fly).unwrap();
        assert_eq!(steps(Start::Adversary, false), "--set rounds=8 --set finish_steps=360");
        assert_eq!(steps(Start::Adversary, true), "--set rounds=12");
        assert_eq!(steps(Start::Scratch, false), "--set student.steps=1000");
        for on_the_fly in [false, true] {
            let message = options(Budget::Steps(70), Start::Adversary, on_the_fly).unwrap_err().to_string();
            assert!(message.contains("70 steps") && message.contains("80 updates"), "{message}");
        }
    }

    #[test]
    fn images_are_all_that_are_made() {
        let images = |count| options(Budget::Images(count), Start::Adversary, false);
        assert_eq!(images(256 * 40).unwrap(), "--set batch=256 --set rounds=10 --set buffer.samples=7680");
        let message = images(256 * 30).unwrap_err().to_string();
        assert!(message.contains("30 batches before"), "{message}");
        assert_eq!(options(Budget::Minutes(0.5), Start::Adversary, false).unwrap(), "--minutes 0.5");
    }

    /// 256 for the generator's step and five times 256 for the student's.
    #[test]
    fn fresh_images_are_paid_for() {
        let method = Method {
            name: None,
            recipe: "dfad".into(),
            set: Vec::new(),
            on_the_fly: false,
            init: Start::Adversary,
            seeds: Vec::new(),
        };
        let found = spend(&Recipe::named("dfad").unwrap(), Budget::Images(15_360), &method).unwrap().join(" ");
        assert!(found.contains("rounds=10 ") || found.ends_with("rounds=10"), "{found}");
    }
}
