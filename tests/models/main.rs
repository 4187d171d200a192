//! Published models and those of other libraries: files, logits, accuracy.

mod libraries;
mod published;
mod segmentation;
mod weights;

/// As in the program: the system's allocator gives large buffers back and takes them anew.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
