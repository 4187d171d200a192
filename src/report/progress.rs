//! Progress on stderr: bars on a terminal, an occasional plain line elsewhere.

use crate::events::Record;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two plain lines of a stage.
const EVERY: Duration = Duration::from_secs(30);
/// Images per second are averaged over about this many seconds of the stage's own time.
const SMOOTHING: f64 = 10.0;
const TEMPLATE: &str = "{prefix:>10} {bar:24} {pos}/{len} {eta:>4} {msg}";

/// Shows records to a person.
pub struct Progress {
    screen: Screen,
    stages: Vec<Stage>,
}

enum Screen {
    Quiet,
    Bars(MultiProgress),
    Lines(Box<dyn Write>),
}

struct Stage {
    name: &'static str,
    began: Instant,
    /// What was done at its first record, and when: a stage that is taken up again has not begun at 0.
    from: (usize, Instant),
    rate: Rate,
    bar: Option<ProgressBar>,
    /// When the last plain line was written.
    told: Instant,
    finished: bool,
}

impl Progress {
    /// For stderr, whatever it is; `quiet` shows nothing.
    pub fn stderr(quiet: bool) -> Self {
        if quiet {
            return Self::on(Screen::Quiet);
        }
        let stderr = std::io::stderr();
        if stderr.is_terminal() {
            return Self::on(Screen::Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr())));
        }
        Self::lines(Box::new(stderr))
    }

    /// Plain lines to `out`.
    pub fn lines(out: Box<dyn Write>) -> Self {
        Self::on(Screen::Lines(out))
    }

    fn on(screen: Screen) -> Self {
        Self { screen, stages: Vec::new() }
    }

    /// Shows a record; `spent` is the time that it took.
    pub fn take(&mut self, record: &Record, now: Instant, spent: Duration) {
        if matches!(self.screen, Screen::Quiet) {
            return;
        }
        let at = self.stages.iter().position(|s| s.name == record.stage).unwrap_or_else(|| {
            let begun = now.checked_sub(spent).unwrap_or(now);
            self.stages.push(Stage::new(record, begun, now));
            self.stages.len() - 1
        });
        let stage = &mut self.stages[at];
        stage.rate.take(record.images, spent.as_secs_f64());
        match &mut self.screen {
            Screen::Quiet => {}
            Screen::Bars(bars) => stage.draw(bars, record),
            Screen::Lines(out) => stage.tell(out.as_mut(), record, now, spent),
        }
    }
}

impl Stage {
    fn new(first: &Record, began: Instant, now: Instant) -> Self {
        let from = (first.done, now);
        Self { name: first.stage, began, from, rate: Rate::default(), bar: None, told: began, finished: false }
    }

    fn draw(&mut self, bars: &MultiProgress, record: &Record) {
        let bar = self.bar.get_or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(record.total as u64));
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                bar.set_style(style);
            }
            bar.set_prefix(self.name);
            bar.set_position(record.done as u64);
            bar.reset_eta();
            bar
        });
        bar.set_length(record.total as u64);
        bar.set_message(numbers(record, self.rate.per_second()));
        bar.set_position(record.done as u64);
        if record.done >= record.total {
            bar.finish();
        }
    }

    /// What the rest will take if it goes on as since the first record of this process, or like the one step that there was.
    fn left(&self, record: &Record, now: Instant, spent: Duration) -> Duration {
        let (first, then) = self.from;
        let (steps, time) = match record.done.saturating_sub(first) {
            0 => (1, spent),
            steps => (steps, now.saturating_duration_since(then)),
        };
        time.mul_f64(record.total.saturating_sub(record.done) as f64 / steps as f64)
    }

    fn tell(&mut self, out: &mut dyn Write, record: &Record, now: Instant, spent: Duration) {
        let ends = record.done >= record.total && !self.finished;
        if !ends && now.saturating_duration_since(self.told) < EVERY {
            return;
        }
        self.finished |= ends;
        self.told = now;
        let percent = 100 * record.done / record.total.max(1);
        let time = if ends {
            format!("took {}", duration(now.saturating_duration_since(self.began)))
        } else {
            format!("{} left", duration(self.left(record, now, spent)))
        };
        let numbers = numbers(record, self.rate.per_second());
        // Nobody reads stderr any more: no reason to stop.
        let _ = writeln!(out, "{} {}/{} ({percent} %), {time}: {numbers}", self.name, record.done, record.total);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stages.iter().filter_map(|s| s.bar.as_ref()).filter(|b| !b.is_finished()).for_each(ProgressBar::abandon);
    }
}

