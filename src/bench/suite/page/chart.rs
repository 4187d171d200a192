//! Accuracy over time.

use super::super::results::Row;
use super::super::summary::{CurvePoint, Entry, Group};
use super::super::table::percent;
use super::axis::{Axis, label};
use super::{Colour, escape};
use std::fmt::Write;

/// The mean curve of a method.
pub struct Curve<'a> {
    entry: &'a Entry,
    colour: Colour,
    points: Vec<CurvePoint>,
}

/// A level to compare with, in percent.
pub struct Reference {
    name: &'static str,
    top1: f64,
}

impl Reference {
    /// `teacher (test set) 94.90`
    fn name(&self) -> String {
        format!("{} {:.2}", self.name, self.top1)
    }
}

/// Curves of the methods and of the baselines that had the same budget.
pub fn curves<'a>(group: &'a Group, painted: &[Colour]) -> Vec<Curve<'a>> {
    let own = group.entries.iter().zip(painted).filter(|(entry, _)| !matches!(&*entry.kind, "teacher" | "supervised"));
    let curve = |(entry, colour): (&'a Entry, &Colour)| Curve { entry, colour: *colour, points: entry.curve() };
    own.map(curve).filter(|curve| !curve.points.is_empty()).collect()
}

/// The teacher on the test set (it may have learnt from the images held back), the student trained on real data on these.
pub fn references(group: &Group) -> Vec<Reference> {
    let find = |kind: &str| group.entries.iter().find(|entry| entry.kind == kind);
    let teacher = find("teacher").and_then(|entry| entry.stat(|row| row.test.as_ref().map(|score| score.top1)));
    let real = find("supervised").and_then(|entry| entry.stat(Row::held_back_top1));
    let named = [("teacher (test set)", teacher), ("trained on real data", real)];
    let reference = |(name, stat): (&'static str, Option<_>)| {
        stat.map(|stat: super::super::summary::Stat| Reference { name, top1: 100.0 * stat.mean })
    };
    named.into_iter().filter_map(reference).collect()
}

/// A picture's measures.
struct Frame {
    size: (f64, f64),
    x: Axis,
    y: Axis,
}

impl Frame {
    fn new(curves: &[Curve], references: &[Reference], size: (f64, f64), ticks: (usize, usize)) -> Self {
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let low = points().map(|p| 100.0 * (p.stat.mean - p.stat.std.unwrap_or(0.0))).fold(100.0, f64::min);
        let high = points().map(|p| 100.0 * (p.stat.mean + p.stat.std.unwrap_or(0.0)));
        let high = high.chain(references.iter().map(|r| r.top1)).fold(0.0, f64::max);
        let time = points().map(|p| p.seconds / 60.0).fold(0.0, f64::max);
        let (width, height) = size;
        Self {
            size,
            x: Axis::exact(time, (30.0, width - 8.0), ticks.0),
            y: Axis::round(low.max(0.0), high.min(100.0), (height - 22.0, 8.0), ticks.1),
        }
    }

