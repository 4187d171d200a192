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
/// order. A name that no pattern matches stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    /// Who names tensors like this.
    pub name: &'static str,
    /// `(pattern, replacement)`.
    pub renames: &'static [(&'static str, &'static str)],
}

/// Prefixes that wrappers put in front of every name: DataParallel, `torch.compile`, Lightning modules, timm in transformers.
pub const WRAPPERS: &[&str] = &["module.", "_orig_mod.", "model.", "net.", "network.", "timm_model."];

/// `mobilenetv2_100` of timm, to torchvision.
pub const TIMM_MOBILENET_V2: Scheme = Scheme {
    name: "timm MobileNetV2",
    renames: &[
        // The first block has no expansion.
        ("blocks.0.0.conv_dw.*", "features.1.conv.0.0.*"),
        ("blocks.0.0.bn1.*", "features.1.conv.0.1.*"),
        ("blocks.0.0.conv_pw.*", "features.1.conv.1.*"),
        ("blocks.0.0.bn2.*", "features.1.conv.2.*"),
        ("blocks.1.0.**", "features.2.**"),
        ("blocks.1.1.**", "features.3.**"),
        ("blocks.2.0.**", "features.4.**"),
        ("blocks.2.1.**", "features.5.**"),
        ("blocks.2.2.**", "features.6.**"),
        ("blocks.3.0.**", "features.7.**"),
        ("blocks.3.1.**", "features.8.**"),
        ("blocks.3.2.**", "features.9.**"),
        ("blocks.3.3.**", "features.10.**"),
        ("blocks.4.0.**", "features.11.**"),
        ("blocks.4.1.**", "features.12.**"),
        ("blocks.4.2.**", "features.13.**"),
        ("blocks.5.0.**", "features.14.**"),
        ("blocks.5.1.**", "features.15.**"),
        ("blocks.5.2.**", "features.16.**"),
        ("blocks.6.0.**", "features.17.**"),
        ("features.*.conv_pw.*", "features.*.conv.0.0.*"),
        ("features.*.bn1.*", "features.*.conv.0.1.*"),
        ("features.*.conv_dw.*", "features.*.conv.1.0.*"),
        ("features.*.bn2.*", "features.*.conv.1.1.*"),
        ("features.*.conv_pwl.*", "features.*.conv.2.*"),
        ("features.*.bn3.*", "features.*.conv.3.*"),
        ("conv_stem.*", "features.0.0.*"),
        ("bn1.*", "features.0.1.*"),
        ("conv_head.*", "features.18.0.*"),
        ("bn2.*", "features.18.1.*"),
        ("classifier.*", "classifier.1.*"),
    ],
};

/// MobileNetV2 with one flat sequence per block (convolution 0, BN 1, ReLU6 2, ...), to torchvision.
pub const FLAT_MOBILENET_V2: Scheme = Scheme {
    name: "flat MobileNetV2",
    renames: &[
        ("features.*.conv.0.*", "features.*.conv.0.0.*"),
        ("features.*.conv.1.*", "features.*.conv.0.1.*"),
        // The first block has no expansion.
        ("features.1.conv.3.*", "features.1.conv.1.*"),
        ("features.1.conv.4.*", "features.1.conv.2.*"),
        ("features.*.conv.3.*", "features.*.conv.1.0.*"),
        ("features.*.conv.4.*", "features.*.conv.1.1.*"),
        ("features.*.conv.6.*", "features.*.conv.2.*"),
        ("features.*.conv.7.*", "features.*.conv.3.*"),
    ],
};

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
    for (index, literal) in replacement.replace("**", "*").split('*').enumerate() {
        if index > 0 {
            filled.extend(captures.next().copied());
        }
        filled += literal;
    }
    filled
}

/// Removes `prefix` from all names if all have it (and something behind it).
pub(super) fn strip_common<T>(tensors: BTreeMap<String, T>, prefix: &str) -> BTreeMap<String, T> {
    let common = tensors.keys().all(|name| name.len() > prefix.len() && name.starts_with(prefix));
    if !common {
        return tensors;
    }
    tensors.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_string(), tensor)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIKE_KUANGLIU: Scheme =
        Scheme { name: "kuangliu", renames: &[("*.*.shortcut.*.*", "*.*.downsample.*.*"), ("linear.*", "fc.*")] };
    const STAGES: Scheme = Scheme { name: "stages", renames: &[("encoder.stages.1.layers.**", "layer2.**")] };

    #[test]
    fn names_become_canonical() {
        for (scheme, name, canonical) in [
            (LIKE_KUANGLIU, "layer2.0.shortcut.1.running_mean", "layer2.0.downsample.1.running_mean"),
            (LIKE_KUANGLIU, "linear.weight", "fc.weight"),
            (LIKE_KUANGLIU, "layer1.0.conv1.weight", "layer1.0.conv1.weight"),
            (LIKE_KUANGLIU, "xlinear.weight", "xlinear.weight"),
            (STAGES, "encoder.stages.1.layers.0.shortcut.convolution.weight", "layer2.0.shortcut.convolution.weight"),
            (TIMM_MOBILENET_V2, "blocks.0.0.conv_pw.weight", "features.1.conv.1.weight"),
            (TIMM_MOBILENET_V2, "blocks.3.3.conv_pwl.weight", "features.10.conv.2.weight"),
            (TIMM_MOBILENET_V2, "blocks.6.0.bn1.weight", "features.17.conv.0.1.weight"),
            (TIMM_MOBILENET_V2, "bn1.weight", "features.0.1.weight"),
            (TIMM_MOBILENET_V2, "classifier.weight", "classifier.1.weight"),
            (FLAT_MOBILENET_V2, "features.1.conv.1.bias", "features.1.conv.0.1.bias"),
            (FLAT_MOBILENET_V2, "features.1.conv.3.weight", "features.1.conv.1.weight"),
            (FLAT_MOBILENET_V2, "features.5.conv.4.bias", "features.5.conv.1.1.bias"),
            (FLAT_MOBILENET_V2, "features.5.conv.7.bias", "features.5.conv.3.bias"),
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
    }
}
