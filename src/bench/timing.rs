//! Repeats, after a warm-up, until the time is over.

use crate::Result;
use std::time::{Duration, Instant};

/// Calls before the clock starts.
const WARM_UP: usize = 3;
/// Calls timed at least.
const AT_LEAST: usize = 5;

/// Times of repeated calls.
pub(super) struct Timing {
    pub median_ms: f64,
    pub min_ms: f64,
    pub calls: usize,
}

/// Calls `f` for `seconds`, a few times at least, after a warm-up; `warm` runs in between.
pub(super) fn timed_after(seconds: f64, mut f: impl FnMut() -> Result<()>, warm: impl FnOnce()) -> Result<Timing> {
    for _ in 0..WARM_UP {
        f()?;
    }
    warm();
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut times = Vec::new();
    while times.len() < AT_LEAST || Instant::now() < end {
        let start = Instant::now();
        f()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(Timing { median_ms: times[times.len() / 2], min_ms: times[0], calls: times.len() })
}

/// [`timed_after`] with nothing in between.
pub(super) fn timed(seconds: f64, f: impl FnMut() -> Result<()>) -> Result<Timing> {
    timed_after(seconds, f, || ())
}
