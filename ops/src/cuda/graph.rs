//! CUDA graphs: a step that was queued once is queued again as a whole, which costs the host as little as one launch.

use super::gpu::{Gpu, gpu_of};
use super::memory::address;
use crate::{Error, Result};
use candle_core::Tensor;
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, CudaSlice, DevicePtr, result, sys};
use std::ops::Range;
use std::sync::Arc;

/// Calls that are queued one by one before one is recorded, so that kernels are loaded and workspaces are there.
pub const WARM_UP: usize = 3;

/// Words that the tables of a recorded step may take.
const WORDS: usize = 1 << 16;

/// Tables that kernels of a graph read. They hold addresses that are only known while it is recorded, when nothing can be
/// brought up: their places are given out then, their contents follow.
pub(super) struct Recording {
    memory: CudaSlice<u64>,
    words: Vec<u64>,
    /// Those of them that are the learning rate.
    rates: Vec<usize>,
}

impl Recording {
    /// The address where `rows` will be; whether the first of them is the learning rate.
    pub fn keep(&mut self, gpu: &Gpu, rows: Vec<u64>, paced: bool) -> Result<u64> {
        if self.words.len() + rows.len() > WORDS {
            return Err(Error::shape("cuda graph", format!("tables of more than {WORDS} words")));
        }
        let start = gpu.address_of(&self.memory) + 8 * self.words.len() as u64;
        self.rates.extend(paced.then_some(self.words.len()));
        self.words.extend(rows);
        Ok(start)
    }
}

/// A recorded step. What it reads and writes beside its own memory must live as long as it does.
pub struct Recorded {
    graph: CudaGraph,
    gpu: Arc<Gpu>,
    tables: CudaSlice<u64>,
    words: Vec<u64>,
    rates: Vec<usize>,
    /// What its convolutions write into.
    _scratch: Option<Arc<CudaSlice<u8>>>,
}

// SAFETY: the driver lets any thread launch a graph, one at a time, which `&mut` in `run` sees to.
unsafe impl Send for Recorded {}

/// Records what `work` queues on the card of `like`; nothing of it is done yet.
///
/// `work` must leave no tensor behind that it made, bring nothing up or down, and have run before on the same shapes, so that
/// kernels are loaded and workspaces are there.
///
/// # Errors
/// What `work` reports, or a call that a graph cannot hold. The stream is usable again in any case.
pub fn record<E: From<Error>>(
    like: &Tensor,
    work: impl FnOnce() -> std::result::Result<(), E>,
) -> std::result::Result<Recorded, E> {
    let gpu = gpu_of(like)?;
    let stream = gpu.device.cuda_stream();
    // SAFETY: the words are written before the graph is launched.
    let memory = unsafe { gpu.device.alloc::<u64>(WORDS) }.map_err(Error::from)?;
    *gpu.recording.lock() = Some(Recording { memory, words: Vec::new(), rates: Vec::new() });
    let begun = stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    let done = begun.map_err(|error| failed(error).into()).and_then(|()| work());
    // Memory that could not be freed in a recording that a refused call has spoiled is remembered as an error of the next call.
    let forget = || done.is_err().then(|| stream.context().check_err());
    forget();
    let ended = match begun {
        Ok(()) => stream.end_capture(sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH),
        Err(error) => Err(error),
    };
    forget();
    let recording = gpu.recording.lock().take();
    done?;
    let (Some(graph), Some(Recording { memory, words, rates })) = (ended.map_err(failed)?, recording) else {
        return Err(Error::shape("cuda graph", "nothing was recorded").into());
    };
    let scratch = gpu.dnn.lock().scratch();
    let recorded = Recorded { graph, gpu, tables: memory, words, rates, _scratch: scratch };
    recorded.bring_up(0..recorded.words.len())?;
    Ok(recorded)
}

fn failed(error: result::DriverError) -> Error {
    candle_core::Error::wrap(error).into()
}

impl Recorded {
    /// Brings up words of the tables.
    fn bring_up(&self, range: Range<usize>) -> Result<()> {
        let stream = self.gpu.device.cuda_stream();
        let to = self.tables.device_ptr(&stream).0 + 8 * range.start as u64;
        // SAFETY: `tables` has room for `WORDS` words; the driver copies pageable memory before it returns.
        unsafe { result::memcpy_htod_async(to, &self.words[range], stream.cu_stream()) }.map_err(failed)
    }

    /// Does the step.
    pub fn run(&mut self) -> Result<()> {
        self.graph.launch().map_err(failed)
    }

    /// Does the step with this learning rate.
    pub fn run_with(&mut self, lr: f32) -> Result<()> {
        for &at in &self.rates {
            self.words[at] = u64::from(lr.to_bits());
            self.bring_up(at..at + 1)?;
        }
        self.run()
    }
}

/// Writes the values of `from` over those of `to`, both on one card.
pub fn copy_into(to: &Tensor, from: &Tensor) -> Result<()> {
    if to.elem_count() != from.elem_count() || to.dtype() != from.dtype() {
        return Err(Error::shape("cuda graph", format!("{:?} over {:?}", from.dims(), to.dims())));
    }
    let bytes = to.elem_count() * to.dtype().size_in_bytes();
    let (gpu, to, from) = (gpu_of(to)?, address(to)?, address(from)?);
    // SAFETY: both are contiguous and have so many bytes.
    unsafe { result::memcpy_dtod_async(to, from, bytes, gpu.device.cuda_stream().cu_stream()) }.map_err(failed)
}
