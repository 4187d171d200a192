//! The dataset card: YAML for `datasets` and the Hub, then a page for people.

use super::{SyntheticSet, has_pictures_of_others};
use crate::nets::Task;
use serde_json::Value;
use std::fmt::Write;

/// More classes than this are not listed one by one in the text.
const LISTED_CLASSES: usize = 20;

/// The whole README.md. `bytes` is the size of the rows before compression, `provenance` what goes into `synth.json`,
/// `name` the title.
pub(super) fn card(set: &SyntheticSet, bytes: u64, provenance: &Value, name: &str) -> String {
    format!("---\n{}---\n\n{}", front_matter(set, bytes, provenance), body(set, provenance, name))
}

/// License, tags, the split's files, and the features with their class names.
fn front_matter(set: &SyntheticSet, bytes: u64, provenance: &Value) -> String {
    let mut yaml = format!("license: {}\n", licence(provenance));
    // Writing into a String cannot fail.
    let task = set.task().name();
    let _ = write!(yaml, "task_categories:\n- {task}\ntags:\n- knowledge-distillation\n",);
    if !has_pictures_of_others(provenance) {
        yaml.push_str("- synthetic\n- data-free-distillation\n");
    }
    let _ = write!(yaml, "size_categories:\n- {}\n", size_category(set.len()));
    yaml.push_str("configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n");
    yaml.push_str("dataset_info:\n  features:\n  - name: image\n    dtype: image\n");
    yaml.push_str("  - name: label\n    dtype:\n      class_label:\n        names:\n");
    for (class, name) in set.class_names.iter().enumerate() {
        let _ = writeln!(yaml, "          '{class}': {}", yaml_string(name));
    }
    yaml.push_str("  - name: teacher_logits\n    sequence: float32\n");
    yaml.push_str("  - name: teacher_confidence\n    dtype: float32\n  - name: priority\n    dtype: float32\n");
    if set.views.is_some() {
        yaml.push_str("  - name: view_logits\n    sequence: float32\n");
    }
    let _ = write!(yaml, "  splits:\n  - name: train\n    num_bytes: {bytes}\n    num_examples: {}\n", set.len());
    yaml
}

/// The teacher's licence as a YAML value: `other` where it is not known.
pub(crate) fn licence(provenance: &Value) -> String {
    provenance["license"].as_str().map_or("other".into(), yaml_string)
}

/// What a card says about licences.
pub(crate) fn licence_in_words(provenance: &Value) -> String {
    match provenance["license"].as_str() {
        Some(id) if has_pictures_of_others(provenance) => format!("{}, as was stated when it was made.", markdown(id)),
        Some(id) => format!("The licence of the teacher applies: {}.", markdown(id)),
        None if has_pictures_of_others(provenance) => {
            "The licences of the teacher and of the pictures apply, which nobody has stated here: ask whom you have them from.".into()
        }
        None => "The licence of the teacher applies, which its files do not state: ask whom you have it from.".into(),
    }
}

/// The Hub's names for sizes.
fn size_category(count: usize) -> &'static str {
    match count {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        _ => "1M<n<10M",
    }
}

/// A double-quoted YAML scalar; what YAML calls unprintable is escaped.
pub(crate) fn yaml_string(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' => quoted.push(c),
            '\u{ff00}'..='\u{fffd}' | '\u{10000}'.. => quoted.push(c),
            _ => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}

fn body(set: &SyntheticSet, provenance: &Value, name: &str) -> String {
    let images = &set.images;
    let kind = if images.channels == 1 { "grey" } else { "RGB" };
    let mut page = format!(
        "# {}\n\n\
         A transfer set for distilling a trained network when its training data is gone: {} {kind} images of {}x{} \
         pixels (height x width) with that network's answers. Made by `synth`.\n\n\
         ![A row of examples per class](preview.png)\n\n\
         ```python\nfrom datasets import load_dataset\nrows = load_dataset(\"path/to/this/folder\", split=\"train\")\n```\n\n\
         ## Provenance\n\n| | |\n|---|---|\n",
        markdown(name),
        set.len(),
        images.height,
        images.width,
    );
    for (title, text) in facts(set, provenance) {
        let _ = writeln!(page, "| {title} | {} |", markdown(&text));
    }
    page.push_str("\nEverything that is known about the run is in `synth.json`.\n\n## Columns\n\n");
    page.push_str("- `image`: lossless PNG, exactly what the teacher saw\n");
    page.push_str(match set.task() {
        Task::Classification => {
            "- `label`: the class the image stands for\n\
             - `teacher_logits`: the teacher's logits for this image, without augmentation\n"
        }
        Task::Segmentation => {
            "- `label`: the class that the teacher sees most of in the image\n\
             - `teacher_logits`: logarithms of the teacher's mean probabilities over all pixels; its answers for single pixels are \
             not stored, so that a student needs the teacher itself\n"
        }
    });
    page.push_str(
        "- `teacher_confidence`: highest softmax probability of these logits\n\
         - `priority`: sampling priority when the set was written\n",
    );
    if set.views.is_some() {
        let views = set.view_count();
        let _ = writeln!(
            page,
            "- `view_logits`: the teacher's logits for {views} augmented views, one after another, in the order of \
             `set.views` in `synth.json` (crop offset in pixels, then mirrored or not)"
        );
    }
    page.push_str(
        "\nHow the images came about is in `synth.json`; images inverted from a network show what it reacts to, and may \
         reveal traits of its training data.\n\n## Licence\n\n",
    );
    page.push_str(&licence_in_words(provenance));
    page.push('\n');
    page
}

