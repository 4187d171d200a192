//! The way from candle tensors to slices and back, without copies.

use crate::{Error, Result};
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Shape, Storage, Tensor};
use parking_lot::RwLockReadGuard;
use std::cell::{Cell, RefCell};
use std::ops::Deref;

/// Read access to the values of a contiguous f32 tensor on the CPU.
pub struct View<'a> {
    storage: RwLockReadGuard<'a, Storage>,
    start: usize,
    len: usize,
}

/// Borrows the values of `t`, row-major.
///
/// # Errors
/// If the tensor is not f32, not contiguous or not on the CPU.
pub fn view(t: &Tensor) -> Result<View<'_>> {
    let (storage, layout) = t.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        return Err(Error::shape("view", format!("tensor {:?} is not contiguous", t.shape())));
    };
    match &*storage {
        Storage::Cpu(CpuStorage::F32(_)) => {}
        _ => {
            return Err(Error::shape(
                "view",
                format!("expected f32 on the CPU, found {:?} on {:?}", t.dtype(), t.device()),
            ));
        }
    }
    Ok(View { storage, start, len: end - start })
}

impl Deref for View<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(v)) => &v[self.start..self.start + self.len],
            // `view` has checked the kind and the guard holds it.
            _ => &[],
        }
    }
}

/// The values of `t` as f32 on the CPU, to be read with [`view`]: `t` itself if they are there, else an explicit copy that
/// waits for the card.
pub fn host(t: &Tensor) -> Result<Tensor> {
    on_cuda!(t, super::cuda::memory::host(t));
    Ok(t.clone())
}

/// The same values as `dtype`, which is f32 on the CPU; `t` itself if it has it.
pub fn cast(t: &Tensor, dtype: DType) -> Result<Tensor> {
    on_cuda!(t, super::cuda::memory::cast(t, dtype));
    Ok(t.to_dtype(dtype)?)
}

/// A tensor that owns `values`.
pub fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    let shape: Shape = shape.into();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// A new tensor whose values `fill` writes, all of them: no zeroing first.
///
/// # Safety
/// `fill` must write every one of the `shape.elem_count()` elements behind the pointer it is given.
pub(crate) unsafe fn build(shape: impl Into<Shape>, fill: impl FnOnce(*mut f32)) -> Result<Tensor> {
    let shape: Shape = shape.into();
    let too_large = || Error::shape("tensor", format!("no memory for {:?}", shape.dims()));
    let n = shape.dims().iter().try_fold(1usize, |n, size| n.checked_mul(*size)).ok_or_else(too_large)?;
    let mut values: Vec<f32> = Vec::new();
    values.try_reserve_exact(n).map_err(|_| too_large())?;
    fill(values.as_mut_ptr());
    // SAFETY: the capacity is n and the caller promises that all n are written.
    unsafe { values.set_len(n) };
    tensor(values, shape)
}

struct Update<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut [f32])> InplaceOp1 for Update<F> {
    fn name(&self) -> &'static str {
        "update"
    }
    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("update needs a contiguous f32 tensor on the CPU");
        };
        if let Some(f) = self.0.take() {
            f(&mut values[start..end]);
        }
        Ok(())
    }
}

/// Changes the values of `t` in place. Every tensor that shares its storage sees the change.
pub fn update<F: FnOnce(&mut [f32])>(t: &Tensor, f: F) -> Result<()> {
    Ok(t.inplace_op1(&Update(Cell::new(Some(f))))?)
}

thread_local! {
    static SCRATCH: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Lends a buffer of at least `n` floats with unspecified content, kept per thread between calls.
pub fn with_scratch<R>(n: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = SCRATCH.with(|s| s.borrow_mut().pop()).unwrap_or_default();
    if buffer.len() < n {
        buffer.resize(n, 0.0);
    }
    let out = f(&mut buffer[..n]);
    SCRATCH.with(|s| s.borrow_mut().push(buffer));
    out
}

/// Page faults of this process so far that needed no disk (0 where the system does not count them).
pub fn page_faults() -> u64 {
    #[cfg(unix)]
    {
        // SAFETY: `getrusage` fills the struct it is given; all-zero is a valid value of it.
        unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            if libc::getrusage(libc::RUSAGE_SELF, &mut usage) == 0 {
                return usage.ru_minflt as u64;
            }
        }
    }
    0
}

/// Largest resident size of this process so far in bytes (0 where the system does not tell).
pub fn peak_memory() -> u64 {
    #[cfg(unix)]
    {
        // SAFETY: as above.
        unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            if libc::getrusage(libc::RUSAGE_SELF, &mut usage) == 0 {
                // Linux counts in KiB, macOS in bytes.
                let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
                return usage.ru_maxrss as u64 * unit;
            }
        }
    }
    0
}

/// Tells the allocator to keep freed pages: a step then reuses the buffers of the last one without page faults.
///
/// Only of use in a program whose global allocator is mimalloc; call it first thing in `main`.
pub fn keep_pages() {
    /// `mi_option_purge_delay` of mimalloc 2 and 3; the binding does not name it.
    const PURGE_DELAY: i32 = 15;
    // SAFETY: sets a number inside the allocator; allowed at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}
