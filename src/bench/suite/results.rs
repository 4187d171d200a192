//! What is known of a run: `results.jsonl` has one row of it per line.

use super::command::{Surroundings, model_folder, result_folder, run_folder};
use super::file::{Budget, Start};
use super::machine::{Machine, Program};
use super::measure::{Measured, Point, Score, Wanted};
use super::places::below;
use super::run::{Kind, Run};
use crate::files::{PROVENANCE, write_atomic};
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::fs;
use std::path::Path;

const BEGUN: &str = "begun.json";

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Done,
    Failed,
    /// Not yet, or not to its end.
    Open,
}

/// What the harness notes when a process has ended: `made.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Made {
    pub program: Program,
    pub machine: Machine,
    /// Share, 0 to 1, of the machine's processor time that others had meanwhile; absent where the system does not say, or if not
    /// all of the work was of one process that this harness had started.
    pub others: Option<f64>,
    /// GFLOP/s of multiply-adds on all threads just before the process started: virtual machines drift.
    pub peak_gflops: Option<f64>,
    /// Seconds since 1970.
    pub ended: u64,
    /// Of the process, with all that it reads and writes; absent where `others` is for that reason.
    pub process_seconds: Option<f64>,
    /// In words, if it failed.
    pub failed: Option<String>,
}

/// What is noted when a process starts: `begun.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// A run goes on with the number of snapshots that it was begun with.
    pub snapshots: u16,
    /// Program, machine and peak; what is known at the end is absent.
    pub about: Made,
}

impl Begun {
    /// Of the last process in a run's folder.
    pub fn of(folder: &Path) -> Option<Self> {
        read(&folder.join(BEGUN))
    }

    /// # Errors
    /// [`Error::Io`].
    pub fn note(&self, folder: &Path) -> Result<()> {
        write(&folder.join(BEGUN), self)
    }
}

/// Where the time went, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    pub inversion: f64,
    /// Of the student; supervised training where that is the run.
    pub distillation: f64,
    /// Inversion and distillation with what is between them.
    pub total: f64,
    pub evaluation: f64,
    pub process: Option<f64>,
}

/// One run with all that is known of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub id: String,
    pub status: Status,
    pub error: Option<String>,
    /// As [`Kind::name`].
    pub kind: Cow<'static, str>,
    /// As tables call the method.
    pub method: String,
    pub teacher: String,
    pub student: String,
    pub seed: u64,
    pub budget: Option<Budget>,
    /// Last weights on the test set, and on the images held back.
    pub test: Option<Score>,
    pub held_back: Option<Score>,
    /// The best of the curve on the images held back: an extra, not a result.
    pub best_held_back: Option<f64>,
    pub curve: Vec<Point>,
    pub seconds: Seconds,
    /// Images in the set, and images synthesised in all.
    pub images_kept: Option<u64>,
    pub images_made: Option<u64>,
    /// Updates of an adversary that is not the student, and of the student, in the rounds too where it was the adversary.
    pub adversary_updates: Option<u64>,
    pub student_updates: Option<u64>,
    pub peak_memory_mib: Option<f64>,
    /// How often it was taken up again after an interruption.
    pub resumed: u64,
    /// Names of the alarms that the run raised.
    pub alarms: Vec<String>,
    pub made: Option<Made>,
    pub settings: Value,
    /// What the program says of the result, without what it also says of the set; models and sets are named as the suite does,
    /// or by their path below the folder of the results.
    pub provenance: Value,
}

