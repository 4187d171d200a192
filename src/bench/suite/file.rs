//! `suite.toml`: what is to be compared.

use crate::jobs::Init;
use crate::overlay::toml_error;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A suite is a page; this is a book.
const SIZE_LIMIT: u64 = 256 << 10;

/// Teachers x students x methods x seeds x budgets.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// Heading of the page.
    pub title: String,
    /// A paragraph below it.
    #[serde(default)]
    pub about: String,
    /// Labelled images: a path, or a name on the Hub. Their train split is for baselines and for what is held back, the test split
    /// for one reading per run.
    pub data: String,
    /// Images of the train split that no baseline learns from, on which curves and everything that is tuned are measured.
    #[serde(default)]
    pub hold_back: usize,
    /// Whether the test split is read at all: once per run, with its last weights. Suites for tuning say `false`.
    #[serde(default = "yes")]
    pub test: bool,
    pub seeds: Vec<u64>,
    /// Points of the curve of accuracy over time, beside the last.
    #[serde(default)]
    pub snapshots: u16,
    #[serde(default)]
    pub baselines: Vec<Baseline>,
    #[serde(default)]
    pub supervised: Training,
    #[serde(default)]
    pub kd: Distillation,
    #[serde(rename = "teacher")]
    pub teachers: Vec<TeacherEntry>,
    #[serde(rename = "method", default)]
    pub methods: Vec<Method>,
    #[serde(rename = "budget")]
    pub budgets: Vec<Budget>,
}

fn yes() -> bool {
    true
}

/// What data-free results are to be seen beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// The teacher itself.
    Teacher,
    /// The student, trained on the real images with their labels.
    Supervised,
    /// The student, taught by the teacher on the real images without their labels.
    KdReal,
    /// The student, taught by the teacher on normal noise with the mean and deviation of the teacher's normalisation.
    KdNoise,
}

/// Supervised training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    pub epochs: usize,
    /// At most so many of the train split's images, evenly over its rows; without it all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
    /// `KEY=VALUE` of the supervised recipe.
    pub set: Vec<String>,
}

impl Default for Training {
    fn default() -> Self {
        Self { epochs: 40, images: None, set: Vec::new() }
    }
}

/// Distillation on real images or on noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Distillation {
    /// Noise images.
    pub noise: usize,
    /// At most so many of the train split's images, evenly over its rows; without it all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
    /// `student.KEY=VALUE` of the recipe.
    pub set: Vec<String>,
}

impl Default for Distillation {
    fn default() -> Self {
        Self { noise: 10_000, images: None, set: Vec::new() }
    }
}

/// A teacher and the students it is given.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherEntry {
    pub name: String,
    /// The model: a path, a name on the Hub, or the shipped one.
    #[serde(default)]
    pub model: Option<String>,
    /// Or the architecture that is trained first, on the real images.
    #[serde(default)]
    pub net: Option<String>,
    #[serde(default)]
    pub train: Training,
    /// Architectures.
    pub students: Vec<String>,
}

/// A way from a teacher to a student without data.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// How tables call it; without it, as the recipe.
    #[serde(default)]
    pub name: Option<String>,
    pub recipe: String,
    /// `KEY=VALUE` over the recipe.
    #[serde(default)]
    pub set: Vec<String>,
    /// Whether the adversary is the student, also where the recipe has a second stage.
    #[serde(default)]
    pub on_the_fly: bool,
    #[serde(default)]
    pub init: Start,
    /// Seeds of its own, instead of the suite's: more for the methods that lead.
    #[serde(default)]
    pub seeds: Vec<u64>,
}

impl Method {
    /// How tables call it.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.recipe)
    }
}

/// Where the student of a method starts: see [`Init`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// Fresh weights, which both stages train.
    #[default]
    Adversary,
    /// Fresh weights in either stage.
    Scratch,
    /// The teacher's tensors where they fit: no fair start in a comparison, and marked as such.
    TeacherBlocks,
}

impl Start {
    /// As the command line calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Adversary => "adversary",
            Self::Scratch => "scratch",
            Self::TeacherBlocks => "teacher-blocks",
        }
    }

    /// As the job calls it.
    pub fn init(self) -> Init {
        match self {
            Self::Adversary => Init::Adversary,
            Self::Scratch => Init::Scratch,
            Self::TeacherBlocks => Init::TeacherBlocks,
        }
    }
}

/// What a run may spend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Budget {
    /// Wall time of inversion and distillation together.
    Minutes(f64),
    /// Updates of the student, in both stages together.
    Steps(usize),
    /// Images synthesised in all; of a set of real images or noise, its size.
    Images(usize),
}

impl Budget {
    /// `12 min`, `4,000 steps`
    pub fn label(&self) -> String {
        match self {
            Self::Minutes(minutes) => format!("{minutes} min"),
            Self::Steps(steps) => format!("{} steps", thousands(*steps)),
            Self::Images(images) => format!("{} images", thousands(*images)),
        }
    }
}

/// `12345` as `12,345`.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

impl Suite {
    /// Reads a suite.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`] for what is no TOML, has a key that suites do not have, is larger than 256 KiB, or compares
    /// nothing.
    pub fn read(path: &Path) -> Result<Self> {
        let mut text = String::new();
        let file = File::open(path).map_err(Error::io("read", path))?;
        file.take(SIZE_LIMIT + 1).read_to_string(&mut text).map_err(Error::io("read", path))?;
        if text.len() as u64 > SIZE_LIMIT {
            return Err(Error::file(path, "it has more than 256 KiB", "split it into several suites"));
        }
        Self::parse(&text).map_err(|found| Error::file(path, found, "see docs/BENCHMARK.md"))
    }

