//! A set as one HTML page: plots as SVG, images as PNG within it, nothing from elsewhere. All that comes from files is escaped.

mod svg;

use super::alarms::Alarm;
use super::criteria::Criteria;
use super::describe::WITHOUT_TEACHER;
use super::health::Health;
use crate::data::Images;
use crate::set::SyntheticSet;
use crate::set::preview::grid;
use crate::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::ImageFormat;
use std::fmt::Write;
use std::io::Cursor;

/// Images in a row of examples.
const SHOWN: usize = 12;
/// More classes than this are not plotted one by one.
const PLOTTED: usize = 100;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}pre{background:#f4f4f4;padding:.8rem;overflow-x:auto;font-size:13px}\
.good{color:#176f2c}.usable{color:#8a6100}.poor{color:#a11919}img{max-width:100%;image-rendering:pixelated}svg{max-width:100%}\
svg text{font:12px system-ui,sans-serif;fill:#222}";

/// The page; `text` is what `synth inspect` prints.
pub(super) fn html(
    set: &SyntheticSet,
    health: &Health,
    criteria: &Criteria,
    alarms: &[Alarm],
    text: &str,
) -> Result<String> {
    let score = &criteria.score;
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>synth inspect</title>\
         <style>{STYLE}</style></head><body>\n<h1>A transfer set of {} images</h1>\n\
         <p class=\"{}\"><b>{}</b>, with a score of {:.2}{}.</p>\n",
        set.len(),
        escape(&score.verdict),
        escape(&score.verdict),
        score.value,
        if health.fit.is_some() { "" } else { WITHOUT_TEACHER },
    );
    list(&mut page, score.reasons.iter().cloned());
    list(&mut page, alarms.iter().map(|alarm| format!("Alarm: {alarm}")));
    let parts: Vec<(String, f64)> = score.parts.iter().map(|p| (p.name.to_string(), p.value)).collect();
    section(&mut page, "Parts of the score", &svg::bars(&parts, Some(1.0)));
    list(&mut page, score.parts.iter().map(|p| format!("{}: {}", p.name, p.means)));
    if set.class_names.len() <= PLOTTED {
        let (title, values) = match criteria.of_pixels {
            true => ("Share of every class in all pixels, as the teacher sees them", criteria.mean.clone()),
            false => {
                ("Images per class, by the teacher's decisions", criteria.decisions.iter().map(|n| *n as f64).collect())
            }
        };
        let classes: Vec<(String, f64)> = set.class_names.iter().cloned().zip(values).collect();
        section(&mut page, title, &svg::bars(&classes, None));
    }
    if !criteria.of_pixels {
        let title = "Confidence of the teacher, in shares of the images";
        section(&mut page, title, &svg::bars(&tenths(&criteria.confidence), None));
        let title = "Difference of the two highest probabilities, in shares of the images";
        section(&mut page, title, &svg::bars(&tenths(&criteria.margins.histogram), None));
    }
    if let Some(fit) = health.fit.as_ref().filter(|fit| !fit.layers.is_empty()) {
        let layers: Vec<(String, f64)> = fit.layers.iter().map(|l| (l.layer.clone(), l.distance)).collect();
        section(&mut page, "Distance from batch-norm statistics, in units of the teacher", &svg::bars(&layers, None));
    }
    let classes = set.class_names.len();
    section(&mut page, "Images, a row per class", &picture(&set.images, &set.labels, classes, SHOWN)?);
    let confidence = set.teacher_confidence();
    let mut order: Vec<usize> = (0..set.len()).collect();
    order.sort_by(|a, b| confidence[*b].total_cmp(&confidence[*a]));
    let row = |rows: &[usize]| -> Result<String> { picture(&set.images.picked(rows)?, &vec![0; rows.len()], 1, SHOWN) };
    let ends = SHOWN.min(order.len());
    let [surest, least] = match criteria.of_pixels {
        true => ["Images that are mostly of one class", "Images of many"],
        false => ["What the teacher is surest of", "What it is least sure of"],
    };
    section(&mut page, surest, &row(&order[..ends])?);
    section(&mut page, least, &row(&order[order.len() - ends..])?);
    section(&mut page, "All numbers", &format!("<pre>{}</pre>", escape(text)));
    page.push_str("</body></html>\n");
    Ok(page)
}

fn list(page: &mut String, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.map(|item| format!("<li>{}</li>", escape(&item))).collect();
    if !items.is_empty() {
        // Writing into a String cannot fail.
        let _ = writeln!(page, "<ul>{}</ul>", items.concat());
    }
}

fn section(page: &mut String, title: &str, content: &str) {
    let _ = writeln!(page, "<h2>{}</h2>\n{content}", escape(title));
}

fn tenths(shares: &[f64; 10]) -> Vec<(String, f64)> {
    (0..10).map(|i| (format!("{:.1} to {:.1}", i as f64 / 10.0, (i + 1) as f64 / 10.0), shares[i])).collect()
}

fn picture(images: &Images, labels: &[u32], classes: usize, columns: usize) -> Result<String> {
    let mut bytes = Cursor::new(Vec::new());
    let made = grid(images, labels, classes, columns).write_to(&mut bytes, ImageFormat::Png);
    made.map_err(|e| Error::invalid("page", e.to_string(), "its images cannot become a PNG"))?;
    Ok(format!("<img alt=\"\" src=\"data:image/png;base64,{}\">", STANDARD.encode(bytes.into_inner())))
}

/// Text that stays text, in an element or an attribute; without control characters but for line ends.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' => safe.push('\n'),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use crate::report::describe_set;
    use crate::report::tests::set_of;
    use serde_json::json;

    #[test]
    fn a_page_has_its_plots_and_nothing_of_a_name_becomes_markup() {
        let mut set =
            set_of(&[0, 1, 0, 1], &[[4.0, 0.0], [0.0, 4.0], [4.0, 0.0], [4.0, 0.0]], |i, j| (i * 60 + j) as u8);
        set.class_names[1] = "</text><script>alert('x')</script>\"&\u{7}".into();
        set.provenance = json!({ "teacher": { "id": "<img src=x onerror=y>" }, "source": { "name": "\"'><b>" } });
        let html = describe_set(&set, None).unwrap().html;
        assert!(html.starts_with("<!doctype html>") && html.ends_with("</body></html>\n"));
        for forbidden in ["<script", "<img src=x", "<b>\"", "\u{7}", "'><b>"] {
            assert!(!html.contains(forbidden), "{forbidden}: {html}");
        }
        assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)"), "{html}");
        assert_eq!((html.matches("<svg").count(), html.matches("data:image/png;base64,").count()), (4, 3));
        // Three of four decisions are for the first class: its bar is the longest, the other's a third of it.
        assert!(html.contains(">3</text>") && html.contains(">1</text>"), "{html}");
        // Every tag that is opened is closed again.
        for tag in ["svg", "h2", "li", "ul", "pre", "text"] {
            assert_eq!(html.matches(&format!("<{tag}")).count(), html.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        assert!(!html.contains("http://") && !html.contains("https://"), "nothing comes from elsewhere");
    }
}
