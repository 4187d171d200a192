//! `table.md`.

use super::file::thousands;
use super::peers::{Peers, Published};
use super::results::Row;
use super::summary::{Entry, Group, Stat, Summary};
use crate::set::card::markdown as plain;
use std::fmt::Write;

/// What the columns of [`cells`] are.
pub const HEAD: [&str; 13] = [
    "method",
    "seeds",
    "top-1, last step",
    "held back",
    "best held back",
    "total min",
    "inversion",
    "distillation",
    "evaluation",
    "updates",
    "images kept",
    "images made",
    "peak MiB",
];

/// A suite's tables with what was published beside them.
pub fn markdown(summary: &Summary, peers: &Peers) -> String {
    let mut out = format!("# {}\n\n", plain(&summary.title));
    if !summary.about.is_empty() {
        let _ = write!(out, "{}\n\n", plain(&summary.about));
    }
    protocol(summary).iter().for_each(|line| out.push_str(&format!("- {}\n", plain(line))));
    out.push('\n');
    for group in &summary.groups {
        let columns = HEAD.len() - 1;
        let _ =
            writeln!(out, "## {}\n\n| {} |\n|---|{}", plain(&title(group)), HEAD.join(" | "), "---:|".repeat(columns));
        group.entries.iter().for_each(|entry| out.push_str(&row(entry)));
        out.push('\n');
        let published = peers.beside(&summary.data, &group.teacher_net, &group.student);
        if !published.is_empty() {
            out.push_str(&published_table(&published));
        }
    }
    out
}

/// `wrn-16-2 to wrn-16-1, 20 min`
pub fn title(group: &Group) -> String {
    format!("{} to {}, {}", group.teacher, group.student, group.budget.label())
}

/// How the numbers came about, for people.
pub fn protocol(summary: &Summary) -> Vec<String> {
    let accuracy = match summary.test {
        true => "top-1 is the accuracy of the last weights on the test set, which is read once per run",
        false => {
            "the test set was not read: top-1 is the accuracy of the last weights on training images that were held back"
        }
    };
    let mut lines = vec![format!(
        "{} of {} runs finished, {} failed. Data: {}.",
        summary.finished, summary.planned, summary.failed, summary.data
    )];
    lines.push(format!("Mean and sample standard deviation over seeds; {accuracy}."));
    if summary.hold_back > 0 {
        lines.push(format!(
            "Curves and \"held back\" are on {} images of the train split that no student and no baseline here has learnt \
             from (a teacher that was trained elsewhere may have); the best of a curve is an extra, not a result.",
            thousands(summary.hold_back)
        ));
    }
    if let [_, _, ..] = summary.measured_on[..] {
        let all = summary.measured_on.join("; ");
        lines.push(format!("The accuracies are of DIFFERENT images and cannot be compared: {all}."));
    }
    lines.push("Times are wall times in minutes; evaluation is not part of the total.".into());
    if summary.busy > 0 {
        lines.push(format!(
            "{} runs were made while the machine did other work (more than a twentieth of its processor time): do not compare \
             their times, nor accuracies that a time limit decided.",
            summary.busy
        ));
    }
    if let Some([least, most]) = summary.peaks {
        lines.push(format!("Multiply-add peak of the machine before each run: {least:.0} to {most:.0} GFLOP/s."));
    }
    lines.extend(summary.machines.iter().map(|machine| format!("Machine: {machine}.")));
    lines.extend(match &summary.programs[..] {
        [program] => vec![format!("Program: {program}.")],
        several => several.iter().enumerate().map(|(i, program)| format!("Program [{}]: {program}.", i + 1)).collect(),
    });
    lines
}

fn row(entry: &Entry) -> String {
    let cells = cells(entry).map(|cell| plain(&cell)).join(" | ");
    let failed = entry.failed.iter().map(|(seed, error)| {
        let rest = " |".repeat(HEAD.len() - 3);
        format!("| {}, seed {seed} | | failed: {} |{rest}\n", plain(&entry.label), plain(error))
    });
    format!("| {cells} |\n{}", failed.collect::<String>())
}

/// The cells of an entry, without markup; those of [`Row`]s that failed come after it.
pub fn cells(entry: &Entry) -> [String; HEAD.len()] {
    let percent = |number: fn(&Row) -> Option<f64>| entry.stat(number).map_or("-".into(), percent);
    let minutes = |number: fn(&Row) -> f64| {
        let stat = entry.stat(|row| Some(number(row) / 60.0));
        stat.filter(|stat| stat.mean > 0.0).map_or("-".into(), |stat| minutes(stat.mean))
    };
    let count = |number: fn(&Row) -> Option<u64>| {
        let stat = entry.stat(|row| number(row).map(|n| n as f64));
        stat.map_or("-".into(), |stat| thousands(stat.mean.round() as usize))
    };
    let mark = if entry.teacher_blocks { " (starts with the teacher's blocks)" } else { "" };
    let seeds = match entry.rows.len() == entry.planned {
        true => entry.planned.to_string(),
        false => format!("{} of {}", entry.rows.len(), entry.planned),
    };
    let programs: String = entry.programs.iter().map(|number| format!(" [{number}]")).collect();
    [
        format!("{}{mark}{programs}", entry.label),
        seeds,
        entry.top1().map_or("-".into(), self::percent),
        percent(Row::held_back_top1),
        percent(|row| row.best_held_back.filter(|_| !row.curve.is_empty())),
        minutes(|row| row.seconds.total),
        minutes(|row| row.seconds.inversion),
        minutes(|row| row.seconds.distillation),
        minutes(|row| row.seconds.evaluation),
        count(|row| row.student_updates),
        count(|row| row.images_kept),
        count(|row| row.images_made),
        entry.stat(|row| row.peak_memory_mib).map_or("-".into(), |stat| format!("{:.0}", stat.mean)),
    ]
}

/// `84.12 ± 0.30`
pub fn percent(stat: Stat) -> String {
    let std = stat.std.map_or(String::new(), |std| format!(" ± {:.2}", 100.0 * std));
    format!("{:.2}{std}", 100.0 * stat.mean)
}

/// Minutes with as many digits as they deserve.
pub fn minutes(minutes: f64) -> String {
    if minutes < 10.0 { format!("{minutes:.2}") } else { format!("{minutes:.1}") }
}

fn published_table(rows: &[Published]) -> String {
    let mut out = "Published by others, not measured here:\n\n| method | teacher | top-1 | hours | what the hours contain | accuracy is | \
                   source |\n|---|---:|---:|---:|---|---|---|\n"
        .to_string();
    for row in rows {
        let number = |value: Option<f64>| value.map_or("-".into(), |value| value.to_string());
        let cells = [
            row.method.to_string(),
            number(row.teacher),
            row.top1.to_string(),
            number(row.hours),
            row.hours_contain.to_string(),
            row.accuracy_is.to_string(),
            row.source.to_string(),
        ];
        let _ = writeln!(out, "| {} |", cells.map(|cell| plain(&cell)).join(" | "));
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_spread_and_their_digits() {
        assert_eq!(percent(Stat { mean: 0.84123, std: Some(0.003) }), "84.12 ± 0.30");
        assert_eq!(percent(Stat { mean: 0.5, std: None }), "50.00");
        assert_eq!([minutes(0.254), minutes(19.96)], ["0.25", "20.0"]);
    }
}
