//! Naming schemes: how checkpoints of one architecture are named by different code bases, as tables.
//!
//! Canonical names, the ones our networks and files use, are those of the best-known code base of the architecture (for
//! networks of large images: timm). The tables stand in the file of their architecture (`nets/`), from where the registry
//! hands them on. A scheme is chosen by trying: the first one that makes all names fit ([`super::strict::fit`]).

use std::collections::BTreeMap;

/// One way of naming: a list of renamings from the names of a checkpoint to canonical ones.
///
/// The renamings are applied one after the other, each at most once per name. In a pattern, `*` stands for one or more
/// characters other than `.`, and `**`, at the end, for the whole rest; the replacement has the same wildcards in the same
/// order, and may have `#` in place of a `*`: the number that it stands for, plus one. A name that no pattern matches stays
/// as it is; one whose replacement is empty is of a part that we do not have, and is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    /// Who names tensors like this.
    pub name: &'static str,
    /// `(pattern, replacement)`.
    pub renames: &'static [(&'static str, &'static str)],
}

/// A scheme of names with blocks that are numbered through, for those of timm, which are `blocks.STAGE.NUMBER`:
/// `numbered!(name, prefix ["0" => "0.0", ...], rows)`. The rows see the blocks' new numbers.
macro_rules! numbered {
    ($name:literal, $prefix:literal [$($number:literal => $block:literal),* $(,)?], $($row:expr),* $(,)?) => {
        $crate::weights::Scheme {
            name: $name,
            renames: &[
                $((concat!($prefix, $number, ".**"), concat!("blocks.", $block, ".**")),)*
                $($row,)*
            ],
        }
    };
}
pub(crate) use numbered;

/// Prefixes that wrappers put in front of every name: DataParallel, `torch.compile`, Lightning modules, timm in transformers.
pub const WRAPPERS: &[&str] = &["module.", "_orig_mod.", "model.", "net.", "network.", "timm_model."];

impl Scheme {
    /// The canonical form of one name of a checkpoint.
    pub fn rename(&self, name: &str) -> String {
        let mut current = name.to_string();
        for (pattern, replacement) in self.renames {
            if let Some(captures) = captures(pattern, &current) {
                current = fill(replacement, &captures);
            }
        }
        current
    }
}

/// What the wildcards of `pattern` stand for in `name`; `None` if it does not match.
fn captures<'n>(pattern: &str, name: &'n str) -> Option<Vec<&'n str>> {
    let mut found = Vec::new();
    let (pattern, rest_is_free) = match pattern.strip_suffix("**") {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    let mut rest = name;
    let mut literals = pattern.split('*');
    rest = rest.strip_prefix(literals.next()?)?;
    for literal in literals {
        // A wildcard ends at the next dot, or where the literal after it starts: no table has both in one component.
        let end = rest.find('.').unwrap_or(rest.len());
        let (captured, tail) = rest.split_at(end);
        if captured.is_empty() {
            return None;
        }
        found.push(captured);
        rest = tail.strip_prefix(literal)?;
    }
    if rest_is_free {
        found.push(rest);
        return (!rest.is_empty()).then_some(found);
    }
    rest.is_empty().then_some(found)
}

/// `replacement` with its wildcards filled in order.
fn fill(replacement: &str, captures: &[&str]) -> String {
    let mut captures = captures.iter();
    let mut filled = String::new();
    for character in replacement.replace("**", "*").chars() {
        let captured = if "*#".contains(character) { captures.next() } else { None };
        match captured {
            None => filled.push(character),
            Some(number) if character == '#' => filled += &one_more(number),
            Some(captured) => filled += captured,
        }
    }
    filled
}

/// The number after `number`; what is none stays as it is.
fn one_more(number: &str) -> String {
    let next = number.parse::<u32>().ok().and_then(|number| number.checked_add(1));
    next.map_or(number.to_string(), |next| next.to_string())
}

/// What torch's `AveragedModel` counts, beside the names that it puts a prefix in front of.
const AVERAGES: &str = "n_averaged";

/// Removes `prefix` from all names if all have it (and something behind it). A count of averages beside them is left out then.
pub(super) fn strip_common<T>(mut tensors: BTreeMap<String, T>, prefix: &str) -> BTreeMap<String, T> {
    let has = |name: &str| name.len() > prefix.len() && name.starts_with(prefix);
    let common = tensors.keys().all(|name| has(name) || name == AVERAGES) && tensors.keys().any(|name| has(name));
    if !common {
        return tensors;
    }
    tensors.remove(AVERAGES);
    tensors.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_string(), tensor)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIKE_KUANGLIU: Scheme =
        Scheme { name: "kuangliu", renames: &[("*.*.shortcut.*.*", "*.*.downsample.*.*"), ("linear.*", "fc.*")] };
    const STAGES: Scheme = Scheme { name: "stages", renames: &[("encoder.stages.1.layers.**", "layer2.**")] };

    const COUNTED: Scheme = Scheme { name: "counted", renames: &[("stages.*.block0-*.**", "s#.b#.**")] };

    #[test]
    fn names_become_canonical() {
        for (scheme, name, canonical) in [
            (LIKE_KUANGLIU, "layer2.0.shortcut.1.running_mean", "layer2.0.downsample.1.running_mean"),
            (LIKE_KUANGLIU, "linear.weight", "fc.weight"),
            (LIKE_KUANGLIU, "layer1.0.conv1.weight", "layer1.0.conv1.weight"),
            (LIKE_KUANGLIU, "xlinear.weight", "xlinear.weight"),
            (STAGES, "encoder.stages.1.layers.0.shortcut.convolution.weight", "layer2.0.shortcut.convolution.weight"),
            (COUNTED, "stages.0.block0-9.bias", "s1.b10.bias"),
            (COUNTED, "stages.0.block0-last.bias", "s1.blast.bias"),
        ] {
            assert_eq!(scheme.rename(name), canonical, "{}", scheme.name);
        }
    }

    #[test]
    fn a_common_prefix_is_stripped_only_when_common() {
        let named = |names: &[&str]| names.iter().map(|name| (name.to_string(), ())).collect::<BTreeMap<_, _>>();
        assert_eq!(strip_common(named(&["module.a", "module.b.c"]), "module."), named(&["a", "b.c"]));
        assert_eq!(strip_common(named(&["module.a", "b"]), "module."), named(&["module.a", "b"]));
        assert_eq!(strip_common(named(&["module."]), "module."), named(&["module."]));
        assert_eq!(strip_common(named(&["module.a", "n_averaged"]), "module."), named(&["a"]));
        for names in [&["module.a", "b", "n_averaged"][..], &["n_averaged"]] {
            assert_eq!(strip_common(named(names), "module."), named(names));
        }
    }
}
