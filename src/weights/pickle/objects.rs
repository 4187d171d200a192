//! What the few allowed Python names build: dicts, storages and tensors.

use super::super::element::Element;
use super::super::fault::{Fault, Parse};
use super::globals::Kind;
use super::value::{Arena, Node, Storage, Value, View, natural};

/// More dimensions than torch itself allows.
const RANK_LIMIT: usize = 64;

/// Calls `function` with `arguments` (a tuple) in the only sense in which anything is called here: building a value.
///
/// `afford` is asked before items are copied.
pub(super) fn build<'a>(
    arena: &mut Arena<'a>,
    function: Value<'a>,
    arguments: Value<'a>,
    afford: &mut dyn FnMut(usize) -> Parse<()>,
) -> Parse<Value<'a>> {
    let (kind, name) = match arena.node(function) {
        Some(Node::Global(kind, name)) => (*kind, *name),
        Some(Node::Opaque(name)) => (Kind::Opaque, *name),
        _ => return Err(Fault::damaged(format!("the pickle calls {}", arena.describe(function)))),
    };
    let given = arena.items(arguments).ok_or_else(|| Fault::damaged("the pickle calls a name without arguments"))?;
    match kind {
        Kind::Opaque | Kind::Storage(_) | Kind::Element(_) => Ok(arena.add(Node::Opaque(name))),
        Kind::First => given.first().copied().ok_or_else(|| Fault::damaged(format!("`{name}` without an argument"))),
        Kind::EmptyDict => Ok(arena.add(Node::Dict(Vec::new()))),
        Kind::Dict => {
            let entries = match given.first() {
                None => Vec::new(),
                Some(pairs) => entries(arena, *pairs, afford)?,
            };
            Ok(arena.add(Node::Dict(entries)))
        }
        Kind::Tensor => {
            let view = tensor(arena, given, None, afford)?;
            Ok(arena.add(Node::Tensor(view)))
        }
        Kind::TensorOfElement => {
            let element = match given.get(6).and_then(|value| arena.node(*value)) {
                Some(Node::Global(Kind::Element(element), _)) => *element,
                _ => return Err(Fault::damaged("a tensor without an element type in the pickle")),
            };
            let view = tensor(arena, given, Some(element), afford)?;
            Ok(arena.add(Node::Tensor(view)))
        }
    }
}

/// The entries of a dict given as a dict or a list of pairs.
fn entries<'a>(
    arena: &Arena<'a>,
    source: Value<'a>,
    afford: &mut dyn FnMut(usize) -> Parse<()>,
) -> Parse<Vec<(Value<'a>, Value<'a>)>> {
    if let Some(entries) = arena.dict(source) {
        afford(entries.len())?;
        return Ok(entries.to_vec());
    }
    let pairs = arena.items(source).ok_or_else(|| Fault::damaged("a dict made of something else in the pickle"))?;
    afford(pairs.len())?;
    let pair = |pair: &Value<'a>| match arena.items(*pair) {
        Some([key, value]) => Ok((*key, *value)),
        _ => Err(Fault::damaged("a dict entry that is no pair in the pickle")),
    };
    pairs.iter().map(pair).collect()
}

/// A tensor from `(storage, offset, size, stride, ...)`; `element` reinterprets the bytes of an untyped storage.
fn tensor<'a>(
    arena: &Arena<'a>,
    given: &[Value<'a>],
    element: Option<Element>,
    afford: &mut dyn FnMut(usize) -> Parse<()>,
) -> Parse<View<'a>> {
    let [storage, _, size, stride, ..] = given else {
        return Err(Fault::damaged("a tensor with too few arguments in the pickle"));
    };
    let Some(Node::Storage(storage)) = arena.node(*storage) else {
        let found = format!("a tensor over {} instead of a storage in the pickle", arena.describe(*storage));
        return Err(Fault::damaged(found));
    };
    let mut storage = *storage;
    if let Some(element) = element {
        let bytes = storage.element.size();
        storage.count = storage.count.saturating_mul(bytes) / element.size();
        storage.window = (0, storage.count);
        storage.element = element;
    }
    let mut naturals = |value: &Value<'a>, what| {
        let items = arena.items(*value).filter(|items| items.len() <= RANK_LIMIT);
        let items = items.ok_or_else(|| Fault::damaged(format!("{what} that is no short tuple in the pickle")))?;
        afford(items.len())?;
        items.iter().map(|item| natural(Some(item), what)).collect::<Parse<Vec<usize>>>()
    };
    let shape = naturals(size, "a tensor size")?;
    let strides = naturals(stride, "a tensor stride")?;
    let view = View { storage, offset: natural(given.get(1), "a storage offset")?, shape, strides };
    view.check()?;
    Ok(view)
}

/// A storage from its persistent id: `('storage', class, key, device, count[, (key, offset, count)])`.
pub(super) fn storage<'a>(arena: &Arena<'a>, id: Value<'a>) -> Parse<Storage<'a>> {
    let parts = arena.items(id).unwrap_or_default();
    let [Value::Text("storage"), class, Value::Text(key), _device, count, rest @ ..] = parts else {
        let found = match parts {
            [Value::Text("module"), ..] => "a whole pickled module, with its program text",
            _ => "a persistent id that is no storage in the pickle",
        };
        return Err(Fault::new(found, "save only the weights: torch.save(model.state_dict(), path)"));
    };
    let Some(Node::Global(Kind::Storage(element), _)) = arena.node(*class) else {
        return Err(Fault::damaged(format!("a storage of class {} in the pickle", arena.describe(*class))));
    };
    let count = natural(Some(count), "a storage size")?;
    let window = match rest.first().and_then(|metadata| arena.items(*metadata)) {
        Some(metadata) => (natural(metadata.get(1), "a view offset")?, natural(metadata.get(2), "a view size")?),
        None => (0, count),
    };
    if window.0.checked_add(window.1).is_none_or(|end| end > count) {
        return Err(Fault::damaged("a storage view beyond its storage in the pickle"));
    }
    Ok(Storage { key, element: *element, count, window })
}
