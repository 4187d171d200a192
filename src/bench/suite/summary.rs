//! Rows over seeds: what the table and the page show.

use super::file::{Budget, Suite, thousands};
use super::measure::Score;
use super::results::{Made, Row, Status};
use std::borrow::Cow;

/// Points of a mean curve.
const GRID: usize = 40;

/// Mean and spread of a number over seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stat {
    pub mean: f64,
    /// Sample standard deviation; absent for a single seed.
    pub std: Option<f64>,
}

impl Stat {
    /// Of `values`; none of none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        if values.is_empty() {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
        Some(Self { mean, std: (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()) })
    }
}

/// A point of the mean curve: seconds since the start, accuracy 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    pub seconds: f64,
    pub stat: Stat,
}

/// One method (or baseline) for one pair and one budget: a line of a table.
#[derive(Clone, Debug)]
pub struct Entry {
    pub label: String,
    /// As [`super::run::Kind::name`].
    pub kind: Cow<'static, str>,
    /// Whether its students began with the teacher's tensors.
    pub teacher_blocks: bool,
    /// Finished runs, by seed.
    pub rows: Vec<Row>,
    /// Which of the summary's programs made them, from 1; empty where there is only one program.
    pub programs: Vec<usize>,
    pub planned: usize,
    /// Seed and error of those that failed.
    pub failed: Vec<(u64, String)>,
}

impl Entry {
    /// A number of the finished runs over their seeds.
    pub fn stat(&self, number: impl Fn(&Row) -> Option<f64>) -> Option<Stat> {
        Stat::of(&self.rows.iter().filter_map(number).collect::<Vec<_>>())
    }

    /// The accuracy to report.
    pub fn top1(&self) -> Option<Stat> {
        self.stat(Row::top1)
    }

    /// Whether it is a method without data.
    pub fn is_method(&self) -> bool {
        self.kind == "data-free"
    }

    /// Mean and spread of the accuracy on the images held back over the time that all seeds have.
    pub fn curve(&self) -> Vec<CurvePoint> {
        let lines: Vec<Vec<(f64, f64)>> = self.rows.iter().map(line).filter(|line| line.len() > 1).collect();
        let bound = |pick: fn(&Vec<(f64, f64)>) -> f64, fold: fn(f64, f64) -> f64| lines.iter().map(pick).reduce(fold);
        let begin = bound(|line| line[0].0, f64::max);
        let end = bound(|line| line[line.len() - 1].0, f64::min);
        let (Some(begin), Some(end)) = (begin, end) else { return Vec::new() };
        if end <= begin {
            return Vec::new();
        }
        let at = |i: usize| begin + (end - begin) * i as f64 / GRID as f64;
        let point = |seconds: f64| {
            let values: Vec<f64> = lines.iter().map(|line| value_at(line, seconds)).collect();
            Stat::of(&values).map(|stat| CurvePoint { seconds, stat })
        };
        (0..=GRID).filter_map(|i| point(at(i))).collect()
    }
}

/// Snapshots and the last weights of a run: (seconds, accuracy).
fn line(row: &Row) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = row.curve.iter().map(|point| (point.seconds, point.top1)).collect();
    points.extend(row.held_back.as_ref().map(|last| (row.seconds.total, last.top1)));
    points
}

/// Linear interpolation in points of rising time.
fn value_at(line: &[(f64, f64)], seconds: f64) -> f64 {
    let after = line.partition_point(|(time, _)| *time < seconds).min(line.len() - 1);
    let ((t0, a0), (t1, a1)) = (line[after.saturating_sub(1)], line[after]);
    if t1 <= t0 { a1 } else { a0 + (a1 - a0) * ((seconds - t0) / (t1 - t0)).clamp(0.0, 1.0) }
}

/// One teacher, one student, one budget: a table and a chart.
#[derive(Clone, Debug)]
pub struct Group {
    pub teacher: String,
    /// Architecture of the teacher where it is known, else its name in the suite.
    pub teacher_net: String,
    pub student: String,
    pub budget: Budget,
    pub entries: Vec<Entry>,
}

