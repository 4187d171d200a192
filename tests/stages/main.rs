//! Both stages and what surrounds them, through the library and the binary.

mod behaviour;
mod collect;
#[path = "../common/mod.rs"]
mod common;
mod keys;
mod methods;
mod pipeline;
mod pixels;
#[path = "../common/random.rs"]
mod random;
mod resume;
mod round_trips;
mod sizes;
mod told;
mod views;

/// As in the program: the system's allocator gives large buffers back and takes them anew.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
