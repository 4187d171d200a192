//! Recorded answers: what a teacher says of the same views of every image.

use crate::Result;
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::ops::store::Store;
use std::ops::Range;

/// The teacher's answers for the same list of views of every image.
#[derive(Debug, PartialEq)]
pub struct Views {
    /// At most [`super::MAX_VIEWS`].
    pub list: Vec<View>,
    /// `[n, views, classes]`, in a set finite; while they are recorded, NaN where the teacher was not asked yet. Stored as float32:
    /// half precision would move a logit of 20 by up to 0.008, which is visible at temperature 1, for a few megabytes.
    pub logits: Store<f32>,
}

/// One augmentation: the image shifted by whole pixels, then mirrored left to right or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// Row of the crop in the padded image minus the padding, in pixels.
    pub dy: i8,
    /// Column of the crop in the padded image minus the padding, in pixels.
    pub dx: i8,
    /// Whether the crop is mirrored left to right.
    pub flip: bool,
}

impl View {
    /// The image as it is.
    pub const PLAIN: Self = Self { dy: 0, dx: 0, flip: false };
}

impl Views {
    /// Of no image yet.
    pub fn of(list: Vec<View>) -> Self {
        Self { list, logits: Store::new() }
    }

    /// Image `image`, which may be the first one behind the end, is a new one, of which the teacher has said `logits`: of its views
    /// these are recorded for the plain one, if that is in the list.
    ///
    /// # Errors
    /// As [`Store::extend`].
    pub fn renew(&mut self, image: usize, logits: &[f32]) -> Result<()> {
        let classes = logits.len();
        self.logits.place(image, &vec![f32::NAN; self.list.len() * classes])?;
        if let Some(plain) = self.list.iter().position(|view| *view == View::PLAIN) {
            let at = self.at(image, plain, classes);
            self.logits[at].copy_from_slice(logits);
        }
        Ok(())
    }

    /// Whether the teacher's answer on `view` of `image` is there (one that begins with no number never is).
    pub fn has(&self, image: usize, view: usize, classes: usize) -> bool {
        !self.logits[self.at(image, view, classes).start].is_nan()
    }

    /// Where the answer on `view` of `image` is.
    pub fn at(&self, image: usize, view: usize, classes: usize) -> Range<usize> {
        let start = (image * self.list.len() + view) * classes;
        start..start + classes
    }
}

impl Resumable for Views {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.array("logits", &self.logits);
        Ok(())
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        self.logits = from.store("logits")?;
        Ok(())
    }
}
