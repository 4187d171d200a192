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

/// Calls `f` for `seconds`, a few times at least, after a warm-up. `warm` runs in between, and `after` behind every timed call with
/// its milliseconds; what it takes is not timed but is part of the seconds.
pub(super) fn timed(
    seconds: f64,
    mut f: impl FnMut() -> Result<()>,
    warm: impl FnOnce(),
    mut after: impl FnMut(f64),
) -> Result<Timing> {
    for _ in 0..WARM_UP {
        f()?;
    }
    warm();
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut times = Vec::new();
    while times.len() < AT_LEAST || Instant::now() < end {
        let start = Instant::now();
        f()?;
        let took = start.elapsed().as_secs_f64() * 1e3;
        times.push(took);
        after(took);
    }
    Ok(Timing {
        min_ms: times.iter().copied().fold(f64::INFINITY, f64::min),
        calls: times.len(),
        median_ms: median(times),
    })
}

/// The middle one; the larger of two.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
