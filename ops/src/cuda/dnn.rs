//! Convolutions of cuDNN: descriptors and the chosen algorithm are kept per shape, one workspace serves all.
//!
//! Only algorithms that cuDNN calls deterministic are taken, so that the same seed gives the same bits on the same card.

use super::gpu::Gpu;
use crate::{Error, Result};
use candle_core::DType;
use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::cudnn::{CudnnError, result, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

use sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC as NHWC;

/// Which of the three convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Pass {
    /// (x, w) → y
    Forward,
    /// (dy, w) → dx
    Data,
    /// (x, dy) → dw
    Filter,
}

/// A convolution over channels-last memory with weights `[K, R, S, C/groups]`; all in cuDNN's order of dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Geometry {
    /// N, C, H, W
    pub x: [i32; 4],
    /// K, C/groups, R, S
    pub w: [i32; 4],
    /// N, K, H', W'
    pub y: [i32; 4],
    pub padding: [i32; 2],
    pub stride: [i32; 2],
    pub dilation: [i32; 2],
    pub groups: i32,
    pub dtype: DType,
}

/// cuDNN on one card.
pub(super) struct Dnn {
    handle: sys::cudnnHandle_t,
    plans: HashMap<(Pass, Geometry), Plan>,
    workspace: Option<Arc<CudaSlice<u8>>>,
}

// SAFETY: the handle is used under the lock of its owner, and cuDNN allows a handle to move between threads.
unsafe impl Send for Dnn {}

/// Descriptors and algorithms of one call. Plans last as long as the process.
struct Plan {
    x: sys::cudnnTensorDescriptor_t,
    w: sys::cudnnFilterDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    conv: sys::cudnnConvolutionDescriptor_t,
    /// Algorithms with the bytes of workspace that they need, best first; those that cuDNN refuses when they run are dropped.
    algorithms: Vec<(Algorithm, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    Data(sys::cudnnConvolutionBwdDataAlgo_t),
    Filter(sys::cudnnConvolutionBwdFilterAlgo_t),
}

/// The most scratch memory that an algorithm may ask for. What is free at the moment must not decide: other algorithms give other bits.
const MOST_SCRATCH: usize = 4 << 30;

/// The addresses of a call: what is read, in the order of [`Pass`], and what is written.
pub(super) struct Operands {
    pub first: u64,
    pub second: u64,
    pub out: u64,
}

fn failed(what: &'static str) -> impl FnOnce(CudnnError) -> Error {
    move |error| Error::shape("cuDNN", format!("{what}: {:?}", error.0))
}

impl Dnn {
    /// cuDNN on the stream of `device`.
    pub fn new(device: &CudaDevice) -> Result<Self> {
        let handle = result::create_handle().map_err(failed("no handle"))?;
        // SAFETY: both live as long as the process.
        unsafe { result::set_stream(handle, device.cuda_stream().cu_stream().cast()) }.map_err(failed("its stream"))?;
        Ok(Self { handle, plans: HashMap::new(), workspace: None })
    }

    /// Runs one convolution; the tensors behind the addresses have the sizes of `geometry`.
    pub fn run(&mut self, gpu: &Gpu, pass: Pass, geometry: Geometry, operands: &Operands) -> Result<()> {
        if !self.plans.contains_key(&(pass, geometry)) {
            let plan = Plan::new(self.handle, pass, &geometry)
                .map_err(|error| Error::shape("cuDNN", format!("{pass:?} {geometry:?}: {:?}", error.0)))?;
            tracing::debug!("cuDNN {pass:?} {geometry:?}: {:?}", plan.algorithms);
            self.plans.insert((pass, geometry), plan);
        }
        let mut refused = None;
        while let Some((algorithm, bytes)) = self.best(pass, geometry) {
            let workspace = self.workspace(gpu, bytes)?;
            let Some(plan) = self.plans.get_mut(&(pass, geometry)) else { break };
            match plan.run(self.handle, algorithm, operands, (workspace, bytes)) {
                Ok(()) => return Ok(()),
                Err(error) if error.0 == sys::cudnnStatus_t::CUDNN_STATUS_NOT_SUPPORTED => {
                    plan.algorithms.remove(0);
                    refused = Some((algorithm, error.0));
                }
                Err(error) => {
                    let found = format!("{pass:?} {geometry:?} {algorithm:?}: {:?}", error.0);
                    return Err(Error::shape("cuDNN", found));
                }
            }
        }
        let why = format!("no deterministic algorithm for {pass:?} {geometry:?} (last refused: {refused:?})");
        Err(Error::invalid("cuDNN", why, "try the other --precision, or --device cpu"))
    }

