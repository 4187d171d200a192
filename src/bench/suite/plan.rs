//! From a suite to its runs, each with a name that says what it is and changes whenever anything that matters does.

use super::budget::spend;
use super::file::{Baseline, Budget, Method, Suite, TeacherEntry, Training};
use super::names::name;
use super::places::{Found, Places};
use super::run::{Kind, Run};
use crate::distill::StudentRecipe;
use crate::invert::Recipe;
use crate::jobs::{Access, Making, SHIPPED, open_model};
use crate::model::Overrides;
use crate::nets::registry;
use crate::overlay::overlaid;
use crate::train::SupervisedRecipe;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;

/// More runs than anybody waits for.
const MOST_RUNS: usize = 10_000;

/// The runs of a suite, in the order in which they are done: what others need first, then seed by seed, so that a suite that is
/// stopped early has whole rounds.
#[derive(Debug, Default)]
pub struct Plan {
    pub runs: Vec<Run>,
    /// What is wrong with the suite here: recipes that this program does not have, teachers that are not there.
    pub problems: Vec<String>,
}

impl Plan {
    /// Plans `suite`; only what lies on this machine is looked at.
    ///
    /// # Errors
    /// [`Error::Invalid`] for too many runs.
    pub fn of(suite: &Suite, places: &Places) -> Result<Self> {
        let mut plan = Self::default();
        if places.dataset(&suite.data) == Found::Missing {
            plan.problems.push(format!("data {:?} is neither a path nor a name on the Hub", suite.data));
        }
        let teachers: Vec<Identity> = suite.teachers.iter().map(|entry| plan.teacher(suite, entry, places)).collect();
        for seed in suite.all_seeds() {
            for (entry, identity) in suite.teachers.iter().zip(&teachers) {
                for student in &entry.students {
                    plan.pair(suite, entry, identity, student, seed);
                }
            }
            if plan.runs.len() > MOST_RUNS {
                return Err(Error::invalid("suite", format!("more than {MOST_RUNS} runs"), "split it"));
            }
        }
        plan.problems.sort();
        plan.problems.dedup();
        Ok(plan)
    }

    /// Keeps the runs whose line has all texts of `filter`, and those that they need.
    ///
    /// # Errors
    /// [`Error::Invalid`] if no run has them.
    pub fn filtered(mut self, filter: &[String]) -> Result<Self> {
        if !self.runs.iter().any(|run| run.has(filter)) {
            let found = format!("no run has {} in its line", filter.join(" and "));
            return Err(Error::invalid("--filter", found, "see the lines of --dry-run"));
        }
        let needed: Vec<String> =
            self.runs.iter().filter(|run| run.has(filter)).filter_map(|run| run.needs.clone()).collect();
        self.runs.retain(|run| run.has(filter) || needed.contains(&run.id));
        Ok(self)
    }

    fn problem(&mut self, what: &str, error: &Error) {
        self.problems.push(format!("{what}: {error}"));
    }

    /// Who a teacher is; plans its training and its evaluation.
    fn teacher(&mut self, suite: &Suite, entry: &TeacherEntry, places: &Places) -> Identity {
        let what = format!("teacher {:?}", entry.name);
        for name in entry.net.iter().chain(&entry.students) {
            if let Err(error) = registry::usual_input(name) {
                self.problem(&what, &error);
            }
        }
        let identity = match (&entry.model, &entry.net) {
            (Some(model), _) => Identity { settings: self.known(&what, model, places), trained_by: None },
            (None, Some(net)) => self.trained(suite, entry, net),
            (None, None) => Identity::default(),
        };
        if suite.baselines.contains(&Baseline::Teacher) {
            let settings = json!({ "kind": Kind::Teacher.name(), "teacher": identity.settings });
            self.push(Kind::Teacher, entry, entry.net.as_deref().unwrap_or(&entry.name), 0, None, settings, &identity);
        }
        identity
    }