impl Row {
    /// What the folder of a run says.
    pub fn of(around: &Surroundings, run: &Run) -> Self {
        let out = around.out;
        let folder = run_folder(out, &run.folder);
        let made: Option<Made> = read(&folder.join("made.json"));
        let measured: Measured = read(&folder.join("evaluation.json")).unwrap_or_default();
        let student: Value = read(&model_folder(out, run).join(PROVENANCE)).unwrap_or_default();
        let set: Value = read(&result_folder(out, &run.folder).join("set/synth.json")).unwrap_or_default();
        let failed = made.as_ref().and_then(|made| made.failed.clone());
        let status = if failed.is_some() { Status::Failed } else { Status::Done };
        let in_rounds = set["metrics"]["adversary_updates"].as_u64();
        // Where it is so on the fly, its steps are those of the rounds.
        let on_the_fly = student["on_the_fly"] == true;
        let goes_on = matches!(&run.kind, Kind::DataFree(method) if !on_the_fly && method.init != Start::Scratch);
        let is_student = on_the_fly || goes_on;
        let best = measured.curve.iter().map(|p| p.top1).chain(measured.held_back.iter().map(|s| s.top1));
        let row = Self {
            id: run.id.clone(),
            status,
            error: failed,
            kind: run.kind.name().into(),
            method: run.kind.label().into(),
            teacher: run.teacher.clone(),
            student: run.student.clone(),
            seed: run.seed,
            budget: run.budget,
            best_held_back: best.reduce(f64::max),
            test: measured.test,
            held_back: measured.held_back,
            curve: measured.curve,
            seconds: seconds(&student, measured.seconds, made.as_ref()),
            images_kept: images_kept(run, &student, &set),
            images_made: set["metrics"]["synthesised"].as_u64(),
            adversary_updates: in_rounds.filter(|_| !is_student),
            student_updates: student["steps"].as_u64().map(|steps| steps + in_rounds.filter(|_| goes_on).unwrap_or(0)),
            peak_memory_mib: [&student, &set]
                .iter()
                .filter_map(|about| about["peak_memory_mib"].as_f64())
                .reduce(f64::max),
            resumed: [&student, &set].iter().filter_map(|about| about["resumed"].as_u64()).max().unwrap_or_default(),
            alarms: alarms([&set, &student]),
            made,
            settings: run.settings.clone(),
            provenance: named(without_health(student), around),
        };
        row.seen_by(&Wanted::of(around.suite))
    }

    /// The row for a suite that wants `wanted`: open where that is not measured, and without what the suite does not look at.
    pub fn seen_by(mut self, wanted: &Wanted) -> Self {
        self.test = self.test.filter(|_| wanted.test);
        // Images that another suite held back tell nothing beside those of this one.
        if !wanted.looks_at(self.held_back.as_ref()) {
            (self.held_back, self.best_held_back, self.curve) = (None, None, Vec::new());
        }
        if self.status == Status::Done && !wanted.has_all(self.test.as_ref(), self.held_back.as_ref()) {
            self.status = Status::Open;
        }
        self
    }

    /// What it says, with the names that a suite has for it in `row`.
    pub fn labelled_as(self, row: Self) -> Self {
        let Self { teacher, student, method, .. } = row;
        Self { teacher, student, method, ..self }
    }

    /// The accuracy to report, 0 to 1: of the last weights, on the test set if that was read.
    pub fn top1(&self) -> Option<f64> {
        self.test.as_ref().or(self.held_back.as_ref()).map(|score| score.top1)
    }

    /// The same on the images held back.
    pub fn held_back_top1(&self) -> Option<f64> {
        self.held_back.as_ref().map(|score| score.top1)
    }
}

fn seconds(student: &Value, evaluation: f64, made: Option<&Made>) -> Seconds {
    let wall = &student["wall_seconds"];
    let number = |key: &str| wall[key].as_f64();
    let (inversion, distillation) = match student["on_the_fly"] == true {
        true => (number("synthesis"), number("adversary")),
        false => (number("inversion"), number("distillation").or(number("training"))),
    };
    let (inversion, distillation) = (inversion.unwrap_or(0.0), distillation.unwrap_or(0.0));
    Seconds {
        inversion,
        distillation,
        total: number("total").unwrap_or(inversion + distillation),
        evaluation,
        process: made.and_then(|made| made.process_seconds),
    }
}

fn images_kept(run: &Run, student: &Value, set: &Value) -> Option<u64> {
    match run.kind {
        Kind::DataFree(_) => {
            let kept = set["metrics"]["images_per_teacher_class"].as_array()?;
            Some(kept.iter().filter_map(Value::as_u64).sum())
        }
        Kind::KdReal | Kind::KdNoise => student["set"]["count"].as_u64(),
        _ => student["data"]["count"].as_u64(),
    }
}

/// Names of the alarms of both stages, each once: what a student on the fly says of its set stands in both.
fn alarms(stages: [&Value; 2]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for alarm in stages.iter().filter_map(|about| about["alarms"].as_array()).flatten() {
        if let Some(name) = alarm["name"].as_str().filter(|name| !names.iter().any(|known| known == name)) {
            names.push(name.into());
        }
    }
    names
}

