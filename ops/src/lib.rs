//! Operations over channels-last tensors: each with its forward and backward pass, one folder per op.
//!
//! On the CPU all values are f32. Where the tensors live on a card, the same functions run there (`cuda/`): images and maps
//! `[N, H, W, C]` may then be bfloat16, everything else is f32.

/// Hands a call over to the card where its tensor lives on one.
macro_rules! on_cuda {
    ($tensor:expr, $call:expr) => {
        #[cfg(feature = "cuda")]
        if $tensor.device().is_cuda() {
            return $call;
        }
        #[cfg(not(feature = "cuda"))]
        let _ = &$tensor;
    };
}

pub mod activation;
pub mod adaptive;
pub mod bilinear;
pub mod channels;
pub mod compute;
pub mod conv2d;
pub mod conv_transpose;
#[cfg(feature = "cuda")]
pub mod cuda;
mod error;
pub mod gate;
pub mod layer_norm;
pub mod layout;
pub mod logits;
mod max_pool;
pub mod mem;
pub mod muon;
pub mod norm;
pub mod par;
pub mod peak;
pub mod place;
pub mod pointwise;
pub mod prelu;
pub mod silu;
pub mod simd;
pub mod spatial;
pub mod step;
pub mod store;
pub mod symmetric;
pub mod threads;
pub mod watch;
pub mod windows;

pub use activation::Activation;
pub use compute::{CPU, Compute, DeviceChoice, Precision};
pub use error::{Error, Result};
