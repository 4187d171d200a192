//! A progress bar on stderr.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use synth::events::{Observer, Record};

/// One bar for the stage that runs; nothing is drawn when stderr is no terminal.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar that stays hidden if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} {eta}") {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Observer for Bar {
    fn record(&mut self, record: &Record) {
        self.0.set_length(record.total as u64);
        self.0.set_message(record.stage);
        self.0.set_position(record.done as u64);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
