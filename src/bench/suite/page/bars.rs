//! Accuracy at the end, and where the time went.

use super::super::results::Row;
use super::super::summary::{Entry, Group, Stat};
use super::super::table::{minutes, percent};
use super::{Colour, escape};
use std::fmt::Write;

/// Parts of a run's time, with their names in the style sheet; `other` is what lies between the stages.
const PARTS: [(&str, fn(&Row) -> f64); 4] = [
    ("inversion", |row| row.seconds.inversion),
    ("distillation", |row| row.seconds.distillation),
    ("other", |row| (row.seconds.total - row.seconds.inversion - row.seconds.distillation).max(0.0)),
    ("evaluation", |row| row.seconds.evaluation),
];

/// A bar per entry: last step, with one standard deviation to both sides.
pub fn accuracy(group: &Group, painted: &[Colour], test: bool) -> String {
    let known: Vec<(&Entry, Colour, Stat)> = group
        .entries
        .iter()
        .zip(painted)
        .filter_map(|(entry, colour)| entry.top1().map(|stat| (entry, *colour, stat)))
        .collect();
    if known.is_empty() {
        return "<p class=\"note\">Nothing has been measured yet.</p>\n".into();
    }
    let on = if test { "the test set" } else { "training images that were held back" };
    let mut out = format!(
        "<h3>Accuracy, last step</h3>\n<p class=\"note\">Top-1 in percent on {on}, mean ± standard deviation over \
         seeds.</p>\n<div class=\"bars\">\n"
    );
    for (entry, colour, stat) in known {
        let (mean, colour, name) = (100.0 * stat.mean, colour.css(), escape(&entry.label));
        let spread = stat.std.map_or(String::new(), |std| {
            let (low, high) = ((mean - 100.0 * std).max(0.0), (mean + 100.0 * std).min(100.0));
            format!("<s style=\"left:{low:.2}%;width:{:.2}%\"></s>", high - low)
        });
        let track = format!("<b style=\"width:{mean:.2}%;background:{colour}\"></b>{spread}");
        let _ = write!(out, "<span class=\"name\">{name}</span><span class=\"track\">{track}</span>");
        let _ = writeln!(out, "<span class=\"value\">{}</span>", percent(stat));
    }
    out.push_str("</div>\n");
    out
}

/// Minutes of all parts, one bar per entry.
pub fn times(group: &Group) -> String {
    let mean = |entry: &Entry, of: fn(&Row) -> f64| entry.stat(|row| Some(of(row) / 60.0)).map_or(0.0, |s| s.mean);
    let parts = |entry: &Entry| PARTS.map(|(_, of)| mean(entry, of));
    let known: Vec<(&Entry, [f64; 4])> = group
        .entries
        .iter()
        .filter(|entry| !entry.rows.is_empty() && entry.kind != "teacher")
        .map(|entry| (entry, parts(entry)))
        .collect();
    let most = known.iter().map(|(_, parts)| parts.iter().sum::<f64>()).fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let mut out =
        "<h3>Time</h3>\n<p class=\"note\">Wall time in minutes, mean over seeds. Evaluation happens after the run and \
                   is not part of its total.</p>\n<ul class=\"legend\">"
            .to_string();
    for (name, _) in PARTS {
        let _ = write!(out, "<li><i class=\"box\" style=\"background:var(--{name})\"></i>{name}</li>");
    }
    out.push_str("</ul>\n<div class=\"bars\">\n");
    for (entry, parts) in known {
        let mut track = String::new();
        for ((name, _), part) in PARTS.iter().zip(parts) {
            let width = 100.0 * part / most;
            let title = format!("{name} {} min", minutes(part));
            let _ = write!(track, "<b style=\"width:{width:.2}%;background:var(--{name})\" title=\"{title}\"></b>");
        }
        let total = mean(entry, |row| row.seconds.total);
        let value = format!("{} + {}", minutes(total), minutes(mean(entry, |row| row.seconds.evaluation)));
        let _ = write!(out, "<span class=\"name\">{}</span>", escape(&entry.label));
        let _ = writeln!(out, "<span class=\"track\">{track}</span><span class=\"value\">{value}</span>");
    }
    out.push_str("</div>\n");
    out
}
