//! Images that are there more than once.

use crate::set::SyntheticSet;
use crate::set::fingerprint::repeated;
use serde::Serialize;

/// Shares of images that an earlier one of the set repeats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Duplicates {
    /// To the last bit.
    pub exact: f64,
    /// By their fingerprint: the same picture, perhaps in another light.
    pub near: f64,
}

impl Duplicates {
    pub(super) fn of(set: &SyntheticSet) -> Self {
        let found = repeated(&set.images);
        let share = |rows: &[usize]| rows.len() as f64 / set.len().max(1) as f64;
        Self { exact: share(&found.exact), near: share(&found.near) }
    }
}
