//! Torch checkpoints (`.pth`, `.pt`, `.th`, `.bin`): pickles, read without executing anything.
//!
//! A pickle is a program for a stack machine that may call any Python function. `machine` runs the part of it that
//! builds values; a name such as `os.system` is looked up in a short list of names that weights need (`globals`) and
//! refused if it is not there. What remains are inert values in an arena: lists, dicts, texts, and tensors as views
//! (offset, shape, strides) on storages that lie elsewhere in the file.
//!
//! Two containers: a zip archive (`NAME/data.pkl`, storages in `NAME/data/KEY`; `archive`), and the older plain format
//! of five pickles followed by the storages (`legacy`). Device tags (`cuda:0`, `mps`) are ignored.
//!
//! Format: `torch/serialization.py` and `pickletools.py` of the Python library.

mod archive;
mod globals;
mod legacy;
mod machine;
mod objects;
mod state_dict;
mod value;
mod view;

pub(super) use archive::read as read_zip;
pub(super) use legacy::read as read_legacy;

/// How many elements the tensors of a file may have together: each byte of the file up to four times, plus a margin for
/// small files. Tied weights stay far below; a one-element storage expanded to terabytes does not.
fn element_limit(file_bytes: usize) -> usize {
    file_bytes.saturating_mul(4).saturating_add(1 << 20)
}

#[cfg(test)]
mod tests;
