//! How many threads compute, in all pools that are in play.

use crate::{Error, Result};

/// Sets the size of every pool of the process to `threads`: rayon's, on which our kernels run and candle's matrix products
/// are cut, and the one of candle's element-wise operations, whose threads spin for a while when they have nothing to do.
///
/// Call it once, before anything else starts a thread: candle reads its sizes from the environment.
///
/// # Errors
/// [`Error::Invalid`] if rayon's pool has begun to work, or the system refuses that many threads.
pub fn limit(threads: usize) -> Result<()> {
    for name in ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"] {
        // SAFETY: no other thread runs yet that could read the environment meanwhile, as the contract above says.
        unsafe { std::env::set_var(name, threads.to_string()) };
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    pool.map_err(|error| Error::invalid("threads", error.to_string(), "ask for fewer"))
}
