//! Signals that ask the program to end: Ctrl-C, `kill`, a terminal that closes.

#[cfg(unix)]
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
#[cfg(unix)]
use std::time::{Duration, Instant};

/// Signals that come closer together than this have one reason: a terminal, a harness and a service may each send one. Two of
/// Ctrl-C have two.
#[cfg(unix)]
const TOGETHER: Duration = Duration::from_secs(1);

/// Makes the first signal end what runs at its next step, with its state put away, and the next one end the program at once.
///
/// Signals that were ignored when the program started, as `nohup` and a shell's `&` have them, stay so. Where there are no such
/// signals the system's own Ctrl-C ends the program, and what runs has the states that it put away on its way.
pub fn heed() {
    #[cfg(unix)]
    {
        let ignored = ignored();
        let heeded = [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
        let Ok(mut signals) = Signals::new(heeded.collect::<Vec<_>>()) else { return };
        let wait = move || {
            let mut first = None;
            for signal in signals.forever() {
                let (number, since) = first.get_or_insert_with(|| (0, Instant::now()));
                *number += u32::from(signal == SIGINT);
                if *number > 1 || since.elapsed() > TOGETHER {
                    std::process::exit(130);
                }
                synth::events::interrupt();
            }
        };
        let _ = std::thread::Builder::new().name("signals".into()).spawn(wait);
    }
}

/// One bit per signal that is ignored, the first for signal 1; none where the system does not tell.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
