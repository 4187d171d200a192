//! How much of the area of a buffer's images each class takes, where answers are of pixels.

use crate::loss::softmax;

/// Shares are whole millionths: their sums are the same in whatever order images come and go.
const UNITS: f64 = 1e6;

/// Shares of every class in every image, and their sums.
#[derive(Default)]
pub(super) struct Areas {
    classes: usize,
    /// `[N·K]`
    of_images: Vec<u32>,
    /// `[K]`
    total: Vec<u64>,
}

impl Areas {
    /// Of images of which `logits` `[N·K]` tell the shares: the softmax of each row.
    pub fn of(logits: &[f32], classes: usize) -> Self {
        let mut areas = Self { classes, of_images: Vec::new(), total: vec![0; classes] };
        logits.chunks_exact(classes).enumerate().for_each(|(slot, row)| areas.place(slot, &areas.shares_of(row)));
        areas
    }

    /// The shares that a row of logits tells, in millionths.
    pub fn shares_of(&self, logits: &[f32]) -> Vec<u32> {
        let wide: Vec<f64> = logits.iter().map(|v| f64::from(*v)).collect();
        softmax(&wide).into_iter().map(|share| (UNITS * share).round() as u32).collect()
    }

    /// Puts an image into `slot`, which may be the first one behind the end.
    pub fn place(&mut self, slot: usize, shares: &[u32]) {
        let start = slot * self.classes;
        if start == self.of_images.len() {
            self.of_images.resize(start + self.classes, 0);
        }
        let old = &mut self.of_images[start..start + self.classes];
        for ((old, new), total) in old.iter_mut().zip(shares).zip(&mut self.total) {
            *total = *total - u64::from(*old) + u64::from(*new);
            *old = *new;
        }
    }

    /// Thousandths of an image's area per class, over all images.
    pub fn counts(&self) -> Vec<usize> {
        self.total.iter().map(|total| ((total + 500) / 1000) as usize).collect()
    }

    /// The share of every class in every image, `[N·K]`.
    pub fn shares(&self) -> Vec<f32> {
        self.of_images.iter().map(|share| (f64::from(*share) / UNITS) as f32).collect()
    }

    /// Whether the image in `slot` cannot be spared for one with the shares `coming`: it shows more of a class, and without it
    /// less than `low` times as much as it shows would be left of that class. Of no class more than `low` images (rounded up) are such, and
    /// where an image shows one class alone, these are the images of classes that have fewer than `low` others.
    pub fn needs(&self, slot: usize, coming: &[u32], low: f64, void: Option<usize>) -> bool {
        let own = &self.of_images[slot * self.classes..][..self.classes];
        let rare = |class: usize| {
            let left = self.total[class] - u64::from(own[class]);
            own[class] > coming[class] && (left as f64) < low * f64::from(own[class])
        };
        (0..self.classes).any(|class| Some(class) != void && rare(class))
    }
}
