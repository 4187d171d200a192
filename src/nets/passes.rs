//! The passes of a frozen network. On a card that records graphs ([`crate::ops::Compute::graphs`]) those over batches of one size
//! are recorded after the first few.

use super::{Network, infer};
use crate::Result;
use candle_core::Tensor;

/// What is recorded of the passes of one network; it is the same in all calls, and its weights do not change.
#[derive(Default)]
pub struct Passes {
    #[cfg(feature = "cuda")]
    recorded: parking_lot::Mutex<recorded::Recordings>,
}

impl Passes {
    /// Logits of normalised images `x [N, H, W, C]`, as [`infer`] gives them.
    ///
    /// # Errors
    /// Images that the network cannot take.
    pub fn infer(&self, network: &Network, x: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if network.compute().graphs && x.device().is_cuda() {
            return self.recorded.lock().infer(network, x);
        }
        infer(network, x)
    }
}

#[cfg(feature = "cuda")]
mod recorded {
    use super::{Network, Result, infer};
    use crate::ops::cuda::graph::{Recorded, WARM_UP, copy_into, record};
    use candle_core::Tensor;

    /// Sizes of batches that are looked at; others are queued call by call.
    const SIZES: usize = 4;

    #[derive(Default)]
    pub(super) struct Recordings(Vec<OfSize>);

    /// Passes over batches of the same dimensions.
    struct OfSize {
        dims: Vec<usize>,
        seen: usize,
        pass: Option<Pass>,
    }

    /// A recorded pass with what it reads and leaves behind.
    struct Pass {
        graph: Recorded,
        x: Tensor,
        logits: Tensor,
    }

    impl Recordings {
        pub fn infer(&mut self, network: &Network, x: &Tensor) -> Result<Tensor> {
            let Some(found) = self.of(x.dims()) else { return infer(network, x) };
            if let Some(pass) = &mut found.pass {
                return pass.run(x);
            }
            let logits = infer(network, x)?;
            found.seen += 1;
            if found.seen == WARM_UP {
                match Pass::record(network, x, &logits) {
                    Ok(pass) => found.pass = Some(pass),
                    Err(error) => tracing::warn!("a pass could not be recorded and is queued call by call: {error}"),
                }
            }
            Ok(logits)
        }

        fn of(&mut self, dims: &[usize]) -> Option<&mut OfSize> {
            let at = self.0.iter().position(|of| of.dims == dims);
            if at.is_none() && self.0.len() < SIZES {
                self.0.push(OfSize { dims: dims.to_vec(), seen: 0, pass: None });
                return self.0.last_mut();
            }
            at.map(|at| &mut self.0[at])
        }
    }

    impl Pass {
        /// Records a pass on a copy of `x`, of which `logits` came.
        fn record(network: &Network, x: &Tensor, logits: &Tensor) -> Result<Self> {
            let (x, logits) = (x.copy()?, logits.copy()?);
            let graph = record(&x, || -> Result<()> { Ok(copy_into(&logits, &infer(network, &x)?)?) })?;
            Ok(Self { graph, x, logits })
        }

        fn run(&mut self, x: &Tensor) -> Result<Tensor> {
            copy_into(&self.x, x)?;
            self.graph.run()?;
            Ok(self.logits.copy()?)
        }
    }
}
