//! What a run types.

use super::baseline::SetKey;
use super::budget::spend;
use super::file::{Budget, Suite, Training};
use super::places::Places;
use super::results::Begun;
use super::run::{Kind, Run};
use crate::checkpoint::Unfinished;
use crate::invert::Recipe;
use crate::overlay::overlaid;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Goes on where a killed run stopped, or starts anew.
const RESUME: &str = "--resume";

/// The folder of a suite's runs.
pub const RUNS: &str = "runs";

/// Folder of a run, called `name`, below that of the results.
pub fn run_folder(out: &Path, name: &str) -> PathBuf {
    out.join(RUNS).join(name)
}

/// What a run leaves, below its folder.
pub fn result_folder(out: &Path, name: &str) -> PathBuf {
    run_folder(out, name).join("result")
}

/// Folder of the model that a run leaves.
pub fn model_folder(out: &Path, run: &Run) -> PathBuf {
    let result = result_folder(out, &run.folder);
    if matches!(run.kind, Kind::DataFree(_)) { result.join("student") } else { result }
}

/// What a run needs to know of its surroundings.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    pub suite: &'a Suite,
    pub places: &'a Places,
    /// Folder of the results.
    pub out: &'a Path,
    /// Options for every command: threads, device and the like.
    pub more: &'a [String],
}

impl Surroundings<'_> {
    /// The teacher of a run: the folder that its training left, or what the suite names.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is none.
    pub fn teacher(&self, run: &Run) -> Result<PathBuf> {
        if let Some(id) = &run.needs {
            return Ok(result_folder(self.out, id));
        }
        let entry = self.suite.teachers.iter().find(|entry| entry.name == run.teacher);
        let model = entry.and_then(|entry| entry.model.as_deref()).unwrap_or_default();
        self.places.model(model).path(format!("teacher {:?}", run.teacher))
    }

    /// The labelled images.
    ///
    /// # Errors
    /// [`Error::Invalid`] if they are nowhere.
    pub fn data(&self) -> Result<PathBuf> {
        self.places.dataset(&self.suite.data).path(format!("data {:?}", self.suite.data))
    }

    /// The arguments of the program for a run; none for a run without a process of its own.
    ///
    /// # Errors
    /// As [`Surroundings::teacher`], and a recipe that this program does not have.
    pub fn arguments(&self, run: &Run) -> Result<Option<Vec<String>>> {
        let mut words = match &run.kind {
            Kind::Teacher => return Ok(None),
            Kind::TrainTeacher { net, train } => self.training(net, train)?,
            Kind::Supervised => self.training(&run.student, &self.suite.supervised)?,
            Kind::KdReal | Kind::KdNoise => self.distillation(run)?,
            Kind::DataFree(method) => {
                let recipe = overlaid(&Recipe::named(&method.recipe)?, None, &method.set)?;
                let mut words = strings(["run", &text(&self.teacher(run)?)?, "--student", &run.student]);
                words.extend(strings(["--recipe", &method.recipe]));
                match method.on_the_fly {
                    true => words.push("--on-the-fly".into()),
                    false => words.extend(strings(["--init", method.init.name()])),
                }
                words.extend(sets(&method.set));
                match run.budget {
                    Some(budget) => words.extend(spend(&recipe, budget, method)?),
                    None => return Err(Error::invalid(run.line(), "it has no budget", "give the suite a [[budget]]")),
                }
                words
            }
        };
        words.extend(strings(["--seed", &run.seed.to_string(), "-o", &text(&result_folder(self.out, &run.folder))?]));
        let snapshots = self.snapshots(run);
        if snapshots > 0 {
            words.extend(strings(["--snapshots", &snapshots.to_string()]));
        }
        words.extend(strings([RESUME, "--json"]));
        words.extend(self.more.iter().cloned());
        Ok(Some(words))
    }

    /// Whether an earlier process has left a state to go on from.
    pub fn goes_on(&self, run: &Run) -> bool {
        Unfinished::folder_of(&result_folder(self.out, &run.folder)).is_ok_and(|folder| folder.exists())
    }

    /// Those of the suite, or what a run that goes on was begun with.
    pub fn snapshots(&self, run: &Run) -> u16 {
        let begun = Begun::of(&run_folder(self.out, &run.folder)).filter(|_| self.goes_on(run));
        begun.map_or(self.suite.snapshots, |begun| begun.snapshots)
    }

    fn training(&self, net: &str, train: &Training) -> Result<Vec<String>> {
        let mut words = strings(["train", net, "--data", &text(&self.data()?)?, "--epochs", &train.epochs.to_string()]);
        if self.suite.hold_back > 0 {
            words.extend(strings(["--hold-back", &self.suite.hold_back.to_string()]));
        }
        if let Some(images) = train.images {
            words.extend(strings(["--limit", &images.to_string()]));
        }
        words.extend(sets(&train.set));
        Ok(words)
    }

    fn distillation(&self, run: &Run) -> Result<Vec<String>> {
        let set = SetKey::of(run, self.suite).folder(self.out);
        let mut words = strings(["distill", &text(&set)?, "--teacher", &text(&self.teacher(run)?)?]);
        words.extend(strings(["--student", &run.student, "--answers", "live", "--init", "scratch"]));
        words.extend(sets(&self.suite.kd.set));
        match run.budget {
            Some(Budget::Minutes(minutes)) => words.extend(strings(["--minutes", &minutes.to_string()])),
            Some(Budget::Steps(steps)) => words.extend(strings(["--steps", &steps.to_string()])),
            Some(Budget::Images(_)) | None => {}
        }
        Ok(words)
    }
}

fn strings<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(String::from).to_vec()
}

fn sets(pairs: &[String]) -> impl Iterator<Item = String> {
    pairs.iter().flat_map(|pair| ["--set".to_string(), pair.clone()])
}

fn text(path: &Path) -> Result<String> {
    let refuse = || Error::invalid(path.display().to_string(), "the path is no Unicode", "use another folder");
    path.to_str().map(String::from).ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::super::plan::Plan;
    use super::super::results::Made;
    use super::*;
    use std::fs;

    /// A state is refused with another number of snapshots than it was begun with.
    #[test]
    fn a_run_goes_on_with_the_snapshots_that_it_was_begun_with() {
        let text = "title = \"t\"\ndata = \"a/b\"\nseeds = [0]\nhold_back = 50\nsnapshots = 5\n[[teacher]]\nname = \"r20\"\n\
                    model = \"synth/resnet20-cifar10\"\nstudents = [\"resnet8\"]\n[[method]]\nrecipe = \"ssd\"\n\
                    [[budget]]\nsteps = 400\n";
        let (suite, places, folder) = (Suite::parse(text).unwrap(), Places::default(), tempfile::tempdir().unwrap());
        let run = &Plan::of(&suite, &places).unwrap().runs[0];
        let around = Surroundings { suite: &suite, places: &places, out: folder.path(), more: &[] };
        let own = run_folder(folder.path(), &run.folder);
        fs::create_dir_all(&own).unwrap();
        Begun { snapshots: 3, about: Made::default() }.note(&own).unwrap();
        assert_eq!((around.goes_on(run), around.snapshots(run)), (false, 5));
        fs::create_dir(own.join("result.unfinished")).unwrap();
        assert_eq!((around.goes_on(run), around.snapshots(run)), (true, 3));
    }
}