    fn best(&self, pass: Pass, geometry: Geometry) -> Option<(Algorithm, usize)> {
        self.plans.get(&(pass, geometry)).and_then(|plan| plan.algorithms.first().copied())
    }

    /// The scratch memory of all convolutions so far. A recorded step writes into it at every run and has to hold it: what needs
    /// more later takes another.
    pub fn scratch(&self) -> Option<Arc<CudaSlice<u8>>> {
        self.workspace.clone()
    }

    /// The address of at least `bytes` bytes of scratch memory.
    fn workspace(&mut self, gpu: &Gpu, bytes: usize) -> Result<u64> {
        if self.workspace.as_ref().is_none_or(|w| w.len() < bytes.max(1)) {
            if gpu.recording.lock().is_some() {
                return Err(Error::shape(
                    "cuda graph",
                    format!("a convolution that did not run before ({bytes} bytes)"),
                ));
            }
            self.workspace = None;
            // SAFETY: scratch memory; cuDNN writes before it reads.
            self.workspace = Some(Arc::new(unsafe { gpu.device.alloc::<u8>(bytes.max(1)) }?));
        }
        let stream = gpu.device.cuda_stream();
        Ok(self.workspace.as_ref().map_or(0, |w| w.device_ptr(&stream).0))
    }
}

impl Plan {
    fn new(handle: sys::cudnnHandle_t, pass: Pass, g: &Geometry) -> std::result::Result<Self, CudnnError> {
        use sys::cudnnDataType_t::{CUDNN_DATA_BFLOAT16, CUDNN_DATA_FLOAT};
        use sys::cudnnMathType_t::{CUDNN_FMA_MATH, CUDNN_TENSOR_OP_MATH};
        let (kind, math) = match g.dtype {
            DType::BF16 => (CUDNN_DATA_BFLOAT16, CUDNN_TENSOR_OP_MATH),
            // Strict: no TF32.
            _ => (CUDNN_DATA_FLOAT, CUDNN_FMA_MATH),
        };
        let (x, y) = (result::create_tensor_descriptor()?, result::create_tensor_descriptor()?);
        let (w, conv) = (result::create_filter_descriptor()?, result::create_convolution_descriptor()?);
        // SAFETY: fresh descriptors, set before anything reads them.
        unsafe {
            result::set_tensor4d_descriptor(x, NHWC, kind, g.x)?;
            result::set_tensor4d_descriptor(y, NHWC, kind, g.y)?;
            result::set_filter4d_descriptor(w, kind, NHWC, g.w)?;
            let ([ph, pw], [sh, sw], [dh, dw]) = (g.padding, g.stride, g.dilation);
            let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
            result::set_convolution2d_descriptor(conv, ph, pw, sh, sw, dh, dw, mode, CUDNN_DATA_FLOAT)?;
            result::set_convolution_group_count(conv, g.groups)?;
            result::set_convolution_math_type(conv, math)?;
        }
        let mut plan = Self { x, w, y, conv, algorithms: Vec::new() };
        for algorithm in plan.ranked(handle, pass)? {
            if plan.algorithms.iter().any(|(known, _)| *known == algorithm) {
                continue;
            }
            if let Ok(bytes) = plan.workspace(handle, algorithm) {
                plan.algorithms.push((algorithm, bytes));
            }
        }
        if plan.algorithms.iter().any(|(_, bytes)| *bytes <= MOST_SCRATCH) {
            plan.algorithms.retain(|(_, bytes)| *bytes <= MOST_SCRATCH);
        }
        Ok(plan)
    }

