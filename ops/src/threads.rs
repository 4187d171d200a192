//! How many threads compute, in all pools that are in play.

use crate::{Error, Result};

/// Makes the calling thread one of rayon's, on which our kernels run and candle's matrix products are cut, and sets the size of
/// every pool of the process to `threads`, if given: rayon's, the caller counted, and the one of candle's element-wise operations,
/// whose threads spin for a while when they have nothing to do. A thread that is not of the pool sleeps while the pool works for
/// it and is woken afterwards, for each of the hundreds of operations of a step.
///
/// Call it once, before anything else starts a thread (candle reads its sizes from the environment), on the thread that computes.
/// What other threads ask of the pool may wait until this one does the same.
///
/// # Errors
/// [`Error::Invalid`] if rayon's pool has begun to work, or the system refuses that many threads.
pub fn start(threads: Option<usize>) -> Result<()> {
    if let Some(threads) = threads {
        for name in ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"] {
            // SAFETY: no other thread runs yet that could read the environment meanwhile, as the contract above says.
            unsafe { std::env::set_var(name, threads.to_string()) };
        }
    }
    // Without a number it is that of the environment, or of the cores.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).use_current_thread().build_global();
    pool.map_err(|error| Error::invalid("threads", error.to_string(), "ask for fewer"))
}