    /// A teacher that is there is known by the hash of its weights, one on the Hub by its name.
    fn known(&mut self, what: &str, model: &str, places: &Places) -> Value {
        let path = match places.model(model) {
            Found::Here(path) => path,
            Found::Named(path) if path == Path::new(SHIPPED) => path,
            Found::Named(_) => return json!({ "name": model }),
            Found::Missing => {
                self.problems.push(format!("{what}: {model:?} is neither a path nor a name on the Hub; see --local"));
                return json!({ "name": model });
            }
        };
        let offline = Access { offline: true, quiet: true };
        match open_model(&path, None, &Overrides::default(), &offline) {
            Ok(opened) => json!({ "sha256": opened.sha256 }),
            Err(error) => {
                self.problem(what, &error);
                json!({ "name": model })
            }
        }
    }

    fn trained(&mut self, suite: &Suite, entry: &TeacherEntry, net: &str) -> Identity {
        let kind = Kind::TrainTeacher { net: net.into(), train: entry.train.clone() };
        let seed = suite.seeds.first().copied().unwrap_or(0);
        let settings = self.training(suite, net, &entry.train, seed, &kind);
        let id = self.push(kind, entry, net, seed, None, settings.clone(), &Identity::default());
        Identity { settings: json!({ "trained": settings }), trained_by: Some(id) }
    }

    fn training(&mut self, suite: &Suite, net: &str, train: &Training, seed: u64, kind: &Kind) -> Value {
        let recipe = SupervisedRecipe { epochs: train.epochs, ..SupervisedRecipe::default() };
        let recipe = overlaid(&recipe, None, &train.set).and_then(|recipe| recipe.check().map(|()| recipe));
        let recipe = recipe.map_err(|error| self.problem(kind.name(), &error)).ok();
        json!({
            "kind": kind.name(), "net": net, "data": suite.data, "hold_back": suite.hold_back, "images": train.images,
            "recipe": recipe, "seed": seed,
        })
    }

    /// All runs of a teacher, a student and a seed.
    fn pair(&mut self, suite: &Suite, entry: &TeacherEntry, identity: &Identity, student: &str, seed: u64) {
        let baseline = |baseline| suite.seeds.contains(&seed) && suite.baselines.contains(&baseline);
        if baseline(Baseline::Supervised) {
            let settings = self.training(suite, student, &suite.supervised, seed, &Kind::Supervised);
            self.push(Kind::Supervised, entry, student, seed, None, settings, &Identity::default());
        }
        for &budget in &suite.budgets {
            for (which, kind) in [(Baseline::KdReal, Kind::KdReal), (Baseline::KdNoise, Kind::KdNoise)] {
                if baseline(which) {
                    let settings = self.distillation(suite, identity, student, seed, budget, &kind);
                    self.push(kind, entry, student, seed, Some(budget), settings, identity);
                }
            }
            for method in suite.methods.iter().filter(|method| suite.seeds_of(method).contains(&seed)) {
                let settings = self.data_free(method, identity, student, seed, budget);
                let kind = Kind::DataFree(method.clone());
                self.push(kind, entry, student, seed, Some(budget), settings, identity);
            }
        }
    }

    fn distillation(
        &mut self,
        suite: &Suite,
        identity: &Identity,
        student: &str,
        seed: u64,
        budget: Budget,
        kind: &Kind,
    ) -> Value {
        let recipe =
            StudentRecipe::has_all(&suite.kd.set).and_then(|()| overlaid(&Recipe::default(), None, &suite.kd.set));
        let recipe = recipe.map_err(|error| self.problem(kind.name(), &error)).ok();
        let from = match kind {
            Kind::KdNoise => json!({ "noise": suite.kd.noise }),
            _ => json!({ "data": suite.data, "hold_back": suite.hold_back, "images": suite.kd.images }),
        };
        json!({
            "kind": kind.name(), "teacher": identity.settings, "student": student, "from": from,
            "recipe": recipe.map(|recipe| recipe.student), "budget": budget, "seed": seed,
        })
    }

