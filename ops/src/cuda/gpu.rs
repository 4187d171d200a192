//! One card: its stream, its loaded kernels, its cuDNN.

use super::dnn::Dnn;
use super::graph::Recording;
use super::launch::{Module, STEP};
use crate::{Error, Result};
use candle_core::cuda_backend::cudarc::cublas::sys as cublas;
use candle_core::cuda_backend::cudarc::driver::{CudaFunction, result, sys};
use candle_core::cuda_backend::{CudaDevice, DeviceId};
use candle_core::{Device, DeviceLocation, Tensor};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;

/// The major compute capability that `build/kernels.rs` compiles for.
const OLDEST: i32 = 8;

/// What belongs to a device beside its tensors.
pub(super) struct Gpu {
    pub device: CudaDevice,
    functions: RwLock<HashMap<(&'static str, String), CudaFunction>>,
    pub dnn: Mutex<Dnn>,
    /// While a graph is recorded: what it is to find in memory when it runs.
    pub recording: Mutex<Option<Recording>>,
}

/// Every device that was opened; they last as long as the process.
static OPENED: RwLock<Vec<(DeviceId, Arc<Gpu>)>> = RwLock::new(Vec::new());

/// Opens card `ordinal` and gives its name. Everything that is done with the device is done in the order of the calls.
///
/// # Errors
/// As [`super::load`], or a card that does not answer or cannot run the kernels.
pub fn open(ordinal: usize) -> Result<(Device, String)> {
    super::load()?;
    let device = Device::new_cuda_with_stream(ordinal)?;
    let Device::Cuda(cuda) = &device else { return Err(Error::shape("cuda", "the device is no card")) };
    // SAFETY: there is one stream, so that no event has to order anything.
    unsafe { cuda.disable_event_tracking() };
    keep_memory(ordinal)?;
    let context = cuda.cuda_stream().context().clone();
    let name = context.name().map_err(candle_core::Error::wrap)?;
    let (major, minor) = context.compute_capability().map_err(candle_core::Error::wrap)?;
    if major < OLDEST {
        let found = format!("{name} has compute capability {major}.{minor}");
        return Err(Error::invalid("CUDA", found, format!("the kernels need {OLDEST}.0, a newer card")));
    }
    sum_in_f32(cuda)?;
    let gpu = Gpu {
        device: cuda.clone(),
        functions: RwLock::default(),
        dnn: Mutex::new(Dnn::new(cuda)?),
        recording: Mutex::new(None),
    };
    gpu.function(&STEP, "sgd".into()).map_err(|error| {
        let found = format!("the driver of {name} does not take the kernels ({error})");
        Error::invalid("CUDA", found, "update the driver, or build with an older CUDA toolkit")
    })?;
    OPENED.write().push((cuda.id(), Arc::new(gpu)));
    Ok((device, name))
}

/// Products of bfloat16 are summed in f32, parts of a sum too, which cuBLAS may else add up in bfloat16.
fn sum_in_f32(cuda: &CudaDevice) -> Result<()> {
    let mode = cublas::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
    // SAFETY: the handle lives as long as the device.
    unsafe { cublas::cublasSetMathMode(*cuda.cublas_handle().handle(), mode) }
        .result()
        .map_err(|error| candle_core::Error::wrap(error).into())
}

/// Keeps freed memory in the driver's pool; at 0, its default, it is given back at every synchronisation.
fn keep_memory(ordinal: usize) -> Result<()> {
    // SAFETY: plain calls on a device that has been opened; the pool's attribute is a u64.
    let done = (|| unsafe {
        let device = result::device::get(ordinal as i32)?;
        let pool = result::device::get_default_mem_pool(device)?;
        let mut keep = u64::MAX;
        let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, threshold, (&raw mut keep).cast())
    })();
    done.map_err(|error| candle_core::Error::wrap(error).into())
}

/// The card that `t` lives on.
///
/// # Errors
/// A tensor on the CPU, or on a device that was not opened by [`open`].
pub(super) fn gpu_of(t: &Tensor) -> Result<Arc<Gpu>> {
    of_device(t.device())
}

/// The card behind a device.
pub(super) fn of_device(device: &Device) -> Result<Arc<Gpu>> {
    let missing = |found: String| Error::shape("cuda", found);
    let Device::Cuda(cuda) = device else {
        let place = match device.location() {
            DeviceLocation::Cpu => "the CPU",
            _ => "another device",
        };
        return Err(missing(format!("a tensor on {place} beside one on a card")));
    };
    let opened = OPENED.read();
    let found = opened.iter().find(|(id, _)| *id == cuda.id()).map(|(_, gpu)| gpu.clone());
    found.ok_or_else(|| missing("a device that was not opened by ops::cuda::open".into()))
}

impl Gpu {
    /// A kernel by name, loaded at its first use.
    pub fn function(&self, module: &Module, name: String) -> Result<CudaFunction> {
        let key = (module.name, name);
        if let Some(found) = self.functions.read().get(&key) {
            return Ok(found.clone());
        }
        let loaded = self.device.get_or_load_custom_func(&key.1, module.name, module.ptx)?.into_cuda_function();
        self.functions.write().insert(key, loaded.clone());
        Ok(loaded)
    }
}
