//! The name of a run: readable, and another one whenever anything that matters is.

use crate::files::sha256_bytes;
use serde_json::Value;

/// Hexadecimal digits of the hash.
const HASH_DIGITS: usize = 10;

/// `line` as the name of a folder, with the start of the hash of `settings`.
pub fn name(line: &str, settings: &Value) -> String {
    format!("{}-{}", slug(line), hash(settings))
}

/// Whether `name` is one of `settings`.
pub fn suits(name: &str, settings: &Value) -> bool {
    name.ends_with(&format!("-{}", hash(settings)))
}

/// `name`, which was one of other settings, for `settings`.
pub fn renamed(name: &str, settings: &Value) -> String {
    let line = name.rsplit_once('-').map_or(name, |(line, _)| line);
    format!("{line}-{}", hash(settings))
}

fn hash(settings: &Value) -> String {
    sha256_bytes(canonical(settings).as_bytes())[..HASH_DIGITS].to_string()
}

/// Letters, digits and points of a text, with `-` for everything between them.
fn slug(text: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let parts = text.split(|c| !kept(c)).filter(|part| !part.is_empty());
    let joined = parts.collect::<Vec<_>>().join("-").to_lowercase();
    joined.trim_start_matches('.').chars().take(100).collect()
}

/// JSON with sorted keys: equal values have equal texts.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let one = |key: &&String| format!("{}:{}", Value::String((*key).clone()), canonical(&map[*key]));
            format!("{{{}}}", keys.iter().map(one).collect::<Vec<_>>().join(","))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equal_settings_have_equal_names_in_whatever_order_they_stand() {
        let of = |text: &str| name("A to b, φ/../x", &serde_json::from_str(text).unwrap());
        assert_eq!(of(r#"{"a": {"x": 1, "y": [2, "z"]}, "b": null}"#), of(r#"{"b":null,"a":{"y":[2,"z"],"x":1}}"#));
        assert_ne!(of(r#"{"a": "1"}"#), of(r#"{"a": 1}"#));
        assert!(of("{}").starts_with("a-to-b-..-x-"), "{}", of("{}"));
        let named = of(r#"{"a": 1}"#);
        assert!(suits(&named, &json!({ "a": 1 })) && !suits(&named, &json!({ "a": 2 })));
        assert_eq!(renamed(&named, &json!({ "a": 2 })), of(r#"{"a": 2}"#));
        assert_eq!(canonical(&json!({ "b\"": 1, "a": {} })), r#"{"a":{},"b\"":1}"#);
    }
}
