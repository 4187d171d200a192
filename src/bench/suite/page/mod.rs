//! `index.html`: one file, without scripts and without anything from elsewhere.

mod axis;
mod bars;
mod chart;
mod tables;

use super::peers::Peers;
use super::summary::{Entry, Group, Summary};
use super::table::{protocol, title};
use crate::report;
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");
/// Methods that one chart can show; more get a chart each.
const TOGETHER: usize = 6;
/// Colours in `style.css`.
const COLOURS: usize = 8;

/// The page of a suite.
pub fn page(summary: &Summary, peers: &Peers) -> String {
    let mut body = format!("<header>\n<h1>{}</h1>\n", escape(&summary.title));
    if !summary.about.is_empty() {
        let _ = writeln!(body, "<p>{}</p>", escape(&summary.about));
    }
    let mut notes = protocol(summary).into_iter();
    let state = notes.next().unwrap_or_default();
    let _ = writeln!(body, "<p class=\"state\">{}</p>", escape(&state));
    if summary.busy > 0 {
        let _ = writeln!(body, "<p class=\"state\">{} runs were made on a busy machine; see below.</p>", summary.busy);
    }
    if summary.groups.len() > 1 {
        let links = summary.groups.iter().enumerate();
        let link = |(i, group): (usize, &Group)| format!("<a href=\"#g{i}\">{}</a>", escape(&title(group)));
        let _ = writeln!(body, "<nav>{}</nav>", links.map(link).collect::<Vec<_>>().join(" "));
    }
    body.push_str("</header>\n<main>\n");
    for (i, group) in summary.groups.iter().enumerate() {
        body.push_str(&section(i, group, summary, peers));
    }
    let _ = writeln!(body, "</main>\n<footer>\n<h2>How to read this</h2>\n<ul>");
    for note in notes {
        let _ = writeln!(body, "<li>{}</li>", escape(&note));
    }
    body.push_str("</ul>\n</footer>\n");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n{body}</body>\n</html>\n",
        escape(&summary.title)
    )
}

fn section(i: usize, group: &Group, summary: &Summary, peers: &Peers) -> String {
    let mut out = format!("<section id=\"g{i}\">\n<h2>{}</h2>\n", escape(&title(group)));
    let painted = painted(group);
    let curves = chart::curves(group, &painted);
    if !curves.is_empty() {
        let what = "Accuracy over time, mean over seeds; the band is one standard deviation. Measured afterwards on training \
                    images that were held back.";
        let _ = writeln!(out, "<h3>Accuracy over time</h3>\n<p class=\"note\">{what}</p>");
        let references = chart::references(group);
        match curves.len() {
            0..=TOGETHER => out.push_str(&chart::together(&curves, &references)),
            _ => out.push_str(&chart::each(&curves, &references)),
        }
    }
    out.push_str(&bars::accuracy(group, &painted, summary.test));
    out.push_str(&bars::times(group));
    out.push_str(&tables::measured(group));
    out.push_str(&tables::published(&peers.beside(&summary.data, &group.teacher_net, &group.student)));
    out.push_str("</section>\n");
    out
}

/// A colour per entry: methods in turn, baselines grey.
fn painted(group: &Group) -> Vec<Colour> {
    let mut next = 0;
    let mut one = |entry: &Entry| {
        if !entry.is_method() {
            return Colour(None);
        }
        next += 1;
        Colour(Some((next - 1) % COLOURS))
    };
    group.entries.iter().map(&mut one).collect()
}

/// One of the page's colours.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Colour(Option<usize>);

impl Colour {
    /// As a value in CSS.
    fn css(self) -> String {
        self.0.map_or("var(--quiet)".into(), |i| format!("var(--c{i})"))
    }
}

/// Text that stays text in HTML, in an attribute too, on one line.
fn escape(text: &str) -> String {
    report::escape(text).replace('\n', " ")
}

#[cfg(test)]
pub(super) mod tests;