/// What people ask first, as far as the provenance has it.
fn facts(set: &SyntheticSet, provenance: &Value) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let mut add = |title, value: &Value| {
        if let Some(text) = text(value) {
            facts.push((title, text));
        }
    };
    let teacher = &provenance["teacher"];
    add("Teacher", first(teacher, &["id", "name", "path"]));
    add("Teacher revision", &teacher["revision"]);
    add("Teacher SHA-256", &teacher["sha256"]);
    add("Source", first(&provenance["source"], &["name", "id", "path"]));
    add("Sources", &sources(provenance).map_or(Value::Null, Value::String));
    add("Recipe", first(&provenance["recipe"], &["name", "id"]));
    add("Seed", &provenance["seed"]);
    add("Device", &provenance["device"]);
    facts.push(("Images", set.len().to_string()));
    let counts = set.histogram();
    let range = counts.iter().min().zip(counts.iter().max());
    if let Some((low, high)) = range {
        facts.push(("Balance", format!("{} classes, {low} to {high} images each", counts.len())));
    }
    if counts.len() <= LISTED_CLASSES {
        let list: Vec<String> = set.class_names.iter().zip(&counts).map(|(n, c)| format!("{n} {c}")).collect();
        facts.push(("Images per class", list.join(", ")));
    }
    facts.push(("Teacher agrees with the label", format!("{:.1} %", 100.0 * set.agreement())));
    facts
}

/// The names of what a collected set, whose `synth.json` (or what a student's says of its set) this is, was collected from.
pub(crate) fn sources(provenance: &Value) -> Option<String> {
    let sources = provenance["sources"].as_array()?;
    let names: Vec<&str> = sources.iter().filter_map(|source| source["name"].as_str()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The first entry of an object that is there; a value that is no object stands for itself.
pub(crate) fn first<'a>(value: &'a Value, keys: &[&str]) -> &'a Value {
    keys.iter().find_map(|k| value.get(k)).unwrap_or(value)
}

pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Text that stays text in a Markdown table.
pub(crate) fn markdown(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '~' | '[' | ']' => safe.extend(['\\', c]),
            '<' => safe.push_str("&lt;"),
            '&' => safe.push_str("&amp;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collected_set_names_its_sources() {
        let mut set = crate::report::tests::set_of(&[0, 1], &[[1.0, 0.0], [0.0, 1.0]], |i, j| (i + j) as u8);
        set.provenance = serde_json::json!({ "sources": [{ "name": "leaves" }, { "name": "a|b" }] });
        let card = card(&set, 0, &set.provenance, "x");
        assert!(card.contains("| Sources | leaves, a\\|b |"), "{card}");
        assert!(card.contains("\n- synthetic\n- data-free-distillation\n"), "{card}");
    }

    #[test]
    fn pictures_of_others_are_not_under_the_teachers_licence() {
        let mut set = crate::report::tests::set_of(&[0, 1], &[[1.0, 0.0], [0.0, 1.0]], |i, j| (i + j) as u8);
        set.provenance = serde_json::json!({ "sources": [{ "kind": "folder", "name": "photos" }] });
        let unknown = super::card(&set, 0, &set.provenance, "x");
        assert!(
            unknown.starts_with("---\nlicense: other\n") && unknown.contains("which nobody has stated here"),
            "{unknown}"
        );
        assert!(!unknown.contains("- synthetic") && !unknown.contains("data-free"), "{unknown}");
        set.provenance["license"] = "mit".into();
        assert!(super::card(&set, 0, &set.provenance, "x").contains("mit, as was stated when it was made."));
    }

    #[test]
    fn names_cannot_leave_their_place() {
        assert_eq!(yaml_string("a: \"b\"\n\\é"), r#""a: \"b\"\u000a\\é""#);
        assert_eq!(yaml_string("\u{7f}\u{85}\u{2028}\u{feff}"), r#""\u007f\u0085\u2028\ufeff""#);
        assert_eq!(markdown("a|b\n<c>"), "a\\|b &lt;c>");
        assert_eq!(markdown("resnet_20 &lt; _x_"), "resnet\\_20 &amp;lt; \\_x\\_");
    }
}
