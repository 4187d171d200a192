//! Strict loading: exactly the expected tensors, or one line that says what differs.

use std::collections::{BTreeMap, BTreeSet};

use super::fault::quote;
use super::schemes::{Scheme, WRAPPERS, strip_common};
use super::{Checkpoint, RawData, RawTensor};
use crate::{Error, Result};

/// How many tensors of each kind a message names before it counts.
const NAMED: usize = 8;
/// PyTorch's counter of BN updates: of no use to us, missing from old checkpoints.
const COUNTER: &str = "num_batches_tracked";

/// A tensor that a network needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Canonical name, e.g. `layer1.0.conv1.weight`.
    pub name: String,
    /// Shape in the layout of files (OIHW, `[out, in]`).
    pub shape: Vec<usize>,
}

/// Turns a checkpoint into exactly the expected tensors, by canonical name.
///
/// Prefixes that wrappers put in front of every name ([`WRAPPERS`]) are removed. The names are then tried as they are and
/// under each of `schemes`, and the first reading that fits is taken; a name that a scheme turns into nothing is left out. `num_batches_tracked` may be missing or present: it
/// is returned where it is both expected and there. A linear layer over flattened pixels, `[out, in·kh·kw]`, is the
/// convolution that covers them, `[out, in, kh, kw]`: their values are the same in the same order, and either stands for the
/// other.
///
/// # Errors
/// [`Error::Unfit`] on one line: the missing, unexpected and mis-shaped tensors (up to 8 of each, then a count) of the
/// reading that fits best; [`Error::File`]: the tensor that holds integers where weights belong; or the one that holds values
/// that are not finite, and how many.
pub fn fit(checkpoint: Checkpoint, expected: &[Expected], schemes: &[Scheme]) -> Result<BTreeMap<String, RawTensor>> {
    let Checkpoint { tensors, source, .. } = checkpoint;
    let mut tensors = unwrap_names(tensors, expected);
    let plain = Reading::new(None, &tensors, expected);
    let named = schemes.iter().map(|scheme| Reading::new(Some(scheme), &tensors, expected));
    let best = named.fold(plain, |best, next| if next.distance() < best.distance() { next } else { best });
    if best.distance() != (0, 0) {
        let found = best.describe(&tensors);
        return Err(Error::unfit(&source, found, "check the architecture, its arguments and num_classes"));
    }
    let mut fitted = BTreeMap::new();
    for (name, original) in &best.names {
        if !best.wanted.contains_key(name.as_str()) {
            continue; // a counter that nobody asked for
        }
        if let Some(tensor) = tensors.remove(original) {
            check_values(name, &tensor).map_err(|(found, hint)| Error::file(&source, found, hint))?;
            let shape = if is_counter(name) { tensor.shape } else { best.wanted[name.as_str()].shape.clone() };
            fitted.insert(name.clone(), RawTensor { shape, data: tensor.data });
        }
    }
    Ok(fitted)
}

/// Removes wrapper prefixes that all names share, unless the network's own names have them.
fn unwrap_names(mut tensors: BTreeMap<String, RawTensor>, expected: &[Expected]) -> BTreeMap<String, RawTensor> {
    let own = |prefix: &str| expected.iter().any(|expected| expected.name.starts_with(prefix));
    let mut before = usize::MAX;
    while tensors.keys().map(String::len).sum::<usize>() < before {
        before = tensors.keys().map(String::len).sum();
        for prefix in WRAPPERS.iter().filter(|prefix| !own(prefix)) {
            tensors = strip_common(tensors, prefix);
        }
    }
    tensors
}

fn is_counter(name: &str) -> bool {
    name.rsplit('.').next() == Some(COUNTER)
}

/// Whether two shapes are one, or a linear layer over flattened pixels and the convolution that covers them.
fn stands_for(found: &[usize], expected: &[usize]) -> bool {
    match (found, expected) {
        (&[rows, columns], &[out, c_in, kh, kw]) | (&[out, c_in, kh, kw], &[rows, columns]) => {
            rows == out && Some(columns) == c_in.checked_mul(kh).and_then(|n| n.checked_mul(kw))
        }
        _ => found == expected,
    }
}

/// The tensor of a checkpoint that is called `name` as it is, behind wrappers, or under one of `schemes`.
pub fn find<'c>(checkpoint: &'c Checkpoint, name: &str, schemes: &[Scheme]) -> Option<&'c RawTensor> {
    let is = |found: &str| {
        let bare = unwrapped(found);
        found == name || bare == name || schemes.iter().any(|scheme| scheme.rename(bare) == name)
    };
    checkpoint.tensors.iter().find(|(found, _)| is(found)).map(|(_, tensor)| tensor)
}

fn unwrapped(mut name: &str) -> &str {
    while let Some(rest) = WRAPPERS.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    name
}

/// A checkpoint's names under one scheme, compared with what is expected.
struct Reading<'e> {
    scheme: Option<&'static str>,
    /// Canonical name → name in the checkpoint.
    names: BTreeMap<String, String>,
    wanted: BTreeMap<&'e str, &'e Expected>,
    missing: Vec<&'e str>,
    unexpected: Vec<String>,
    /// Canonical names.
    misshaped: Vec<&'e str>,
}

