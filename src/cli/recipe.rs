//! Recipes on the command line: a named one, a TOML file over it, single values over both.

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Read;
use std::path::{Path, PathBuf};
use synth::distill::{StudentRecipe, check_views};
use synth::invert::{Recipe, Unread};
use synth::model::Model;
use synth::nets::Task;
use synth::overlay::{is_of, overlaid};
use synth::{Error, Result};

/// Bytes read of a recipe file: more than the largest one.
const READ_LIMIT: u64 = 2 << 20;

/// The recipe of an inversion.
#[derive(Args)]
pub struct RecipeOptions {
    /// Recipe (see `synth recipes`)
    #[arg(long = "recipe", value_name = "RECIPE", default_value = "ssd")]
    name: String,
    #[command(flatten)]
    pub overrides: Overrides,
    /// Images of the set [default: the recipe's `buffer.samples`; where that is 0, at most max(10000, 50 per class)]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    samples: Option<u32>,
    /// Record the teacher's answers to this many crops and mirror images of every image in the set, for `distill --answers stored`; the
    /// adversary learns from these, and so does the second stage of `run` where no images are mixed. 0: fresh ones, to which the teacher
    /// answers each time [default: the recipe's `views`, none of teachers that answer for pixels; the set of `run` holds them only if
    /// its second stage reads them]
    #[arg(long, value_name = "N")]
    pub views: Option<usize>,
}

impl RecipeOptions {
    /// The recipe for this teacher with all that is said of it.
    ///
    /// # Errors
    /// A name that no recipe has; as [`Overrides::apply`].
    pub fn resolve(&self, teacher: &Model) -> Result<Recipe> {
        let task = teacher.network.arch.task;
        let file = self.overrides.file()?;
        let mut recipe = self.overrides.over(&Recipe::named(&self.name)?.of_task(task), file.as_deref())?;
        if let Some(views) = self.views {
            check_views(views, &recipe.student.augment)?;
            recipe.views = views;
        }
        if let Some(samples) = self.samples {
            let [_, h, w] = teacher.config.pretrained_cfg.input_size;
            match self.overrides.state("fill", file.as_deref()) {
                true => recipe.buffer.samples = samples as usize,
                false => recipe = recipe.of_samples(samples as usize, task, [h, w]),
            }
        }
        self.overrides.have_none_of(&recipe.unread())?;
        Ok(recipe)
    }

    /// Says so if fewer images were made than were asked for.
    pub fn compare(&self, made: usize) {
        if let Some(samples) = self.samples.filter(|samples| (*samples as usize) > made) {
            tracing::warn!(
                "the set has {made} of the {samples} images of --samples: more --minutes, or rounds, make more"
            );
        }
    }
}

/// Values over the recipe's own.
#[derive(Args)]
pub struct Overrides {
    /// TOML file with recipe values; what it leaves out stays as the named recipe has it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One recipe value, such as loss.bn=5 or student.lr=0.05 (see `synth recipes NAME`)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    values: Vec<String>,
}

impl Overrides {
    /// `base` with the file and the single values over it.
    ///
    /// # Errors
    /// An unreadable file, a key that the recipe does not have, a value of the wrong kind.
    pub fn apply<T: Serialize + DeserializeOwned>(&self, base: &T) -> Result<T> {
        self.over(base, self.file()?.as_deref())
    }

    /// The text of the file, if there is one.
    fn file(&self) -> Result<Option<String>> {
        self.config.as_deref().map(read).transpose()
    }

    /// `base` with the text of the file and the single values over it.
    fn over<T: Serialize + DeserializeOwned>(&self, base: &T, file: Option<&str>) -> Result<T> {
        overlaid(base, file.zip(self.config.as_deref()), &self.values)
    }

    /// Whether a single value, or the file, says what the whole recipe's `key` is.
    fn state(&self, key: &str, file: Option<&str>) -> bool {
        let in_file = || file.and_then(|text| text.parse::<toml::Table>().ok()).is_some_and(|t| t.contains_key(key));
        self.values.iter().any(|pair| is_of(pair, key)) || in_file()
    }

    /// Refuses single values of `keys`, which have no part in what is to be done. (A file may be a whole recipe, with what is for
    /// others.)
    ///
    /// # Errors
    /// [`Error::Invalid`] with `why` and `hint`.
    pub fn have_none(&self, keys: &[&'static str], why: &'static str, hint: &'static str) -> Result<()> {
        keys.iter().try_for_each(|&key| Unread { key, why, hint }.refuse(&self.values))
    }

    /// The same for keys with a reason and a hint each.
    ///
    /// # Errors
    /// As [`Unread::refuse`].
    pub fn have_none_of(&self, unread: &[Unread]) -> Result<()> {
        unread.iter().try_for_each(|unread| unread.refuse(&self.values))
    }

    /// The default recipe's `student` for `task` with the file and the values over it. The file may be a whole recipe, of which the
    /// rest is for `invert`; single values must be of the student.
    ///
    /// # Errors
    /// As [`Overrides::apply`].
    pub fn apply_student(&self, task: Task) -> Result<StudentRecipe> {
        StudentRecipe::has_all(&self.values)?;
        Ok(self.apply(&Recipe::default().of_task(task))?.student)
    }
}

/// The text of a recipe file, as far as one can be long; what is longer is refused by [`overlaid`].
fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    file.take(READ_LIMIT).read_to_string(&mut text).map_err(Error::io("read", path))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use synth::jobs::{Access, SHIPPED, open_model};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        recipe: RecipeOptions,
    }

    /// `--samples` makes the buffer begin with what the rounds would not add, unless somebody has said with how much it begins:
    /// the numbers of a run with a limit on its time, given to another one, make the same set.
    #[test]
    fn a_fill_that_is_stated_stays() {
        let teacher = open_model(Path::new(SHIPPED), None, &Default::default(), &Access::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recipe.toml");
        std::fs::write(&file, "fill = 3\n").unwrap();
        let fill = |more: &[&str]| {
            let line = [&["x", "--samples", "5000", "--set", "rounds=6"][..], more].concat();
            Line::parse_from(line).recipe.resolve(&teacher).unwrap().fill
        };
        assert_eq!(fill(&["--set", "fill=8"]), 8);
        assert_eq!(fill(&["--config", file.to_str().unwrap()]), 3);
        assert_eq!((fill(&[]), fill(&["--set", "batch=1000"])), (20, 20));
        assert_eq!(fill(&["--set", "batch=100"]), 44);
    }
}