    /// The suite in `text`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let suite: Self = toml::from_str(text).map_err(|error| toml_error(&error, text))?;
        suite.check()?;
        Ok(suite)
    }

    fn check(&self) -> std::result::Result<(), String> {
        let wrong = |found: &str| Err(found.to_string());
        if self.teachers.is_empty() || self.seeds.is_empty() || self.budgets.is_empty() {
            return wrong("it needs at least one [[teacher]], one [[budget]] and one of `seeds`");
        }
        if self.methods.is_empty() && self.baselines.is_empty() {
            return wrong("it has no [[method]] and no baselines, so there is nothing to run");
        }
        if !self.test && self.hold_back == 0 {
            return wrong("with `test = false` and no `hold_back` nothing would be measured");
        }
        if self.snapshots > 0 && self.hold_back == 0 {
            return wrong("snapshots are measured on images that are held back, and `hold_back` is 0");
        }
        for seeds in self.methods.iter().map(|method| &method.seeds).chain([&self.seeds]) {
            if let Some(seed) = twice(seeds) {
                return Err(format!("seed {seed} stands there twice"));
            }
        }
        for budget in &self.budgets {
            let fine = match budget {
                Budget::Minutes(minutes) => (0.0..=1e6).contains(minutes) && *minutes > 0.0,
                Budget::Steps(count) | Budget::Images(count) => *count > 0,
            };
            if !fine {
                return Err(format!("a budget of {} is none", budget.label()));
            }
        }
        if let Some(budget) = twice(&self.budgets) {
            return Err(format!("a budget of {} stands there twice", budget.label()));
        }
        self.check_names()
    }

    /// The seeds of a method.
    pub fn seeds_of<'a>(&'a self, method: &'a Method) -> &'a [u64] {
        if method.seeds.is_empty() { &self.seeds } else { &method.seeds }
    }

    /// All seeds: the suite's, then those that only methods have.
    pub fn all_seeds(&self) -> Vec<u64> {
        let mut all = self.seeds.clone();
        for seed in self.methods.iter().flat_map(|method| &method.seeds) {
            if !all.contains(seed) {
                all.push(*seed);
            }
        }
        all
    }

    fn check_names(&self) -> std::result::Result<(), String> {
        for (i, teacher) in self.teachers.iter().enumerate() {
            let name = &teacher.name;
            if self.teachers[..i].iter().any(|other| other.name == *name) {
                return Err(format!("teacher {name:?} stands there twice"));
            }
            if teacher.model.is_some() == teacher.net.is_some() {
                return Err(format!("teacher {name:?} needs either `model` or `net`"));
            }
            if let Some(student) = twice(&self.teachers[i].students) {
                return Err(format!("student {student:?} of teacher {name:?} stands there twice"));
            }
        }
        for (i, method) in self.methods.iter().enumerate() {
            let label = method.label();
            if self.methods[..i].iter().any(|other| other.label() == label) {
                return Err(format!("method {label:?} stands there twice; give one of them a `name`"));
            }
            if method.on_the_fly && method.init != Start::default() {
                return Err(format!(
                    "method {label:?} has an `init`, though its student is the adversary itself (`on_the_fly`)"
                ));
            }
        }
        Ok(())
    }
}

/// Something that is in a list more than once.
fn twice<T: PartialEq>(list: &[T]) -> Option<&T> {
    list.iter().enumerate().find_map(|(i, item)| list[..i].contains(item).then_some(item))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        title = "t"
        data = "d"
        seeds = [0, 1]
        [[teacher]]
        name = "a"
        model = "m"
        students = ["resnet8"]
        [[method]]
        recipe = "ssd"
        [[budget]]
        minutes = 20
        [[budget]]
        steps = 4000
    "#;

    #[test]
    fn budgets_are_time_steps_or_images() {
        let suite = Suite::parse(SMALL).unwrap();
        assert_eq!(suite.budgets, [Budget::Minutes(20.0), Budget::Steps(4000)]);
        assert_eq!(suite.budgets.iter().map(Budget::label).collect::<Vec<_>>(), ["20 min", "4,000 steps"]);
        assert_eq!((suite.methods[0].label(), suite.methods[0].init), ("ssd", Start::Adversary));
        assert!(suite.test && suite.hold_back == 0);
    }

    #[test]
    fn what_compares_nothing_or_cannot_be_is_refused_with_the_reason() {
        for (from, to, word) in [
            ("seeds = [0, 1]", "seeds = []", "seeds"),
            ("seeds = [0, 1]", "seeds = [1, 1]", "seed 1"),
            ("recipe = \"ssd\"", "recipe = \"ssd\"\nseeds = [2, 2]", "seed 2"),
            ("steps = 4000", "minutes = 20.0", "20 min stands there twice"),
            ("students = [\"resnet8\"]", "students = [\"resnet8\", \"resnet8\"]", "resnet8"),
            ("recipe = \"ssd\"", "recipe = \"ssd\"\non_the_fly = true\ninit = \"scratch\"", "on_the_fly"),
            ("steps = 4000", "steps = 0", "0 steps"),
            ("minutes = 20", "minutes = -1", "-1 min"),
            ("minutes = 20", "hours = 1", "hours"),
            ("model = \"m\"", "", "either `model` or `net`"),
            ("title = \"t\"", "title = \"t\"\ntest = false", "nothing would be measured"),
            ("title = \"t\"", "title = \"t\"\nsnapshots = 3", "held back"),
            ("[[budget]]", "[[method]]\nrecipe = \"ssd\"\n[[budget]]", "twice"),
        ] {
            let found = Suite::parse(&SMALL.replacen(from, to, 1)).unwrap_err();
            assert!(found.contains(word), "{to}: {found}");
        }
    }

    #[test]
    fn thousands_have_commas() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
