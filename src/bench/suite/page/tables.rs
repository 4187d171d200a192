//! The numbers themselves.

use super::super::peers::Published;
use super::super::summary::Group;
use super::super::table::cells;
use super::escape;
use std::fmt::Write;

const HEAD: [&str; 12] = [
    "method",
    "seeds",
    "top-1, last step",
    "held back",
    "best held back",
    "total min",
    "inversion",
    "distillation",
    "evaluation",
    "images kept",
    "images made",
    "peak MiB",
];

/// What was measured here; runs that failed are rows too.
pub fn measured(group: &Group) -> String {
    let mut out = "<h3>All numbers</h3>\n<div class=\"scroll\" tabindex=\"0\"><table>\n<tr>".to_string();
    HEAD.iter().for_each(|name| {
        let _ = write!(out, "<th>{name}</th>");
    });
    out.push_str("</tr>\n");
    for entry in &group.entries {
        out.push_str("<tr>");
        for (i, cell) in cells(entry).iter().enumerate() {
            let class = if i == 2 { " class=\"main\"" } else { "" };
            let _ = write!(out, "<td{class}>{}</td>", escape(cell));
        }
        out.push_str("</tr>\n");
        for (seed, error) in &entry.failed {
            let name = escape(&entry.label);
            let _ = write!(out, "<tr class=\"failed\"><td>{name}, seed {seed}</td>");
            let _ = writeln!(out, "<td colspan=\"{}\">failed: {}</td></tr>", HEAD.len() - 1, escape(error));
        }
    }
    out.push_str("</table></div>\n");
    out
}

/// What others have published for the same pair.
pub fn published(rows: &[Published]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut out = "<h3>Published by others <span class=\"tag\">not measured here</span></h3>\n\
                   <p class=\"note\">Other teachers, other machines, and hours that contain other things than ours.</p>\n\
                   <div class=\"scroll published\" tabindex=\"0\"><table>\n<tr><th>method</th><th>top-1</th><th>its teacher</th>\
                   <th>hours</th><th>what the hours contain</th><th>accuracy is</th><th>source</th></tr>\n"
        .to_string();
    for row in rows {
        let number = |value: Option<f64>| value.map_or("-".into(), |value| value.to_string());
        let _ = write!(out, "<tr><td>{}</td><td>{}</td>", escape(row.method), row.top1);
        let _ = write!(out, "<td>{}</td><td>{}</td>", number(row.teacher), number(row.hours));
        for words in [row.hours_contain, row.accuracy_is, row.source] {
            let _ = write!(out, "<td class=\"words\">{}</td>", escape(words));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
    out
}
