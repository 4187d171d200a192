//! The licence that a model folder states: in `config.json` as timm has it, else in the head of its `README.md`.

use crate::files::{PROVENANCE, PROVENANCE_LIMIT};
use std::io::Read;
use std::path::Path;

/// The head of a card is at its start and short.
const HEAD_LIMIT: u64 = 64 << 10;
/// The Hub's identifiers, such as `apache-2.0`, are shorter.
const LONGEST: usize = 64;

/// What a card says where nobody knows the licence.
pub const OTHER: &str = "other";

/// The `license` in the YAML head of `README.md` in `folder`, such as `apache-2.0`; `None` where there is no card, no head, no
/// such key, or a value that is no identifier. A card is for people: that it cannot be read is no error.
pub fn stated_in(folder: &Path) -> Option<String> {
    let file = std::fs::File::open(folder.join("README.md")).ok()?;
    let mut head = Vec::new();
    file.take(HEAD_LIMIT).read_to_end(&mut head).ok()?;
    in_card(&String::from_utf8_lossy(&head))
}

/// Whether a result's folder says under which licence it is: in its `synth.json`, or in the head of its card, where whoever
/// knows it may have put it in place of `other`.
pub fn is_known(folder: &Path) -> bool {
    let known = || {
        let file = std::fs::File::open(folder.join(PROVENANCE)).ok()?;
        let json: serde_json::Value = serde_json::from_reader(file.take(PROVENANCE_LIMIT)).ok()?;
        json["license"].as_str().map(is_identifier)
    };
    stated_in(folder).is_some_and(|id| id != OTHER) || known().unwrap_or(false)
}

/// As [`stated_in`], from the text of a card.
pub(crate) fn in_card(card: &str) -> Option<String> {
    let mut lines = card.trim_start_matches('\u{feff}').lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let value = lines.take_while(|line| line.trim_end() != "---").find_map(|line| line.strip_prefix("license:"))?;
    let value = value.split(" #").next()?.trim().trim_matches(['"', '\'']);
    is_identifier(value).then(|| value.to_lowercase())
}

/// Whether `text` can be a licence of the Hub: letters, digits, `.`, `-` and `_`.
pub fn is_identifier(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=LONGEST).contains(&text.len()) && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_card_states_the_licence() {
        for (card, licence) in [
            ("---\ntags:\n- a\nlicense: apache-2.0\n---\n# x", Some("apache-2.0")),
            ("---\r\nlicense: \"MIT\"  # as upstream\r\n---\r\n", Some("mit")),
            ("\u{feff}---\nlicense: 'cc-by-nc-4.0'\n---", Some("cc-by-nc-4.0")),
            ("---\ntags: []\n---\nlicense: mit\n", None),
            ("# no head\nlicense: mit\n", None),
            ("---\nlicense: [mit, \"x\"]\n---", None),
            ("---\nlicense:\n---", None),
            ("", None),
        ] {
            assert_eq!(in_card(card).as_deref(), licence, "{card:?}");
        }
    }

    #[test]
    fn other_is_a_licence_only_where_somebody_said_so() {
        let folder = tempfile::tempdir().unwrap();
        let known = |card: &str, json: &str| {
            std::fs::write(folder.path().join("README.md"), card).unwrap();
            std::fs::write(folder.path().join("synth.json"), json).unwrap();
            is_known(folder.path())
        };
        assert!(!known("---\nlicense: other\n---", r#"{"license": null}"#));
        assert!(known("---\nlicense: other\n---", r#"{"license": "other"}"#));
        assert!(known("---\nlicense: mit\n---", r#"{"license": null}"#));
        assert!(!known("", "broken"));
    }
}
