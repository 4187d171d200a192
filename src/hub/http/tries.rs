//! Trying again: how often, and how long to wait before.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::events::check_interrupt;
use crate::hub::fault::Fault;
use crate::hub::settings::Patience;

/// How often Ctrl-C is looked for in a pause.
const GLANCE: Duration = Duration::from_millis(50);
/// A pause grows up to this many times the first one.
const LONGEST: u32 = 8;

/// The tries of one request or transfer.
pub(in crate::hub) struct Tries {
    patience: Patience,
    made: u32,
}

impl Tries {
    pub(in crate::hub) fn new(patience: &Patience) -> Self {
        Self { patience: *patience, made: 0 }
    }

    /// Starts counting anew: something was gained.
    pub(in crate::hub) fn reset(&mut self) {
        self.made = 0;
    }

    /// Waits before the next try, for as long as the server asks or twice as long as the last time.
    ///
    /// Gives the fault back when it cannot pass by waiting, the tries are used up or the server asks for too long a pause.
    pub(in crate::hub) fn wait(&mut self, fault: Fault) -> Result<(), Fault> {
        check_interrupt()?;
        let growing = self.patience.pause.saturating_mul((1 << self.made.min(16)).min(LONGEST));
        let pause = match fault {
            Fault::TooMany(Some(asked)) => asked.max(self.patience.pause),
            _ => growing,
        };
        if !fault.is_transient() || self.made >= self.patience.retries || pause > self.patience.longest_pause {
            return Err(fault);
        }
        self.made += 1;
        tracing::info!(
            "{fault:?}: trying again in {:.1} s ({} of {})",
            pause.as_secs_f64(),
            self.made,
            self.patience.retries
        );
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            check_interrupt()?;
            sleep(left.min(GLANCE));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience() -> Patience {
        Patience {
            retries: 3,
            pause: Duration::from_millis(20),
            longest_pause: Duration::from_millis(300),
            ..Patience::default()
        }
    }

    fn took(f: impl FnOnce()) -> Duration {
        let begin = Instant::now();
        f();
        begin.elapsed()
    }

    #[test]
    fn pauses_grow_and_end() {
        let mut tries = Tries::new(&patience());
        let fault = || Fault::Server("h".into(), 503);
        let all = took(|| (0..3).for_each(|_| tries.wait(fault()).unwrap()));
        assert!(all >= Duration::from_millis(140), "{all:?}"); // 20 + 40 + 80
        assert!(matches!(tries.wait(fault()), Err(Fault::Server(_, 503))));
        tries.reset();
        assert!(tries.wait(fault()).is_ok());
    }

    #[test]
    fn a_server_that_asks_is_heeded_within_reason() {
        let mut tries = Tries::new(&patience());
        let asked = |ms| Fault::TooMany(Some(Duration::from_millis(ms)));
        assert!(took(|| tries.wait(asked(200)).unwrap()) >= Duration::from_millis(200));
        assert!(took(|| assert!(tries.wait(asked(60_000)).is_err())) < Duration::from_millis(100));
    }

    #[test]
    fn what_cannot_pass_is_not_waited_for() {
        let mut tries = Tries::new(&patience());
        for fault in [Fault::BadToken, Fault::NoRevision, Fault::Refused("h".into()), Fault::Interrupted] {
            assert!(took(|| assert!(tries.wait(fault).is_err())) < Duration::from_millis(20));
        }
    }
}