    fn data_free(&mut self, method: &Method, identity: &Identity, student: &str, seed: u64, budget: Budget) -> Value {
        let named = Recipe::named(&method.recipe).and_then(|recipe| overlaid(&recipe, None, &method.set));
        let recipe = named.and_then(|recipe| {
            recipe.check()?;
            spend(&recipe, budget, method)?;
            let on_the_fly = method.on_the_fly || recipe.on_the_fly;
            let making = Making { recipe: &recipe, init: method.init.init(), on_the_fly };
            let unread = [recipe.unread(), making.unread()].concat();
            unread.iter().try_for_each(|unread| unread.refuse(&method.set))?;
            Ok(recipe)
        });
        let recipe = recipe.map_err(|error| self.problem(&format!("method {:?}", method.label()), &error)).ok();
        json!({
            "kind": "data-free", "teacher": identity.settings, "student": student, "recipe": recipe,
            "named": method.recipe, "init": method.init, "on_the_fly": method.on_the_fly, "budget": budget, "seed": seed,
        })
    }

    fn push(
        &mut self,
        kind: Kind,
        entry: &TeacherEntry,
        student: &str,
        seed: u64,
        budget: Option<Budget>,
        settings: Value,
        identity: &Identity,
    ) -> String {
        let run = Run {
            id: String::new(),
            folder: String::new(),
            teacher: entry.name.clone(),
            student: student.into(),
            kind,
            seed,
            budget,
            settings,
            needs: identity.trained_by.clone(),
        };
        let id = name(&run.line(), &run.settings);
        let same = |other: &&Run| run.kind == Kind::Supervised && other.settings == run.settings;
        let folder = self.runs.iter().find(same).map_or(&id, |other| &other.folder).clone();
        self.runs.push(Run { id: id.clone(), folder, ..run });
        id
    }
}

/// Who a teacher is.
#[derive(Debug, Default)]
struct Identity {
    settings: Value,
    trained_by: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITE: &str = r#"
        title = "t"
        data = "someone/cifar10"
        hold_back = 50
        seeds = [0, 1]
        baselines = ["teacher", "supervised", "kd-real", "kd-noise"]
        [[teacher]]
        name = "r20"
        model = "synth/resnet20-cifar10"
        students = ["resnet8"]
        [[method]]
        recipe = "ssd"
        [[method]]
        name = "no φ"
        recipe = "ssd"
        set = ["phi.target=off"]
        [[budget]]
        steps = 400
    "#;

    fn plan(text: &str) -> Plan {
        Plan::of(&Suite::parse(text).unwrap(), &Places::default()).unwrap()
    }

    fn ids(text: &str) -> Vec<String> {
        plan(text).runs.into_iter().map(|run| run.id).collect()
    }

