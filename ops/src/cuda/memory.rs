//! Memory of a card: fresh tensors, addresses, and the explicit ways up and down.

use super::gpu::{Gpu, gpu_of};
use super::launch::{Launch, POINTWISE};
use crate::{Error, Result};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr};
use candle_core::cuda_backend::{CudaStorage, CudaStorageSlice};
use candle_core::op::BackpropOp;
use candle_core::{DType, Device, Shape, Storage, Tensor};
use half::bf16;

impl Gpu {
    /// A tensor whose values somebody is about to write.
    pub fn tensor(&self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        let shape: Shape = shape.into();
        let n = shape.elem_count();
        // SAFETY: callers launch a kernel that writes all values before anything reads them.
        let storage = unsafe {
            match dtype {
                DType::F32 => CudaStorage::wrap_cuda_slice(self.device.alloc::<f32>(n)?, self.device.clone()),
                DType::BF16 => CudaStorage::wrap_cuda_slice(self.device.alloc::<bf16>(n)?, self.device.clone()),
                other => return Err(Error::shape("cuda", format!("no tensors of {other:?} on a card"))),
            }
        };
        Ok(Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false))
    }

    /// f32 values as a tensor.
    pub fn upload(&self, values: &[f32], shape: impl Into<Shape>) -> Result<Tensor> {
        let storage = CudaStorage::wrap_cuda_slice(self.device.clone_htod(values)?, self.device.clone());
        Ok(Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false))
    }

    /// Values that only kernels see.
    pub fn upload_raw<T: DeviceRepr + 'static>(&self, values: &[T]) -> Result<CudaSlice<T>> {
        Ok(self.device.clone_htod(values)?)
    }

    /// The address of raw values; they must outlive the launches that read them, or be freed on the same stream.
    pub fn address_of<T>(&self, slice: &CudaSlice<T>) -> u64 {
        let stream = self.device.cuda_stream();
        slice.device_ptr(&stream).0
    }
}

/// Where the values of a contiguous tensor on a card begin.
///
/// The address stays good as long as the tensor lives: memory is freed in the order of the stream, so a kernel that was
/// launched before reads what it was meant to.
pub(super) fn address(t: &Tensor) -> Result<u64> {
    let (storage, layout) = t.storage_and_layout();
    let Some((start, _)) = layout.contiguous_offsets() else {
        return Err(Error::shape("cuda", format!("tensor {:?} is not contiguous", t.shape())));
    };
    let Storage::Cuda(cuda) = &*storage else {
        return Err(Error::shape("cuda", format!("tensor {:?} is not on a card", t.shape())));
    };
    let stream = cuda.device.cuda_stream();
    let base = match &cuda.slice {
        CudaStorageSlice::F32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::BF16(slice) => slice.device_ptr(&stream).0,
        _ => return Err(Error::shape("cuda", format!("tensor {:?} is {:?}", t.shape(), t.dtype()))),
    };
    Ok(base + (start * t.dtype().size_in_bytes()) as u64)
}

/// `t` itself, or a copy where it begins between two vectors of 16 bytes or is not contiguous.
pub(super) fn aligned(t: &Tensor) -> Result<Tensor> {
    match t.is_contiguous() && address(t)?.is_multiple_of(16) {
        true => Ok(t.clone()),
        false => Ok(t.force_contiguous()?),
    }
}

/// The same values as f32 on the CPU. Waits for the card.
pub fn host(t: &Tensor) -> Result<Tensor> {
    Ok(cast(t, DType::F32)?.to_device(&Device::Cpu)?)
}

/// The same values as `dtype`; `t` itself if it has it.
pub fn cast(t: &Tensor, dtype: DType) -> Result<Tensor> {
    if t.dtype() == dtype {
        return Ok(t.clone());
    }
    let gpu = gpu_of(t)?;
    let name = match (t.dtype(), dtype) {
        (DType::F32, DType::BF16) => "cast_f32_bf16",
        (DType::BF16, DType::F32) => "cast_bf16_f32",
        (from, to) => return Err(Error::shape("cast", format!("from {from:?} to {to:?}"))),
    };
    let (n, out) = (t.elem_count(), gpu.tensor(t.shape().clone(), dtype)?);
    Launch::new(&gpu, &POINTWISE, name).tensor(t).tensor(&out).size(n).each(n)?;
    Ok(out)
}
