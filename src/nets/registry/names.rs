//! Names of architectures, as people type them and as configurations state them.

use super::{Description, FAMILIES, Family, Form};
use crate::{Error, Result};
use serde_json::{Map, Value};

/// One line with all names.
pub fn supported() -> String {
    FAMILIES.iter().map(|family| family.summary).collect::<Vec<_>>().join(", ")
}

/// One short line with the kinds of networks and where their names stand.
pub fn families() -> String {
    let mut titles: Vec<&str> = Vec::new();
    for family in FAMILIES {
        if !titles.contains(&family.title) {
            titles.push(family.title);
        }
    }
    format!("there are {}; `synth networks` lists their names", titles.join(", "))
}

/// Names to show, of the families with numbers in their names the usual ones. A name that two families have stands once, as
/// the one that it is without an image size, and the other with `cifar-` in front.
pub fn listed() -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let of = |family: &&'static Family| {
        let variants = family.variants.iter().map(|(name, ..)| *name);
        family.names.iter().map(|(name, _)| *name).chain(variants)
    };
    for name in FAMILIES.iter().flat_map(of) {
        let taken = names.iter().any(|known| known == name);
        names.push(if taken { format!("cifar-{name}") } else { name.to_string() });
    }
    names
}

/// Family and arguments of a name; `_` may stand for `-`, and case does not matter.
///
/// A name that several families have means the one whose usual images are nearest in size to `sides`, or the first one;
/// `cifar-` and `imagenet-` in front decide it.
pub(super) fn resolve(name: &str, sides: Option<[usize; 2]>) -> Result<Description> {
    let plain = plain(name);
    let (rest, side) = match (plain.strip_prefix("cifar-"), plain.strip_prefix("imagenet-")) {
        (Some(rest), _) => (rest, Some(32)),
        (_, Some(rest)) => (rest, Some(224)),
        _ => (plain.as_str(), sides.map(|[height, width]| height.min(width))),
    };
    let away = |family: &Family| {
        let usual = family.usual_input[1].max(1) as f64;
        side.map_or(0.0, |side| (side.max(1) as f64 / usual).ln().abs())
    };
    let found = FAMILIES.iter().filter_map(|family| meant(family, rest, name));
    // The first of equals.
    if let Some(description) = found.min_by(|a, b| away(a.family).total_cmp(&away(b.family))) {
        return Ok(description);
    }
    let hint = match nearest(&plain) {
        Some(near) => format!("did you mean {near}? `synth networks` lists all"),
        None => families(),
    };
    Err(Error::invalid(format!("architecture {name:?}"), "there is no such network", hint))
}

/// Family and arguments of the network that timm calls `architecture`.
pub(super) fn of_timm(architecture: &str) -> Option<(&'static Family, Map<String, Value>)> {
    let timm = FAMILIES.iter().filter(|family| family.form == Form::Timm);
    timm.filter_map(|family| Some((*family, called(family, &plain(architecture))?.1))).next()
}

/// What the family has under a name, which people may have written otherwise (`typed`).
fn meant(family: &'static Family, name: &str, typed: &str) -> Option<Description> {
    if let Some((_, of, args)) = family.variants.iter().find(|(variant, ..)| plain(variant) == name) {
        let (Value::Object(stated), (_, mut args_of)) = (args(), called(family, &plain(of))?) else { return None };
        args_of.extend(stated.clone());
        return Some(Description { family, architecture: of.to_string(), args: args_of, stated });
    }
    let (listed, args) = called(family, name)?;
    let architecture = listed.filter(|_| family.form == Form::Timm).unwrap_or(typed).to_string();
    Some(Description { family, architecture, args, stated: Map::new() })
}

/// The name in the family's list that `name` is or stands for, if it is there, and its arguments.
fn called(family: &Family, name: &str) -> Option<(Option<&'static str>, Map<String, Value>)> {
    let alias = family.aliases.iter().find(|(alias, _)| plain(alias) == name);
    let name = alias.map_or(name.to_string(), |(_, stands_for)| plain(stands_for));
    let listed = family.names.iter().find(|(known, _)| plain(known) == name);
    let value = match listed {
        Some((_, args)) => args(),
        None => family.pattern.and_then(|pattern| pattern(&name))?,
    };
    let Value::Object(args) = value else { return None };
    Some((listed.map(|(known, _)| *known), args))
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace('_', "-")
}

/// The known name with the fewest edits, if there are few enough to be a slip.
fn nearest(name: &str) -> Option<String> {
    let (distance, best) = listed().into_iter().map(|known| (edits(name, &plain(&known)), known)).min()?;
    (distance <= 1 + name.chars().count() / 3).then_some(best)
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