/// A whole suite.
#[derive(Clone, Debug)]
pub struct Summary {
    pub title: String,
    pub about: String,
    pub data: String,
    pub hold_back: usize,
    /// Whether accuracies are those on the test set.
    pub test: bool,
    pub groups: Vec<Group>,
    /// Runs finished, failed and planned in all.
    pub finished: usize,
    pub failed: usize,
    pub planned: usize,
    /// Runs beside which the machine did other work: their times are no times.
    pub busy: usize,
    /// GFLOP/s of multiply-adds before the runs: the least and the most.
    pub peaks: Option<[f64; 2]>,
    /// Machines, programs and devices that the runs were made on and by, each once, in words.
    pub machines: Vec<String>,
    /// The images behind the accuracies to report; where there are several, rows cannot be compared.
    pub measured_on: Vec<String>,
    pub programs: Vec<String>,
}

impl Summary {
    /// What `rows`, all runs of `suite`, say together.
    pub fn of(suite: &Suite, rows: &[Row]) -> Self {
        let programs = once(rows.iter().filter_map(program));
        let count = |status| rows.iter().filter(|row| row.status == status).count();
        Self {
            title: suite.title.clone(),
            about: suite.about.clone(),
            data: suite.data.clone(),
            hold_back: suite.hold_back,
            test: suite.test,
            groups: groups(suite, rows, &programs),
            finished: count(Status::Done),
            failed: count(Status::Failed),
            planned: rows.len(),
            busy: rows.iter().filter(|row| row.made.as_ref().is_some_and(is_busy)).count(),
            peaks: peaks(rows),
            machines: once(rows.iter().filter_map(machine)),
            measured_on: once(rows.iter().filter(|row| row.status == Status::Done).filter_map(measured_on)),
            programs,
        }
    }
}

/// Whether others had so much of the machine that times are no times.
fn is_busy(made: &Made) -> bool {
    made.others.is_some_and(|share| share > 0.05)
}

/// The slowest and the fastest that the machine was.
fn peaks(rows: &[Row]) -> Option<[f64; 2]> {
    let peaks = rows.iter().filter_map(|row| row.made.as_ref()?.peak_gflops);
    peaks.fold(None, |found, peak| match found {
        None => Some([peak, peak]),
        Some([least, most]) => Some([peak.min(least), peak.max(most)]),
    })
}

fn groups(suite: &Suite, rows: &[Row], programs: &[String]) -> Vec<Group> {
    let mut groups = Vec::new();
    for teacher in &suite.teachers {
        for student in &teacher.students {
            for &budget in &suite.budgets {
                let belongs = |row: &&Row| {
                    let own = row.kind == "teacher" || row.student == *student;
                    let now = row.budget.is_none_or(|its| its == budget);
                    row.teacher == teacher.name && own && now && row.kind != "train-teacher"
                };
                let entries = entries(rows.iter().filter(belongs), programs);
                let teacher_net = teacher.net.clone().unwrap_or_else(|| net_of(rows, &teacher.name));
                let (teacher, student) = (teacher.name.clone(), student.clone());
                groups.push(Group { teacher, teacher_net, student, budget, entries });
            }
        }
    }
    groups
}

/// The architecture of a teacher as its students' provenance has it.
fn net_of(rows: &[Row], teacher: &str) -> String {
    let known = |row: &Row| row.provenance["teacher"]["config"]["architecture"].as_str().map(String::from);
    rows.iter().filter(|row| row.teacher == teacher).find_map(known).unwrap_or_else(|| teacher.into())
}

fn entries<'a>(rows: impl Iterator<Item = &'a Row>, programs: &[String]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for row in rows {
        let at = entries.iter().position(|entry| entry.kind == row.kind && entry.label == row.method);
        let at = at.unwrap_or_else(|| {
            let teacher_blocks = row.settings["init"] == "teacher-blocks";
            let (label, kind) = (row.method.clone(), row.kind.clone());
            let (rows, programs, failed) = (Vec::new(), Vec::new(), Vec::new());
            entries.push(Entry { label, kind, teacher_blocks, rows, programs, planned: 0, failed });
            entries.len() - 1
        });
        entries[at].planned += 1;
        match (&row.error, row.status) {
            (Some(error), _) => entries[at].failed.push((row.seed, error.clone())),
            (None, Status::Done) => entries[at].rows.push(row.clone()),
            _ => {}
        }
    }
    if programs.len() > 1 {
        let number = |row: &Row| programs.iter().position(|known| program(row).as_ref() == Some(known)).map(|i| i + 1);
        for entry in &mut entries {
            entry.programs = once(entry.rows.iter().filter_map(number));
        }
    }
    let order = ["teacher", "supervised", "kd-real", "kd-noise"];
    entries.sort_by_key(|entry| order.iter().position(|kind| entry.kind == *kind).unwrap_or(order.len()));
    entries
}

