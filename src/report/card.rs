//! The README of a model folder: YAML for the Hub, then a page for people.

use crate::set::card::{first, markdown, text, yaml_string};
use serde_json::Value;
use std::fmt::Write;

/// The model card of a student or of a model trained with labels, from what `synth.json` says of it (`kind`, `teacher`,
/// `set`, `data`, `recipe`, `seed`, `wall_seconds`, `metrics`, ...; whatever is missing is left out). `name` is the
/// title. Nothing in either can leave its place in the YAML or the Markdown.
pub fn model_card(name: &str, provenance: &Value) -> String {
    format!("---\n{}---\n\n{}", front_matter(provenance), body(name, provenance))
}

/// Whether the model learned from labels instead of from a teacher.
fn is_supervised(provenance: &Value) -> bool {
    provenance["kind"] == "supervised"
}

fn front_matter(provenance: &Value) -> String {
    let license = provenance["license"].as_str().map_or("other".into(), yaml_string);
    let mut yaml = format!("license: {license}\nlibrary_name: synth\npipeline_tag: image-classification\ntags:\n");
    let tags: &[&str] = match is_supervised(provenance) {
        true => &["image-classification"],
        false => &["image-classification", "knowledge-distillation", "data-free-distillation"],
    };
    for tag in tags {
        // Writing into a String cannot fail.
        let _ = writeln!(yaml, "- {tag}");
    }
    yaml
}

fn body(name: &str, provenance: &Value) -> String {
    let mut page = format!("# {}\n\n{}\n\n| | |\n|---|---|\n", markdown(name), what_it_is(provenance));
    for (title, text) in facts(provenance) {
        let _ = writeln!(page, "| {title} | {} |", markdown(&text));
    }
    page.push_str("\nEverything that is known about the run is in `synth.json`.\n\n## Accuracy\n\n");
    page.push_str(match is_supervised(provenance) {
        true => "Not measured here. Measure it on data that the model has not seen: `synth eval <folder> --data <dataset>`.\n",
        false => {
            "Accuracy is unknown to a data-free run: measure with `synth eval <folder> --data <dataset>`. The held-out \
             agreement compares the student with its teacher on synthetic images that the student has not seen; it \
             says whether the student has learned, not how it does on real images.\n"
        }
    });
    page.push_str("\n## Licence\n\n");
    page.push_str(match is_supervised(provenance) {
        true => "The licence of the training data applies.\n",
        false => "The licence of the teacher applies.\n",
    });
    page
}

fn what_it_is(provenance: &Value) -> &'static str {
    match is_supervised(provenance) {
        true => {
            "An image classifier, trained on labelled images by `synth`. Pixels are divided by 255 and normalised as `config.json` says."
        }
        false => {
            "A student: an image classifier that learned from a larger network's answers to synthetic images, without \
             that network's training data. Made by `synth`. Pixels are divided by 255 and normalised as `config.json` \
             says."
        }
    }
}

/// What people ask first, as far as the provenance has it.
fn facts(provenance: &Value) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut add = |title: &str, value: Option<String>| facts.extend(value.map(|v| (title.to_string(), v)));
    let (teacher, set, data) = (&provenance["teacher"], &provenance["set"], &provenance["data"]);
    add("Architecture", text(&provenance["architecture"]));
    add("Parameters", text(&provenance["parameters"]));
    add("Teacher", text(first(teacher, &["id", "name", "path"])));
    add("Teacher revision", text(&teacher["revision"]));
    add("Teacher SHA-256", text(&teacher["sha256"]));
    add("Set", text(first(set, &["source", "id", "path"])));
    add("Images in the set", text(&set["count"]));
    add("Data", text(first(data, &["name", "id", "path"])));
    add("Data SHA-256", text(&data["sha256"]));
    add("Training images", text(&data["count"]));
    // A student's own recipe has no name; that of its set has.
    add("Recipe", text(&set["recipe"]).or_else(|| text(first(&provenance["recipe"], &["name", "id"]))));
    add("Answers", text(&provenance["answers"]));
    add("Start", text(first(&provenance["start"], &["from"])));
    add("Updates", text(&provenance["steps"]));
    add("Seed", text(&provenance["seed"]));
    add("Wall time", wall_time(provenance));
    add("Device", device(provenance));
    let share = provenance["metrics"]["held_out_agreement"].as_f64();
    add("Held-out agreement with the teacher", share.map(|s| format!("{:.1} % of synthetic images", 100.0 * s)));
    add("Made by", text(&provenance["versions"]["synth"]).map(|v| format!("synth {v}")));
    facts
}

