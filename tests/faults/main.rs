//! What may happen to a run, done to real processes of the program: none may be lost.
//!
//! A run is lost when it cannot be gone on with to the bits of an undisturbed one. With `SYNTH_FAULTS=full` (`benches/faults.sh`)
//! every fault is tried more often, and what came of it is written to `docs/FAULTS.md`.
#![cfg(target_os = "linux")]

#[path = "../common/hub/mod.rs"]
mod hub;

mod clock;
mod damage;
mod disk;
mod download;
mod inputs;
mod kills;
mod lock;
mod long_runs;
mod mount;
mod outcome;
mod oversized;
mod process;
mod read_only;
mod signals;
mod table;
mod teacher;
mod work;
