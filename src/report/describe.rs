//! What `synth inspect` says about a set.

use super::alarms::{Alarm, alarms_of};
use super::criteria::Criteria;
use super::health::{Fit, Health};
use super::progress::significant;
use crate::Result;
use crate::nets::Task;
use crate::set::SyntheticSet;
use crate::set::card::{first, text};
use crate::teacher::Teacher;
use serde_json::{Value, json};
use std::fmt::Write;

/// More classes than this are not listed one by one.
const LISTED_CLASSES: usize = 20;
const QUANTILES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

/// What stands behind a verdict if the teacher was not there to be asked.
pub(super) const WITHOUT_TEACHER: &str = ", as far as can be told without its teacher (--teacher)";

/// What is said about a set.
pub struct Description {
    pub text: String,
    pub json: Value,
    /// A page that needs nothing beside itself.
    pub html: String,
}

/// A set for people and for machines: counts, agreement, quantiles of the teacher's confidence and of the entropy of its answers,
/// diversity, the criteria of a good set with their score, views, where the set comes from, and the alarms. With the teacher also
/// the batch-norm distance, the spread of its features and distances to its borders, from passes of the stored images.
///
/// # Errors
/// A teacher that does not take the set's images.
pub fn describe_set(set: &SyntheticSet, teacher: Option<&Teacher>) -> Result<Description> {
    let health = Health::of(set, teacher)?;
    let mut criteria = Criteria::of(set, &health, teacher)?;
    let raised = alarms_of(&set.provenance, &as_it_was_made(set, &health));
    criteria.score.beside(&raised);
    let confidence = quantiles(set.teacher_confidence().into_iter().map(f64::from).collect());
    let entropy = quantiles((0..set.len()).map(|i| super::health::entropy(set.answer(i))).collect());
    let images = &set.images;
    let json = json!({
        "kind": "set",
        "count": set.len(),
        "input_size": [images.channels, images.height, images.width],
        "class_names": set.class_names,
        "images_per_class": set.histogram(),
        "agreement": set.agreement(),
        "confidence": by_quantile(&confidence),
        "entropy": by_quantile(&entropy),
        "views": set.views.as_ref().map_or(0, |v| v.list.len()),
        "provenance": summary_of(&set.provenance),
        "health": health,
        "criteria": criteria,
        "alarms": raised,
    });
    let text = page(set, &health, &criteria, [&confidence, &entropy], &raised);
    let html = super::page::html(set, &health, &criteria, &raised, &text)?;
    Ok(Description { text, json, html })
}

/// The health of a set with what only the inversion has seen, and without a teacher what it said of the batch norms.
fn as_it_was_made(set: &SyntheticSet, health: &Health) -> Health {
    let then: Option<Health> = serde_json::from_value(set.provenance["health"].clone()).ok();
    let (signs, fit) = then.map_or((None, None), |then| (then.signs, then.fit));
    Health { signs, fit: health.fit.clone().or(fit), ..health.clone() }
}

fn page(
    set: &SyntheticSet,
    health: &Health,
    criteria: &Criteria,
    quantiles: [&[f64; 5]; 2],
    raised: &[Alarm],
) -> String {
    let mut rows = numbers(set, health, quantiles);
    rows.extend(of_criteria(criteria, health.fit.is_some()));
    if let Some(fit) = &health.fit {
        rows.push(("batch norms", batch_norms(fit)));
    }
    if let Value::Object(known) = summary_of(&set.provenance) {
        rows.extend(PROVENANCE.iter().filter_map(|(key, _)| Some((*key, text(known.get(*key)?)?))));
    }
    rows.push(("alarms", if raised.is_empty() { "none".into() } else { raised.len().to_string() }));
    let mut page = String::new();
    for (title, text) in rows {
        // Writing into a String cannot fail.
        let _ = writeln!(page, "{title:<12}  {}", text.replace(char::is_control, " "));
    }
    raised.iter().for_each(|alarm| page.push_str(&format!("  {alarm}\n")));
    page
}