    fn open(&self, what: &str) -> String {
        let (width, height) = self.size;
        let mut out = format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n", escape(what));
        for &tick in &self.y.ticks {
            let (y, right, text) = (self.y.at(tick), width - 8.0, label(tick));
            let _ = write!(out, "<line class=\"grid\" x1=\"30\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
            let _ = writeln!(out, "<text x=\"25\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>", y + 4.0);
        }
        for (i, &tick) in self.x.ticks.iter().enumerate() {
            let last = i + 1 == self.x.ticks.len();
            let text = if last { format!("{} min", label(tick)) } else { label(tick) };
            let near_end = self.x.at(tick) > width - 40.0;
            let anchor = if last && near_end { "end" } else { "middle" };
            let at = if last && near_end { width - 4.0 } else { self.x.at(tick) };
            let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{text}</text>", height - 5.0);
        }
        out
    }

    /// `x,y x,y ...`
    fn places(&self, points: impl Iterator<Item = (f64, f64)>) -> String {
        let place = |(seconds, top1)| format!("{:.1},{:.1}", self.x.at(seconds / 60.0), self.y.at(100.0 * top1));
        points.map(place).collect::<Vec<_>>().join(" ")
    }

    fn references(&self, references: &[Reference]) -> String {
        let line = |reference: &Reference| {
            let (y, right) = (self.y.at(reference.top1), self.size.0 - 8.0);
            format!("<line class=\"reference\" x1=\"30\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\n")
        };
        references.iter().map(line).collect()
    }

    fn curve(&self, curve: &Curve) -> String {
        let (points, colour) = (&curve.points, curve.colour.css());
        let spread = |p: &CurvePoint| p.stat.std.unwrap_or(0.0);
        let upper = points.iter().map(|p| (p.seconds, p.stat.mean + spread(p)));
        let lower = points.iter().rev().map(|p| (p.seconds, p.stat.mean - spread(p)));
        let mut out = String::new();
        if points.iter().any(|p| spread(p) > 0.0) {
            let band = self.places(upper.chain(lower));
            let _ = writeln!(out, "<polygon class=\"band\" fill=\"{colour}\" points=\"{band}\"/>");
        }
        let dashes = if curve.entry.is_method() { "" } else { " stroke-dasharray=\"5 4\"" };
        let line = self.places(points.iter().map(|p| (p.seconds, p.stat.mean)));
        let name = escape(&curve.name());
        let _ = write!(out, "<polyline class=\"curve\" stroke=\"{colour}\"{dashes} points=\"{line}\">");
        let _ = writeln!(out, "<title>{name}</title></polyline>");
        if let Some(last) = points.last() {
            let (x, y) = (self.x.at(last.seconds / 60.0), self.y.at(100.0 * last.stat.mean));
            let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        out
    }
}

impl Curve<'_> {
    /// `ssd 84.10 ± 0.20`
    fn name(&self) -> String {
        format!("{} {}", self.entry.label, self.last().unwrap_or_default())
    }

    /// Its last level: of the last weights of every seed, which may come after the curve of all seeds has ended.
    fn last(&self) -> Option<String> {
        self.entry.stat(Row::held_back_top1).map(percent)
    }
}

/// All curves in one picture.
pub fn together(curves: &[Curve], references: &[Reference]) -> String {
    let frame = Frame::new(curves, references, (440.0, 270.0), (6, 5));
    let names: Vec<String> = curves.iter().map(Curve::name).collect();
    let mut out = format!("<figure class=\"chart\">\n{}", frame.open(&names.join("; ")));
    out.push_str(&frame.references(references));
    curves.iter().for_each(|curve| out.push_str(&frame.curve(curve)));
    out.push_str("</svg>\n<ul class=\"legend\">");
    for curve in curves {
        let name = escape(&curve.name());
        let mark = match curve.entry.is_method() {
            true => format!("<i style=\"background:{}\"></i>", curve.colour.css()),
            false => "<i class=\"dashes\"></i>".into(),
        };
        let _ = write!(out, "<li>{mark}{name}</li>");
    }
    for reference in references {
        let _ = write!(out, "<li><i class=\"dots\"></i>{}</li>", escape(&reference.name()));
    }
    out.push_str("</ul>\n</figure>\n");
    out
}

/// A picture for each curve, with the others in grey behind it.
pub fn each(curves: &[Curve], references: &[Reference]) -> String {
    let frame = Frame::new(curves, references, (180.0, 140.0), (2, 3));
    let mut out = "<div class=\"each\">\n".to_string();
    for curve in curves {
        let (name, level) = (escape(&curve.entry.label), curve.last().unwrap_or_default());
        let caption = format!("<figcaption title=\"{name}\"><b>{name}</b><span>{level}</span></figcaption>");
        let _ = write!(out, "<figure>\n{caption}\n{}", frame.open(&curve.name()));
        out.push_str(&frame.references(references));
        for other in curves.iter().filter(|other| !std::ptr::eq(*other, curve)) {
            let line = frame.places(other.points.iter().map(|p| (p.seconds, p.stat.mean)));
            let _ = writeln!(out, "<polyline class=\"other\" points=\"{line}\"/>");
        }
        let _ = write!(out, "{}</svg>\n</figure>\n", frame.curve(curve));
    }
    out.push_str("</div>\n");
    if !references.is_empty() {
        let named = references.iter().map(Reference::name).collect::<Vec<_>>();
        let _ = writeln!(out, "<p class=\"note\">Grey: the others. Dotted: {}.</p>", escape(&named.join(", ")));
    }
    out
}