/// Images per second with exponentially fading memory.
#[derive(Default)]
struct Rate {
    images: f64,
    seconds: f64,
}

impl Rate {
    fn take(&mut self, images: usize, seconds: f64) {
        let fade = (-seconds / SMOOTHING).exp();
        self.images = self.images * fade + images as f64;
        self.seconds = self.seconds * fade + seconds;
    }

    fn per_second(&self) -> Option<f64> {
        (self.images > 0.0 && self.seconds > 0.0).then(|| self.images / self.seconds)
    }
}

/// `loss 0.123, lr 0.1, 1230 images/s`
fn numbers(record: &Record, rate: Option<f64>) -> String {
    let mut parts: Vec<String> = record.values.iter().map(|(name, v)| format!("{name} {}", significant(*v))).collect();
    parts.extend(rate.map(|r| format!("{} images/s", significant(r))));
    parts.join(", ")
}

/// Three significant digits: `0.00123`, `12.3`, `12300`, `1.23e9`.
pub(super) fn significant(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    // Rounded first: 9.999 has two digits before the point.
    let scientific = format!("{value:.2e}");
    let (exponent, rounded) = match (scientific.split_once('e'), scientific.parse::<f64>()) {
        (Some((_, exponent)), Ok(rounded)) => (exponent.parse().unwrap_or(0), rounded),
        _ => return scientific,
    };
    match exponent {
        -4..=5 => format!("{rounded:.*}", (2 - exponent).max(0) as usize),
        _ => scientific,
    }
}

/// `45s`, `3m20s`, `2h05m`
pub fn duration(d: Duration) -> String {
    let s = d.as_secs_f64().round() as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        _ => format!("{}h{:02}m", s / 3600, s / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn three_digits() {
        for (value, text) in [
            (0.123_456, "0.123"),
            (9.999, "10.0"),
            (-1.5, "-1.50"),
            (1234.4, "1230"),
            (0.000_123_4, "0.000123"),
            (0.000_012_34, "1.23e-5"),
            (1.0e9, "1.00e9"),
            (0.0, "0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(significant(value), text);
        }
    }

    #[test]
    fn the_rate_follows_a_change_and_ignores_other_stages() {
        let mut rate = Rate::default();
        (0..100).for_each(|_| rate.take(50, 0.5));
        assert!((rate.per_second().unwrap() - 100.0).abs() < 1e-6);
        (0..200).for_each(|_| rate.take(100, 0.5));
        assert!((rate.per_second().unwrap() - 200.0).abs() < 1.0);
    }

    #[test]
    fn without_a_terminal_there_is_a_line_now_and_then_and_one_at_the_end() {
        let page = Page::default();
        let mut progress = Progress::lines(Box::new(page.clone()));
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        for step in 1..=100u32 {
            let values = vec![("loss", 1.0 / f64::from(step)), ("lr", 0.1)];
            let record = Record { stage: "distill", done: step as usize, total: 100, images: 128, values };
            progress.take(&record, start + second * step, second);
        }
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "distill 30/100 (30 %), 1m10s left: loss 0.0333, lr 0.100, 128 images/s");
        assert_eq!(lines[3], "distill 100/100 (100 %), took 1m40s: loss 0.0100, lr 0.100, 128 images/s");
        assert_eq!(lines.len(), 4);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    }

    #[test]
    fn a_stage_that_is_taken_up_again_knows_what_is_left() {
        let page = Page::default();
        let mut progress = Progress::lines(Box::new(page.clone()));
        let (start, three) = (Instant::now(), Duration::from_secs(3));
        for step in 1..=10 {
            let record = Record { stage: "distill", done: 3600 + step, total: 4000, images: 128, values: Vec::new() };
            progress.take(&record, start + three * step as u32, three);
        }
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        assert!(text.starts_with("distill 3610/4000 (90 %), 19m30s left: "), "{text}");
    }

    #[test]
    fn quiet_is_quiet() {
        let mut progress = Progress::stderr(true);
        let record = Record { stage: "train", done: 1, total: 1, images: 1, values: Vec::new() };
        progress.take(&record, Instant::now(), Duration::ZERO);
        assert!(progress.stages.is_empty());
    }
}
