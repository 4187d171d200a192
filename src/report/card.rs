//! The README of a model folder: YAML for the Hub, then a page for people.

use crate::data::Framing;
use crate::nets::Task;
use crate::set::card::{first, licence, licence_in_words, markdown, sources, text};
use crate::set::has_pictures_of_others;
use crate::weights::ModelConfig;
use serde_json::Value;
use std::fmt::Write;

/// The model card of a student or of a model trained with labels: `config` is its own, `provenance` what `synth.json` says of
/// it (`kind`, `teacher`, `set`, `data`, `recipe`, `seed`, `wall_seconds`, `metrics`, `alarms`, `license`, ...; whatever is
/// missing is left out), `name` the title. Nothing in any of them can leave its place in the YAML or the Markdown.
pub fn model_card(name: &str, config: &ModelConfig, provenance: &Value) -> String {
    format!("---\n{}---\n\n{}", front_matter(config, provenance), body(name, config, provenance))
}

/// Whether the model learned from labels instead of from a teacher.
fn is_supervised(provenance: &Value) -> bool {
    provenance["kind"] == "supervised"
}

/// Whether timm builds the network from its configuration.
fn loads_in_timm(config: &ModelConfig) -> bool {
    config.model_type.is_none()
}

fn task(config: &ModelConfig) -> Task {
    Task::of(&config.task).unwrap_or(Task::Classification)
}

fn front_matter(config: &ModelConfig, provenance: &Value) -> String {
    let library = if loads_in_timm(config) { "timm" } else { "synth" };
    let (licence, task) = (licence(provenance), task(config).name());
    let mut yaml = format!("license: {licence}\nlibrary_name: {library}\npipeline_tag: {task}\ntags:\n");
    let mut tags = vec![task];
    if loads_in_timm(config) {
        tags.push("timm");
    }
    if !is_supervised(provenance) {
        tags.push("knowledge-distillation");
        if !has_pictures_of_others(&provenance["set"]) {
            tags.push("data-free-distillation");
        }
    }
    for tag in tags {
        // Writing into a String cannot fail.
        let _ = writeln!(yaml, "- {tag}");
    }
    yaml
}

fn body(name: &str, config: &ModelConfig, provenance: &Value) -> String {
    let mut page = format!("# {}\n\n{}\n\n| | |\n|---|---|\n", markdown(name), what_it_is(config, provenance));
    for (title, text) in facts(config, provenance) {
        let _ = writeln!(page, "| {title} | {} |", markdown(&text));
    }
    page.push_str("\nEverything that is known about the run is in `synth.json`.\n\n## Use\n\n");
    page.push_str(how_to_use(config));
    page.push_str("\n## Accuracy and limits\n\n");
    page.push_str(match is_supervised(provenance) {
        true => "Not measured here. Measure it on data that the model has not seen: `synth eval <folder> --data <dataset>`.\n",
        false => {
            "Accuracy is unknown to a run without labels: measure with `synth eval <folder> --data <dataset>`. The held-out \
             agreement compares the student with its teacher on images of the set that distillation held back (a student \
             that goes on from the adversary saw them while they were made); it says whether the student has learned, not \
             how it does on the teacher's data. Where the teacher is wrong or biased, the student has learned to be.\n"
        }
    });
    for alarm in provenance["alarms"].as_array().into_iter().flatten() {
        let part = |key: &str| text(&alarm[key]).unwrap_or_default();
        let said =
            format!("{} is {} (bound {}): {}", part("measure"), part("value"), part("threshold"), part("advice"));
        let _ = writeln!(page, "\n**The run raised an alarm.** {}", markdown(&said));
    }
    page.push_str("\n## Licence\n\n");
    page.push_str(&match (is_supervised(provenance), provenance["license"].as_str()) {
        (true, Some(id)) => format!("{}.", markdown(id)),
        (true, None) => "The licence of the training data applies.".into(),
        (false, _) => licence_in_words(provenance),
    });
    page.push('\n');
    page
}

/// What the held-out agreement of a student for `task` is a share of. (One that goes on from the adversary has seen them as that.)
pub fn held_out(task: Task) -> &'static str {
    match task {
        Task::Classification => "images of the set",
        Task::Segmentation => "the pixels of images of the set",
    }
}

fn how_to_use(config: &ModelConfig) -> &'static str {
    match loads_in_timm(config) {
        true => {
            "```sh\nsynth eval path/to/this/folder --data path/to/dataset\n```\n\n\
             ```python\nimport timm\nmodel = timm.create_model(\"local-dir:path/to/this/folder\", pretrained=True).eval()\n```\n"
        }
        false => {
            "```sh\nsynth eval path/to/this/folder --data path/to/dataset\nsynth export path/to/this/folder --to onnx\n```\n"
        }
    }
}

fn what_it_is(config: &ModelConfig, provenance: &Value) -> String {
    let (kind, labels) = match task(config) {
        Task::Classification => ("an image classifier", "labelled images"),
        Task::Segmentation => ("a network that names the class of every pixel", "images with label images"),
    };
    let made = match is_supervised(provenance) {
        true => format!("{}{}, trained on {labels} by `synth`.", kind[..1].to_uppercase(), &kind[1..]),
        false => {
            let images = match sources(&provenance["set"]) {
                Some(names) => format!("images from {}", markdown(&names)),
                None => "synthetic images, without that network's training data".into(),
            };
            format!("A student: {kind} that learned from a larger network's answers to {images}. Made by `synth`.")
        }
    };
    let framed = Framing::known(&config.pretrained_cfg).filter(|_| task(config) == Task::Classification);
    let framed = framed.map_or(String::new(), |framing| format!(" Pictures of other sizes: {framing}."));
    format!("{made}{framed} Pixels are divided by 255 and normalised as `config.json` says.")
}

