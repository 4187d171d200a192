//! The stack machine: pickle opcodes of protocols 2 to 5, as `pickletools` documents them.
//!
//! Work and memory are bounded by the length of the pickle: every opcode takes at least one byte, texts are borrowed, and
//! the only copies (a dict from a list of pairs, a tensor's shape) are counted against a budget.

use std::collections::HashMap;

use super::super::fault::{Fault, Parse};
use super::value::{Arena, Node, Value};
use super::{globals, objects};

/// More values on the stack, remembered or compound than any checkpoint has: a pickle of a byte each would take a hundred times
/// its size.
const STACK_LIMIT: usize = 1 << 20;
/// More items in all lists and dicts together.
const ITEM_LIMIT: usize = 1 << 22;

/// The longest name of a Python module or function.
const NAME_LIMIT: usize = 4096;

/// A finished pickle.
pub(super) struct Pickle<'a> {
    /// All compound values.
    pub(super) arena: Arena<'a>,
    /// The value that the pickle describes.
    pub(super) root: Value<'a>,
    /// Bytes read, up to and including the STOP opcode.
    pub(super) length: usize,
}

/// Runs one pickle from the start of `bytes`.
///
/// # Errors
/// On an unknown opcode, a name that is not allowed, a stack that does not fit, or a premature end.
pub(super) fn run(bytes: &[u8]) -> Parse<Pickle<'_>> {
    let mut machine = Machine {
        bytes,
        position: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        arena: Arena::default(),
        budget: bytes.len().min(ITEM_LIMIT),
        room: ITEM_LIMIT,
    };
    loop {
        let opcode = machine.byte()?;
        if opcode == b'.' {
            let root = machine.pop()?;
            return Ok(Pickle { arena: machine.arena, root, length: machine.position });
        }
        machine.step(opcode)?;
        let held = [machine.stack.len(), machine.memo.len(), machine.marks.len(), machine.arena.nodes.len()];
        if held.into_iter().any(|count| count > STACK_LIMIT) {
            return Err(Fault::damaged(format!("a pickle that holds more than {STACK_LIMIT} values at once")));
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<usize, Value<'a>>,
    arena: Arena<'a>,
    /// Items that may still be copied.
    budget: usize,
    /// Items that may still be put into lists, tuples and dicts.
    room: usize,
}

impl<'a> Machine<'a> {
    fn step(&mut self, opcode: u8) -> Parse<()> {
        match opcode {
            0x80 => self.protocol(),
            0x95 => self.take(8).map(|_| ()), // FRAME: a hint for buffering
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.discard(),
            b'1' => self.pop_mark().map(|_| ()),
            b'2' => {
                let top = self.top()?;
                self.push(top)
            }
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool(opcode == 0x88)),
            b'K' | b'M' | b'J' | 0x8a | 0x8b | b'G' => self.number(opcode),
            b'X' | 0x8c | 0x8d | b'U' | b'T' | b'C' | b'B' | 0x8e | 0x96 => self.text(opcode),
            b']' | b')' | b'}' | 0x8f | b'l' | b't' | 0x85..=0x87 | 0x91 => self.collection(opcode),
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(opcode),
            b'q' | b'r' | 0x94 => self.remember(opcode),
            b'h' | b'j' => self.recall(opcode),
            b'c' | 0x93 => self.global(opcode),
            b'R' | 0x81 | 0x92 => self.call(opcode),
            b'b' => self.pop().map(|_| ()), // BUILD: attributes (`_metadata`) of the value below
            b'Q' => {
                let id = self.pop()?;
                let storage = objects::storage(&self.arena, id)?;
                self.push_node(Node::Storage(storage))
            }
            _ => Err(Fault::damaged(format!("pickle opcode {opcode:#04x} at byte {}", self.position - 1))),
        }
    }

    fn protocol(&mut self) -> Parse<()> {
        match self.byte()? {
            2..=5 => Ok(()),
            other => Err(Fault::new(format!("pickle protocol {other}"), "save it with torch.save, protocol 2 to 5")),
        }
    }

    fn number(&mut self, opcode: u8) -> Parse<()> {
        let value = match opcode {
            b'K' => Value::Int(i64::from(self.byte()?)),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.array()?))),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.array()?))),
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            _ => {
                let length = if opcode == 0x8a { usize::from(self.byte()?) } else { self.length::<4>()? };
                long(self.take(length)?)
            }
        };
        self.push(value)
    }

    fn text(&mut self, opcode: u8) -> Parse<()> {
        let length = match opcode {
            0x8c | b'U' | b'C' => usize::from(self.byte()?),
            b'X' | b'T' | b'B' => self.length::<4>()?,
            _ => self.length::<8>()?,
        };
        let bytes = self.take(length)?;
        let value = match opcode {
            b'X' | 0x8c | 0x8d => Value::Text(utf8(bytes)?),
            // A Python 2 string: text if it can be.
            b'U' | b'T' => std::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Text),
            _ => Value::Bytes(bytes),
        };
        self.push(value)
    }

    fn collection(&mut self, opcode: u8) -> Parse<()> {
        let node = match opcode {
            b']' | 0x8f => Node::List(Vec::new()),
            b')' => Node::Tuple(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            b'l' | 0x91 => Node::List(self.pop_mark()?),
            b't' => Node::Tuple(self.pop_mark()?),
            _ => {
                let mut items = Vec::with_capacity(3);
                for _ in 0x85..=opcode {
                    items.push(self.pop()?);
                }
                items.reverse();
                Node::Tuple(items)
            }
        };
        self.push_node(node)
    }

    /// APPEND, APPENDS, SETITEM, SETITEMS, ADDITEMS: items into the value below them.
    fn fill(&mut self, opcode: u8) -> Parse<()> {
        let items = match opcode {
            b'a' => {
                self.make_room(1)?;
                vec![self.pop()?]
            }
            b's' => {
                self.make_room(2)?;
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_mark()?,
        };
        let target = self.top()?;
        let node = match target {
            Value::Node(index) => self.arena.nodes.get_mut(index),
            _ => None,
        };
        match (opcode, node) {
            (_, Some(Node::Opaque(_))) => Ok(()),
            (b'a' | b'e' | 0x90, Some(Node::List(list))) => {
                list.extend(items);
                Ok(())
            }
            (b's' | b'u', Some(Node::Dict(entries))) => {
                let (pairs, rest) = items.as_chunks::<2>();
                entries.extend(pairs.iter().map(|&[key, value]| (key, value)));
                if rest.is_empty() { Ok(()) } else { Err(Fault::damaged("a dict key without a value in the pickle")) }
            }
            _ => Err(Fault::damaged(format!("the pickle adds items to {}", self.arena.describe(target)))),
        }
    }

    fn remember(&mut self, opcode: u8) -> Parse<()> {
        let index = match opcode {
            b'q' => usize::from(self.byte()?),
            b'r' => self.length::<4>()?,
            _ => self.memo.len(),
        };
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Parse<()> {
        let index = if opcode == b'h' { usize::from(self.byte()?) } else { self.length::<4>()? };
        let value = self.memo.get(&index).copied();
        self.push(
            value.ok_or_else(|| Fault::damaged(format!("the pickle recalls value {index}, which it never kept")))?,
        )
    }

    fn global(&mut self, opcode: u8) -> Parse<()> {
        let (module, name) = if opcode == b'c' {
            (self.line()?, self.line()?)
        } else {
            match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => (module, name),
                _ => return Err(Fault::damaged("a global without a name in the pickle")),
            }
        };
        let kind = globals::lookup(module, name)?;
        self.push_node(Node::Global(kind, name))
    }

    /// REDUCE, NEWOBJ, NEWOBJ_EX.
    fn call(&mut self, opcode: u8) -> Parse<()> {
        if opcode == 0x92 {
            self.pop()?; // keyword arguments
        }
        let arguments = self.pop()?;
        let function = self.pop()?;
        let budget = &mut self.budget;
        let mut afford = |items: usize| {
            *budget = budget.checked_sub(items).ok_or_else(|| Fault::damaged("a pickle that copies itself"))?;
            Ok(())
        };
        let built = objects::build(&mut self.arena, function, arguments, &mut afford)?;
        self.push(built)
    }

    /// POP: the top of the stack, or an open mark.
    fn discard(&mut self) -> Parse<()> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(|_| ())
    }

    fn push(&mut self, value: Value<'a>) -> Parse<()> {
        self.stack.push(value);
        Ok(())
    }

    fn push_node(&mut self, node: Node<'a>) -> Parse<()> {
        let value = self.arena.add(node);
        self.push(value)
    }

    /// The top of the stack; never below the last mark.
    fn top(&self) -> Parse<Value<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let above = self.stack.get(floor..).and_then(<[_]>::last);
        above.copied().ok_or_else(|| Fault::damaged(format!("the pickle's stack is empty at byte {}", self.position)))
    }

    fn pop(&mut self) -> Parse<Value<'a>> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// Everything above the last mark.
    fn pop_mark(&mut self) -> Parse<Vec<Value<'a>>> {
        let mark = self.marks.pop().ok_or_else(|| Fault::damaged("a mark is missing in the pickle"))?;
        // Exactly as large as needed: `split_off` may hand over the capacity of the whole stack.
        let items: Vec<Value> = self.stack.drain(mark.min(self.stack.len())..).collect();
        self.make_room(items.len())?;
        Ok(items)
    }

    fn make_room(&mut self, items: usize) -> Parse<()> {
        let left = self.room.checked_sub(items);
        self.room = left.ok_or_else(|| Fault::damaged(format!("a pickle with more than {ITEM_LIMIT} items")))?;
        Ok(())
    }

    fn take(&mut self, length: usize) -> Parse<&'a [u8]> {
        let end = self.position.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.position..end));
        let taken = taken.ok_or_else(|| Fault::damaged(format!("the pickle ends early, at byte {}", self.position)))?;
        self.position += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Parse<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Parse<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// An unsigned length of N bytes; whether the file is that long is checked by `take`.
    fn length<const N: usize>(&mut self) -> Parse<usize> {
        let bytes = self.take(N)?;
        let wide = bytes.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
        usize::try_from(wide).map_err(|_| Fault::damaged(format!("a length of {wide} in the pickle")))
    }

    /// A text that ends with a line feed.
    fn line(&mut self) -> Parse<&'a str> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let length = rest.iter().take(NAME_LIMIT).position(|&byte| byte == b'\n');
        let length = length.ok_or_else(|| Fault::damaged("a name without an end in the pickle"))?;
        let line = self.take(length)?;
        self.byte()?;
        utf8(line)
    }
}

fn utf8(bytes: &[u8]) -> Parse<&str> {
    std::str::from_utf8(bytes).map_err(|_| Fault::damaged("a text in the pickle that is not UTF-8"))
}

/// A little-endian two's complement integer of any length.
fn long(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::Long(bytes);
    }
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}
