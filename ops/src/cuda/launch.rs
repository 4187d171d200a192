//! Launching kernels: arguments by value, checked addresses, grids.

use super::gpu::Gpu;
use super::memory::address;
use crate::{Error, Result};
use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg};
use candle_core::{DType, Tensor};

/// A compiled kernel file.
pub(super) struct Module {
    pub name: &'static str,
    pub ptx: &'static str,
}

macro_rules! module {
    ($constant:ident, $name:literal) => {
        pub(super) const $constant: Module =
            Module { name: concat!("synth_", $name), ptx: include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx")) };
    };
}

module!(LAYOUT, "layout");
module!(LOSS, "loss");
module!(NORM, "norm");
module!(PLACE, "place");
module!(POINTWISE, "pointwise");
module!(SPATIAL, "spatial");
module!(STEP, "step");

/// Threads of the element-wise kernels' blocks.
const BLOCK: u32 = 256;

/// The end of a kernel's name for a kind of values.
pub(super) fn suffix(dtype: DType) -> Result<&'static str> {
    match dtype {
        DType::F32 => Ok("f32"),
        DType::BF16 => Ok("bf16"),
        other => Err(Error::shape("cuda", format!("values are {other:?}, expected F32 or BF16"))),
    }
}

/// Values of a kind in 16 bytes.
pub(super) fn width(dtype: DType) -> usize {
    16 / dtype.size_in_bytes().max(1)
}

enum Argument {
    Pointer(u64),
    Int(i32),
    Float(f32),
}

/// A kernel on its way to the card.
pub(super) struct Launch<'a> {
    gpu: &'a Gpu,
    module: &'static Module,
    name: String,
    arguments: Vec<Argument>,
    fault: Option<Error>,
}

impl<'a> Launch<'a> {
    /// The kernel `name` of a file that has it for one kind of values only.
    pub fn new(gpu: &'a Gpu, module: &'static Module, name: &str) -> Self {
        Self { gpu, module, name: name.into(), arguments: Vec::with_capacity(14), fault: None }
    }

    /// The kernel `name` for values of `dtype`.
    pub fn typed(gpu: &'a Gpu, module: &'static Module, name: &str, dtype: DType) -> Self {
        match suffix(dtype) {
            Ok(suffix) => Self::new(gpu, module, &format!("{name}_{suffix}")),
            Err(fault) => Self { fault: Some(fault), ..Self::new(gpu, module, name) },
        }
    }

    /// A contiguous tensor on the same card; kernels count its values in 31 bits.
    pub fn tensor(self, t: &Tensor) -> Self {
        let found = match i32::try_from(t.elem_count()) {
            Ok(_) => address(t),
            Err(_) => Err(self.too_many(t.elem_count())),
        };
        self.found(found)
    }

    /// A tensor, or a null pointer.
    pub fn maybe(self, t: Option<&Tensor>) -> Self {
        match t {
            Some(t) => self.tensor(t),
            None => self.pointer(0),
        }
    }

    fn found(mut self, found: Result<u64>) -> Self {
        match found {
            Ok(pointer) => self.arguments.push(Argument::Pointer(pointer)),
            Err(fault) => self.fault = self.fault.or(Some(fault)),
        }
        self
    }

    /// An address on the card.
    pub fn pointer(mut self, pointer: u64) -> Self {
        self.arguments.push(Argument::Pointer(pointer));
        self
    }

    /// A size; what does not fit into 31 bits is refused.
    pub fn size(mut self, value: usize) -> Self {
        match i32::try_from(value) {
            Ok(value) => self.arguments.push(Argument::Int(value)),
            Err(_) => self.fault = self.fault.take().or(Some(self.too_many(value))),
        }
        self
    }

    fn too_many(&self, values: usize) -> Error {
        Error::shape(
            "cuda",
            format!("{}: {values} values are more than a kernel counts: take smaller batches", self.name),
        )
    }

    pub fn int(mut self, value: i32) -> Self {
        self.arguments.push(Argument::Int(value));
        self
    }

    pub fn float(mut self, value: f32) -> Self {
        self.arguments.push(Argument::Float(value));
        self
    }

    /// Starts one thread per value.
    pub fn each(self, values: usize) -> Result<()> {
        self.grid([values.div_ceil(BLOCK as usize), 1], [BLOCK, 1])
    }

    /// Starts a grid of blocks.
    pub fn grid(self, blocks: [usize; 2], threads: [u32; 2]) -> Result<()> {
        let Self { gpu, module, name, arguments, fault } = self;
        if let Some(fault) = fault {
            return Err(fault);
        }
        let blocks = blocks.map(u32::try_from);
        let (Ok(across), Ok(down)) = (blocks[0], blocks[1]) else {
            return Err(Error::shape("cuda", format!("{name}: {blocks:?} blocks")));
        };
        if across == 0 || down == 0 {
            return Ok(());
        }
        let function = gpu.function(module, name)?;
        let stream = gpu.device.cuda_stream();
        let mut launch = stream.launch_builder(&function);
        for argument in &arguments {
            match argument {
                Argument::Pointer(value) => launch.arg(value),
                Argument::Int(value) => launch.arg(value),
                Argument::Float(value) => launch.arg(value),
            };
        }
        let shape =
            LaunchConfig { grid_dim: (across, down, 1), block_dim: (threads[0], threads[1], 1), shared_mem_bytes: 0 };
        // SAFETY: the callers, all in this folder, pass what their kernel declares and check sizes before.
        unsafe { launch.launch(shape) }.map_err(candle_core::Error::wrap)?;
        Ok(())
    }
}
