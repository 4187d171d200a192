//! Commands through the binary: what they write, say and refuse.

mod errors;
mod export;
mod only_answers;
mod run;
mod suite;
#[path = "../common/tiny.rs"]
mod tiny;
