//! Where images come from, seen as a numbered sequence that can be gone through more than once.

use crate::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Images that a source passes on.
pub struct Passed<'a> {
    /// Ascending within a source.
    pub numbers: &'a [usize],
    /// `[n, H, W, C]`
    pub pixels: &'a [u8],
    /// The last item that was looked at, readable or not.
    pub last: usize,
    /// What happened to all items up to that one.
    pub tally: &'a Tally,
}

/// What takes images.
pub type Each<'a> = dyn FnMut(&Passed) -> Result<()> + 'a;

/// A sequence of images. Going through it twice gives the same pixels for the same number.
pub trait Source: Send {
    /// As messages call it.
    fn name(&self) -> String;

    /// How many items there are, readable or not; `None` where they never end.
    fn items(&self) -> Option<usize>;

    /// What `synth.json` says of it: kind, name, and the hash or the seed that determine the images.
    fn provenance(&self) -> Value;

    /// Passes the images `numbers` (ascending), brought to `dims` (height, width, channels), to `each`, some at a time and in
    /// order. What cannot be read is left out, and counted in `tally` with the reason. Going on behind the last item of a call
    /// of `each` passes on what would have followed, in the same pieces.
    ///
    /// # Errors
    /// What `each` returns, a file or folder that cannot be opened at all, an interruption.
    fn visit(&mut self, numbers: &[usize], dims: [usize; 3], tally: &mut Tally, each: &mut Each) -> Result<()>;
}

/// What happened to items on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Items that were left out, by reason.
    pub skipped: BTreeMap<String, usize>,
    /// Items that were changed more than by resizing, by what was done.
    pub converted: BTreeMap<String, usize>,
}

impl Tally {
    pub fn skip(&mut self, reason: &str) {
        *self.skipped.entry(reason.to_string()).or_default() += 1;
    }

    pub fn convert(&mut self, what: &str) {
        *self.converted.entry(what.to_string()).or_default() += 1;
    }
}

/// Bytes of pixels that are in memory at once.
const CHUNK_BYTES: usize = 4 << 20;

/// Images of `dims` that are worked on at once; it depends on their size alone.
pub fn chunk_of(dims: [usize; 3]) -> usize {
    (CHUNK_BYTES / dims.iter().product::<usize>().max(1)).clamp(16, 1024)
}
