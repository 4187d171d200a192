//! A bar for files that come from the Hub or go there.

use crate::hub::Watch;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

const TEMPLATE: &str = "{prefix:>10} {bar:24} {bytes}/{total_bytes} {bytes_per_sec} {eta:>4} {msg}";

/// Shows on stderr how many bytes have been moved; nothing without a terminal.
pub struct Transfer {
    /// `fetching` or `sending`.
    action: &'static str,
    shown: bool,
    bar: Option<ProgressBar>,
}

impl Transfer {
    /// For stderr; `quiet` shows nothing.
    pub fn stderr(action: &'static str, quiet: bool) -> Self {
        Self { action, shown: !quiet && std::io::stderr().is_terminal(), bar: None }
    }
}

impl Watch for Transfer {
    fn progress(&mut self, file: &str, done: u64, total: u64) {
        if !self.shown {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                bar.set_style(style);
            }
            bar.set_prefix(self.action);
            bar
        });
        // Several groups of files come one after another, each with a total of its own.
        bar.set_length(total);
        bar.set_position(done);
        bar.set_message(file.replace(char::is_control, " "));
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
