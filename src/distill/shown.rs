//! Images that are in no pool, shown to a student as they were made.

use crate::teacher::Told;
use candle_core::Tensor;

/// A batch of images `[N, H, W, C]` in pixel values, for one update or several.
pub struct Shown {
    pub images: Tensor,
    /// What the teacher has told of them, once it was asked, where every update shows the same pixels.
    pub(super) told: Option<Told>,
}

impl Shown {
    /// A batch of which the teacher has not been asked yet.
    pub fn new(images: Tensor) -> Self {
        Self { images, told: None }
    }
}
