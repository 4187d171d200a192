//! What sources of encoded pictures share: decoding some at a time, in parallel, and counting what was left out.

use super::picture;
use super::source::{Each, Passed, Tally, chunk_of};
use crate::Result;
use crate::events::check_interrupt;
use rayon::prelude::*;
use std::path::PathBuf;

/// Bytes of encoded pictures that wait to be decoded.
const WAITING_BYTES: usize = 32 << 20;

/// An encoded picture: its bytes, or why there are none, and its name if it has one.
pub(super) struct Encoded {
    pub number: usize,
    pub name: Option<PathBuf>,
    pub bytes: std::result::Result<Vec<u8>, &'static str>,
}

/// Takes encoded pictures one by one and passes decoded ones on, some at a time.
pub(super) struct Decoding<'a, 'b> {
    dims: [usize; 3],
    waiting: Vec<Encoded>,
    bytes: usize,
    tally: &'a mut Tally,
    each: &'a mut Each<'b>,
}

impl<'a, 'b> Decoding<'a, 'b> {
    pub fn new(dims: [usize; 3], tally: &'a mut Tally, each: &'a mut Each<'b>) -> Self {
        Self { dims, waiting: Vec::new(), bytes: 0, tally, each }
    }

    /// # Errors
    /// What the receiver returns; an interruption.
    pub fn take(&mut self, encoded: Encoded) -> Result<()> {
        self.bytes += encoded.bytes.as_ref().map_or(0, Vec::len);
        self.waiting.push(encoded);
        if self.waiting.len() >= chunk_of(self.dims) || self.bytes >= WAITING_BYTES {
            return self.flush();
        }
        Ok(())
    }

    /// Decodes and passes on what waits; to be called at the end.
    ///
    /// # Errors
    /// As [`Decoding::take`].
    pub fn flush(&mut self) -> Result<()> {
        check_interrupt()?;
        let (waiting, dims) = (std::mem::take(&mut self.waiting), self.dims);
        self.bytes = 0;
        let len: usize = dims.iter().product();
        let mut pixels = vec![0; waiting.len() * len];
        let found: Vec<_> = (pixels.par_chunks_exact_mut(len).zip(&waiting))
            .map(|(out, one)| match &one.bytes {
                Ok(bytes) => picture::decode(bytes, one.name.as_deref(), dims, out),
                Err(reason) => Err(*reason),
            })
            .collect();
        let mut numbers = Vec::with_capacity(waiting.len());
        for (at, (one, found)) in waiting.iter().zip(found).enumerate() {
            match found {
                Ok(changes) => {
                    changes.into_iter().for_each(|what| self.tally.convert(what));
                    pixels.copy_within(at * len..(at + 1) * len, numbers.len() * len);
                    numbers.push(one.number);
                }
                Err(reason) => self.tally.skip(reason),
            }
        }
        pixels.truncate(numbers.len() * len);
        match waiting.last() {
            Some(last) if !numbers.is_empty() => {
                let (last, tally) = (last.number, &*self.tally);
                (self.each)(&Passed { numbers: &numbers, pixels: &pixels, last, tally })
            }
            _ => Ok(()),
        }
    }
}