/// What people ask first, as far as the provenance has it.
fn facts(config: &ModelConfig, provenance: &Value) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut add = |title: &str, value: Option<String>| facts.extend(value.map(|v| (title.to_string(), v)));
    let (teacher, set, data) = (&provenance["teacher"], &provenance["set"], &provenance["data"]);
    let [channels, height, width] = config.pretrained_cfg.input_size;
    add("Architecture", Some(config.architecture.clone()));
    add("Parameters", text(&provenance["parameters"]));
    add("Images", Some(format!("{channels}x{height}x{width}, {} classes", config.num_classes)));
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
    add(
        "Held-out agreement with the teacher",
        share.map(|s| format!("{:.1} % of {}", 100.0 * s, held_out(task(config)))),
    );
    add("Made by", text(&provenance["versions"]["synth"]).map(|v| format!("synth {v}")));
    facts
}

/// `inversion 310 s, distillation 95 s`: of the stages that a person waits for.
fn wall_time(provenance: &Value) -> Option<String> {
    let wall = &provenance["wall_seconds"];
    // Distillation alone: making the set is what that says it took.
    let making = if provenance["set"]["kind"] == "collected" { "collection" } else { "inversion" };
    let inversion = wall["inversion"].as_f64().or_else(|| provenance["set"]["wall_seconds"]["total"].as_f64());
    let on_the_fly = provenance["on_the_fly"] == true;
    let parts: Vec<String> = match on_the_fly {
        true => vec![("inversion with the student in it", wall["total"].as_f64())],
        false => vec![
            (making, inversion),
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

    fn config() -> ModelConfig {
        let text = json!({"architecture": "resnet8", "model_type": "cifar_resnet", "num_classes": 10,
            "pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}});
        ModelConfig::parse(text.to_string().as_bytes(), "config.json").unwrap()
    }

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
    fn a_card_says_what_becomes_of_pictures() {
        let mut config = config();
        config.pretrained_cfg.interpolation = Some("bilinear".into());
        let said =
            " Pictures of other sizes: shorter side to 36 (bilinear), the middle 32x32. Pixels are divided by 255";
        assert!(model_card("r8", &config, &student()).contains(said));
        config.task = "image-segmentation".into();
        assert!(!model_card("r8", &config, &student()).contains("Pictures of other sizes"));
    }

    #[test]
    fn a_students_card_says_where_it_comes_from_and_what_is_not_known() {
        let card = model_card("r8", &config(), &student());
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
            "| Architecture | resnet8 |",
            "| Parameters | 78042 |",
            "| Images | 3x32x32, 10 classes |",
            "| Held-out agreement with the teacher | 94.1 % of images of the set |",
            "Accuracy is unknown to a run without labels: measure with `synth eval <folder> --data <dataset>`.",
        ] {
            assert!(card.contains(line), "{line}\n\n{card}");
        }
    }

    /// Images that others have made are neither synthetic nor surely new to the teacher.
    #[test]
    fn a_students_card_names_what_its_set_was_collected_from() {
        let mut provenance = student();
        let sources = json!([{ "kind": "folder", "name": "photos" }, { "kind": "generated", "name": "shaders" }]);
        provenance["set"]["kind"] = json!("collected");
        provenance["set"]["sources"] = sources;
        let card = model_card("r8", &config(), &provenance);
        assert!(card.contains("answers to images from photos, shaders. Made by"), "{card}");
        assert!(card.contains("| Wall time | collection 310 s, distillation 95 s |"), "{card}");
        assert!(!card.contains("data-free") && !card.contains("synthetic"), "{card}");
        provenance["set"]["sources"][0] = json!({ "kind": "dataset", "name": "sets/mine", "inverted": true });
        assert!(model_card("r8", &config(), &provenance).contains("- data-free-distillation\n"));
    }

    #[test]
    fn alarms_licence_and_the_way_into_timm_are_on_the_card() {
        let mut provenance = student();
        provenance["alarms"] = json!([{"measure": "rarest | class", "value": 0.0, "threshold": 0.1, "advice": "look"}]);
        provenance["license"] = json!("apache-2.0");
        let mut config = config();
        (config.model_type, config.architecture) = (None, "resnet18".into());
        let card = model_card("r18", &config, &provenance);
        for line in [
            "license: \"apache-2.0\"\nlibrary_name: timm\n",
            "- timm\n",
            "timm.create_model(\"local-dir:",
            "**The run raised an alarm.** rarest \\| class is 0.0 (bound 0.1): look\n",
            "The licence of the teacher applies: apache-2.0.",
        ] {
            assert!(card.contains(line), "{line}\n\n{card}");
        }
    }

    #[test]
    fn a_supervised_models_card_names_its_data() {
        let card = model_card(
            "x",
            &config(),
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
        let card = model_card("name\n---\n# no", &config(), &provenance);
        assert!(card.contains("license: \"mit\\u000atags:\\u000a- \\\"evil\\\"\"\n"), "{card}");
        assert!(card.contains("| Teacher | a\\|b ## &lt;script>\\[x\\](y) |"), "{card}");
        assert!(card.contains("\n# name --- # no\n"), "{card}");
        assert_eq!(card.matches("\n---\n").count(), 1);
    }

    #[test]
    fn an_empty_provenance_still_makes_a_card() {
        for provenance in [json!({}), json!(null), json!([1]), json!({"teacher": 3, "wall_seconds": "long"})] {
            assert!(model_card("x", &config(), &provenance).contains("# x\n"));
        }
    }
}
