//! How much fits into the time that is left, and into memory.

use crate::nets::Task;
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
/// The same where networks answer for pixels, of which batch norms see many.
const LEAST_BATCH_OF_PIXELS: usize = 8;

/// A batch of `usual` images of up to 64x64 pixels, or of fewer larger ones with as many pixels in all (a multiple of 8, at
/// least 32), so that what a pass keeps in memory stays about the same.
pub fn batch_for(usual: usize, size: [usize; 2]) -> usize {
    batch_of(Task::Classification, usual, size)
}

/// As [`batch_for`] of networks of `task`: at least 8 where they answer for pixels.
pub fn batch_of(task: Task, usual: usize, [height, width]: [usize; 2]) -> usize {
    let pixels = height.saturating_mul(width).max(1);
    if pixels <= USUAL_PIXELS {
        return usual;
    }
    let least = match task {
        Task::Classification => LEAST_BATCH,
        Task::Segmentation => LEAST_BATCH_OF_PIXELS,
    };
    (usual * USUAL_PIXELS / pixels / 8 * 8).max(least.min(usual))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_images_come_in_smaller_batches() {
        let of = |side: usize| batch_for(256, [side, side]);
        assert_eq!([28, 32, 64, 112, 128, 224, 512].map(of), [256, 256, 256, 80, 64, 32, 32]);
        assert_eq!(batch_for(16, [224, 224]), 16);
        let of_pixels = |side: usize| batch_of(Task::Segmentation, 128, [side, side]);
        assert_eq!([32, 64, 128, 224, 512].map(of_pixels), [128, 128, 32, 8, 8]);
    }
}