fn once<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.collect();
    all.sort();
    all.dedup();
    all
}

fn measured_on(row: &Row) -> Option<String> {
    let Score { images, data, sha256, .. } = row.test.as_ref().or(row.held_back.as_ref())?;
    Some(format!("{data} ({} images, sha256 {})", thousands(*images), sha256.get(..12).unwrap_or(sha256)))
}

fn machine(row: &Row) -> Option<String> {
    let machine = &row.made.as_ref()?.machine;
    let words = |key: &str| row.provenance[key].as_str().map(String::from);
    let memory = machine.memory_mib.map(|mib| format!("{:.0} GiB", mib as f64 / 1024.0));
    let threads = row.provenance["threads"].as_u64().map(|threads| format!("{threads} threads"));
    let parts = [
        Some(machine.processor.clone()).filter(|name| !name.is_empty()),
        Some(format!("{} cores", machine.cores)),
        memory,
        Some(machine.system.clone()),
        words("device"),
        words("precision"),
        words("instructions"),
        threads,
    ];
    // A row that only evaluates says nothing of device and threads.
    (row.kind != "teacher").then(|| parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

fn program(row: &Row) -> Option<String> {
    let program = &row.made.as_ref()?.program;
    let git = program.git.as_ref().map_or(String::new(), |git| format!(", suite at commit {git}"));
    Some(format!("synth {}, sha256 {}{git}", program.version, program.sha256.get(..16).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::super::measure::Point;
    use super::super::page::tests::row;
    use super::super::results::Seconds;
    use super::*;

    #[test]
    fn spread_is_that_of_a_sample() {
        assert_eq!(Stat::of(&[]), None);
        assert_eq!(Stat::of(&[0.5]), Some(Stat { mean: 0.5, std: None }));
        let stat = Stat::of(&[1.0, 2.0, 3.0]).unwrap();
        assert_eq!((stat.mean, stat.std), (2.0, Some(1.0)));
    }

    #[test]
    fn a_machine_is_busy_with_more_than_the_run_itself() {
        let at = |others| is_busy(&Made { others, ..Made::default() });
        assert!(!at(Some(0.03)) && !at(None) && at(Some(0.06)));
    }

    #[test]
    fn curves_are_read_between_their_points() {
        let line = [(1.0, 0.1), (3.0, 0.5), (3.0, 0.6), (5.0, 0.8)];
        for (time, value) in [(0.0, 0.1), (1.0, 0.1), (2.0, 0.3), (4.0, 0.7), (9.0, 0.8)] {
            assert!((value_at(&line, time) - value).abs() < 1e-9, "{time}");
        }
    }

    /// From the latest first point of a seed to the earliest end, each seed's level read at the same moments.
    #[test]
    fn a_curve_has_the_time_that_all_seeds_have() {
        let seed = |seed: u64, first: f64, end: f64| {
            let row = row("ssd", seed, 0.8, None);
            let point = Point { seconds: first, top1: 0.4, ..row.curve[0].clone() };
            Row { curve: vec![point], seconds: Seconds { total: end, ..row.seconds }, ..row }
        };
        let rows = [seed(0, 20.0, 100.0), seed(1, 60.0, 140.0)];
        let entry = entries(rows.iter(), &[]).remove(0);
        let curve = entry.curve();
        let ends = [&curve[0], &curve[curve.len() - 1]].map(|point| (point.seconds, point.stat.mean));
        // At 60 s one is half-way from 0.4 to 0.8 and the other begins; at 100 s one ends and the other is half-way.
        let expected = [(60.0, 0.5), (100.0, 0.7)];
        for (found, expected) in ends.iter().zip(expected) {
            assert!((found.0 - expected.0).abs() < 1e-9 && (found.1 - expected.1).abs() < 1e-9, "{ends:?}");
        }
        let apart = [seed(0, 20.0, 50.0), seed(1, 60.0, 140.0)];
        assert!(entries(apart.iter(), &[])[0].curve().is_empty(), "no moment that both have");
    }
}