fn numbers(set: &SyntheticSet, health: &Health, [sure, unsure]: [&[f64; 5]; 2]) -> Vec<(&'static str, String)> {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let five = |q: &[f64; 5]| q.map(|v| format!("{v:.3}")).join("  ");
    let (n, [c, h, w]) = (set.len(), [set.images.channels, set.images.height, set.images.width]);
    let (b, p) = (&health.balance, &health.pixels);
    let (rarest, most, label) = (percent(b.rarest), percent(b.most_frequent), percent(health.answers.on_label));
    let (within, between, twins) = (p.within_class, p.between_classes, percent(p.near_twins));
    let mut rows = vec![("images", format!("{n} of {c}x{h}x{w} (channels, height, width)")), ("classes", classes(set))];
    let quantiles = "(quantiles 5, 25, 50, 75, 95 %)";
    rows.extend(match set.task() {
        Task::Classification => vec![
            ("on label", format!("{label} of images are of their class for the teacher")),
            ("confidence", format!("{}  {quantiles}", five(sure))),
            ("entropy", format!("{}  (1: no opinion)", five(unsure))),
            ("decisions", format!("rarest class {rarest}, most frequent {most} of an even share")),
        ],
        Task::Segmentation => vec![
            ("largest", format!("{} of an image is of one class  {quantiles}", five(sure))),
            ("areas", format!("rarest class {rarest}, most frequent {most} of an even share")),
        ],
    });
    rows.extend([
        ("pixels", format!("mean {:.3}, deviation {:.3}, {} at 0 or 255", p.mean, p.std, percent(p.saturated))),
        ("distance", format!("{within:.3} within a class, {between:.3} between classes, {twins} near twins")),
        ("views", set.views.as_ref().map_or("none".into(), |v| format!("{} per image", v.list.len()))),
    ]);
    rows
}

/// `asked`: whether the teacher was there to be asked.
fn of_criteria(criteria: &Criteria, asked: bool) -> Vec<(&'static str, String)> {
    let Criteria { margins, duplicates, score, .. } = criteria;
    let distance = margins.distance.map_or(String::new(), |d| format!(", {} from the nearest border", significant(d)));
    let entropy = criteria.relative_entropy;
    let drawn = if criteria.weighted { ", as the weights draw them" } else { "" };
    let of = if criteria.of_pixels { "areas" } else { "decisions" };
    let mut rows = vec![("balance", format!("entropy {entropy:.3} of the {of}{drawn} (1: all equally frequent)"))];
    if !criteria.of_pixels {
        let coverage = criteria.coverage;
        rows.push(("coverage", format!("{coverage:.3} is the highest probability that a class reaches, on average")));
        rows.push(("border", format!("{:.1} % of images are undecided{distance}", 100.0 * margins.near)));
    }
    if let Some(features) = &criteria.features {
        let (dimensions, count) = (features.effective_dimensions, features.count);
        rows.push(("diversity", format!("{dimensions:.1} effective dimensions of {count} features")));
    }
    let (exact, near) = (100.0 * duplicates.exact, 100.0 * duplicates.near);
    rows.push(("duplicates", format!("{exact:.1} % exact, {near:.1} % by their fingerprint")));
    let without = if asked { "" } else { WITHOUT_TEACHER };
    rows.push(("score", format!("{:.2}: {}{without}", score.value, score.verdict)));
    rows.extend(score.reasons.iter().map(|reason| ("", reason.clone())));
    rows
}

fn batch_norms(fit: &Fit) -> String {
    match fit.mean().zip(fit.worst()) {
        None => "the teacher has none".into(),
        Some((mean, worst)) => {
            let (mean, distance) = (significant(mean), significant(worst.distance));
            format!("distance {mean} in units of the teacher, worst {distance} ({})", worst.layer)
        }
    }
}

fn classes(set: &SyntheticSet) -> String {
    let counts = set.histogram();
    let (low, high) = (counts.iter().min().unwrap_or(&0), counts.iter().max().unwrap_or(&0));
    let mut line = format!("{}, {low} to {high} images each", counts.len());
    if counts.len() <= LISTED_CLASSES {
        let list: Vec<String> =
            set.class_names.iter().zip(&counts).map(|(name, count)| format!("{name} {count}")).collect();
        let _ = write!(line, ": {}", list.join(", "));
    }
    line
}

