//! Rows of programs whose recipes had fewer keys.

use super::names::{renamed, suits};
use super::results::Row;
use serde_json::{Map, Value, json};

/// Keys that recipes have got since rows were published: the part of the recipe that has them, and the value with which a run is what
/// it was before them.
fn younger_keys() -> [(&'static str, &'static str, Value); 2] {
    [("generator", "grain", json!(false)), ("student", "muon", json!(0.0))]
}

impl Row {
    /// The row under the name that today's program gives its run: where its recipe lacks a younger key, it was done as that key's
    /// value says. A row whose name does not belong to its settings stays as it is.
    pub fn completed(mut self) -> Self {
        if suits(&self.id, &self.settings) {
            for (part, key, value) in younger_keys() {
                if let Some(part) = part_of(&mut self.settings, &self.kind, part) {
                    part.entry(key).or_insert(value);
                }
            }
            self.id = renamed(&self.id, &self.settings);
        }
        self
    }
}

/// A part of the recipe in a run's settings; of a baseline that is taught, the student's part is all there is.
fn part_of<'a>(settings: &'a mut Value, kind: &str, part: &str) -> Option<&'a mut Map<String, Value>> {
    let recipe = settings.get_mut("recipe")?;
    let part = match (kind, part) {
        ("data-free", _) => recipe.get_mut(part)?,
        ("kd-real" | "kd-noise", "student") => recipe,
        _ => return None,
    };
    part.as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::suite::names::name;
    use crate::bench::suite::page::tests::row;
    use crate::bench::suite::results::read_rows;
    use crate::bench::suite::{Kind, Places, Plan, Suite};
    use std::path::Path;

    fn of_an_earlier_program(kind: &str, recipe: Value) -> Row {
        let settings = json!({ "recipe": recipe });
        Row { id: name("a", &settings), kind: kind.to_string().into(), settings, ..row("ssd", 0, 0.5, None) }
    }

    #[test]
    fn a_row_says_what_its_program_could_not() {
        for (kind, recipe, completed) in [
            (
                "data-free",
                json!({ "student": { "lr": 1 }, "generator": {} }),
                json!({ "student": { "lr": 1, "muon": 0.0 }, "generator": { "grain": false } }),
            ),
            (
                "data-free",
                json!({ "student": { "muon": 0.02 }, "generator": { "grain": true } }),
                json!({ "student": { "muon": 0.02 }, "generator": { "grain": true } }),
            ),
            ("kd-real", json!({ "lr": 1 }), json!({ "lr": 1, "muon": 0.0 })),
            ("supervised", json!({ "lr": 1 }), json!({ "lr": 1 })),
            ("data-free", json!("no recipe"), json!("no recipe")),
        ] {
            let row = of_an_earlier_program(kind, recipe).completed();
            assert_eq!(row.settings["recipe"], completed);
            assert_eq!(row.id, name("a", &row.settings));
        }
        let other = Row { id: "a-0123456789".into(), ..of_an_earlier_program("kd-real", json!({})) };
        let (id, settings) = (other.id.clone(), other.settings.clone());
        let stays = other.completed();
        assert_eq!((stays.id, stays.settings), (id, settings));
    }

    /// Whoever adds a key to recipes says with which value the published methods are as before, or loses hours of measurements.
    /// (`ssd`, `synth` and the baselines that are taught may have got better.)
    #[test]
    fn published_rows_of_published_methods_still_count() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let suite = Suite::read(&root.join("benches/cpu.toml")).unwrap();
        let rows = read_rows(&root.join("docs/results/cpu.jsonl")).unwrap();
        let rows: Vec<Row> = rows.into_iter().map(Row::completed).collect();
        let of_others =
            |kind: &Kind| matches!(kind, Kind::DataFree(method) if !["ssd", "synth"].contains(&method.label()));
        // The other teacher is known by its weights, which are not here.
        let runs = Plan::of(&suite, &Places::default()).unwrap().runs;
        let runs = runs.iter().filter(|run| run.teacher == "ResNet-20" && of_others(&run.kind));
        let lost: Vec<&str> =
            runs.clone().map(|run| &run.id[..]).filter(|id| !rows.iter().any(|row| row.id == *id)).collect();
        assert_eq!((runs.count(), lost), (13, vec![]));
    }
}