fn without_health(mut student: Value) -> Value {
    if let Value::Object(entries) = &mut student {
        for key in ["health", "alarms"] {
            entries.remove(key);
        }
    }
    student
}

/// `value` without the folders of this machine.
fn named(value: Value, around: &Surroundings) -> Value {
    match value {
        Value::String(text) => below(around.out, &text).unwrap_or_else(|| around.places.name_of(&text)).into(),
        Value::Array(values) => values.into_iter().map(|value| named(value, around)).collect(),
        Value::Object(entries) => entries.into_iter().map(|(key, value)| (key, named(value, around))).collect(),
        other => other,
    }
}

/// A JSON file of a run's folder; none where there is none, or where a kill or a person left something else.
pub fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

/// Writes a JSON file of a run's folder, whole.
///
/// # Errors
/// [`Error::Io`].
pub fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    write_atomic(path, format!("{:#}\n", json!(value)).as_bytes())
}

/// Writes `results.jsonl`, whole.
///
/// # Errors
/// [`Error::Io`].
pub fn write_rows(path: &Path, rows: &[Row]) -> Result<()> {
    let text: String = rows.iter().map(|row| format!("{}\n", json!(row))).collect();
    write_atomic(path, text.as_bytes())
}

/// Reads what [`write_rows`] wrote, here or elsewhere.
///
/// # Errors
/// [`Error::Io`]; [`Error::File`], which names the line, for anything else than rows.
pub fn read_rows(path: &Path) -> Result<Vec<Row>> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let refuse = |line: usize, error: serde_json::Error| {
        Error::file(path, format!("line {}: no row of a run: {error}", line + 1), "give the results.jsonl of a suite")
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(i, line)| serde_json::from_str(line).map_err(|error| refuse(i, error))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_weights_are_reported_and_not_the_best() {
        let row = crate::bench::suite::page::tests::row("ssd", 0, 0.5, None);
        let held_back = Score { top1: 0.4, ..row.test.clone().unwrap() };
        let row = Row { best_held_back: Some(0.9), held_back: Some(held_back), ..row };
        assert_eq!(row.top1(), Some(0.5));
        assert_eq!(Row { test: None, ..row }.top1(), Some(0.4));
    }

    /// What an earlier suite held back, of these data or of others, has no place in the tables of one that holds back nothing or
    /// other images.
    #[test]
    fn images_that_a_suite_does_not_hold_back_are_not_in_its_rows() {
        let row = crate::bench::suite::page::tests::row("ssd", 0, 0.5, None);
        let score = row.test.clone().unwrap();
        let held_back = Score { images: 300, named: "mine".into(), ..score };
        let curve = vec![Point { seconds: 1.0, updates: 1, stage: "distill".into(), top1: 0.9 }];
        let row = Row { best_held_back: Some(0.9), held_back: Some(held_back), curve, ..row };
        let seen = |data, hold_back| {
            let Row { held_back, best_held_back, curve, .. } =
                row.clone().seen_by(&Wanted { data, test: false, hold_back });
            (held_back.is_some(), best_held_back.is_some(), curve.len())
        };
        assert_eq!(seen("mine", 300), (true, true, 1));
        for (data, hold_back) in [("mine", 0), ("mine", 200), ("others", 300)] {
            assert_eq!(seen(data, hold_back), (false, false, 0), "{data} {hold_back}");
        }
    }

    #[test]
    fn both_stages_raise_alarms_each_counted_once() {
        let of =
            |names: &[&str]| json!({ "alarms": names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>() });
        let found = alarms([&of(&["generator collapsed", "off label"]), &of(&["student lost", "off label"])]);
        assert_eq!(found, ["generator collapsed", "off label", "student lost"]);
        assert_eq!(alarms([&Value::Null, &of(&["few images"])]), ["few images"]);
    }

    #[test]
    fn seconds_are_those_of_the_stages() {
        let wall = json!({ "synthesis": 3.0, "adversary": 5.0, "inversion": 8.5, "distillation": 1.0, "total": 9.0 });
        let of = |on_the_fly: bool| {
            let found = seconds(&json!({ "on_the_fly": on_the_fly, "wall_seconds": wall }), 2.0, None);
            (found.inversion, found.distillation, found.total, found.evaluation)
        };
        assert_eq!((of(true), of(false)), ((3.0, 5.0, 9.0, 2.0), (8.5, 1.0, 9.0, 2.0)));
    }
}
