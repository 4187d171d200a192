//! How much fits into the time that is left, and into memory.

use std::time::Duration;

/// How many more rounds or updates fit into `left`, when `done` of them took `took`.
pub fn fitting(left: Duration, took: Duration, done: usize) -> usize {
    let each = took.as_secs_f64() / done.max(1) as f64;
    (left.as_secs_f64() / each.max(1e-6)) as usize
}

/// Pixels per image up to which batches have their usual size.
const USUAL_PIXELS: usize = 64 * 64;
/// The smallest batch that large images lead to; batch norms need some.
const LEAST_BATCH: usize = 32;

/// A batch of `usual` images of up to 64x64 pixels, or of fewer larger ones with as many pixels in all (a multiple of 8, at
/// least 32), so that what a pass keeps in memory stays about the same.
pub fn batch_for(usual: usize, [height, width]: [usize; 2]) -> usize {
    let pixels = height.saturating_mul(width).max(1);
    if pixels <= USUAL_PIXELS {
        return usual;
    }
    (usual * USUAL_PIXELS / pixels / 8 * 8).max(LEAST_BATCH.min(usual))
}

#[cfg(test)]
mod tests {
    use super::batch_for;

    #[test]
    fn large_images_come_in_smaller_batches() {
        let of = |side: usize| batch_for(256, [side, side]);
        assert_eq!([28, 32, 64, 112, 128, 224, 512].map(of), [256, 256, 256, 80, 64, 32, 32]);
        assert_eq!(batch_for(16, [224, 224]), 16);
    }
}