/// `inversion 310 s, distillation 95 s`: of the stages that a person waits for.
fn wall_time(provenance: &Value) -> Option<String> {
    let wall = &provenance["wall_seconds"];
    // Distillation alone: inversion is what the set says it took.
    let inversion = wall["inversion"].as_f64().or_else(|| provenance["set"]["wall_seconds"]["total"].as_f64());
    let on_the_fly = provenance["on_the_fly"] == true;
    let parts: Vec<String> = match on_the_fly {
        true => vec![("inversion with the student in it", wall["total"].as_f64())],
        false => vec![
            ("inversion", inversion),
            ("distillation", wall["distillation"].as_f64()),
            ("training", wall["training"].as_f64()),
        ],
    }
    .into_iter()
    .filter_map(|(name, seconds)| seconds.map(|s| format!("{name} {s:.0} s")))
    .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn device(provenance: &Value) -> Option<String> {
    let device = text(&provenance["device"])?;
    match text(&provenance["threads"]) {
        Some(threads) => Some(format!("{device}, {threads} threads")),
        None => Some(device),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn student() -> Value {
        json!({
            "kind": "student",
            "teacher": {"id": "timm/resnet_20", "revision": "main", "sha256": "ab12"},
            "set": {"source": "sets/r20", "count": 5000, "recipe": "ssd", "wall_seconds": {"total": 310.4}},
            "recipe": {"lr": 0.1}, "answers": "live", "steps": 4000, "seed": 7, "device": "cpu", "threads": 2,
            "wall_seconds": {"distillation": 95.0}, "metrics": {"held_out_agreement": 0.9412}, "parameters": 78042,
        })
    }

    #[test]
    fn a_students_card_says_where_it_comes_from_and_what_is_not_known() {
        let card = model_card("r8", &student());
        for line in [
            "---\nlicense: other\nlibrary_name: synth\npipeline_tag: image-classification\ntags:\n",
            "- data-free-distillation\n",
            "# r8\n",
            "| Teacher | timm/resnet\\_20 |",
            "| Teacher SHA-256 | ab12 |",
            "| Set | sets/r20 |",
            "| Recipe | ssd |",
            "| Wall time | inversion 310 s, distillation 95 s |",
            "| Device | cpu, 2 threads |",
            "| Parameters | 78042 |",
            "| Held-out agreement with the teacher | 94.1 % of synthetic images |",
            "Accuracy is unknown to a data-free run: measure with `synth eval <folder> --data <dataset>`.",
        ] {
            assert!(card.contains(line), "{line}\n\n{card}");
        }
    }

    #[test]
    fn a_supervised_models_card_names_its_data() {
        let card = model_card(
            "x",
            &json!({"kind": "supervised", "data": {"name": "cifar10/train", "count": 50000}, "wall_seconds": {"training": 12.6}}),
        );
        assert!(card.contains("| Data | cifar10/train |") && card.contains("| Wall time | training 13 s |"), "{card}");
        assert!(!card.contains("distillation") && !card.contains("teacher"), "{card}");
    }

    #[test]
    fn names_cannot_leave_their_place() {
        let mut provenance = student();
        provenance["teacher"]["id"] = json!("a|b\n## <script>[x](y)");
        provenance["license"] = json!("mit\ntags:\n- \"evil\"");
        let card = model_card("name\n---\n# no", &provenance);
        assert!(card.contains("license: \"mit\\u000atags:\\u000a- \\\"evil\\\"\"\n"), "{card}");
        assert!(card.contains("| Teacher | a\\|b ## &lt;script>\\[x\\](y) |"), "{card}");
        assert!(card.contains("\n# name --- # no\n"), "{card}");
        assert_eq!(card.matches("\n---\n").count(), 1);
    }

    #[test]
    fn an_empty_provenance_still_makes_a_card() {
        for provenance in [json!({}), json!(null), json!([1]), json!({"teacher": 3, "wall_seconds": "long"})] {
            assert!(model_card("x", &provenance).contains("# x\n"));
        }
    }
}
