//! Published results (`assets/peers.toml`), each with its source and with what its hours contain.

use crate::{Error, Result};
use serde::Deserialize;

const TEXT: &str = include_str!("../../../assets/peers.toml");

/// One table of a source.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    source: String,
    dataset: String,
    accuracy_is: String,
    hours_contain: String,
    /// Teacher and student.
    pairs: Vec<[String; 2]>,
    /// Top-1 of the teachers in percent, one per pair; NaN where it is not known.
    teacher: Vec<f64>,
    rows: Vec<Line>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    method: String,
    top1: Vec<f64>,
    #[serde(default)]
    hours: Vec<f64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    table: Vec<Table>,
}

/// All published results that are known.
#[derive(Clone, Debug)]
pub struct Peers(Vec<Table>);

/// A published result of one pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published<'a> {
    pub method: &'a str,
    /// Percent.
    pub top1: f64,
    /// Of the teacher, percent.
    pub teacher: Option<f64>,
    pub hours: Option<f64>,
    pub hours_contain: &'a str,
    pub accuracy_is: &'a str,
    pub source: &'a str,
}

impl Peers {
    /// Those that the program has with it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a file that is not what it should be, which a test keeps from happening.
    pub fn known() -> Result<Self> {
        Self::parse(TEXT).map_err(|found| Error::invalid("assets/peers.toml", found, "correct it and build anew"))
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        let File { table } = toml::from_str(text).map_err(|error| error.to_string())?;
        for (i, t) in table.iter().enumerate() {
            let told = [&t.source, &t.dataset, &t.accuracy_is, &t.hours_contain].iter().all(|text| !text.is_empty());
            let pairs = t.pairs.len();
            let fits = |row: &Line| row.top1.len() == pairs && (row.hours.is_empty() || row.hours.len() == pairs);
            if !told || t.teacher.len() != pairs || !t.rows.iter().all(fits) {
                return Err(format!("table {i} lacks its source, or a row has not one value per pair"));
            }
        }
        Ok(Self(table))
    }

    /// What was published for this pair on these data.
    pub fn beside(&self, data: &str, teacher: &str, student: &str) -> Vec<Published<'_>> {
        let name = data.rsplit('/').next().unwrap_or(data);
        let mut found = Vec::new();
        for table in self.0.iter().filter(|table| same(&table.dataset, name)) {
            let fits = |[t, s]: &[String; 2]| same(t, teacher) && same(s, student);
            let Some(at) = table.pairs.iter().position(fits) else { continue };
            let known = |values: &[f64]| values.get(at).copied().filter(|value| value.is_finite());
            for row in &table.rows {
                let Some(top1) = known(&row.top1) else { continue };
                found.push(Published {
                    method: &row.method,
                    top1,
                    teacher: known(&table.teacher),
                    hours: known(&row.hours),
                    hours_contain: &table.hours_contain,
                    accuracy_is: &table.accuracy_is,
                    source: &table.source,
                });
            }
        }
        found
    }
}

/// Whether two names mean the same network or data: `wrn-16-2`, `WRN_16_2`; the form for small images has its family's name.
fn same(a: &str, b: &str) -> bool {
    let plain = |name: &str| name.to_lowercase().replace(['-', '_'], "").replace("cifarresnet", "resnet");
    plain(a) == plain(b) && !a.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::registry;

    #[test]
    fn every_published_number_has_its_source_and_says_what_its_hours_are() {
        let peers = Peers::known().unwrap();
        assert!(peers.0.len() >= 8);
        for table in &peers.0 {
            assert!(table.hours_contain.len() > 10 && table.source.len() > 10, "{}", table.source);
            for name in table.pairs.iter().flatten() {
                assert!(registry::usual_input(name).is_ok(), "{name} is no network");
            }
            let all = table.rows.iter().flat_map(|row| &row.top1).chain(&table.teacher);
            assert!(all.clone().all(|v| v.is_nan() || (10.0..100.0).contains(v)), "{}", table.source);
            // Whoever prints hours says of what.
            let has_hours = table.rows.iter().any(|row| row.hours.iter().any(|hours| hours.is_finite()));
            assert_eq!(has_hours, !table.hours_contain.starts_with("none printed"), "{}", table.source);
        }
    }

    #[test]
    fn results_are_found_by_pair_and_data() {
        let peers = Peers::known().unwrap();
        let found = peers.beside("uoft-cs/cifar10", "wrn_40_2", "wrn-16-1");
        let fast = found.iter().find(|row| row.method == "FastDFKD, 5 steps").unwrap();
        assert_eq!((fast.top1, fast.hours, fast.teacher), (88.9, Some(0.08), Some(94.87)));
        assert!(fast.hours_contain.contains("synthesis alone"));
        assert!(found.iter().any(|row| row.method == "CuDFKD" && row.hours.is_none()));
        assert_eq!(peers.beside("cifar10", "cifar-resnet34", "cifar-resnet18").len(), 13);
        assert_eq!(peers.beside("mnist", "wrn-40-2", "wrn-16-1"), []);
    }

    #[test]
    fn a_table_without_a_source_or_with_a_value_too_few_is_refused() {
        assert!(Peers::parse(&TEXT.replacen("[42.1, 20.2,", "[42.1,", 1)).is_err());
        let source = TEXT.find("source = \"").unwrap();
        let end = source + TEXT[source..].find('\n').unwrap();
        assert!(Peers::parse(&TEXT.replacen(&TEXT[source..end], "source = \"\"", 1)).is_err());
    }
}