impl<'e> Reading<'e> {
    fn new(scheme: Option<&Scheme>, tensors: &BTreeMap<String, RawTensor>, expected: &'e [Expected]) -> Self {
        let wanted: BTreeMap<&str, &Expected> =
            expected.iter().map(|expected| (expected.name.as_str(), expected)).collect();
        let mut names = BTreeMap::new();
        let mut unexpected = Vec::new();
        for original in tensors.keys() {
            let name = scheme.map_or_else(|| original.clone(), |scheme| scheme.rename(original));
            if name.is_empty() {
                continue; // what this scheme leaves out
            }
            let known = wanted.contains_key(name.as_str());
            if (known || is_counter(&name)) && !names.contains_key(&name) {
                names.insert(name, original.clone());
            } else {
                unexpected.push(original.clone());
            }
        }
        let needed = expected.iter().filter(|expected| !is_counter(&expected.name));
        let absent = needed.filter(|expected| !names.contains_key(&expected.name));
        let missing: BTreeSet<&str> = absent.map(|expected| expected.name.as_str()).collect();
        let fits = |expected: &Expected| {
            let tensor = names.get(&expected.name).and_then(|original| tensors.get(original));
            tensor.is_none_or(|tensor| stands_for(&tensor.shape, &expected.shape) || is_counter(&expected.name))
        };
        let misshaped = wanted.values().filter(|expected| !fits(expected)).map(|expected| expected.name.as_str());
        let misshaped = misshaped.collect();
        let scheme = scheme.map(|scheme| scheme.name);
        Self { scheme, names, missing: missing.into_iter().collect(), unexpected, misshaped, wanted }
    }

    /// How far from fitting: names first, then shapes.
    fn distance(&self) -> (usize, usize) {
        (self.missing.len() + self.unexpected.len(), self.misshaped.len())
    }

    fn describe(&self, tensors: &BTreeMap<String, RawTensor>) -> String {
        let mut parts = Vec::new();
        if !self.missing.is_empty() {
            parts.push(list("missing", self.missing.iter().map(|name| quote(name))));
        }
        if !self.unexpected.is_empty() {
            parts.push(list("unexpected", self.unexpected.iter().map(|name| quote(name))));
        }
        if !self.misshaped.is_empty() {
            let shapes = self.misshaped.iter().map(|name| {
                let found = self.names.get(*name).and_then(|original| tensors.get(original));
                let found = found.map(|tensor| tensor.shape.as_slice()).unwrap_or_default();
                let wanted = self.wanted.get(name).map(|expected| expected.shape.as_slice()).unwrap_or_default();
                format!("{} is {found:?}, expected {wanted:?}", quote(name))
            });
            parts.push(list("of another shape", shapes));
        }
        let scheme = self.scheme.map(|scheme| format!(" (names read as {scheme})")).unwrap_or_default();
        format!("the tensors do not fit the network{scheme}: {}", parts.join("; "))
    }
}

/// `2 missing: a, b`, with a count instead of the ninth and later ones.
fn list(what: &str, items: impl ExactSizeIterator<Item = String>) -> String {
    let total = items.len();
    let named: Vec<String> = items.take(NAMED).collect();
    let rest = if total > NAMED { format!(" and {} more", total - NAMED) } else { String::new() };
    format!("{total} {what}: {}{rest}", named.join(", "))
}

