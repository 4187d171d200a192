//! The numbers themselves.

use super::super::peers::Published;
use super::super::summary::Group;
use super::super::table::{HEAD, cells};
use super::escape;
use std::fmt::Write;

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

/// What others have published for the same pair, source by source.
pub fn published(rows: &[Published]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut out = "<h3>Published by others <span class=\"tag\">not measured here</span></h3>\n\
                   <p class=\"note\">Other teachers, other machines, and hours that contain other things than ours.</p>\n\
                   <div class=\"scroll published\" tabindex=\"0\"><table>\n<tr><th>method</th><th>top-1</th>\
                   <th>its teacher</th><th>hours</th></tr>\n"
        .to_string();
    let mut told = None;
    for row in rows {
        let about = (row.source, row.hours_contain, row.accuracy_is);
        if told.replace(about) != Some(about) {
            let (source, hours, accuracy) = (escape(row.source), escape(row.hours_contain), escape(row.accuracy_is));
            let words = format!("<b>Published:</b> {source}. Accuracy: {accuracy}. Hours: {hours}.");
            let _ = writeln!(out, "<tr class=\"source\"><td colspan=\"4\">{words}</td></tr>");
        }
        let number = |value: Option<f64>| value.map_or("-".into(), |value| value.to_string());
        let _ = write!(out, "<tr><td>{}</td><td>{}</td>", escape(row.method), row.top1);
        let _ = writeln!(out, "<td>{}</td><td>{}</td></tr>", number(row.teacher), number(row.hours));
    }
    out.push_str("</table></div>\n");
    out
}