    #[test]
    fn a_suite_is_a_product_with_the_teacher_once() {
        let plan = plan(SUITE);
        assert_eq!(plan.problems, [""; 0]);
        let lines: Vec<String> = plan.runs.iter().map(Run::line).collect();
        assert_eq!(lines.len(), 1 + 2 * (1 + 2 + 2), "{lines:?}");
        assert_eq!(lines[0], "r20, teacher");
        assert_eq!(lines[1], "r20 to resnet8, trained on real data, seed 0");
        assert_eq!(lines[4], "r20 to resnet8, ssd, 400 steps, seed 0");
        assert!(plan.runs[5].id.starts_with("r20-to-resnet8-no-400-steps-seed-0-"), "{}", plan.runs[5].id);
        let mut unique = ids(SUITE);
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), lines.len());
    }

    /// Each teacher has its rows; that of training on labels comes from the folder of the first.
    #[test]
    fn what_does_not_learn_from_the_teacher_is_done_once() {
        let teacher =
            "[[teacher]]\n name = \"r20 again\"\n model = \"other/model\"\n students = [\"resnet8\"]\n [[method]]";
        let plan = plan(&SUITE.replacen("[[method]]", teacher, 1));
        let elsewhere: Vec<(String, &str)> = plan
            .runs
            .iter()
            .filter(|run| run.folder != run.id)
            .map(|run| (run.line(), plan.runs.iter().find(|other| other.id == run.folder).unwrap().teacher.as_str()))
            .collect();
        let line = |seed| format!("r20 again to resnet8, trained on real data, seed {seed}");
        assert_eq!(elsewhere, [(line(0), "r20"), (line(1), "r20")]);
    }

    #[test]
    fn a_method_may_have_more_seeds_than_the_suite() {
        let text = SUITE
            .replace("name = \"no φ\"", "name = \"no φ\"\nseeds = [0, 1, 2]")
            .replace("[0, 1]\n        base", "[0]\n        base");
        let lines: Vec<String> = plan(&text).runs.iter().map(Run::line).collect();
        assert_eq!(lines.len(), 1 + (1 + 2 + 2) + 2, "{lines:?}");
        assert_eq!(lines[6..], ["r20 to resnet8, no φ, 400 steps, seed 1", "r20 to resnet8, no φ, 400 steps, seed 2"]);
        assert_eq!(ids(&text)[4..6], ids(SUITE)[4..6], "the same runs as before");
    }

    /// The same suite has the same names again, written otherwise too; whatever matters changes those of the runs that it matters to.
    #[test]
    fn names_follow_what_matters_and_nothing_else() {
        let before = ids(SUITE);
        assert_eq!(before, ids(&SUITE.replace("title = \"t\"", "about = \"x\"\nsnapshots = 3\ntitle = \"other\"")));
        let changed = |from: &str, to: &str| {
            let after = ids(&SUITE.replace(from, to));
            before.iter().zip(&after).map(|(a, b)| u8::from(a != b)).collect::<Vec<_>>()
        };
        assert_eq!(changed("set = [\"phi.target=off\"]", "set = [\"loss.bn=5\"]"), [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
        assert_eq!(changed("hold_back = 50", "hold_back = 60"), [0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0]);
        assert_eq!(changed("steps = 400", "steps = 500"), [0, 0, 1, 1, 1, 1, 0, 1, 1, 1, 1]);
        assert_eq!(changed("seeds = [0, 1]", "seeds = [0, 2]"), [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1]);
        let other_default = changed("set = [\"phi.target=off\"]", "set = [\"phi.target=off\", \"phi.gamma=0\"]");
        assert_eq!(other_default, [0; 11], "a value that the recipe has anyway");
    }

    #[test]
    fn a_filter_takes_parts_of_lines_and_keeps_what_is_needed() {
        let kept = |text: &str, filter: &[&str]| -> Vec<String> {
            let filter: Vec<String> = filter.iter().map(|text| text.to_string()).collect();
            plan(text).filtered(&filter).unwrap().runs.iter().map(Run::line).collect()
        };
        assert_eq!(kept(SUITE, &["SSD", "seed 1"]), ["r20 to resnet8, ssd, 400 steps, seed 1"]);
        let error = plan(SUITE).filtered(&["ssd".into(), "nothing".into()]).unwrap_err().to_string();
        assert_eq!(error, "--filter: no run has ssd and nothing in its line; see the lines of --dry-run");
        assert_eq!(kept(SUITE, &[]).len(), 11);
        let trained = SUITE.replace("model = \"synth/resnet20-cifar10\"", "net = \"resnet20\"");
        assert_eq!(plan(&trained).problems, [""; 0]);
        let kept = kept(&trained, &["ssd"]);
        assert_eq!(kept[0], "r20, training of the teacher");
        assert_eq!(kept.len(), 3);
    }

    #[test]
    fn what_this_program_or_this_machine_lacks_is_a_problem_and_the_plan_goes_on() {
        let text = SUITE.replace("recipe = \"ssd\"\n        [[method]]", "recipe = \"magic\"\n        [[method]]");
        let text = text.replace("\"resnet8\"", "\"resnet9\"").replace("synth/resnet20-cifar10", "no/such/model");
        let plan = plan(&text);
        assert_eq!(plan.runs.len(), 11);
        let unread = SUITE.replace("[\"phi.target=off\"]", "[\"student.steps=9\"]") + "\n[kd]\nset = [\"rounds=3\"]\n";
        let unread = self::plan(&unread).problems.join("\n");
        assert!(unread.contains("--set student.steps") && unread.contains("nothing a student has"), "{unread}");
        let all = plan.problems.join("\n");
        for word in ["magic", "resnet9", "no/such/model"] {
            assert!(all.contains(word), "{word}: {all}");
        }
    }
}