    /// The deterministic algorithms of cuDNN's own ranking, then those that are deterministic whether it lists them or not.
    fn ranked(&self, handle: sys::cudnnHandle_t, pass: Pass) -> std::result::Result<Vec<Algorithm>, CudnnError> {
        const MOST: usize = 10;
        let mut found = 0;
        let usable = |status: sys::cudnnStatus_t, determinism: sys::cudnnDeterminism_t| {
            status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
                && determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
        };
        // SAFETY: the descriptors live; the list of results has room for as many as are asked for, and only those that
        // cuDNN says it has written are read (all-zero is a valid value of the plain structs).
        unsafe {
            match pass {
                Pass::Forward => {
                    use sys::cudnnConvolutionFwdAlgo_t::{
                        CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
                    };
                    let mut list: [sys::cudnnConvolutionFwdAlgoPerf_t; MOST] = std::mem::zeroed();
                    let out = list.as_mut_ptr();
                    sys::cudnnGetConvolutionForwardAlgorithm_v7(
                        handle,
                        self.x,
                        self.w,
                        self.conv,
                        self.y,
                        MOST as i32,
                        &mut found,
                        out,
                    )
                    .result()?;
                    let listed =
                        list[..found as usize].iter().filter(|a| usable(a.status, a.determinism)).map(|a| a.algo);
                    let usual =
                        [CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM];
                    Ok(listed.chain(usual).map(Algorithm::Forward).collect())
                }
                Pass::Data => {
                    let mut list: [sys::cudnnConvolutionBwdDataAlgoPerf_t; MOST] = std::mem::zeroed();
                    let out = list.as_mut_ptr();
                    sys::cudnnGetConvolutionBackwardDataAlgorithm_v7(
                        handle,
                        self.w,
                        self.y,
                        self.conv,
                        self.x,
                        MOST as i32,
                        &mut found,
                        out,
                    )
                    .result()?;
                    let listed =
                        list[..found as usize].iter().filter(|a| usable(a.status, a.determinism)).map(|a| a.algo);
                    let usual = [sys::cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1];
                    Ok(listed.chain(usual).map(Algorithm::Data).collect())
                }
                Pass::Filter => {
                    let mut list: [sys::cudnnConvolutionBwdFilterAlgoPerf_t; MOST] = std::mem::zeroed();
                    let out = list.as_mut_ptr();
                    sys::cudnnGetConvolutionBackwardFilterAlgorithm_v7(
                        handle,
                        self.x,
                        self.y,
                        self.conv,
                        self.w,
                        MOST as i32,
                        &mut found,
                        out,
                    )
                    .result()?;
                    let listed =
                        list[..found as usize].iter().filter(|a| usable(a.status, a.determinism)).map(|a| a.algo);
                    let usual = [sys::cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1];
                    Ok(listed.chain(usual).map(Algorithm::Filter).collect())
                }
            }
        }
    }

    /// Bytes of workspace that `algorithm` needs for this shape.
    fn workspace(&self, handle: sys::cudnnHandle_t, algorithm: Algorithm) -> std::result::Result<usize, CudnnError> {
        let Self { x, w, y, conv, .. } = *self;
        let mut bytes = 0usize;
        // SAFETY: the descriptors live.
        unsafe {
            match algorithm {
                Algorithm::Forward(a) => {
                    sys::cudnnGetConvolutionForwardWorkspaceSize(handle, x, w, conv, y, a, &mut bytes)
                }
                Algorithm::Data(a) => {
                    sys::cudnnGetConvolutionBackwardDataWorkspaceSize(handle, w, y, conv, x, a, &mut bytes)
                }
                Algorithm::Filter(a) => {
                    sys::cudnnGetConvolutionBackwardFilterWorkspaceSize(handle, x, y, conv, w, a, &mut bytes)
                }
            }
        }
        .result()?;
        Ok(bytes)
    }

    fn run(
        &self,
        handle: sys::cudnnHandle_t,
        algorithm: Algorithm,
        operands: &Operands,
        (scratch, workspace): (u64, usize),
    ) -> std::result::Result<(), CudnnError> {
        let (one, zero) = (1f32, 0f32);
        let (alpha, beta) = ((&raw const one).cast::<c_void>(), (&raw const zero).cast::<c_void>());
        let (first, second) = (operands.first as *const c_void, operands.second as *const c_void);
        let (out, scratch) = (operands.out as *mut c_void, scratch as *mut c_void);
        let Self { x, w, y, conv, .. } = *self;
        // SAFETY: the addresses are tensors of the sizes that the descriptors say, as `Dnn::run` demands, and the scratch
        // memory has at least `workspace` bytes.
        unsafe {
            match algorithm {
                Algorithm::Forward(a) => result::convolution_forward(
                    handle, alpha, x, first, w, second, conv, a, scratch, workspace, beta, y, out,
                ),
                Algorithm::Data(a) => result::convolution_backward_data(
                    handle, alpha, w, second, y, first, conv, a, scratch, workspace, beta, x, out,
                ),
                Algorithm::Filter(a) => result::convolution_backward_filter(
                    handle, alpha, x, first, y, second, conv, a, scratch, workspace, beta, w, out,
                ),
            }
        }
    }
}
