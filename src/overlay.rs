//! Values over a recipe: a TOML file, then single `KEY=VALUE` pairs, both from outside.

use crate::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use toml::{Table, Value};

/// A recipe file is a page; this is a book.
const SIZE_LIMIT: usize = 256 << 10;
/// The way out where a value is of the wrong kind.
const SEE: &str = "see `synth recipes NAME` for keys and kinds";

/// `base` with the text of a TOML file, which messages call by its path, and then single `KEY=VALUE` pairs over it. What they
/// leave out stays as it is. Ranges are checked by the recipe itself.
///
/// # Errors
/// [`Error::File`] for a text that is no TOML, is larger than 256 KiB or has a key that the recipe does not have;
/// [`Error::Invalid`] for such a key in a pair, and for a value of the wrong kind.
pub fn overlaid<T: Serialize + DeserializeOwned>(base: &T, file: Option<(&str, &Path)>, pairs: &[String]) -> Result<T> {
    let as_table = Table::try_from(base);
    let mut table = as_table.map_err(|error| Error::invalid("recipe", error.to_string(), "report this"))?;
    if let Some((text, path)) = file {
        merge(&mut table, parsed(text, path)?, path)?;
    }
    for pair in pairs {
        set(&mut table, pair)?;
    }
    table.try_into().map_err(|error: toml::de::Error| Error::invalid("recipe", error.to_string(), SEE))
}

/// Whether `KEY=VALUE` is of `key` or of a part of it.
pub fn is_of(pair: &str, key: &str) -> bool {
    let named = pair.split('=').next().unwrap_or_default().trim();
    named.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// # Errors
/// [`Error::Invalid`] for a `value` of `key` that is not within `low` and `high`, or no number.
pub(crate) fn range(key: &str, value: f64, low: f64, high: f64) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(key, format!("{value}"), format!("must be within {low} to {high}")))
}

/// That `check` refuses `base` with each of the pairs over it, by the key that stands beside it.
#[cfg(test)]
pub(crate) fn assert_refused<T>(base: &T, check: impl Fn(&T) -> Result<()>, pairs: &[(&str, &str)])
where
    T: Serialize + DeserializeOwned,
{
    for (pair, key) in pairs {
        let recipe = overlaid(base, None, &[(*pair).to_string()]).unwrap();
        let error = check(&recipe).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{key}: ")), "{pair}: {error}");
    }
}

fn parsed(text: &str, path: &Path) -> Result<Table> {
    let hint = "expected TOML as `synth recipes NAME` prints it";
    if text.len() > SIZE_LIMIT {
        return Err(Error::file(path, format!("{} bytes", text.len()), hint));
    }
    text.parse::<Table>().map_err(|error| Error::file(path, toml_error(&error, text), hint))
}

/// What is wrong with a TOML text, and in which line.
pub(crate) fn toml_error(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    line.map_or(error.message().to_string(), |line| format!("line {line}: {}", error.message()))
}

fn merge(to: &mut Table, from: Table, path: &Path) -> Result<()> {
    for (key, value) in from {
        let hint = known(to);
        match (to.get_mut(&key), value) {
            // A choice with fields (`schedule`, `matching`) has its name as the only key: it is replaced as a whole.
            (Some(Value::Table(old)), Value::Table(new)) if !is_choice(old, &new) => merge(old, new, path)?,
            (Some(old), new) => {
                replace(old, new).map_err(|found| Error::file(path, format!("`{key}`: {found}"), SEE))?
            }
            (None, _) => return Err(Error::file(path, format!("there is no key `{key}`"), hint)),
        }
    }
    Ok(())
}

fn is_choice(old: &Table, new: &Table) -> bool {
    old.len() == 1 && new.len() == 1 && old.keys().next() != new.keys().next()
}

/// What can be written in place of a key that `table` does not have.
fn known(table: &Table) -> String {
    format!("take one of: {}", table.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
}

fn set(table: &mut Table, pair: &str) -> Result<()> {
    let Some((key, text)) = pair.split_once('=') else {
        return Err(Error::invalid("--set", format!("`{pair}` has no `=`"), "write KEY=VALUE"));
    };
    let missing = |hint| Error::invalid("--set", format!("there is no key `{key}`"), hint);
    let value = match format!("v = {text}").parse::<Table>() {
        Ok(mut t) => t.remove("v").unwrap_or(Value::String(text.into())),
        Err(_) => Value::String(text.into()),
    };
    let mut at = table;
    let parts: Vec<&str> = key.trim().split('.').collect();
    for part in &parts[..parts.len() - 1] {
        let hint = known(at);
        let Some(Value::Table(inner)) = at.get_mut(*part) else { return Err(missing(hint)) };
        at = inner;
    }
    let hint = known(at);
    let old = at.get_mut(parts[parts.len() - 1]).ok_or_else(|| missing(hint))?;
    replace(old, value).map_err(|found| Error::invalid("--set", format!("`{key}`: {found}"), SEE))
}

/// Puts `new` in the place of `old`, or says why it is of the wrong kind. (What is a choice may be a word or a table.)
fn replace(old: &mut Value, new: Value) -> std::result::Result<(), String> {
    *old = match (&*old, new) {
        // 5 is a fine way to write 5.0.
        (Value::Float(_), Value::Integer(whole)) => Value::Float(whole as f64),
        (Value::Integer(_), Value::Integer(whole)) if whole < 0 => return Err(format!("{whole} is below 0")),
        (Value::Integer(_), new) if !new.is_integer() => return Err(format!("{new} is no whole number")),
        (Value::Float(_), new) if !new.is_float() => return Err(format!("{new} is no number")),
        (Value::Boolean(_), new) if !new.is_bool() => return Err(format!("{new} is neither true nor false")),
        (_, new) => new,
    };
    Ok(())
}
