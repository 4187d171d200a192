//! How networks that are scaled by a factor round their widths.

/// The multiple of `unit` nearest to `channels`, at least one unit, and one unit more where rounding took over a tenth away.
pub(super) fn rounded(channels: f64, unit: usize) -> usize {
    let nearest = ((channels + unit as f64 / 2.0) as usize / unit * unit).max(unit);
    if (nearest as f64) < 0.9 * channels { nearest + unit } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::rounded;

    /// Widths of the published MobileNetV2 and EfficientNet models.
    #[test]
    fn widths_are_the_published_ones() {
        for (channels, factor, expected) in [
            (24.0, 0.75, 24), // 16 would be less than nine tenths of 18
            (16.0, 0.35, 8),
            (32.0, 0.35, 16),
            (96.0, 1.4, 136),
            (24.0, 1.1, 24),
            (40.0, 1.1, 48),
            (1280.0, 1.2, 1536),
        ] {
            assert_eq!(rounded(channels * factor, 8), expected, "{channels} times {factor}");
        }
    }
}
