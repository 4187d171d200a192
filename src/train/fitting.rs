//! How much fits into the time that is left.

use std::time::Duration;

/// How many more rounds or updates fit into `left`, when `done` of them took `took`.
pub fn fitting(left: Duration, took: Duration, done: usize) -> usize {
    let each = took.as_secs_f64() / done.max(1) as f64;
    (left.as_secs_f64() / each.max(1e-6)) as usize
}
