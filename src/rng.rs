//! Counter-based random streams: what is drawn depends on the seed, the purpose and the index, never on the order of
//! calls or the number of threads.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use sha2::{Digest, Sha256};

/// The generator behind every stream.
pub type Stream = ChaCha8Rng;

/// All random streams of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    seed: u64,
}

impl Streams {
    /// The streams of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The `index`-th stream for `purpose` (round, epoch or step number; a name such as `"invert/latents"`).
    pub fn stream(&self, purpose: &str, index: u64) -> Stream {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        hash.update(purpose.as_bytes());
        let mut rng = ChaCha8Rng::from_seed(hash.finalize().into());
        rng.set_stream(index);
        rng
    }
}

/// `n` draws from the standard normal distribution.
pub fn normal(rng: &mut Stream, n: usize) -> Vec<f32> {
    StandardNormal.sample_iter(rng).take(n).collect()
}

/// `n` draws from the uniform distribution on `[-bound, bound)`.
pub fn uniform(rng: &mut Stream, n: usize, bound: f32) -> Vec<f32> {
    use rand::RngExt;
    (0..n).map(|_| (rng.random::<f32>() * 2.0 - 1.0) * bound).collect()
}

/// `0..n` in random order.
pub fn permutation(n: usize, rng: &mut Stream) -> Vec<usize> {
    use rand::RngExt;
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, rng.random_range(0..=i));
    }
    order
}