/// Weights are finite floats; only the counter is an integer.
fn check_values(name: &str, tensor: &RawTensor) -> std::result::Result<(), (String, &'static str)> {
    match &tensor.data {
        RawData::F32(values) => match values.iter().filter(|value| !value.is_finite()).count() {
            0 => Ok(()),
            bad => {
                let found = format!("tensor {} has {bad} of {} values not finite", quote(name), values.len());
                Err((found, "the training that wrote it diverged, or the file is damaged; use another checkpoint"))
            }
        },
        RawData::I64(_) if is_counter(name) => Ok(()),
        RawData::I64(_) => Err((
            format!("tensor {} holds integers", quote(name)),
            "quantised weights are not read; use the float ones",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A head that some code calls `linear`.
    const LINEAR: &[Scheme] = &[Scheme { name: "linear head", renames: &[("linear.*", "fc.*")] }];

    fn expected(list: &[(&str, &[usize])]) -> Vec<Expected> {
        let one = |(name, shape): &(&str, &[usize])| Expected { name: name.to_string(), shape: shape.to_vec() };
        list.iter().map(one).collect()
    }

    fn checkpoint(list: &[(&str, &[usize])]) -> Checkpoint {
        let zeros = |shape: &[usize]| RawData::F32(vec![0.0; shape.iter().product()]);
        let one = |(name, shape): &(&str, &[usize])| {
            (name.to_string(), RawTensor { shape: shape.to_vec(), data: zeros(shape) })
        };
        Checkpoint {
            tensors: list.iter().map(one).collect(),
            source: "model.pth".into(),
            sha256: String::new(),
            metadata: BTreeMap::new(),
        }
    }

    const NET: &[(&str, &[usize])] = &[("conv1.weight", &[2, 3, 1, 1]), ("bn1.bias", &[2]), ("fc.weight", &[4, 2])];

    #[test]
    fn names_are_unwrapped_and_renamed() {
        let wrapped = [
            ("module._orig_mod.conv1.weight", &[2usize, 3, 1, 1][..]),
            ("module._orig_mod.bn1.bias", &[2]),
            ("module._orig_mod.bn1.num_batches_tracked", &[]),
            ("module._orig_mod.linear.weight", &[4, 2]),
        ];
        let fitted = fit(checkpoint(&wrapped), &expected(NET), LINEAR).unwrap();
        assert_eq!(fitted.keys().collect::<Vec<_>>(), ["bn1.bias", "conv1.weight", "fc.weight"]);
        assert!(fit(checkpoint(&wrapped), &expected(NET), &[]).is_err());
    }

    #[test]
    fn the_difference_is_told_on_one_line() {
        let mut list = vec![("conv1.weight", &[9usize, 3, 1, 1][..]), ("fc.weight", &[4, 2])];
        let extra: Vec<String> = (0..11).map(|index| format!("head.{index:02}\n")).collect();
        list.extend(extra.iter().map(|name| (name.as_str(), &[1usize][..])));
        let message = fit(checkpoint(&list), &expected(NET), LINEAR).unwrap_err().to_string();
        assert_eq!(
            message,
            "model.pth: the tensors do not fit the network: 1 missing: `bn1.bias`; 11 unexpected: `head.00\\n`, \
             `head.01\\n`, `head.02\\n`, `head.03\\n`, `head.04\\n`, `head.05\\n`, `head.06\\n`, `head.07\\n` and 3 more; \
             1 of another shape: `conv1.weight` is [9, 3, 1, 1], expected [2, 3, 1, 1]; check the architecture, its \
             arguments and num_classes"
        );
    }

    #[test]
    fn counters_may_be_missing() {
        let mut wanted = expected(NET);
        wanted.push(Expected { name: "bn1.num_batches_tracked".into(), shape: vec![] });
        assert_eq!(fit(checkpoint(NET), &wanted, &[]).unwrap().len(), 3);
        let mut given = checkpoint(NET);
        let counter = RawTensor { shape: vec![1], data: RawData::I64(vec![7]) };
        given.tensors.insert("bn1.num_batches_tracked".into(), counter);
        assert_eq!(fit(given, &wanted, &[]).unwrap().len(), 4);
    }

    #[test]
    fn values_must_be_finite_floats() {
        let mut broken = checkpoint(NET);
        let values = vec![1.0, f32::NAN, f32::INFINITY, 0.0, 0.0, 0.0];
        broken.tensors.insert("conv1.weight".into(), RawTensor { shape: vec![2, 3, 1, 1], data: RawData::F32(values) });
        let message = fit(broken, &expected(NET), &[]).unwrap_err().to_string();
        assert!(message.contains("`conv1.weight` has 2 of 6 values not finite"), "{message}");
        let mut integers = checkpoint(NET);
        integers.tensors.insert("bn1.bias".into(), RawTensor { shape: vec![2], data: RawData::I64(vec![1, 2]) });
        let message = fit(integers, &expected(NET), &[]).unwrap_err().to_string();
        assert!(message.contains("`bn1.bias` holds integers"), "{message}");
    }

    #[test]
    fn a_linear_layer_is_the_convolution_that_covers_its_pixels() {
        let wanted = expected(&[("fc1.weight", &[4, 2, 3, 3]), ("fc2.weight", &[5, 4])]);
        let fitted = fit(checkpoint(&[("fc1.weight", &[4, 18]), ("fc2.weight", &[5, 4, 1, 1])]), &wanted, &[]).unwrap();
        assert_eq!(
            (&fitted["fc1.weight"].shape[..], &fitted["fc2.weight"].shape[..]),
            (&[4, 2, 3, 3][..], &[5, 4][..])
        );
        for shape in [&[18usize, 4][..], &[4, 9], &[72], &[2, 4, 3, 3], &[4, 2, 9]] {
            assert!(
                fit(checkpoint(&[("fc1.weight", shape), ("fc2.weight", &[5, 4])]), &wanted, &[]).is_err(),
                "{shape:?}"
            );
        }
    }

    #[test]
    fn a_tensor_is_found_behind_wrappers_and_other_names() {
        let given = checkpoint(&[("module.model.linear.weight", &[4, 2]), ("module.model.conv1.weight", &[1])]);
        assert_eq!(find(&given, "fc.weight", LINEAR).unwrap().shape, [4, 2]);
        assert_eq!(find(&given, "linear.weight", &[]).unwrap().shape, [4, 2]);
        assert!(find(&given, "fc.weight", &[]).is_none());
    }

    #[test]
    fn two_tensors_under_one_name_do_not_fit() {
        let mut list = NET.to_vec();
        list.push(("linear.weight", &[4, 2]));
        let message = fit(checkpoint(&list), &expected(NET), LINEAR).unwrap_err().to_string();
        assert!(message.contains("1 unexpected: `linear.weight`"), "{message}");
    }
}
