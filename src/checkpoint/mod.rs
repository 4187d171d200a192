//! The state of a running stage on disk, from which it goes on to the same bits.
//!
//! ```text
//! stage ──Resumable::save──▶ Saver ──▶ STAGE-000012-HASH.safetensors     (whole or not at all, the last two are kept)
//! stage ◀─Resumable::restore── Saved ◀── the newest whose bytes have the hash of its name
//! ```
//!
//! Random numbers need no state: every stream is drawn anew from the seed, its purpose and its index ([`crate::rng`]).
//!
//! | file | content |
//! |---|---|
//! | `state.rs` | named arrays and values, in memory or in a file |
//! | `file.rs` | one state as a safetensors file, checked by its hash |
//! | `keeper.rs` | when to write, what to keep, which one to go on from |
//! | `unfinished.rs` | the folder beside the result in which they lie, and who works in it |

mod file;
mod keeper;
mod state;
mod unfinished;

pub(crate) use file::read_bytes;
pub use keeper::{Checkpoints, difference};
pub use state::{Plain, Saved, Saver};
pub use unfinished::{Begin, Unfinished};

use crate::Result;
use crate::ops::mem::peak_memory;
use std::time::{Duration, Instant};

/// Something that can be put away in the middle of its work.
pub trait Resumable {
    /// Names everything that what follows depends on.
    ///
    /// # Errors
    /// A device that does not give its values.
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()>;

    /// Takes over what [`Resumable::save`] named, into something that was made with the same choices.
    ///
    /// # Errors
    /// [`crate::Error::File`] if something is missing or has another size.
    fn restore(&mut self, from: &Saved) -> Result<()>;
}

/// Nothing to put away.
impl Resumable for () {
    fn save<'a>(&'a self, _: &mut Saver<'a>) -> Result<()> {
        Ok(())
    }

    fn restore(&mut self, _: &Saved) -> Result<()> {
        Ok(())
    }
}

/// The time that a stage has taken over all processes that worked on it, and the memory.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What earlier processes spent.
    pub earlier: Duration,
    /// How often the stage was taken up again, or one that follows it in the same run.
    pub resumed: u32,
    begin: Instant,
    /// Peak of earlier processes, in bytes.
    earlier_peak: u64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { earlier: Duration::ZERO, resumed: 0, begin: Instant::now(), earlier_peak: 0 }
    }
}

impl Clock {
    /// Time so far.
    pub fn elapsed(&self) -> Duration {
        self.earlier + self.begin.elapsed()
    }

    /// The most memory that one of the processes has had, in bytes; see [`peak_memory`].
    pub fn peak_memory(&self) -> u64 {
        self.earlier_peak.max(peak_memory())
    }
}

impl Resumable for Clock {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("resumed", self.resumed)?;
        to.value("peak_memory", self.peak_memory())?;
        to.value("seconds", self.elapsed().as_secs_f64().to_bits())
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        let seconds = f64::from_bits(from.value("seconds")?);
        let earlier = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let (resumed, earlier_peak) = (from.value::<u32>("resumed")?.saturating_add(1), from.value("peak_memory")?);
        *self = Self { earlier, resumed, begin: Instant::now(), earlier_peak };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
