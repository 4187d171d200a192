//! The Python names that a checkpoint may mention, and what each stands for. Everything else is refused.

use super::super::element::Element;
use super::super::fault::{Fault, Parse, quote};

/// What a Python name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Builds a dict; the argument may be a list of pairs.
    Dict,
    /// Builds a dict that starts empty, whatever its arguments (a default factory).
    EmptyDict,
    /// A class of storages.
    Storage(Element),
    /// An element type, as an argument.
    Element(Element),
    /// `(storage, offset, size, stride, ...)` → tensor.
    Tensor,
    /// `(storage, offset, size, stride, requires_grad, hooks, dtype, ...)` → tensor over an untyped storage.
    TensorOfElement,
    /// Returns its first argument (a parameter is its tensor, a `torch.Size` is its tuple).
    First,
    /// Harmless and not needed: whatever it builds stays opaque.
    Opaque,
}

/// Looks a name up.
///
/// # Errors
/// Names the global that is not on the list.
pub(super) fn lookup(module: &str, name: &str) -> Parse<Kind> {
    let module = match module {
        "__builtin__" => "builtins",   // Python 2
        "pathlib._local" => "pathlib", // Python 3.13
        other => other,
    };
    if let Some((_, _, kind)) = NAMES.iter().find(|entry| (entry.0, entry.1) == (module, name)) {
        return Ok(*kind);
    }
    if matches!(module, "torch" | "torch.cuda" | "torch.storage")
        && let Some((_, element)) = STORAGES.iter().find(|entry| entry.0 == name)
    {
        return Ok(Kind::Storage(*element));
    }
    if module == "torch"
        && let Some((_, element)) = ELEMENTS.iter().find(|entry| entry.0 == name)
    {
        return Ok(Kind::Element(*element));
    }
    if OPAQUE.contains(&(module, name)) {
        return Ok(Kind::Opaque);
    }
    Err(refuse(module, name))
}

fn refuse(module: &str, name: &str) -> Fault {
    let found = format!("the pickle asks for {}, which no weights need; nothing was run", quote(&full(module, name)));
    let hint = if module.starts_with("__torch__") {
        "this is a TorchScript program: save the weights with torch.save(model.state_dict(), path)"
    } else {
        "if you trust its origin, load it in Python and save only torch.save(model.state_dict(), path)"
    };
    Fault::new(found, hint)
}

fn full(module: &str, name: &str) -> String {
    format!("{module}.{name}")
}

const NAMES: &[(&str, &str, Kind)] = &[
    ("collections", "OrderedDict", Kind::Dict),
    ("builtins", "dict", Kind::Dict),
    ("collections", "defaultdict", Kind::EmptyDict),
    ("collections", "Counter", Kind::EmptyDict),
    ("torch._utils", "_rebuild_tensor", Kind::Tensor),
    ("torch._utils", "_rebuild_tensor_v2", Kind::Tensor),
    ("torch._utils", "_rebuild_tensor_v3", Kind::TensorOfElement),
    ("torch._utils", "_rebuild_parameter", Kind::First),
    ("torch._utils", "_rebuild_parameter_with_state", Kind::First),
    ("torch", "Size", Kind::First),
];

const COMPLEX64: Element = Element::Foreign("complex64", 8);
const COMPLEX128: Element = Element::Foreign("complex128", 16);

const STORAGES: &[(&str, Element)] = &[
    ("DoubleStorage", Element::F64),
    ("FloatStorage", Element::F32),
    ("HalfStorage", Element::F16),
    ("BFloat16Storage", Element::Bf16),
    ("LongStorage", Element::I64),
    ("IntStorage", Element::I32),
    ("ShortStorage", Element::I16),
    ("CharStorage", Element::I8),
    ("ByteStorage", Element::U8),
    ("BoolStorage", Element::Bool),
    ("UntypedStorage", Element::U8),
    ("ComplexFloatStorage", COMPLEX64),
    ("ComplexDoubleStorage", COMPLEX128),
    ("QInt8Storage", Element::Foreign("qint8", 1)),
    ("QUInt8Storage", Element::Foreign("quint8", 1)),
    ("QInt32Storage", Element::Foreign("qint32", 4)),
];

const ELEMENTS: &[(&str, Element)] = &[
    ("float64", Element::F64),
    ("float32", Element::F32),
    ("float16", Element::F16),
    ("bfloat16", Element::Bf16),
    ("int64", Element::I64),
    ("int32", Element::I32),
    ("int16", Element::I16),
    ("int8", Element::I8),
    ("uint64", Element::U64),
    ("uint32", Element::U32),
    ("uint16", Element::U16),
    ("uint8", Element::U8),
    ("bool", Element::Bool),
    ("complex64", COMPLEX64),
    ("complex128", COMPLEX128),
    ("float8_e4m3fn", Element::Foreign("float8", 1)),
    ("float8_e5m2", Element::Foreign("float8", 1)),
];

/// Seen beside the weights in training checkpoints: scores, options, dates, optimizer odds and ends.
const OPAQUE: &[(&str, &str)] = &[
    ("_codecs", "encode"),
    ("argparse", "Namespace"),
    ("builtins", "bytearray"),
    ("builtins", "complex"),
    ("builtins", "float"),
    ("builtins", "frozenset"),
    ("builtins", "int"),
    ("builtins", "list"),
    ("builtins", "range"),
    ("builtins", "set"),
    ("builtins", "slice"),
    ("builtins", "str"),
    ("builtins", "tuple"),
    ("datetime", "date"),
    ("datetime", "datetime"),
    ("datetime", "timedelta"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.dtypes", "Float32DType"),
    ("numpy.dtypes", "Float64DType"),
    ("numpy.dtypes", "Int64DType"),
    ("pathlib", "Path"),
    ("pathlib", "PosixPath"),
    ("pathlib", "PurePosixPath"),
    ("pathlib", "PureWindowsPath"),
    ("pathlib", "WindowsPath"),
    ("torch", "contiguous_format"),
    ("torch", "channels_last"),
    ("torch", "device"),
    ("torch._tensor", "_rebuild_from_type_v2"),
    ("torch._utils", "_rebuild_meta_tensor_no_storage"),
    ("torch._utils", "_rebuild_qtensor"),
    ("torch._utils", "_rebuild_sparse_csr_tensor"),
    ("torch._utils", "_rebuild_sparse_tensor"),
    ("torch.serialization", "_get_layout"),
    ("torch.torch_version", "TorchVersion"),
];
