//! Plots.

use super::escape;
use std::fmt::Write;

const WIDTH: f64 = 860.0;
/// Width of the names.
const NAMES: f64 = 380.0;
/// Height of a bar with the space below it.
const STEP: f64 = 20.0;
/// The longest name, in characters.
const LONGEST: usize = 52;

/// Horizontal bars, one per value (not negative), from 0 to `most` or else to the largest.
pub(super) fn bars(values: &[(String, f64)], most: Option<f64>) -> String {
    let largest = values.iter().map(|(_, value)| *value).filter(|v| v.is_finite()).fold(1e-12, f64::max);
    let scale = (WIDTH - NAMES - 70.0) / most.unwrap_or(largest);
    let height = STEP * values.len() as f64 + 4.0;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">");
    for (i, (name, value)) in values.iter().enumerate() {
        let top = STEP * i as f64 + 2.0;
        let length = if value.is_finite() { value.max(0.0) * scale } else { 0.0 };
        let name: String = name.chars().take(LONGEST).collect();
        let number = if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.3}") };
        // Writing into a String cannot fail.
        let _ = write!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{top:.0}\" width=\"{length:.1}\" height=\"{:.0}\" fill=\"#4a7ab5\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\">{number}</text>",
            NAMES - 8.0,
            top + 13.0,
            escape(&name),
            STEP - 4.0,
            NAMES + length + 6.0,
            top + 13.0,
        );
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::bars;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let svg = bars(&[("a".into(), 2.0), ("<b>".into(), 0.5), ("c".into(), f64::NAN)], None);
        assert!(
            svg.contains("width=\"410.0\"") && svg.contains("width=\"102.5\"") && svg.contains("width=\"0.0\""),
            "{svg}"
        );
        assert!(svg.contains("&lt;b&gt;") && svg.contains(">0.500</text>"), "{svg}");
        assert!(bars(&[("a".into(), 0.5)], Some(1.0)).contains("width=\"205.0\""));
        assert_eq!(bars(&[], None).matches("rect").count(), 0);
    }
}
