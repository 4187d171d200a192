//! Recipes on the command line: a named one, a TOML file over it, single values over both.

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use synth::distill::StudentRecipe;
use synth::invert::Recipe;
use synth::{Error, Result};
use toml::{Table, Value};

/// Values over the recipe's own.
#[derive(Args)]
pub struct Overrides {
    /// TOML file with recipe values; what it leaves out stays as the named recipe has it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One recipe value, such as loss.bn=5 or student.lr=0.05 (see `synth recipes NAME`)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    values: Vec<String>,
}

impl Overrides {
    /// `base` with the file and the single values over it.
    ///
    /// # Errors
    /// An unreadable file, a key that the recipe does not have, a value of the wrong kind.
    pub fn apply<T: Serialize + DeserializeOwned>(&self, base: &T) -> Result<T> {
        let as_table = Table::try_from(base);
        let mut table = as_table.map_err(|error| Error::invalid("recipe", error.to_string(), "report this"))?;
        if let Some(path) = &self.config {
            merge(&mut table, read(path)?, path)?;
        }
        for pair in &self.values {
            set(&mut table, pair)?;
        }
        table.try_into().map_err(|error: toml::de::Error| {
            let found = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            Error::invalid("recipe", found, "see `synth recipes` for keys and kinds")
        })
    }
}

impl Overrides {
    /// The default recipe's `student` with the file and the values over it. The file may be a whole recipe, of which the
    /// rest is for `invert`; single values must be of the student.
    ///
    /// # Errors
    /// As [`Overrides::apply`].
    pub fn apply_student(&self) -> Result<StudentRecipe> {
        if let Some(pair) = self.values.iter().find(|pair| !pair.trim_start().starts_with("student.")) {
            let hint = "this command uses the keys `student.…` of `synth recipes NAME`";
            return Err(Error::invalid("--set", format!("`{pair}` is nothing a student has"), hint));
        }
        Ok(self.apply(&Recipe::default())?.student)
    }
}

fn read(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    text.parse::<Table>().map_err(|error| {
        let found = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Error::file(path, found, "expected TOML as `synth recipes NAME` prints it")
    })
}

fn merge(to: &mut Table, from: Table, path: &Path) -> Result<()> {
    for (key, value) in from {
        match (to.get_mut(&key), value) {
            // A choice with fields (`schedule`, `matching`) has its name as the only key: it is replaced as a whole.
            (Some(Value::Table(old)), Value::Table(new)) if !is_choice(old, &new) => merge(old, new, path)?,
            (Some(old), new) => *old = new,
            (None, _) => {
                let hint = "see `synth recipes` for the keys";
                return Err(Error::file(path, format!("the recipe has no key `{key}`"), hint));
            }
        }
    }
    Ok(())
}

fn is_choice(old: &Table, new: &Table) -> bool {
    old.len() == 1 && new.len() == 1 && old.keys().next() != new.keys().next()
}

fn set(table: &mut Table, pair: &str) -> Result<()> {
    let wrong = |found: String| Error::invalid("--set", found, "write KEY=VALUE with a key of `synth recipes NAME`");
    let Some((key, text)) = pair.split_once('=') else { return Err(wrong(format!("`{pair}` has no `=`"))) };
    let value = match format!("v = {text}").parse::<Table>() {
        Ok(mut t) => t.remove("v").unwrap_or(Value::String(text.into())),
        Err(_) => Value::String(text.into()),
    };
    let mut at = table;
    let parts: Vec<&str> = key.trim().split('.').collect();
    for part in &parts[..parts.len() - 1] {
        at = match at.get_mut(*part) {
            Some(Value::Table(t)) => t,
            _ => return Err(wrong(format!("the recipe has no key `{key}`"))),
        };
    }
    match at.get_mut(parts[parts.len() - 1]) {
        // 5 is a fine way to write 5.0.
        Some(old @ Value::Float(_)) => {
            *old = match value {
                Value::Integer(i) => Value::Float(i as f64),
                other => other,
            }
        }
        Some(old) => *old = value,
        None => return Err(wrong(format!("the recipe has no key `{key}`"))),
    }
    Ok(())
}
