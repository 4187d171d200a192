//! From numbers to places in a picture.

/// A linear axis with round ticks.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    from: f64,
    to: f64,
    /// Places of both ends in the picture.
    ends: (f64, f64),
    pub ticks: Vec<f64>,
}

impl Axis {
    /// An axis that holds `low` to `high` between round numbers, with about `count` ticks.
    pub fn round(low: f64, high: f64, ends: (f64, f64), count: usize) -> Self {
        let step = round_step((high - low).max(1e-9), count);
        let (from, to) = ((low / step).floor() * step, (high / step).ceil() * step);
        let to = if to > from { to } else { from + step };
        Self { from, to, ends, ticks: ticks(from, to, step) }
    }

    /// An axis from 0 to `high` itself, with ticks at round numbers.
    pub fn exact(high: f64, ends: (f64, f64), count: usize) -> Self {
        let high = high.max(1e-9);
        Self { from: 0.0, to: high, ends, ticks: ticks(0.0, high, round_step(high, count)) }
    }

    /// Where a value stands.
    pub fn at(&self, value: f64) -> f64 {
        let share = (value - self.from) / (self.to - self.from);
        self.ends.0 + (self.ends.1 - self.ends.0) * share.clamp(0.0, 1.0)
    }
}

/// 1, 2 or 5 times a power of ten.
fn round_step(range: f64, count: usize) -> f64 {
    let rough = range / count.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= rough * 0.999).unwrap_or(10.0 * power)
}

fn ticks(from: f64, to: f64, step: f64) -> Vec<f64> {
    let count = ((to - from) / step + 1e-6) as usize;
    (0..=count.min(100)).map(|i| from + i as f64 * step).collect()
}

/// A tick's number without noise.
pub fn label(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_the_range() {
        let axis = Axis::round(41.3, 86.9, (100.0, 0.0), 5);
        assert_eq!(axis.ticks, [40.0, 50.0, 60.0, 70.0, 80.0, 90.0]);
        assert_eq!((axis.at(40.0), axis.at(90.0), axis.at(65.0)), (100.0, 0.0, 50.0));
        assert_eq!(axis.at(1e9), 0.0, "nothing leaves the picture");
        let time = Axis::exact(12.4, (0.0, 10.0), 6);
        assert_eq!(time.ticks, [0.0, 5.0, 10.0]);
        assert_eq!([label(0.30000000000000004), label(20.0), label(-2.5)], ["0.3", "20", "-2.5"]);
        assert!(Axis::round(0.5, 0.5, (0.0, 1.0), 4).at(0.5).is_finite());
    }
}
