//! The state dict inside what was pickled, and its tensors.

use std::collections::BTreeMap;

use super::super::fault::{Fault, Parse, quote};
use super::super::{Contents, RawTensor, schemes};
use super::machine::Pickle;
use super::value::{Node, Value, View};

/// Where training programs put the state dict; one of averaged weights (EMA) is under the same key with `_ema` behind it.
const WRAPPERS: [&str; 5] = ["state_dict", "model", "model_state_dict", "net", "weights"];
/// Wrappers may be nested this deep (`{"model": {"state_dict": ...}}`).
const DEPTH: usize = 3;
/// Texts beside the state dict are kept up to this length.
const TEXT_LIMIT: usize = 256;

/// The tensors of a pickle, still as views, and the plain values beside them.
pub(super) struct StateDict<'a> {
    tensors: BTreeMap<&'a str, &'a View<'a>>,
    metadata: BTreeMap<String, String>,
    warning: Option<String>,
}

impl<'a> StateDict<'a> {
    /// Finds the state dict at the top, or under one of the usual keys.
    ///
    /// # Errors
    /// If there is none, or one of its entries is a tensor of a kind that cannot be read.
    pub(super) fn find(pickle: &'a Pickle<'a>) -> Parse<Self> {
        let arena = &pickle.arena;
        let mut dict = pickle.root;
        let mut metadata = BTreeMap::new();
        let mut warning = None;
        for _ in 0..DEPTH {
            let mut inner = WRAPPERS.iter().filter_map(|key| Some((*key, arena.get(dict, key)?)));
            let Some((key, inner)) = inner.find(|(_, value)| arena.dict(*value).is_some()) else { break };
            let averaged = format!("{key}_ema");
            let entries = arena.get(dict, &averaged).and_then(|value| arena.dict(value));
            if entries.is_some_and(|entries| !entries.is_empty()) {
                warning = Some(format!(
                    "it holds trained weights and their averages: `{key}` is taken, `{averaged}` is left; to use that, save it \
                     alone with torch.save"
                ));
            }
            metadata.extend(plain_values(arena.dict(dict).unwrap_or_default()));
            dict = inner;
        }
        let entries = arena.dict(dict).ok_or_else(|| {
            let found = format!("the pickle holds {}, not a dict of tensors", arena.describe(dict));
            Fault::new(found, "save it with torch.save(model.state_dict(), path)")
        })?;
        let mut tensors = BTreeMap::new();
        for (key, value) in entries {
            match (key, arena.node(*value)) {
                (Value::Text(name), Some(Node::Tensor(view))) => {
                    tensors.insert(*name, view);
                }
                (Value::Text(name), Some(Node::Opaque(kind))) if kind.starts_with("_rebuild") => {
                    let found = format!("tensor {} is built by {}", quote(name), quote(kind));
                    return Err(Fault::new(found, "only dense tensors are read: not quantised, sparse or meta ones"));
                }
                _ => {}
            }
        }
        if tensors.is_empty() {
            return Err(no_tensors(entries));
        }
        Ok(Self { tensors, metadata, warning })
    }

    /// Copies all tensors out, one storage at a time.
    ///
    /// `storage` gives the bytes of a storage; `limit` is the number of elements that all tensors together may have
    /// (views may repeat elements, so the size of the file alone does not bound them).
    pub(super) fn read<B: AsRef<[u8]>>(
        self,
        limit: usize,
        big_endian: bool,
        mut storage: impl FnMut(&View) -> Parse<B>,
    ) -> Parse<Contents> {
        let mut total = 0usize;
        for (name, view) in &self.tensors {
            total = total.saturating_add(view.count()?);
            if total > limit {
                let found = format!("tensor {} repeats its elements {} times over", quote(name), view.count()?);
                return Err(Fault::new(found, "save plain tensors: tensor.clone() before torch.save"));
            }
        }
        let mut tensors: BTreeMap<String, RawTensor> = BTreeMap::new();
        let mut by_key: BTreeMap<&str, Vec<(&str, &View)>> = BTreeMap::new();
        for (name, view) in &self.tensors {
            by_key.entry(view.storage.key).or_default().push((name, view));
        }
        for views in by_key.values() {
            let Some((_, first)) = views.first() else { continue };
            let bytes = storage(first)?;
            for (name, view) in views {
                let gathered = view.gather(bytes.as_ref(), big_endian);
                let tensor = gathered
                    .map_err(|fault| Fault::new(format!("tensor {}: {}", quote(name), fault.found), fault.hint))?;
                tensors.insert((*name).to_string(), tensor);
            }
        }
        let tensors = schemes::strip_common(tensors, "module.");
        Ok(Contents { tensors, metadata: self.metadata, warning: self.warning })
    }
}

/// Numbers and short texts of a dict, as text.
fn plain_values<'a>(entries: &'a [(Value<'a>, Value<'a>)]) -> impl Iterator<Item = (String, String)> + 'a {
    entries.iter().filter_map(|(key, value)| {
        let Value::Text(key) = key else { return None };
        let text = match value {
            Value::Bool(flag) => flag.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Text(text) if text.len() <= TEXT_LIMIT => (*text).to_string(),
            _ => return None,
        };
        Some(((*key).to_string(), text))
    })
}

fn no_tensors(entries: &[(Value, Value)]) -> Fault {
    let names =
        entries.iter().filter_map(|(key, _)| if let Value::Text(name) = key { Some(quote(name)) } else { None });
    let names: Vec<String> = names.take(8).collect();
    let found = if names.is_empty() {
        "a dict without tensors".to_string()
    } else {
        format!("no tensors at the top nor under the usual keys; the keys are {}", names.join(", "))
    };
    Fault::new(found, "expected a state dict, at the top or under `state_dict` or `model`")
}
