//! Names of architectures, as people type them.

use crate::{Error, Result};
use serde_json::{Map, Value, json};

/// A name, its family, its arguments.
type Fixed = (&'static str, &'static str, fn() -> Value);

/// Names without a depth or a width to read off.
const FIXED: &[Fixed] = &[
    ("resnet18", "resnet_cifar_form", || json!({"depth": 18})),
    ("resnet34", "resnet_cifar_form", || json!({"depth": 34})),
    ("mlperf-resnet8", "mlperf_tiny_resnet8", || json!({})),
    ("lenet5", "lenet5", || json!({"half": false})),
    ("lenet5-half", "lenet5", || json!({"half": true})),
    ("lenet-cifar", "lenet_cifar", || json!({})),
    ("mnist-convnet", "quickgelu_convnet", || json!({})),
    ("fashion-cnn", "fashion_cnn", || json!({})),
    ("burn-mnist-cnn", "burn_mnist_cnn", || json!({})),
];

/// Depths of the CIFAR ResNets that have a name.
const DEPTHS: &[usize] = &[8, 14, 20, 32, 44, 56, 110];

/// One line with all names.
pub fn supported() -> String {
    let depths: Vec<String> = DEPTHS.iter().map(usize::to_string).collect();
    let fixed: Vec<&str> = FIXED.iter().map(|(name, ..)| *name).collect();
    format!(
        "resnet{} (padded shortcuts; with `-b` projected ones, with `x4` four times as wide), wrn-DEPTH-WIDTH, {}",
        depths.join("|"),
        fixed.join(", ")
    )
}

/// Wide ResNets worth listing; any depth and width of the family has a name.
const WIDE: &[&str] = &["wrn-16-1", "wrn-16-2", "wrn-28-10", "wrn-40-1", "wrn-40-2"];

/// Names to show, of the families with numbers in their names the usual ones.
pub fn listed() -> Vec<String> {
    let residual = DEPTHS.iter().map(|depth| format!("resnet{depth}"));
    let fixed = FIXED.iter().map(|(name, ..)| name.to_string());
    residual.chain(WIDE.iter().map(|name| name.to_string())).chain(fixed).collect()
}

/// Family and arguments of a name; `_` may stand for `-`, and case does not matter.
pub(super) fn resolve(name: &str) -> Result<(&'static str, Map<String, Value>)> {
    let plain = name.to_lowercase().replace('_', "-");
    let found = fixed(&plain).or_else(|| wide(&plain)).or_else(|| cifar(&plain));
    if let Some((family, Value::Object(args))) = found {
        return Ok((family, args));
    }
    let nearest = nearest(&plain).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
    let found = format!("there is no such network; {nearest}supported are {}", supported());
    Err(Error::invalid(format!("architecture {name:?}"), found, "choose one of them"))
}

fn fixed(name: &str) -> Option<(&'static str, Value)> {
    FIXED.iter().find(|(known, ..)| *known == name).map(|(_, family, args)| (*family, args()))
}

/// `wrn-16-2` or `wrn16-2`.
fn wide(name: &str) -> Option<(&'static str, Value)> {
    let (depth, widen) = name.strip_prefix("wrn")?.trim_start_matches('-').split_once('-')?;
    let (depth, widen_factor) = (number(depth)?, number(widen)?);
    Some(("wide_resnet", json!({"depth": depth, "widen_factor": widen_factor, "bn_eps": 1e-5})))
}

/// `resnet20`, `resnet20-b`, `resnet8x4`; also with `cifar-` in front.
fn cifar(name: &str) -> Option<(&'static str, Value)> {
    let rest = name.strip_prefix("cifar-").unwrap_or(name).strip_prefix("resnet")?;
    let (depth, shortcut, widths) = if let Some(depth) = rest.strip_suffix("x4") {
        (depth, "B", json!([32, 64, 128, 256]))
    } else {
        let projected = rest.strip_suffix("-b");
        let shortcut = if projected.is_some() { "B" } else { "A" };
        (projected.or(rest.strip_suffix("-a")).unwrap_or(rest), shortcut, json!([16, 32, 64]))
    };
    let depth = number(depth).filter(|depth| DEPTHS.contains(depth))?;
    Some(("cifar_resnet", json!({"depth": depth, "shortcut": shortcut, "widths": widths, "bn_eps": 1e-5})))
}

/// A number written the usual way.
fn number(text: &str) -> Option<usize> {
    text.parse().ok().filter(|number: &usize| number.to_string() == text)
}

/// The known name with the fewest edits, if there are few enough to be a slip.
fn nearest(name: &str) -> Option<String> {
    let residual = DEPTHS.iter().flat_map(|depth| ["", "-b", "x4"].map(|suffix| format!("resnet{depth}{suffix}")));
    let wide = WIDE.iter().map(|name| name.to_string());
    let names = FIXED.iter().map(|(known, ..)| known.to_string()).chain(residual).chain(wide);
    let (distance, best) = names.map(|known| (edits(name, &known), known)).min()?;
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
