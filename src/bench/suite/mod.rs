//! The benchmark harness behind `synth bench SUITE.toml`.
//!
//! | file | content |
//! |---|---|
//! | `file.rs`, `budget.rs` | what a suite says, and what a budget means for a recipe |
//! | `places.rs` | where its models and data lie here |
//! | `plan.rs`, `run.rs`, `names.rs` | the runs of a suite, named by all that matters to them |
//! | `command.rs`, `process.rs` | one run: a process of this program, in a folder of its own |
//! | `baseline.rs` | sets of real images and of noise |
//! | `measure.rs` | accuracy, when a run is over |
//! | `machine.rs`, `results.rs` | what is known of a run: `results.jsonl` |
//! | `known.rs`, `earlier.rs` | such rows from another folder or machine, or of an earlier program |
//! | `summary.rs`, `table.rs`, `page/` | mean and spread over seeds: `table.md`, `index.html` |
//! | `peers.rs` | published results |
//! | `harness.rs` | a suite from its first run to its page |

mod baseline;
mod budget;
mod command;
mod earlier;
mod file;
mod harness;
mod known;
mod machine;
mod measure;
mod names;
mod page;
mod peers;
mod places;
mod plan;
mod process;
mod results;
mod run;
mod summary;
mod table;

pub use command::Surroundings;
pub use file::{Baseline, Budget, Method, Start, Suite, TeacherEntry};
pub use harness::{Count, Options, carry_out_suite};
pub use known::Known;
pub use measure::Wanted;
pub use peers::Peers;
pub use places::Places;
pub use plan::Plan;
pub use run::{Kind, Run};
