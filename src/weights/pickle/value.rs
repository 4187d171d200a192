//! The inert values that a pickle describes.
//!
//! Compound values live in an arena and refer to each other by index, so values may be shared, circular or nested
//! without limit while nothing here ever recurses, not even on drop.

use super::super::element::Element;
use super::super::fault::{Fault, Parse};
use super::globals::Kind;

/// A value: small, copied freely, borrowing its text from the pickle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits: little-endian two's complement.
    Long(&'a [u8]),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Index into the arena.
    Node(usize),
}

/// A compound value.
#[derive(Debug)]
pub(super) enum Node<'a> {
    List(Vec<Value<'a>>),
    Tuple(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    /// A Python name from the list of those that are allowed.
    Global(Kind, &'a str),
    Storage(Storage<'a>),
    Tensor(View<'a>),
    /// Something harmless that was not built (a numpy scalar, a date); it says what it was.
    Opaque(&'a str),
}

/// A stretch of elements stored outside the pickle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Storage<'a> {
    /// Its name in the archive, or in the list of keys of the plain format.
    pub(super) key: &'a str,
    pub(super) element: Element,
    /// Number of elements of the whole storage.
    pub(super) count: usize,
    /// The part that is seen (first element, number of elements): the whole, except in very old files.
    pub(super) window: (usize, usize),
}

/// A tensor: elements of a storage by offset and strides, all counted in elements.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View<'a> {
    pub(super) storage: Storage<'a>,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// All compound values of a pickle.
#[derive(Debug, Default)]
pub(super) struct Arena<'a> {
    pub(super) nodes: Vec<Node<'a>>,
}

impl<'a> Arena<'a> {
    /// Adds a compound value.
    pub(super) fn add(&mut self, node: Node<'a>) -> Value<'a> {
        self.nodes.push(node);
        Value::Node(self.nodes.len() - 1)
    }

    /// The compound value behind `value`, if it is one.
    pub(super) fn node(&self, value: Value<'a>) -> Option<&Node<'a>> {
        match value {
            Value::Node(index) => self.nodes.get(index),
            _ => None,
        }
    }

    /// The entries of a dict.
    pub(super) fn dict(&self, value: Value<'a>) -> Option<&[(Value<'a>, Value<'a>)]> {
        match self.node(value) {
            Some(Node::Dict(entries)) => Some(entries),
            _ => None,
        }
    }

    /// The items of a list or tuple.
    pub(super) fn items(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match self.node(value) {
            Some(Node::List(items) | Node::Tuple(items)) => Some(items),
            _ => None,
        }
    }

    /// The entry of a dict under a text key; the last one counts, as in Python.
    pub(super) fn get(&self, dict: Value<'a>, key: &str) -> Option<Value<'a>> {
        self.dict(dict)?.iter().rev().find(|(name, _)| *name == Value::Text(key)).map(|(_, value)| *value)
    }

    /// What kind of value this is, for messages.
    pub(super) fn describe(&self, value: Value<'a>) -> String {
        match (value, self.node(value)) {
            (Value::None, _) => "None".into(),
            (Value::Bool(_), _) => "a bool".into(),
            (Value::Int(_) | Value::Long(_), _) => "an integer".into(),
            (Value::Float(_), _) => "a float".into(),
            (Value::Text(_), _) => "a text".into(),
            (Value::Bytes(_), _) => "bytes".into(),
            (_, Some(Node::List(_))) => "a list".into(),
            (_, Some(Node::Tuple(_))) => "a tuple".into(),
            (_, Some(Node::Dict(_))) => "a dict".into(),
            (_, Some(Node::Storage(_))) => "a bare storage".into(),
            (_, Some(Node::Tensor(_))) => "a tensor".into(),
            (_, Some(Node::Global(_, name) | Node::Opaque(name))) => format!("`{name}`"),
            (Value::Node(_), None) => "nothing".into(),
        }
    }
}

/// A value that must be an integer from 0 up.
pub(super) fn natural(value: Option<&Value>, what: &'static str) -> Parse<usize> {
    match value {
        Some(Value::Int(number)) => {
            usize::try_from(*number).map_err(|_| Fault::damaged(format!("{what} of {number} in the pickle")))
        }
        _ => Err(Fault::damaged(format!("{what} that is no integer in the pickle"))),
    }
}