/// Names in a description, and where they are in `synth.json`.
const PROVENANCE: [(&str, &[&str]); 6] = [
    ("teacher", &["teacher", "id"]),
    ("sha256", &["teacher", "sha256"]),
    ("source", &["source", "name"]),
    ("recipe", &["recipe", "name"]),
    ("seed", &["seed"]),
    ("seconds", &["wall_seconds", "total"]),
];

fn summary_of(provenance: &Value) -> Value {
    let one = |(name, path): &(&str, &[&str])| {
        let (entry, keys) = path.split_first()?;
        let value = first(&provenance[*entry], keys);
        (value.is_string() || value.is_number()).then(|| (name.to_string(), value.clone()))
    };
    Value::Object(PROVENANCE.iter().filter_map(one).collect())
}

/// Values at [`QUANTILES`] (nearest rank); 0 of nothing.
fn quantiles(mut values: Vec<f64>) -> [f64; 5] {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    QUANTILES.map(|q| values.get((q * last as f64).round() as usize).copied().unwrap_or(0.0))
}

fn by_quantile(values: &[f64; 5]) -> Value {
    Value::Object(QUANTILES.iter().zip(values).map(|(q, v)| (q.to_string(), json!(v))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::set_of;
    use crate::signs::Signs;

    #[test]
    fn a_description_has_the_numbers_and_the_names() {
        let mut set =
            set_of(&[0, 1, 0, 1], &[[4.0, 0.0], [0.0, 4.0], [4.0, 0.0], [4.0, 0.0]], |i, j| (i * 60 + j) as u8);
        set.provenance =
            json!({"teacher": {"id": "a/b\u{1b}[31m", "sha256": "00ff"}, "recipe": {"name": "ssd"}, "seed": 3});
        let Description { text, json, html } = describe_set(&set, None).unwrap();
        assert!(text.contains("images        4 of 1x4x4") && text.contains("75.0 % of images"), "{text}");
        assert!(text.contains("teacher       a/b [31m") && text.contains("seed          3"), "{text}");
        assert!(text.contains("poor, as far as can be told without its teacher"), "{text}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        assert!(html.contains("a/b") && !html.contains('\u{1b}'), "{html}");
        assert!(json["criteria"]["score"]["value"].as_f64().is_some_and(|score| (0.0..=1.0).contains(&score)));
        assert_eq!((&json["agreement"], &json["images_per_class"]), (&json!(0.75), &json!([2, 2])));
        assert_eq!(
            json["provenance"],
            json!({"teacher": "a/b\u{1b}[31m", "sha256": "00ff", "recipe": "ssd", "seed": 3})
        );
        // softmax(4, 0)
        assert!((json["confidence"]["0.5"].as_f64().unwrap() - 0.982_013_8).abs() < 1e-6);
        assert!(json["alarms"].as_array().unwrap().iter().any(|a| a["name"] == "few images"), "{json:#}");
    }

    /// What an inversion has shown on its way cannot be seen in its images.
    #[test]
    fn alarms_of_the_inversion_are_those_of_its_set() {
        let mut set =
            set_of(&[0, 1, 0, 1], &[[4.0, 0.0], [0.0, 4.0], [4.0, 0.0], [4.0, 0.0]], |i, j| (i * 60 + j) as u8);
        let raised = |set: &SyntheticSet| {
            let json = describe_set(set, None).unwrap().json;
            json["alarms"].as_array().unwrap().iter().any(|a| a["name"] == "generator stands still")
        };
        assert!(!raised(&set));
        let signs = Signs { batches: 100, bn: None, agreement: None, rounds: 80, difference: 0.3, movement: 0.0 };
        let health = Health::of(&set, None).unwrap().with_signs(signs);
        set.provenance = json!({ "health": health });
        assert!(raised(&set));
    }

    #[test]
    fn quantiles_are_values_that_occur() {
        assert_eq!(quantiles((0..=100).rev().map(f64::from).collect()), [5.0, 25.0, 50.0, 75.0, 95.0]);
        assert_eq!(quantiles(Vec::new()), [0.0; 5]);
    }
}
